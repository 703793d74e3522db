"""The backend connected to a real Label Studio: set-up, clicks, boxes, reading back."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segstudio.client import connect
from segstudio.masks import iou
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task

CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Disc"/></KeyPointLabels>
<RectangleLabels name="rect" toName="image" smart="true"><Label value="Disc"/></RectangleLabels>
<{tag} name="answer" toName="image"><Label value="Disc"/></{tag}></View>"""
SERVE = [sys.executable, "-c", "from segstudio.cli import main; main()", "serve"]


def disc_photo(orientation: int | None = None) -> tuple[bytes, np.ndarray]:
    """A JPEG of a disc, stored so that it looks the same under any orientation, and its mask."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:150, :220]
    mask = np.hypot(rows - 60, columns - 150) < 40
    shown = np.where(mask[..., None], [200, 60, 50], [110, 115, 120])
    shown = np.clip(shown + rng.normal(0, 5, shown.shape), 0, 255).astype(np.uint8)
    stored = {None: shown, 6: np.rot90(shown, 1), 8: np.rot90(shown, -1)}[orientation]
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue(), mask


@pytest.fixture(scope="module")
def backend(label_studio: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`segstudio serve` with the classical engine behind basic authentication."""
    process = subprocess.Popen(
        [*SERVE, "--model", "classical", "--port", "0", "--basic-auth", "me:pass:word"],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.api_key,
            "SEGSTUDIO_CACHE": str(tmp_path_factory.mktemp("cache")),
        },
    )
    assert process.stderr is not None
    found = re.search(r"http://\S+", process.stderr.readline())
    assert found
    threading.Thread(target=process.stderr.read, daemon=True).start()
    yield found[0]
    process.terminate()
    process.wait(20)


class Project:
    """A project with one photo and the backend connected."""

    def __init__(self, server: Any, project: Any, backend_url: str, photo: bytes) -> None:
        self.http = connect(server.url, server.api_key)
        self.id = project.id
        self.sdk = server.sdk()
        answer = self.http.http.post(
            f"{server.url}/api/projects/{self.id}/import",
            files={"photo.jpg": ("photo.jpg", photo, "image/jpeg")},
        )
        assert answer.is_success, answer.text
        self.ml_id = self.sdk.ml.create(
            url=backend_url,
            project=self.id,
            title="SAM",
            is_interactive=True,
            auth_method="BASIC_AUTH",
            basic_auth_user="me",
            basic_auth_pass="pass:word",
        ).id
        self.task_id = next(iter(self.sdk.tasks.list(project=self.id))).id

    def prompt(self, *regions: dict[str, Any]) -> dict[str, Any]:
        """What the labelling page does on a click."""
        body = {"task": self.task_id, "context": {"result": list(regions)}}
        answer = self.http.request(
            "POST", f"/api/ml/{self.ml_id}/interactive-annotating", json=body
        )
        found: dict[str, Any] = answer.json()
        assert not found.get("errors"), found
        return found["data"]


@pytest.fixture
def connected(
    label_studio: Any, project_factory: Callable[..., Any], backend: str
) -> Callable[..., Project]:
    """Makes a project with a photo and the backend."""

    def make(photo: bytes, tag: str = "BrushLabels") -> Project:
        project = project_factory(CONFIG.format(tag=tag))
        return Project(label_studio, project, backend, photo)

    return make


def key_point(x: float, y: float, **changes: Any) -> dict[str, Any]:
    return {
        "original_width": 220, "original_height": 150, "image_rotation": 0,
        "value": {"x": x, "y": y, "width": 0.5, "labels": ["Disc"], "keypointlabels": ["Disc"]},
        "is_positive": True, "id": "k1", "from_name": "kp", "to_name": "image",
        "type": "keypointlabels", **changes,
    }  # fmt: skip


AT_THE_DISC = key_point(100 * 150 / 220, 100 * 60 / 150)


def overlap(project: Project, result: list[dict[str, Any]], mask: np.ndarray) -> float:
    """Submit a result as an annotation, read it back, compare the drawn region with a mask."""
    made = project.sdk.annotations.create(id=project.task_id, result=result)
    raw = project.http.get_json(f"/api/tasks/{project.task_id}/")
    (annotation,) = (a for a in parse_task(raw).annotations if a.id == made.id)
    assert not annotation.problems
    (region,) = annotation.regions
    found = region_mask(region)
    value = iou(found, type(found).from_dense(mask))
    assert value is not None
    return value


def test_the_backend_is_connected_with_its_model_version(connected):
    project = connected(disc_photo()[0])
    backend = project.sdk.ml.get(id=project.ml_id)
    assert backend.readable_state == "Connected"
    assert backend.model_version == "segstudio classical grabcut 0.1"


@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels", "PolygonLabels"])
def test_a_click_is_answered_in_the_projects_own_kind_and_reads_back(connected, tag):
    photo, mask = disc_photo()
    project = connected(photo, tag)
    answer = project.prompt(AT_THE_DISC)
    assert [region["type"] for region in answer["result"]] == [tag.lower()]
    assert overlap(project, answer["result"], mask) > 0.9


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_turned_photo_is_clicked_where_the_eye_sees_the_disc(connected, orientation):
    photo, mask = disc_photo(orientation)
    project = connected(photo)
    assert overlap(project, project.prompt(AT_THE_DISC)["result"], mask) > 0.9


def test_no_prompt_or_one_off_the_image_is_answered_empty(connected):
    project = connected(disc_photo()[0])
    assert project.prompt()["result"] == []
    assert project.prompt(key_point(150, 50))["result"] == []


def test_predictions_that_are_retrieved_turn_boxes_into_masks(connected):
    photo, mask = disc_photo()
    project = connected(photo)
    drawn = {
        "original_width": 220, "original_height": 150, "image_rotation": 0, "id": "r1",
        "from_name": "rect", "to_name": "image", "type": "rectanglelabels",
        "value": {"x": 48, "y": 10, "width": 40, "height": 60, "rotation": 0,
                  "rectanglelabels": ["Disc"]},
    }  # fmt: skip
    project.sdk.annotations.create(id=project.task_id, result=[drawn])
    body = {"selectedItems": {"all": False, "included": [project.task_id]}, "project": project.id}
    project.http.request(
        "POST", f"/api/dm/actions/?id=retrieve_tasks_predictions&project={project.id}", json=body
    )
    raw = project.http.get_json(f"/api/tasks/{project.task_id}/")
    (prediction,) = parse_task(raw).predictions
    assert prediction.model_version == "segstudio classical grabcut 0.1"
    (region,) = prediction.regions
    found = region_mask(region)
    assert (iou(found, type(found).from_dense(mask)) or 0) > 0.9


def test_a_task_without_boxes_gets_no_empty_prediction_that_would_show_as_a_tab(connected):
    project = connected(disc_photo()[0])
    body = {"selectedItems": {"all": False, "included": [project.task_id]}, "project": project.id}
    project.http.request(
        "POST", f"/api/dm/actions/?id=retrieve_tasks_predictions&project={project.id}", json=body
    )
    assert project.http.get_json(f"/api/tasks/{project.task_id}/")["predictions"] == []


def test_a_wrong_password_is_refused_by_the_server_that_connects(connected, backend):
    project = connected(disc_photo()[0])
    with pytest.raises(Exception, match=r"(?i)auth"):
        project.sdk.ml.create(
            url=backend,
            project=project.id,
            auth_method="BASIC_AUTH",
            basic_auth_user="me",
            basic_auth_pass="wrong",
        )
