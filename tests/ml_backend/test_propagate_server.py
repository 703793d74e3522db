"""From a video to propagated masks on a real Label Studio, and back again."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from ml_backend.propagate_command import propagate
from qa_plugins.command import qa
from segstudio.client import connect
from segstudio.frames_command import frames
from segstudio.masks import Mask, iou
from segstudio.region_values import mask_to_value
from segstudio.shapes import region_mask
from segstudio.source import open_source
from segstudio.tasks import Task

HEIGHT_PX, WIDTH_PX, FRAMES = 96, 160, 7


def ball(frame: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    return np.asarray((rows - 50) ** 2 + (columns - 40 - 6 * frame) ** 2 < 22**2)


def photo(frame: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(3).integers(0, 255, (HEIGHT_PX, 2 * WIDTH_PX), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    still, moving = smooth[:, :WIDTH_PX] // 3, smooth[:, 60 - 6 * frame :][:, :WIDTH_PX]
    gray = np.where(ball(frame), np.maximum(moving, 120), still).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(gray[..., None], 3, axis=2))


def write_video(path: Path) -> None:
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), code, 10, (WIDTH_PX, HEIGHT_PX))
    for frame in range(FRAMES):
        writer.write(photo(frame))
    writer.release()


@pytest.fixture
def served_folder(label_studio: Any) -> Iterator[Path]:
    """A folder of our own below the one whose files the server shows."""
    folder = Path(label_studio.server.data_dir) / "local-files" / f"frames-{uuid.uuid4().hex[:8]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_video_is_imported_annotated_propagated_judged_and_undone(
    tmp_path: Path,
    served_folder: Path,
    label_studio: Any,
    project_factory: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    write_video(tmp_path / "ball.avi")
    run(frames, "import", tmp_path / "ball.avi", "--out", served_folder, "--key-every", 6)
    xml = (served_folder / "tasks.label-config.xml").read_text()
    project = project_factory(xml, title="propagation")
    storage = {"project": project.id, "path": str(served_folder), "use_blob_urls": True}
    with connect(label_studio.url, label_studio.api_key) as client:
        client.request("POST", "/api/storages/localfiles", json=storage)
        tasks = json.loads((served_folder / "tasks.json").read_text())
        label_studio.sdk().projects.import_tasks(id=project.id, request=tasks)
        for task in read(project.id):
            if task.data["key_frame"]:
                body = {"result": annotated(task.data["frame"])}
                path = f"/api/tasks/{task.id}/annotations/"
                client.request("POST", path, json=body)
    spec = f"project:{project.id}"
    before = [task.annotations for task in read(project.id)]

    said = run(propagate, spec, "--write-back", "--no-refine", "--dry-run")
    assert "5 predictions would be written" in said
    assert not any(task.predictions for task in read(project.id))
    said = run(propagate, spec, "--write-back", "--no-refine")
    assert "5 predictions written" in said and "optical flow: 5 frames" in said
    found = read(project.id)
    assert [task.annotations for task in found] == before
    for task in found:
        frame = task.data["frame"]
        assert len(task.predictions) == (0 if task.data["key_frame"] else 1)
        for prediction in task.predictions:
            (region,) = prediction.regions
            assert prediction.model_version == "segstudio-propagation"
            assert (iou(region_mask(region), Mask.from_dense(ball(frame))) or 0) > 0.9
            assert region.attributes["track_id"] == 4 and (prediction.score or 0) > 0.5
    assert "0 predictions written, 5 already there" in run(
        propagate, spec, "--write-back", "--no-refine"
    )
    run(propagate, spec, "--write-back", "--no-photos", "--with-keys", "--out", tmp_path / "p.json")
    assert sum(len(task.predictions) for task in read(project.id)) == FRAMES
    run(qa, "temporal", spec, "--rater", "prediction", "--out", tmp_path / "qa")
    summary = json.loads((tmp_path / "qa" / "qa.json").read_text())["checks"]["temporal"]
    assert summary["frames"] == FRAMES and summary["events"] == []

    assert f"{FRAMES} predictions" in run(propagate, spec, "--undo")
    assert not any(task.predictions for task in read(project.id))
    assert [task.annotations for task in read(project.id)] == before


def run(command: Any, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def read(project_id: int) -> list[Task]:
    return sorted(open_source(f"project:{project_id}").tasks(), key=lambda one: one.data["frame"])


def annotated(frame: int) -> list[dict[str, Any]]:
    head = {"id": f"drawn{frame}", "to_name": "image", "original_width": WIDTH_PX,
            "original_height": HEIGHT_PX}  # fmt: skip
    value = mask_to_value(Mask.from_dense(ball(frame)), "brush", ["Thing carried"])
    return [
        {**head, "from_name": "brush", "type": "brushlabels", "value": value},
        {**head, "from_name": "track_id", "type": "number", "value": {"number": 4}},
    ]
