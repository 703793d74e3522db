"""Every file of real data beside the repository, read through the kernel, with what is in it."""

from __future__ import annotations

import cmath
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from PIL import Image
from pycocotools import mask as coco

from segstudio import brush_rle
from segstudio.label_config import parse_label_config
from segstudio.masks import Mask
from segstudio.media import image_bytes, image_size_px, load_image
from segstudio.regions import Region
from segstudio.result_lists import parse_result
from segstudio.scene import build_scene
from segstudio.shapes import RegionShapeError, mask_polygons, polygon_mask, region_mask
from segstudio.source import open_source
from segstudio.tasks import Task, parse_annotation, parse_task
from segstudio.taxonomy import SegmentClass, Taxonomy, check_taxonomy, derive_taxonomy


def count_tasks(tasks: Iterable[Task]) -> dict[str, Any]:
    """What is in some tasks; every region that has an area becomes a mask."""
    counts: Counter[str] = Counter()
    for task in tasks:
        counts["tasks"] += 1
        counts.update(f"problem {problem.kind}" for problem in task.all_problems)
        for annotation in task.annotations:
            counts["annotations"] += 1
            counts["cancelled"] += annotation.was_cancelled
            counts[f"annotations of {annotation.completed_by}"] += 1
            for region in annotation.regions:
                counts[region.kind] += 1
                if region.kind == "keypoint":
                    continue
                try:
                    counts["pixels"] += region_mask(region).area_px
                except RegionShapeError:
                    counts["unreadable regions"] += 1
    return dict(counts)


def read_export(path: Path) -> dict[str, Any]:
    return count_tasks(open_source(str(path)).tasks())


def read_api_task(path: Path) -> dict[str, Any]:
    return count_tasks([parse_task(json.loads(path.read_text(encoding="utf-8")))])


def read_webhook(path: Path) -> dict[str, Any]:
    hook = json.loads(path.read_text(encoding="utf-8"))
    annotation = parse_annotation(hook["annotation"], hook["task"]["id"])
    return {
        "action": hook["action"],
        "task": parse_task(hook["task"]).id,
        "pixels": {region.kind: region_mask(region).area_px for region in annotation.regions},
    }


def read_label_config(path: Path) -> dict[str, Any]:
    config = parse_label_config(path.read_text(encoding="utf-8"))
    taxonomy = derive_taxonomy(config)
    return {
        "problems": [problem.kind for problem in check_taxonomy(taxonomy, config)],
        "controls": [control.tag for control in config.controls],
        "classes": [one.name for one in taxonomy.classes],
    }


def read_photo(path: Path) -> dict[str, Any]:
    content = image_bytes(path.name, roots=[path.parent])
    pixels = load_image(content)
    assert pixels.shape[:2] == image_size_px(content)
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels, image.convert("RGB"))
    return {"shape": pixels.shape}


def read_panoptic_png(path: Path) -> dict[str, Any]:
    ids = panoptic_ids(path)
    return {"shape": ids.shape, "segments": len(set(ids.ravel().tolist()) - {0})}


