"""YOLO segmentation, read by the rules of Ultralytics' own loader."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from tests.exporters.hard_cases import ONE_PART, PARTS, Dense, answer, crowded, hard_source
from tests.exporters.projects import annotation, box, brush, run, source_of, task, tree
from tests.exporters.test_coco_panoptic import fixture_source, oracle_mask


def read(out: Path, image: str, height_px: int = 48, width_px: int = 64) -> list[tuple[int, Dense]]:
    """What Ultralytics 8 makes of one image's labels: its checks, resampling and drawing."""
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert {"train", "val", "names"} <= set(data)
    path = f"/images/{image}"
    label = "/labels/".join(path.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
    rows = [row.split() for row in (out / label[1:]).read_text().strip().splitlines() if row]
    if not rows:
        return []
    assert any(len(row) > 6 for row in rows)
    classes = np.array([row[0] for row in rows], np.float32)
    polygons = [np.array(row[1:], np.float32).reshape(-1, 2) for row in rows]
    assert all(len(one) >= 3 and one.min() >= 0 and one.max() <= 1 for one in polygons)
    assert classes.max() < len(data["names"])
    boxes = [(*one.min(0), *one.max(0)) for one in polygons]
    centred = np.array([((a + c) / 2, (b + d) / 2, c - a, d - b) for a, b, c, d in boxes])
    labels = np.column_stack([classes, centred.astype(np.float32)])
    assert len(np.unique(labels, axis=0)) == len(labels), "the loader drops doubles"
    assert (labels[:, 3:] > 0).all(), "boxes without area are dropped in training"
    found = []
    for number, points in zip(classes, polygons, strict=True):
        pixels = (resampled(points) * np.array([width_px, height_px], np.float32)).astype(np.int32)
        drawn = np.zeros((height_px, width_px), np.uint8)
        cv2.fillPoly(drawn, [pixels], 1)
        found.append((int(number), drawn.astype(bool)))
    return found


def resampled(points: np.ndarray, amount: int = 1000) -> np.ndarray:
    """More points on the same ring, its corners kept, as the loader adds them."""
    closed = np.concatenate([points, points[:1]])
    if len(closed) >= amount:
        return closed
    at = np.linspace(0, len(closed) - 1, amount - len(closed))
    own = np.arange(len(closed))
    at = np.insert(at, np.searchsorted(at, own), own)
    found: np.ndarray = np.stack(
        [np.interp(at, own, closed[:, axis]) for axis in (0, 1)], 1
    ).astype(np.float32)
    return found


def iou(a: Dense, b: Dense) -> float:
    return float((a & b).sum() / (a | b).sum())


def export(tmp_path: Path, *regions: dict[str, Any], **options: Any) -> Path:
    tasks = [task(3, "/data/upload/1/photo.jpg", annotation(1, 5, regions))]
    run("yolo-seg", source_of(tmp_path, tasks), tmp_path / "out", **options)
    return tmp_path / "out"


def losses(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "dataset.json").read_text())["losses"]
    return {kind: count for kind, count in found.items() if count}


def test_every_mask_of_one_part_is_drawn_exactly(tmp_path: Path) -> None:
    run("yolo-seg", hard_source(tmp_path, ONE_PART), tmp_path / "out")
    for number, (name, dense) in enumerate(ONE_PART.items(), start=1):
        ((_, drawn),) = read(tmp_path / "out", f"train/{number}.jpg")
        # float32 between two pixels that touch by a corner may round to a third one.
        assert (drawn != dense).sum() <= (name == "chessboard"), name
    found = losses(tmp_path / "out")
    assert found.pop("bridge_px", 0) <= 1 and found == {}
    stated = json.loads((tmp_path / "out" / "loss.json").read_text())
    assert stated["lines"] == len(ONE_PART) and stated["exact"] >= len(ONE_PART) - 1
    assert stated["lowest_iou"] > 0.9


def test_bridges_between_parts_are_counted_and_the_iou_is_stated(tmp_path: Path) -> None:
    run("yolo-seg", hard_source(tmp_path, PARTS), tmp_path / "out")
    extra_px, ious = 0, []
    for number, dense in enumerate(PARTS.values(), start=1):
        ((_, drawn),) = read(tmp_path / "out", f"train/{number}.jpg")
        assert not (dense & ~drawn).any()
        extra_px += int((drawn & ~dense).sum())
        ious.append(iou(drawn, dense))
    stated = json.loads((tmp_path / "out" / "loss.json").read_text())
    assert stated["mean_iou"] == pytest.approx(np.mean(ious))
    assert stated["lowest_iou"] == pytest.approx(min(ious))
    found = losses(tmp_path / "out")
    assert found["parts_bridged"] == len(PARTS) and found["bridge_px"] == pytest.approx(
        extra_px, 0.1
    )


