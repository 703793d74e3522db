"""What Label Studio's built-in exporters get wrong, and that ours do not.

Seen with Label Studio 1.23.2 and label-studio-sdk 2.1.2. More tests of single formats lie in
test_coco_panoptic.py ("the faults of the built-in exporters"), test_coco_instances.py,
test_semantic_png.py, test_cityscapes.py and test_pascal_voc.py (all hard masks, all kinds of region
of a real project).

| built-in | fault |
|---|---|
| COCO | 500 on a config with KeyPointLabels; one image per annotation; brush, ellipse and bitmask dropped; rotated rectangles become their enclosing box |
| BRUSH_TO_COCO | holes filled; parts split into objects; one-pixel lines dropped, and the image with them; rotation ignored; ellipse and bitmask dropped; equal base names collide; images without regions dropped; random colours; category ids in order of first sight |
| BRUSH_TO_PNG | one binary file per annotation, tag and label, with names that match no image; no panoptic or semantic PNG, no Cityscapes; no choice of annotator |
"""  # noqa: E501

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segstudio.export_file import FileSource
from segstudio.masks import Mask
from segstudio.plugins import list_exporters
from segstudio.region_values import mask_to_value
from segstudio.selection import SelectionError
from tests.exporters.projects import (
    CONFIG,
    annotation,
    box,
    brush,
    names,
    run,
    source_of,
    task,
    tree,
)

FORMATS = [
    "cityscapes", "coco-instances", "coco-panoptic", "pascal-voc", "semantic-png", "yolo-seg",
]  # fmt: skip
CAR = brush("a", "car", box(1, 1, 6, 7))
PROMPT = {
    "id": "k", "type": "keypointlabels", "from_name": "kp", "to_name": "image",
    "original_width": 10, "original_height": 8, "is_positive": True,
    "value": {"x": 50, "y": 50, "width": 1, "keypointlabels": ["car"]},
}  # fmt: skip


def project(folder: Path) -> FileSource:
    """A SAM project: equal base names, two annotators on one task, an empty image, a prompt."""
    assert 'KeyPointLabels name="kp" toName="image" smart="true"' in CONFIG
    return source_of(
        folder,
        [
            task(1, "/data/upload/a/0001.jpg", annotation(1, 5, [CAR]), annotation(2, 6, [CAR])),
            task(2, "/data/upload/b/0001.jpg", annotation(3, 5, [CAR, PROMPT])),
            task(3, "/data/upload/b/0002.jpg", annotation(4, 5, []), annotation(5, 7, [CAR])),
        ],
    )