def read_panoptic_json(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    segments = document["annotations"][0]["segments_info"]
    return {
        "categories": len(panoptic_taxonomy(document).classes),
        "segments": len(segments),
        "crowds": sum(one["iscrowd"] for one in segments),
    }


def read_text(path: Path) -> dict[str, Any]:
    return {"title": path.read_text(encoding="utf-8").partition("\n")[0]}


FILES: dict[str, tuple[Callable[[Path], dict[str, Any]], dict[str, Any]]] = {
    "README.md": (read_text, {"title": "# Fixtures: real data nobody on this project drew"}),
    "coco_panoptic/000000142238.jpg": (read_photo, {"shape": (427, 640, 3)}),
    "coco_panoptic/000000142238.png": (
        read_panoptic_png,
        {"shape": (427, 640), "segments": 18},
    ),
    "coco_panoptic/panoptic.json": (
        read_panoptic_json,
        {"categories": 133, "segments": 18, "crowds": 1},
    ),
    "davis/project-8-sequences.json.gz": (
        read_export,
        {
            "tasks": 498, "annotations": 996, "cancelled": 0,
            "annotations of 1": 498, "annotations of 2": 498, "brush": 9742,
            "pixels": 74_186_494,
        },
    ),
    "images/truck.jpg": (read_photo, {"shape": (1200, 1800, 3)}),
    "label_studio/label-config.xml": (
        read_label_config,
        {
            "controls": [
                "BrushLabels", "PolygonLabels", "RectangleLabels", "EllipseLabels",
                "KeyPointLabels", "BitmaskLabels", "BitmaskLabels",
            ],
            "classes": ["Car", "Road", "Sky", "Wheel"],
            "problems": ["prompt-without-area"],  # the label Background is on key points alone
        },
    ),
    "label_studio/project-all-region-types.json": (
        read_export,
        {
            "tasks": 5, "annotations": 11, "cancelled": 1, "problem prompt-left-behind": 1,
            "annotations of 1": 1, "annotations of 2": 2, "annotations of 3": 4,
            "annotations of 4": 4, "brush": 8, "polygon": 3, "rectangle": 2, "ellipse": 1,
            "keypoint": 2, "bitmask": 1, "pixels": 346_354,
        },
    ),
    "label_studio/task-api.json": (
        read_api_task,
        {
            "tasks": 1, "annotations": 3, "cancelled": 0, "annotations of 2": 1,
            "annotations of 3": 1, "annotations of 4": 1, "brush": 3, "polygon": 1, "rectangle": 1,
            "ellipse": 1, "keypoint": 1, "bitmask": 1, "pixels": 36_271,
            "unreadable regions": 4,  # their streams are abbreviated in this file
        },
    ),
    "label_studio/webhook-annotation-created.json": (
        read_webhook,
        {"action": "ANNOTATION_CREATED", "task": 4, "pixels": {"rectangle": 676}},
    ),
}  # fmt: skip


def test_no_file_is_left_out(fixtures_dir: Path) -> None:
    there = {str(one.relative_to(fixtures_dir)) for one in fixtures_dir.rglob("*") if one.is_file()}
    assert there == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_each_file_holds_what_it_is_known_to_hold(fixtures_dir: Path, name: str) -> None:
    read, content = FILES[name]
    assert read(fixtures_dir / name) == content


# ---- two annotators on every frame ----------------------------------------------------------


def test_every_frame_has_two_annotators_whose_brushes_are_the_sdks(fixtures_dir: Path) -> None:
    frames: Counter[str] = Counter()
    compared = 0
    for task in open_source(str(fixtures_dir / "davis/project-8-sequences.json.gz")).tasks():
        frames[task.data["video"]] += 1
        assert {one.completed_by for one in task.annotations} == {1, 2}
        if task.data["frame"]:
            continue
        for annotation in task.annotations:
            for region in annotation.regions:
                size = region.original_height_px, region.original_width_px
                dense = decode_rle(region.value["rle"]).reshape(*size, 4)[..., 3] > 0
                np.testing.assert_array_equal(region_mask(region).to_dense(), dense)
                compared += 1
    assert frames == {
        "blackswan": 50, "breakdance": 84, "dogs-jump": 66, "gold-fish": 78, "judo": 34,
        "lab-coat": 47, "shooting": 40, "soapbox": 99,
    }  # fmt: skip
    assert compared > 50


# ---- the ellipse and the bitmask, by other code ---------------------------------------------


def regions_of_kind(fixtures_dir: Path, kind: str) -> list[Region]:
    path = fixtures_dir / "label_studio" / "project-all-region-types.json"
    return [
        region
        for task in open_source(str(path)).tasks()
        for annotation in task.annotations
        for region in annotation.regions
        if region.kind == kind
    ]


def test_the_fixture_s_ellipse_is_that_of_a_pixel_by_pixel_reader(fixtures_dir: Path) -> None:
    [region] = regions_of_kind(fixtures_dir, "ellipse")
    value, width_px, height_px = region.value, region.original_width_px, region.original_height_px
    centre = complex(value["x"] * width_px / 100, value["y"] * height_px / 100)
    radius_x_px, radius_y_px = value["radiusX"] * width_px / 100, value["radiusY"] * height_px / 100
    turn_back = cmath.rect(1, -math.radians(value["rotation"]))
    expected = np.zeros((height_px, width_px), bool)
    nearest = 1.0
    for row in range(height_px):
        for column in range(width_px):
            # The pixel's centre in the ellipse's own axes, scaled to the unit circle.
            own = (complex(column + 0.5, row + 0.5) - centre) * turn_back
            distance = abs(complex(own.real / radius_x_px, own.imag / radius_y_px))
            expected[row, column] = distance <= 1
            nearest = min(nearest, abs(distance - 1))
    assert nearest > 1e-9  # no centre so close to the edge that rounding could decide
    np.testing.assert_array_equal(region_mask(region).to_dense(), expected)
    assert expected.sum() == pytest.approx(math.pi * radius_x_px * radius_y_px, rel=0.01)


def test_the_fixture_s_bitmask_is_the_alpha_of_its_image(fixtures_dir: Path) -> None:
    import base64
    import io

    [region] = regions_of_kind(fixtures_dir, "bitmask")
    content = base64.b64decode(region.value["imageDataURL"].partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        alpha = np.array(
            [[image.convert("RGBA").getpixel((x, y))[3] > 0 for x in range(image.width)]
             for y in range(0, image.height, 8)]
        )  # fmt: skip
    np.testing.assert_array_equal(region_mask(region).to_dense()[::8], alpha)


# ---- COCO's panoptic sample, through masks and back -----------------------------------------


def panoptic_ids(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    return rgb @ [1, 256, 256 * 256]


def panoptic_taxonomy(document: dict[str, Any]) -> Taxonomy:
    return Taxonomy(
        "coco",
        tuple(
            SegmentClass(
                one["id"],
                one["name"],
                "thing" if one["isthing"] else "stuff",
                tuple(one["color"]),
                one["supercategory"],
            )
            for one in document["categories"]
        ),
    )


def test_panoptic_segments_go_through_masks_and_json_and_come_back(fixtures_dir: Path) -> None:
    folder = fixtures_dir / "coco_panoptic"
    document = json.loads((folder / "panoptic.json").read_text(encoding="utf-8"))
    taxonomy = panoptic_taxonomy(document)
    ids = panoptic_ids(folder / "000000142238.png")
    height_px, width_px = ids.shape
    items = []
    for info in document["annotations"][0]["segments_info"]:
        dense = ids == info["id"]
        mask = Mask.from_dense(dense)
        # The numbers of the JSON, and pycocotools' own, from runs alone.
        theirs = coco.encode(np.asfortranarray(dense))
        assert mask.to_coco_rle() == theirs
        assert Mask.from_coco_rle(theirs) == mask
        assert mask.area_px == info["area"] == coco.area(theirs)
        assert list(mask.bbox) == info["bbox"] == coco.toBbox(theirs).tolist()
        rings = [ring for exterior, holes in mask_polygons(mask) for ring in (exterior, *holes)]
        assert polygon_mask(rings, height_px, width_px) == mask
        label = taxonomy.by_id[info["category_id"]].name
        items.append(
            {
                "id": str(info["id"]), "type": "brushlabels", "from_name": "brush",
                "to_name": "image", "original_width": width_px, "original_height": height_px,
                "value": {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": [label]},
            }
        )  # fmt: skip
    parsed = parse_result(json.loads(json.dumps(items)))
    assert parsed.problems == ()
    scene = build_scene(parsed.regions, taxonomy, height_px, width_px, policy="error")
    assert sum(scene.losses.values()) == 0
    assert len(scene.segments) == 18
    # Each segment's number in COCO's PNG is the id of its region.
    number_of = np.zeros(len(scene.segments) + 1, np.int64)
    for segment in scene.segments:
        [region_id] = segment.region_ids
        number_of[segment.id] = int(region_id)
    np.testing.assert_array_equal(number_of[scene.instance_map()], ids)
    np.testing.assert_array_equal(scene.unlabelled_mask.to_dense(), ids == 0)
    infos = document["annotations"][0]["segments_info"]
    assert {number_of[one.id]: one.class_id for one in scene.segments} == {
        info["id"]: info["category_id"] for info in infos
    }
