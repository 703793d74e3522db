"""Official layouts and folders with everything in one place, as `segstudio import` finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from exporters.importers.cityscapes_labels import OFFICIAL_CLASSES
from exporters.importers.pascal_voc import voc_color
from segstudio.shapes import region_mask
from segstudio.source import open_source
from segstudio.taxonomy import load_taxonomy
from tests.exporters.imports import import_folder, imported

LABELS = np.array([[7, 7, 26, 26], [7, 7, 26, 26], [0, 24, 24, 23]], np.uint8)
INSTANCES = np.array(
    [[7, 7, 26000, 26001], [7, 7, 26000, 26001], [0, 24, 24, 23]], np.uint16
)  # the persons are a group


def save(path: Path, pixels: Any, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image = image.convert("P") if image.mode != "L" else image
        image.putpalette([channel for at in range(256) for channel in voc_color(at)])
    image.save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(summary: Any) -> list[tuple[str, list[tuple[str, list[list[int]]]]]]:
    """Each task's picture, and label and runs of each region."""
    return [
        (
            one.data["image"].removeprefix("/data/local-files/?d="),
            [(each.labels[0], region_mask(each).runs.tolist()) for each in region_list],
        )
        for one in open_source(str(summary.files.tasks)).tasks()
        for region_list in [one.annotations[0].regions]
    ]


CITYSCAPES = [
    ("road", [[0, 2], [4, 6]]),
    ("sky", [[11, 12]]),
    ("person", [[9, 11]]),
    ("car", [[2, 3], [6, 7]]),
    ("car", [[3, 4], [7, 8]]),
]


@pytest.mark.parametrize(
    ("labels", "picture"),
    [
        ("gtFine/val/lindau/lindau_000001_000019_gtFine",
         "leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png"),
        ("cs/gtFine/val/lindau/lindau_000001_000019_gtFine",
         "cs/leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png"),
        ("lindau_000001_000019_gtFine", "lindau_000001_000019_leftImg8bit.png"),
        ("0001", "0001.jpg"),
    ],
)  # fmt: skip
def test_cityscapes(labels: str, picture: str, tmp_path: Path) -> None:
    save(tmp_path / "d" / f"{labels}_labelIds.png", LABELS)
    save(tmp_path / "d" / f"{labels}_instanceIds.png", INSTANCES)
    write(tmp_path / "d" / picture, "not read")
    summary = import_folder("cityscapes", tmp_path / "d", tmp_path / "t.json")
    assert not summary.first_problems
    ((name, regions),) = read(summary)
    assert name == picture and sorted(regions) == sorted(CITYSCAPES)
    (task,) = open_source(str(summary.files.tasks)).tasks()
    crowds = [one.labels for one in task.annotations[0].regions if "iscrowd" in one.attributes]
    assert crowds == [("person",)]
    split = {"split": "val", "city": "lindau"} if "gtFine/" in labels else {}
    assert {key: task.data[key] for key in task.data if key != "image"} == split


