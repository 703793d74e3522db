"""The CT project of `segstudio demo --medical` as an annotator meets it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from demo.medical import FIRST_SLICE, ensure_ct_project, import_series
from demo.phantom import ORGANS, PIXEL_MM, SIDE_PX, SLICE_MM, SLICES
from demo.project import ensure_ml_backend
from label_configs import taxonomy_path
from segstudio.client import Client, connect
from segstudio.dicom_geometry import read_dicom
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task
from tests.browser.conftest import BOX, overlap
from tests.browser.editor import Editor

SIZE_PX = (SIDE_PX, SIDE_PX)


def organ_mask(name: str, slice_number: int) -> np.ndarray:
    """Where an organ of the phantom is, by its own formula."""
    z = (slice_number - (SLICES - 1) / 2) * SLICE_MM
    axis = (np.arange(SIDE_PX) - (SIDE_PX - 1) / 2) * PIXEL_MM
    shown = np.zeros(SIZE_PX, int)
    for number, organ in enumerate(ORGANS):
        (cx, cy, cz), (rx, ry, rz) = organ.centre_mm, organ.radii_mm
        across = ((axis[None, :] - cx) / rx) ** 2 + ((axis[:, None] - cy) / ry) ** 2
        shown[across + ((z - cz) / rz) ** 2 <= 1] = number
    return np.isin(shown, [at for at, organ in enumerate(ORGANS) if organ.name == name])


@pytest.fixture
def ct_project(
    label_studio: Any, tmp_path: Path
) -> Iterator[tuple[Client, int, dict[tuple[str, int], int]]]:
    with connect(label_studio.url, label_studio.api_key) as client:
        project_id, tasks = ensure_ct_project(client, import_series(tmp_path))
        again = ensure_ct_project(client, import_series(tmp_path))
        assert again == (project_id, tasks)
        yield client, project_id, dict(tasks)
        client.request("DELETE", f"/api/projects/{project_id}/")


def test_a_box_on_a_ct_slice_suggests_the_organ_and_the_mask_is_stored(
    editor: Editor,
    ct_project: tuple[Client, int, dict[tuple[str, int], int]],
    ml_backend_server: Any,
    picture: Callable[[str], None],
) -> None:
    client, project_id, tasks = ct_project
    ensure_ml_backend(client, project_id, ml_backend_server.url, title="segstudio")
    assert len(tasks) == SLICES + 1
    task_id = tasks["series-0001", FIRST_SLICE]
    liver = organ_mask("Liver", FIRST_SLICE)
    rows, columns = np.nonzero(liver)

    editor.open_task(project_id, task_id)
    editor.turn_auto_annotation_on()
    editor.choose_smart_box("Liver", control_position=BOX)
    answer = editor.drag_box(
        (int(columns.min()) - 3, int(rows.min()) - 3),
        (int(columns.max()) + 3, int(rows.max()) + 3),
        SIZE_PX,
    )
    assert answer.ok, answer.text()
    editor.wait_for_suggestion()
    picture("suggestion")
    editor.accept_suggestion()
    editor.submit()
    editor.show_submitted(project_id, task_id)
    picture("submitted")

    raw = client.get_json(f"/api/tasks/{task_id}/")
    (annotation,) = parse_task(raw).annotations
    (region,) = [one for one in annotation.regions if one.kind == "brush"]
    assert region.labels == ("Liver",)
    assert overlap(region_mask(region).to_dense(), liver) >= 0.75
    dicom = read_dicom(raw["data"])
    assert dicom is not None
    assert (dicom.slice, dicom.slices, dicom.modality) == (FIRST_SLICE, SLICES, "CT")
    assert dicom.has_geometry


def test_of_two_windows_the_first_is_drawn_on_and_the_second_shown(
    editor: Editor,
    label_studio: Any,
    project_factory: Callable[..., Any],
    ml_backend_server: Any,
    picture: Callable[[str], None],
) -> None:
    folder = taxonomy_path("medical").parent
    project = project_factory((folder / "label-config-windows.xml").read_text(encoding="utf-8"))
    liver = organ_mask("Liver", FIRST_SLICE)
    rows, columns = np.nonzero(liver)
    with connect(label_studio.url, label_studio.api_key) as client:
        data = {}
        for window, brightness in (("abdomen", 150), ("liver", 230)):
            _, png = cv2.imencode(".png", (liver * brightness).astype(np.uint8))
            encoded = base64.b64encode(png.tobytes()).decode()
            data[f"image_{window}"] = f"data:image/png;base64,{encoded}"
        made = client.json_of(
            client.request(
                "POST", f"/api/projects/{project.id}/import", json=[{"data": data}],
                params={"return_task_ids": "true"},
            )
        )  # fmt: skip
        (task_id,) = made["task_ids"]
        ensure_ml_backend(client, project.id, ml_backend_server.url, title="segstudio")
        editor.open_task(project.id, task_id)
        editor.turn_auto_annotation_on()
        editor.choose_smart_box("Liver", control_position=BOX)
        answer = editor.drag_box(
            (int(columns.min()) - 3, int(rows.min()) - 3),
            (int(columns.max()) + 3, int(rows.max()) + 3),
            SIZE_PX,
        )
        assert answer.ok, answer.text()
        editor.wait_for_suggestion()
        picture("suggestion")
        assert editor.page.locator('img[src^="blob:"]').count() == 2
        editor.accept_suggestion()
        editor.submit()
        (annotation,) = parse_task(client.get_json(f"/api/tasks/{task_id}/")).annotations
    (region,) = [one for one in annotation.regions if one.kind == "brush"]
    assert region.to_name == "image"
    assert overlap(region_mask(region).to_dense(), liver) >= 0.8