def test_parts_become_objects_where_asked(tmp_path: Path) -> None:
    source = hard_source(tmp_path, PARTS)
    run("yolo-seg", source, tmp_path / "out", options={"parts": "split"})
    for number, (name, dense) in enumerate(PARTS.items(), start=1):
        drawn = [mask for _, mask in read(tmp_path / "out", f"train/{number}.jpg")]
        assert len(drawn) == 2 and np.array_equal(drawn[0] | drawn[1], dense), name
    assert losses(tmp_path / "out") == {"parts_split": len(PARTS)}


def test_classes_count_from_zero_in_the_taxonomys_order(tmp_path: Path) -> None:
    out = export(tmp_path, *crowded())
    assert yaml.safe_load((out / "data.yaml").read_text())["names"] == {0: "car", 1: "road"}
    assert sorted({number for number, _ in read(out, "train/photo.jpg")}) == [0, 1]


def test_objects_of_one_box_are_not_taken_for_doubles(tmp_path: Path) -> None:
    whole = box(5, 5, 30, 40, (48, 64))
    ring = whole & ~box(10, 10, 20, 20, (48, 64))
    out = export(
        tmp_path, *(brush(str(n), "car", one) for n, one in enumerate([whole, ring, ring]))
    )
    drawn = [mask for _, mask in read(out, "train/photo.jpg")]
    assert [int(mask.sum()) for mask in drawn] == [whole.sum(), ring.sum(), ring.sum()]


def test_an_image_without_regions_has_an_empty_file(tmp_path: Path) -> None:
    out = export(tmp_path, size_of=lambda *_: (60, 90))
    assert (out / "labels" / "train" / "photo.txt").read_text() == ""
    assert read(out, "train/photo.jpg") == []


def test_splits_are_folders_and_data_yaml_names_them(tmp_path: Path) -> None:
    tasks = [
        task(n, f"/{n}.jpg", annotation(n, 5, [brush("a", "car", box(0, 0, 5, 5))]), subset=subset)
        for n, subset in ((1, "train"), (2, "val"))
    ]
    source = source_of(tmp_path, tasks)
    run("yolo-seg", source, tmp_path / "out", options={"split": "{subset}"})
    data = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert (data["train"], data["val"]) == ("images/train", "images/val")
    assert [name for name in tree(tmp_path / "out") if name.startswith("labels")] == [
        "labels/train/1.txt", "labels/val/2.txt",
    ]  # fmt: skip


def test_attributes_have_no_place_and_are_counted(tmp_path: Path) -> None:
    shape = box(2, 2, 9, 9, (48, 64))
    out = export(tmp_path, brush("a", "car", shape), answer("a", "iscrowd", "yes"))
    assert losses(out) == {"segments_without_their_attributes": 1}


def test_large_images_keep_their_pixels_in_six_digits(tmp_path: Path) -> None:
    dense = np.zeros((40, 20_000), bool)
    dense[3:30, 12_345:19_999] = True
    dense[10:20, 13_000:13_001] = False
    out = export(tmp_path, brush("a", "car", dense))
    ((_, drawn),) = read(out, "train/photo.jpg", 40, 20_000)
    assert np.array_equal(drawn, dense)


def test_a_real_project_reads_back(fixtures_dir: Path, tmp_path: Path) -> None:
    source, raw = fixture_source(fixtures_dir)
    run("yolo-seg", source, tmp_path / "out", taxonomy=None, annotations="all")
    compared = 0
    for raw_task in raw:
        image = raw_task["data"]["image"].rpartition("/")[2]
        for one in raw_task["annotations"]:
            if one["was_cancelled"]:
                continue
            folder = tmp_path / "out" / f"annotator-{one['completed_by']}"
            shapes = [region for region in one["result"] if region["type"] != "keypointlabels"]
            found = read(folder, f"train/{image}", 512, 512)
            for region, (_, drawn) in zip(shapes, found, strict=True):
                assert iou(drawn, oracle_mask(region)) > 0.97, region["id"]
                compared += 1
    assert compared >= 12