def test_cityscapes_polygons_say_who_is_drawn_first(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a_gtFine_labelIds.png", LABELS)
    save(tmp_path / "d" / "a_gtFine_instanceIds.png", INSTANCES)
    objects = [
        {"label": name, "polygon": [[0, 0], [1, 0], [1, 1]], **more}
        for name, more in [
            ("sky", {}), ("car", {"deleted": 1}), ("car", {}), ("persongroup", {}),
            ("car", {}), ("road", {}),
        ]
    ]  # fmt: skip
    write(tmp_path / "d" / "a_gtFine_polygons.json", json.dumps({"objects": objects}))
    ((_, regions),) = read(import_folder("cityscapes", tmp_path / "d", tmp_path / "t.json"))
    assert [label for label, _ in regions] == ["sky", "car", "person", "car", "road"]
    assert regions[1] == CITYSCAPES[3]


def test_cityscapes_labels_are_those_of_cityscapesscripts() -> None:
    from cityscapesscripts.helpers.labels import labels

    official = {
        (one.id, one.name, None if one.trainId == 255 else one.trainId, one.category,
         one.hasInstances, one.color)
        for one in labels if one.id > 0
    }  # fmt: skip
    assert official == {
        (one.id, one.name, one.train_id, one.supercategory, one.is_thing, one.color)
        for one in OFFICIAL_CLASSES
    }


CLASSES = np.array([[0, 0, 15, 15], [255, 2, 15, 15], [255, 2, 2, 7]], np.uint8)
OBJECTS = np.array([[0, 0, 1, 3], [255, 2, 1, 3], [255, 2, 2, 0]], np.uint8)
VOC_OBJECTS = [
    ("void", [[4, 5], [8, 9]]),
    ("car", [[11, 12]]),
    ("person", [[2, 3], [6, 7]]),
    ("bicycle", [[5, 6], [9, 11]]),
    ("person", [[3, 4], [7, 8]]),
]


@pytest.mark.parametrize("root", ["", "VOCdevkit/VOC2012/"])
@pytest.mark.parametrize("format_name", ["pascal-voc", "voc"])
def test_pascal_voc(root: str, format_name: str, tmp_path: Path) -> None:
    folder = tmp_path / "d" / root
    for name in ("2007_01", "2007_02", "unlisted"):
        save(folder / "SegmentationClass" / f"{name}.png", CLASSES, palette=True)
        save(folder / "SegmentationObject" / f"{name}.png", OBJECTS, palette=True)
        write(folder / "JPEGImages" / f"{name}.jpg", "not read")
    sets = folder / "ImageSets" / "Segmentation"
    write(sets / "train.txt", "2007_02\n")
    write(sets / "val.txt", "2007_01\n")
    write(sets / "trainval.txt", "2007_01\n2007_02\n")
    objects = [("person", "<difficult>1</difficult>"), ("cow", "<truncated>1</truncated>")]
    xml = "".join(f"<object><name>{name}</name>{more}</object>" for name, more in objects)
    write(folder / "Annotations" / "2007_02.xml", f"<annotation>{xml}</annotation>")
    summary = import_folder(format_name, tmp_path / "d", tmp_path / "t.json")
    assert not summary.first_problems
    found = read(summary)
    assert [name for name, _ in found] == [
        f"{root}JPEGImages/2007_02.jpg",
        f"{root}JPEGImages/2007_01.jpg",
    ]
    assert sorted(found[0][1]) == sorted(VOC_OBJECTS) and found[0][1][2:] == VOC_OBJECTS[2:]
    first, _ = open_source(str(summary.files.tasks)).tasks()
    assert first.data["split"] == "train"
    given = [one.attributes for one in first.annotations[0].regions if one.attributes]
    assert given == [{"difficult": ["yes"]}]  # object 2 is no cow in the PNGs


def test_voc_in_one_folder_is_one_region_a_class(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a.png", CLASSES, palette=True)
    write(tmp_path / "d" / "a.jpg", "not read")
    ((name, regions),) = read(import_folder("voc", tmp_path / "d", tmp_path / "t.json"))
    assert name == "a.jpg"
    assert [label for label, _ in regions] == ["bicycle", "car", "person", "void"]


def test_voc_in_true_colour_is_read_by_labelmap(tmp_path: Path) -> None:
    colors = {0: (0, 0, 0), 2: (9, 8, 7), 7: (50, 60, 70), 15: (1, 1, 1), 255: (224, 224, 192)}
    pixels = np.array([[colors[int(one)] for one in row] for row in CLASSES], np.uint8)
    save(tmp_path / "d" / "SegmentationClass" / "a.png", pixels)
    write(
        tmp_path / "d" / "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbike:9,8,7::\nauto:50,60,70::\n"
        "man:1,1,1::\n",
    )
    summary = import_folder("voc", tmp_path / "d", tmp_path / "t.json")
    ((_, regions),) = read(summary)
    assert [label for label, _ in regions] == ["bike", "auto", "man", "void"]
    assert load_taxonomy(summary.files.taxonomy).by_name["auto"].color == (50, 60, 70)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("folder", ["masks", "ann_dir/val", "annotations", ""])
def test_semantic_png(folder: str, dtype: Any, tmp_path: Path) -> None:
    pixels = np.array([[0, 3, 3], [255, 3, 1]], dtype)
    save(tmp_path / "d" / folder / "a.png", pixels)
    write(tmp_path / "d" / "classes.txt", "background\nroad\ncar\ntree\n")
    below = "val/" if folder.startswith("ann_dir") else ""
    picture = f"img_dir/{below}a.jpg" if folder else "a.jpg"
    write(tmp_path / "d" / picture, "not read")
    summary = import_folder("semantic-png", tmp_path / "d", tmp_path / "t.json")
    ((name, regions),) = read(summary)
    assert name == picture
    assert sorted(regions) == [
        ("background", [[0, 1]]), ("road", [[5, 6]]), ("tree", [[1, 3], [4, 5]]),
        ("void", [[3, 4]]),
    ]  # fmt: skip


def test_semantic_png_without_names_calls_the_classes_by_their_ids(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a.png", np.array([[0, 3], [255, 40]], np.uint8), palette=True)
    summary = import_folder("semantic-png", tmp_path / "d", tmp_path / "t.json")
    classes = load_taxonomy(summary.files.taxonomy).classes
    assert [(one.id, one.name) for one in classes] == [(3, "class 3"), (40, "class 40")]


def test_a_taxonomy_given_names_the_ids(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a.png", np.array([[0, 3], [3, 4]], np.uint8))
    write(tmp_path / "t.yaml", "name: t\nclasses:\n  - {id: 3, name: Kerb, kind: stuff}\n"
          "  - {id: 4, name: Cat}\n")  # fmt: skip
    summary = import_folder(
        "semantic-png", tmp_path / "d", tmp_path / "t.json",
        taxonomy=load_taxonomy(tmp_path / "t.yaml"),
    )  # fmt: skip
    assert summary.classes == {"Kerb": 1, "Cat": 1}


def coco(folder: Path, name: str, annotations: list[dict[str, Any]], **more: Any) -> None:
    body = {
        "images": [{"id": 7, "file_name": "x/a.jpg", "height": 3, "width": 4}],
        "annotations": [{"id": at, "image_id": 7, **one} for at, one in enumerate(annotations)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 90, "name": "dog", "isthing": 0}],
        **more,
    }
    write(folder / name, json.dumps(body))


RING = [[1.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0]]
COMPRESSED = coco_mask.encode(np.asfortranarray(np.eye(3, 4, dtype=np.uint8)))


@pytest.mark.parametrize("name", ["annotations/instances_val2017.json", "export.json"])
def test_coco_instances_of_every_encoding(name: str, tmp_path: Path) -> None:
    plain = {"size": [3, 4], "counts": [0, 3, 9]}
    text = {"size": [3, 4], "counts": COMPRESSED["counts"].decode()}
    coco(tmp_path / "d", name, [
        {"category_id": 1, "segmentation": RING},
        {"category_id": 90, "segmentation": text, "iscrowd": 1},
        {"category_id": 1, "segmentation": plain},
    ])  # fmt: skip
    summary = import_folder("coco-instances", tmp_path / "d", tmp_path / "t.json")
    assert not summary.first_problems
    ((picture, regions),) = read(summary)
    assert picture == "x/a.jpg"
    drawn = coco_mask.decode(coco_mask.frPyObjects(RING, 3, 4))[..., 0]
    (task,) = open_source(str(summary.files.tasks)).tasks()
    first, second, third = task.annotations[0].regions
    assert task.id == 7
    assert np.array_equal(region_mask(first).to_dense(), drawn.astype(bool))
    assert regions[1:] == [("dog", [[0, 1], [5, 6], [10, 11]]), ("cat", [[0, 1], [4, 5], [8, 9]])]
    assert second.attributes == {"iscrowd": ["yes"]} and not third.attributes


def test_coco_splits_are_joined_by_image_id(tmp_path: Path) -> None:
    for split, ids in (("val", [2, 9]), ("train", [1, 5])):
        images = [{"id": one, "file_name": f"{one}.jpg", "height": 3, "width": 4} for one in ids]
        coco(tmp_path / "d", f"annotations/instances_{split}.json", [], images=images)
    summary = import_folder("coco-instances", tmp_path / "d", tmp_path / "t.json")
    found = [(one["id"], one["data"]["split"]) for one in imported(summary)]
    assert found == [(1, "train"), (2, "val"), (5, "train"), (9, "val")]


def test_official_coco_panoptic_in_one_folder(fixtures_dir: Path, tmp_path: Path) -> None:
    summary = import_folder(
        "coco-panoptic", fixtures_dir / "coco_panoptic", tmp_path / "t.json",
        image_root_url="/data/local-files/?d=val",
    )  # fmt: skip
    assert not summary.first_problems and summary.segments == 18
    (task,) = imported(summary)
    assert task["data"]["image"] == "/data/local-files/?d=val/000000142238.jpg"
    taxonomy = load_taxonomy(summary.files.taxonomy)
    assert len(taxonomy.classes) == 133 and taxonomy.by_id[184].kind == "stuff"


@pytest.mark.parametrize("where", ["annotations/panoptic_val2017", "panoptic_val2017"])
def test_official_coco_panoptic_tree(where: str, fixtures_dir: Path, tmp_path: Path) -> None:
    source = fixtures_dir / "coco_panoptic"
    write(tmp_path / "d" / "annotations" / "panoptic_val2017.json",
          (source / "panoptic.json").read_text())  # fmt: skip
    png = tmp_path / "d" / where / "000000142238.png"
    png.parent.mkdir(parents=True)
    png.write_bytes((source / png.name).read_bytes())
    summary = import_folder("coco-panoptic", tmp_path / "d", tmp_path / "t.json")
    assert not summary.first_problems and summary.segments == 18
