"""COCO panoptic against real data, independent readers, and known faults of others."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.detection import PanopticQuality

from exporters.coco_panoptic import CocoPanopticExporter
from segstudio.export_file import FileSource
from segstudio.source import TaskFilter
from segstudio.taxonomy import SegmentClass, Taxonomy
from tests.exporters.projects import (
    CONFIG,
    annotation,
    box,
    brush,
    names,
    panoptic,
    panoptic_ids,
    run,
    segments,
    source_of,
    task,
)


def export_one(tmp_path: Path, *regions: dict[str, Any], **options: Any) -> Path:
    tasks = [task(1, "/data/upload/1/photo.jpg", annotation(1, 5, regions))]
    run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out", **options)
    return tmp_path / "out"


# ---- the format ---------------------------------------------------------------------------


def test_the_json_follows_the_conventions_of_panopticapi(tmp_path: Path) -> None:
    out = export_one(
        tmp_path,
        brush("a", "car", box(1, 1, 4, 5)),
        brush("b", "road", box(6, 0, 8, 10)),
        brush("c", "car", box(1, 6, 3, 9)),
    )
    found = panoptic(out)
    assert found["categories"] == [
        {"id": 1, "name": "car", "supercategory": "vehicle", "isthing": 1, "color": [220, 20, 60]},
        {"id": 7, "name": "road", "supercategory": "road", "isthing": 0, "color": [128, 64, 128]},
    ]
    (image,) = found["images"]
    assert (image["id"], image["file_name"], image["height"], image["width"]) == (
        1, "photo.jpg", 8, 10,
    )  # fmt: skip
    (entry,) = found["annotations"]
    assert entry["image_id"] == 1 and isinstance(entry["image_id"], int)
    assert entry["file_name"] == "photo.png"
    assert [
        {key: info[key] for key in ("category_id", "area", "bbox", "iscrowd")}
        for info in entry["segments_info"]
    ] == [
        {"category_id": 1, "area": 12, "bbox": [1, 1, 4, 3], "iscrowd": 0},
        {"category_id": 7, "area": 20, "bbox": [0, 6, 10, 2], "iscrowd": 0},
        {"category_id": 1, "area": 6, "bbox": [6, 1, 3, 2], "iscrowd": 0},
    ]
    assert len(segments(out, "photo")) == 3
    assert (panoptic_ids(out / "panoptic" / "photo.png") == 0).sum() == 80 - 12 - 20 - 6


def test_void_and_unlabelled_pixels_are_id_zero(tmp_path: Path) -> None:
    out = export_one(
        tmp_path, brush("a", "car", box(0, 0, 8, 10)), brush("b", "glare", box(2, 2, 4, 4))
    )
    ids = panoptic_ids(out / "panoptic" / "photo.png")
    assert np.array_equal(ids == 0, box(2, 2, 4, 4))


def test_a_void_class_is_no_category(tmp_path: Path) -> None:
    out = export_one(tmp_path, brush("b", "glare", box(2, 2, 4, 4)))
    assert [one["name"] for one in panoptic(out)["categories"]] == ["car", "road"]
    assert panoptic(out)["annotations"][0]["segments_info"] == []


def test_stuff_in_several_regions_is_one_segment(tmp_path: Path) -> None:
    out = export_one(
        tmp_path, brush("a", "road", box(0, 0, 2, 2)), brush("b", "road", box(5, 5, 8, 8))
    )
    ((info, pixels),) = segments(out, "photo")
    assert info["bbox"] == [0, 0, 8, 8]
    assert np.array_equal(pixels, box(0, 0, 2, 2) | box(5, 5, 8, 8))


def test_attributes_of_a_region_are_carried_and_crowds_marked(tmp_path: Path) -> None:
    crowd = {
        "id": "a", "type": "choices", "from_name": "iscrowd", "to_name": "image",
        "original_width": 10, "original_height": 8, "value": {"choices": ["yes"]},
    }  # fmt: skip
    out = export_one(
        tmp_path, brush("a", "car", box(0, 0, 2, 2)), crowd, brush("b", "car", box(4, 4, 6, 6))
    )
    (first, _), (second, _) = segments(out, "photo")
    assert first["iscrowd"] == 1 and first["attributes"]["iscrowd"] == ["yes"]
    assert second["iscrowd"] == 0 and "attributes" not in second


def test_ids_do_not_depend_on_what_else_is_exported(tmp_path: Path) -> None:
    regions = [brush("a", "car", box(0, 0, 2, 2)), brush("b", "car", box(4, 4, 6, 6))]
    alone = export_one(tmp_path / "1", *regions)
    tasks = [
        task(9, "/x/other.jpg", annotation(9, 5, [brush("z", "car", box(0, 0, 8, 8))])),
        task(1, "/data/upload/1/photo.jpg", annotation(1, 5, regions)),
    ]
    run("coco-panoptic", source_of(tmp_path / "2", tasks), tmp_path / "2" / "out")
    one, two = (path / "panoptic" / "photo.png" for path in (alone, tmp_path / "2" / "out"))
    assert one.read_bytes() == two.read_bytes()


# ---- the COCO fixture ---------------------------------------------------------------------


def coco_source(fixtures_dir: Path, folder: Path) -> tuple[FileSource, Taxonomy, dict[str, Any]]:
    """COCO's own sample as a Label Studio project: one brush region a segment."""
    original = json.loads((fixtures_dir / "coco_panoptic" / "panoptic.json").read_text())
    ids = panoptic_ids(fixtures_dir / "coco_panoptic" / original["annotations"][0]["file_name"])
    by_id = {one["id"]: one for one in original["categories"]}
    result: list[dict[str, Any]] = []
    for number, info in enumerate(original["annotations"][0]["segments_info"]):
        label = by_id[info["category_id"]]["name"]
        result.append(brush(f"r{number}", label, ids == info["id"]))
        if info["iscrowd"]:
            result.append(
                {
                    "id": f"r{number}", "type": "choices", "from_name": "iscrowd",
                    "to_name": "image", "value": {"choices": ["yes"]},
                    "original_width": 640, "original_height": 427,
                }
            )  # fmt: skip
    image = original["images"][0]
    classes = tuple(
        SegmentClass(
            one["id"],
            one["name"],
            kind="thing" if one["isthing"] else "stuff",
            color=tuple(one["color"]),
            supercategory=one["supercategory"],
        )
        for one in original["categories"]
    )
    labels = "".join(f'<Label value="{one["name"]}"/>' for one in original["categories"])
    config = (
        '<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="brush" toName="image">{labels}</BrushLabels>'
        '<Choices name="iscrowd" toName="image" perRegion="true"><Choice value="yes"/></Choices>'
        "</View>"
    )
    tasks = [task(image["id"], image["coco_url"], annotation(1, 5, result))]
    return source_of(folder, tasks, config), Taxonomy("coco", classes), original