def index(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_sam_project_exports_each_image_once_the_empty_one_too(
    format_name: str, tmp_path: Path
) -> None:
    run(format_name, project(tmp_path), tmp_path / "out", annotations="user:5")
    found = index(tmp_path / "out")
    assert [(one["task_id"], one["annotator_id"]) for one in found] == [(1, 5), (2, 5), (3, 5)]
    files = [name for one in found for name in one["files"]]
    assert len(set(files)) == len(files)
    assert len({one["file_name"] for one in found}) == 3
    written = {name for name in tree(tmp_path / "out") if not name.startswith(".")}
    assert set(files) <= written


@pytest.mark.parametrize("format_name", FORMATS)
def test_whose_annotation_counts_is_asked_not_guessed(format_name: str, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="ids 1, 3"):
        run(format_name, project(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_file_of_an_image_is_named_like_it(tmp_path: Path) -> None:
    run("semantic-png", project(tmp_path), tmp_path / "out", annotations="user:5")
    assert names(tmp_path / "out" / "masks") == ["0001-task1.png", "0001-task2.png", "0002.png"]


def test_coco_lists_one_image_a_task_with_integer_ids(tmp_path: Path) -> None:
    run("coco-instances", project(tmp_path), tmp_path / "out", annotations="user:5")
    (path,) = (tmp_path / "out").rglob("instances_*.json")
    found = json.loads(path.read_text())
    assert [one["id"] for one in found["images"]] == [1, 2, 3]
    assert [one["image_id"] for one in found["annotations"]] == [1, 2]


def region(kind: str, mask: Mask) -> dict[str, Any]:
    return {
        **brush("s", "car", mask.to_dense()),
        "type": f"{kind}labels",
        "value": mask_to_value(mask, kind, ["car"]),  # type: ignore[arg-type]
    }


def turned_box(shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    u, v = (x - 40) * 0.8 + (y - 30) * 0.6, (y - 30) * 0.8 - (x - 40) * 0.6
    return (abs(u) < 24) & (abs(v) < 9)


def ring(shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    radius = np.hypot(y - 30, x - 40)
    return (radius < 27) & (radius >= 12)


MASKS = {
    "ring with a hole": ring(),
    "two parts": box(1, 1, 9, 9, (60, 80)) | box(40, 50, 55, 70, (60, 80)),
    "one-pixel line": box(30, 0, 31, 80, (60, 80)),
    "single pixel": box(59, 79, 60, 80, (60, 80)),
    "turned box": turned_box(),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kind", ["brush", "bitmask"])
def test_masks_are_one_object_with_their_very_pixels_in_coco_and_png(
    kind: str, name: str, tmp_path: Path
) -> None:
    dense = MASKS[name]
    made = region(kind, Mask.from_dense(dense))
    source = source_of(tmp_path, [task(1, "photo.jpg", annotation(1, 5, [made]))])
    run("coco-instances", source, tmp_path / "coco")
    run("semantic-png", source, tmp_path / "png")
    (path,) = (tmp_path / "coco").rglob("instances_*.json")
    (found,) = json.loads(path.read_text())["annotations"]
    assert np.array_equal(coco_mask.decode(found["segmentation"]), dense)
    assert found["area"] == dense.sum()
    with Image.open(tmp_path / "png" / "masks" / "photo.png") as image:
        assert np.array_equal(np.asarray(image) == 1, dense)


@pytest.mark.parametrize("kind", ["rectangle", "ellipse"])
def test_turned_shapes_are_not_their_enclosing_boxes(kind: str, tmp_path: Path) -> None:
    value = {
        "rectangle": {"x": 45, "y": 15, "width": 40, "height": 20, "rotation": 35},
        "ellipse": {"x": 50, "y": 50, "radiusX": 30, "radiusY": 10, "rotation": 35},
    }[kind]
    made = {**brush("s", "car", np.ones((300, 300), bool)), "type": f"{kind}labels",
            "value": {**value, f"{kind}labels": ["car"]}}  # fmt: skip
    source = source_of(tmp_path, [task(1, "photo.jpg", annotation(1, 5, [made]))])
    run("coco-instances", source, tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("instances_*.json")
    (found,) = json.loads(path.read_text())["annotations"]
    exact_px = {"rectangle": 120 * 60, "ellipse": np.pi * 90 * 30}[kind]
    assert found["area"] == pytest.approx(exact_px, rel=0.01)
    assert found["area"] < 0.7 * found["bbox"][2] * found["bbox"][3]


def test_categories_and_colours_are_the_taxonomys_whatever_is_drawn_first(tmp_path: Path) -> None:
    categories = []
    for label in ("road", "car"):
        made = [brush("a", label, box(0, 0, 2, 2))]
        run(
            "coco-instances",
            source_of(tmp_path / label, [task(1, "photo.jpg", annotation(1, 5, made))]),
            tmp_path / label / "out",
        )
        (path,) = (tmp_path / label / "out").rglob("instances_*.json")
        categories.append(json.loads(path.read_text())["categories"])
    assert categories[0] == categories[1]
    assert [(one["id"], one["name"], one["color"]) for one in categories[0]] == [
        (1, "car", [220, 20, 60]),
        (7, "road", [128, 64, 128]),
    ]


def test_the_formats_that_label_studio_lacks_are_there() -> None:
    assert {"coco-panoptic", "semantic-png", "cityscapes"} <= {one.name for one in list_exporters()}
