"""The COCO panoptic fixture: to tasks, onto a real Label Studio, back out, nothing changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exporters.importers.runner import run_import
from exporters.runner import run_export
from segstudio.source import open_source
from segstudio.taxonomy import load_taxonomy


def ids_of(path: Path) -> NDArray[np.int64]:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int64) @ np.array([1, 256, 65536])


def segments_of(folder: Path) -> list[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """Each segment of a one-image data set with its pixels, whatever the PNG lies in."""
    found = json.loads((folder / "panoptic.json").read_text())
    (annotation,) = found["annotations"]
    (png,) = folder.rglob(annotation["file_name"])
    ids = ids_of(png)
    infos = annotation["segments_info"]
    assert {one["id"] for one in infos} == set(np.unique(ids).tolist()) - {0}
    return [(one, ids == one["id"]) for one in infos]


@pytest.mark.parametrize("as_what", ["annotations", "predictions"])
def test_coco_panoptic_survives_a_real_server(
    as_what: Any,
    fixtures_dir: Path,
    tmp_path: Path,
    label_studio: Any,
    project_factory: Callable[..., Any],
) -> None:
    official = fixtures_dir / "coco_panoptic"
    summary = run_import(
        "coco-panoptic", official, tmp_path / "t.json", as_what=as_what, workers=1,
        show_progress=False,
    )  # fmt: skip
    files = summary.files
    project = project_factory(files.label_config.read_text(), title=f"import {as_what}")
    client = label_studio.sdk()
    client.projects.import_tasks(
        id=project.id, request=json.loads(files.tasks.read_text()), return_task_ids=True
    )
    source = open_source(
        f"project:{project.id}", url=label_studio.url, api_key=label_studio.api_key
    )
    run_export(
        "coco-panoptic",
        source,
        tmp_path / "out",
        taxonomy=load_taxonomy(files.taxonomy),
        annotations=None if as_what == "annotations" else "predictions",
        workers=1,
        show_progress=False,
    )
    before, after = segments_of(official), segments_of(tmp_path / "out")
    assert len(after) == len(before) == 18
    for (info, pixels), (again, pixels_again) in zip(before, after, strict=True):
        for key in ("id", "category_id", "area", "bbox", "iscrowd"):
            assert again[key] == info[key], (key, info["id"])
        assert np.array_equal(pixels, pixels_again), info["id"]
    categories = json.loads((tmp_path / "out" / "panoptic.json").read_text())["categories"]
    official_categories = json.loads((official / "panoptic.json").read_text())["categories"]
    assert [{key: one[key] for key in official_categories[0]} for one in categories] == (
        official_categories
    )


def test_imported_annotations_are_no_ground_truth_and_keep_what_the_server_is_told(
    fixtures_dir: Path, tmp_path: Path, label_studio: Any, project_factory: Callable[..., Any]
) -> None:
    files = run_import(
        "coco-panoptic", fixtures_dir / "coco_panoptic", tmp_path / "t.json", workers=1,
        image_root_url="/data/local-files/?d=coco", show_progress=False,
    ).files  # fmt: skip
    project = project_factory(files.label_config.read_text())
    client = label_studio.sdk()
    client.projects.import_tasks(id=project.id, request=json.loads(files.tasks.read_text()))
    (task,) = open_source(
        f"project:{project.id}", url=label_studio.url, api_key=label_studio.api_key
    ).tasks()
    assert task.data["image"] == "/data/local-files/?d=coco/000000142238.jpg"
    assert task.meta["segstudio"]["import"]["height_px"] == 427
    (annotation,) = task.annotations
    assert not annotation.ground_truth and not annotation.was_cancelled
    assert len({region.id for region in annotation.regions}) == 18
    crowds = [one for one in annotation.regions if one.attributes.get("iscrowd") == ["yes"]]
    assert [one.source["segment_id"] for one in crowds] == [3153362]