def test_cocos_own_sample_comes_back_segment_for_segment(
    fixtures_dir: Path, tmp_path: Path
) -> None:
    source, taxonomy, original = coco_source(fixtures_dir, tmp_path)
    run("coco-panoptic", source, tmp_path / "out", taxonomy=taxonomy)
    found = panoptic(tmp_path / "out")
    assert found["images"][0]["id"] == original["images"][0]["id"]
    assert found["images"][0]["file_name"] == original["images"][0]["file_name"]
    assert found["annotations"][0]["file_name"] == original["annotations"][0]["file_name"]
    keys = ("id", "name", "supercategory", "isthing", "color")
    assert [{k: c[k] for k in keys} for c in found["categories"]] == [
        {k: c[k] for k in keys} for c in original["categories"]
    ]
    ids = panoptic_ids(fixtures_dir / "coco_panoptic" / "000000142238.png")
    expected = original["annotations"][0]["segments_info"]
    exported = segments(tmp_path / "out", "000000142238")
    assert len(exported) == len(expected) == 18
    for info, (ours, pixels) in zip(expected, exported, strict=True):
        for key in ("area", "bbox", "category_id", "iscrowd"):
            assert ours[key] == info[key]
        assert np.array_equal(pixels, ids == info["id"])


def test_panoptic_quality_of_an_export_against_itself_and_the_original_is_one(
    fixtures_dir: Path, tmp_path: Path
) -> None:
    source, taxonomy, original = coco_source(fixtures_dir, tmp_path)
    run("coco-panoptic", source, tmp_path / "out", taxonomy=taxonomy)

    def pairs(ids: np.ndarray, infos: list[dict[str, Any]]) -> torch.Tensor:
        flat = np.zeros((*ids.shape, 2), np.int64)  # category 0: unlabelled, ignored below
        for number, info in enumerate(infos, start=1):
            flat[ids == info["id"]] = (info["category_id"], number)
        return torch.from_numpy(flat)[None]

    ours = pairs(
        panoptic_ids(tmp_path / "out" / "panoptic" / "000000142238.png"),
        panoptic(tmp_path / "out")["annotations"][0]["segments_info"],
    )
    theirs = pairs(
        panoptic_ids(fixtures_dir / "coco_panoptic" / "000000142238.png"),
        original["annotations"][0]["segments_info"],
    )
    present = {info["category_id"] for info in original["annotations"][0]["segments_info"]}
    is_thing = {one["id"]: one["isthing"] for one in original["categories"]}
    for target in (ours, theirs):
        metric = PanopticQuality(
            things={c for c in present if is_thing[c]},
            stuffs={c for c in present if not is_thing[c]} | {0},
        )
        assert metric(ours, target).item() == 1.0


# ---- every region kind of a real project --------------------------------------------------


def pixel_centres(height: int = 512, width: int = 512) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width] + 0.5
    return x, y


def oracle_mask(region: dict[str, Any]) -> np.ndarray:
    """A region's pixels straight from its stored value, by formulas at the pixels' centres."""
    value, kind = region["value"], region["type"].removesuffix("labels")
    height, width = region["original_height"], region["original_width"]
    x, y = pixel_centres(height, width)
    if kind == "brush":
        from label_studio_sdk.converter.brush import decode_rle

        return decode_rle(value["rle"]).reshape(height, width, 4)[..., 3] > 0
    if kind == "bitmask":
        content = base64.b64decode(value["imageDataURL"].partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))[..., 3] > 0
    if kind == "polygon":
        points = np.array(value["points"]) * [width / 100, height / 100]
        inside = np.zeros((height, width), bool)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                crosses = (y0 > y) != (y1 > y)
                inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return inside
    angle = np.deg2rad(value["rotation"])
    dx, dy = x - value["x"] * width / 100, y - value["y"] * height / 100
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    if kind == "rectangle":
        w, h = value["width"] * width / 100, value["height"] * height / 100
        return (u >= 0) & (u < w) & (v >= 0) & (v < h)
    radius_x, radius_y = value["radiusX"] * width / 100, value["radiusY"] * height / 100
    return (u / radius_x) ** 2 + (v / radius_y) ** 2 <= 1


def fixture_source(fixtures_dir: Path) -> tuple[FileSource, list[dict[str, Any]]]:
    folder = fixtures_dir / "label_studio"
    path = folder / "project-all-region-types.json"
    source = FileSource(str(path), TaskFilter(), folder / "label-config.xml")
    return source, json.loads(path.read_text())


def test_every_region_kind_of_a_real_project_is_pixel_exact(
    fixtures_dir: Path, tmp_path: Path
) -> None:
    source, raw = fixture_source(fixtures_dir)
    run("coco-panoptic", source, tmp_path / "out", taxonomy=None, annotations="all")
    names_of = {1: "Car", 2: "Road", 3: "Sky", 4: "Wheel"}
    compared = 0
    for raw_task in raw:
        for one in raw_task["annotations"]:
            if one["was_cancelled"]:
                continue
            shapes = [r for r in one["result"] if r["type"] != "keypointlabels"]
            top = np.zeros((512, 512), int)
            for number, region in enumerate(shapes, start=1):
                top[oracle_mask(region)] = number
            stem = raw_task["data"]["image"].rpartition("/")[2].removesuffix(".png")
            found = segments(tmp_path / "out" / f"annotator-{one['completed_by']}", stem)
            # In one annotation the bitmask hides the brush wholly.
            visible = [(n, region) for n, region in enumerate(shapes, 1) if (top == n).any()]
            for (number, region), (info, pixels) in zip(visible, found, strict=True):
                label = next(v for k, v in region["value"].items() if k.endswith("labels"))[0]
                assert names_of[info["category_id"]] == label
                wrong = int((pixels != (top == number)).sum())
                assert wrong == 0, f"{region['type']} {region['id']}: {wrong} px"
                compared += 1
    assert compared >= 11


# ---- the faults of the built-in exporters -------------------------------------------------


def ring(shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    radius = np.hypot(y - 32, x - 32)
    return (radius < 28) & (radius >= 14)


PARTS = box(1, 1, 3, 3) | box(5, 6, 7, 9)
LINE = box(4, 0, 5, 10)


@pytest.mark.parametrize(
    ("fault", "dense"),
    [("holes filled", ring()), ("parts split", PARTS), ("one-pixel line dropped", LINE),
     ("single pixel dropped", box(3, 3, 4, 4))],
)  # fmt: skip
def test_a_brush_stays_one_object_with_its_very_pixels(
    tmp_path: Path, fault: str, dense: np.ndarray
) -> None:
    ((info, pixels),) = segments(export_one(tmp_path, brush("a", "car", dense)), "photo")
    assert np.array_equal(pixels, dense), fault
    assert info["area"] == dense.sum()


def test_a_config_with_key_points_exports(tmp_path: Path) -> None:
    assert "KeyPointLabels" in CONFIG
    point = {
        "id": "k", "type": "keypointlabels", "from_name": "kp", "to_name": "image",
        "original_width": 10, "original_height": 8,
        "value": {"x": 50, "y": 50, "width": 1, "keypointlabels": ["car"]},
    }  # fmt: skip
    out = export_one(tmp_path, point, brush("a", "car", box(0, 0, 2, 2)))
    assert len(segments(out, "photo")) == 1
    assert json.loads((out / "dataset.json").read_text())["losses"]["keypoint_regions"] == 1


def shape(kind: str, **value: float) -> dict[str, Any]:
    return {
        "id": "s", "type": f"{kind}labels", "from_name": kind, "to_name": "image",
        "original_width": 512, "original_height": 512, "image_rotation": 0,
        "value": {**value, f"{kind}labels": ["car"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "region",
    [shape("rectangle", x=50, y=20, width=30, height=15, rotation=30),
     shape("rectangle", x=10, y=10, width=20, height=20, rotation=0),
     shape("ellipse", x=60, y=30, radiusX=10, radiusY=6, rotation=20)],
    ids=["rotated rectangle", "rectangle", "ellipse"],
)  # fmt: skip
def test_a_shape_is_itself_and_not_its_enclosing_box(
    tmp_path: Path, region: dict[str, Any]
) -> None:
    config = CONFIG.replace(
        "</View>",
        '<RectangleLabels name="rectangle" toName="image"><Label value="car"/></RectangleLabels>'
        '<EllipseLabels name="ellipse" toName="image"><Label value="car"/></EllipseLabels></View>',
    )
    source = source_of(tmp_path, [task(1, "/a/photo.jpg", annotation(1, 5, [region]))], config)
    run("coco-panoptic", source, tmp_path / "out")
    ((_, pixels),) = segments(tmp_path / "out", "photo")
    assert np.array_equal(pixels, oracle_mask(region))


def test_an_image_is_one_image_however_many_annotated_it(tmp_path: Path) -> None:
    region = brush("a", "car", box(0, 0, 2, 2))
    tasks = [
        task(1, "/a/photo.jpg", annotation(1, 5, [region]), annotation(2, 6, [region])),
        task(2, "/a/other.jpg", annotation(3, 5, [region])),
    ]
    run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out", annotations="newest")
    found = panoptic(tmp_path / "out")
    assert [one["file_name"] for one in found["images"]] == ["photo.jpg", "other.jpg"]
    assert [one["id"] for one in found["images"]] == [1, 2]


def test_images_without_regions_are_kept(tmp_path: Path) -> None:
    tasks = [
        task(1, "/a/full.jpg", annotation(1, 5, [brush("a", "car", box(0, 0, 2, 2))])),
        task(2, "/a/empty.jpg", annotation(2, 5, [])),
    ]
    summary = run(
        "coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out", size_of=lambda *_: (8, 10)
    )
    found = panoptic(tmp_path / "out")
    assert [one["file_name"] for one in found["images"]] == ["full.jpg", "empty.jpg"]
    assert found["annotations"][1]["segments_info"] == []
    ids = panoptic_ids(tmp_path / "out" / "panoptic" / "empty.png")
    assert ids.shape == (8, 10) and not ids.any()
    assert summary.dataset["images_without_segments"] == 1


def test_same_base_names_in_different_folders_do_not_collide(tmp_path: Path) -> None:
    tasks = [
        task(1, "/data/upload/a/0001.jpg", annotation(1, 5, [brush("a", "car", box(0, 0, 2, 2))])),
        task(2, "/data/upload/b/0001.JPG", annotation(2, 5, [brush("b", "car", box(4, 4, 8, 8))])),
        task(3, "/data/upload/b/0002.jpg", annotation(3, 5, [brush("c", "car", box(1, 1, 8, 8))])),
    ]
    run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out")
    assert names(tmp_path / "out" / "panoptic") == [
        "0001-task1.png", "0001-task2.png", "0002.png",
    ]  # fmt: skip
    assert [segments(tmp_path / "out", f"0001-task{n}")[0][0]["area"] for n in (1, 2)] == [4, 16]


def test_category_ids_and_colours_come_from_the_taxonomy_not_from_first_sight(
    tmp_path: Path,
) -> None:
    first = export_one(tmp_path / "1", brush("a", "road", box(0, 0, 2, 2)))
    second = export_one(tmp_path / "2", brush("a", "car", box(0, 0, 2, 2)))
    assert panoptic(first)["categories"] == panoptic(second)["categories"]
    info, _ = segments(second, "photo")[0]
    assert info["id"] == 220 + 256 * 20 + 65536 * 60


def test_the_exporter_is_found_by_its_name() -> None:
    from segstudio.plugins import find_exporter

    assert isinstance(find_exporter("coco-panoptic"), CocoPanopticExporter)
