"""Pascal VOC, read by Pillow and an XML parser."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from defusedxml.ElementTree import parse
from PIL import Image

from exporters.pascal_voc import border_of, voc_color
from segstudio.errors import SegstudioError, UsageError
from segstudio.taxonomy import SegmentClass, Taxonomy
from tests.exporters.hard_cases import ALL, answer, crowded, hard_source
from tests.exporters.projects import TAXONOMY, annotation, box, brush, run, source_of, task, tree
from tests.exporters.test_coco_panoptic import fixture_source, oracle_mask


def export(tmp_path: Path, *regions: dict[str, Any], **options: Any) -> Path:
    tasks = [task(3, "/data/upload/1/photo.jpg", annotation(1, 5, regions))]
    run("pascal-voc", source_of(tmp_path, tasks), tmp_path / "out", **options)
    return tmp_path / "out"


def read(out: Path, kind: str, stem: str = "photo") -> np.ndarray:
    with Image.open(out / f"Segmentation{kind}" / f"{stem}.png") as image:
        assert image.mode == "P"
        return np.asarray(image)


def objects(out: Path, stem: str = "photo") -> list[Any]:
    found: list[Any] = parse(out / "Annotations" / f"{stem}.xml").findall("object")
    return found


def text(element: Any, path: str) -> str:
    return str(element.findtext(path))


def test_the_palette_is_vocs() -> None:
    assert [voc_color(index) for index in (0, 1, 2, 3, 20, 255)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 64, 128), (224, 224, 192),
    ]  # fmt: skip


def test_every_hard_mask_comes_back_pixel_for_pixel(tmp_path: Path) -> None:
    run("pascal-voc", hard_source(tmp_path), tmp_path / "out")
    for number, (name, dense) in enumerate(ALL.items(), start=1):
        for kind in ("Class", "Object"):
            assert np.array_equal(read(tmp_path / "out", kind, str(number)) == 1, dense), name


def test_classes_objects_and_boxes_agree(tmp_path: Path) -> None:
    out = export(tmp_path, *crowded())
    classes, numbers = read(out, "Class"), read(out, "Object")
    found = objects(out)
    assert set(np.unique(numbers)) == {0, 255, *range(1, len(found) + 1)}
    for number, one in enumerate(found, start=1):
        pixels = numbers == number
        (class_id,) = set(classes[pixels].tolist())
        assert TAXONOMY.by_id[class_id].name == text(one, "name")
        rows, columns = np.nonzero(pixels)
        assert [int(text(one, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")] == [
            columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1,
        ]  # fmt: skip
    void = box(40, 40, 46, 60, (48, 64))
    assert np.array_equal(classes == 255, void) and np.array_equal(numbers == 255, void)


def test_a_border_between_objects_is_void_and_counted(tmp_path: Path) -> None:
    shape = (48, 64)
    out = export(
        tmp_path, brush("a", "car", box(0, 0, 48, 32, shape)),
        brush("b", "car", box(0, 32, 48, 64, shape)), options={"border_px": "2"},
    )  # fmt: skip
    expected = box(0, 30, 48, 34, shape)
    assert np.array_equal(read(out, "Class") == 255, expected)
    assert np.array_equal(read(out, "Object") == 255, expected)
    losses = json.loads((out / "dataset.json").read_text())["losses"]
    assert losses["border_px"] == expected.sum()


def test_no_border_is_no_pixel_and_the_images_edge_is_none() -> None:
    values = np.array([[1, 1, 2], [1, 1, 2]], np.uint8)
    assert not border_of(values, 0).any()
    assert border_of(values, 1).tolist() == [[False, True, True]] * 2


def test_flags_and_other_answers_are_in_the_xml(tmp_path: Path) -> None:
    shape = box(2, 2, 9, 9, (48, 64))
    out = export(
        tmp_path, brush("a", "car", shape), answer("a", "truncated", "yes"),
        answer("a", "Difficult", "no"), answer("a", "colour", "red & <b>", "\x01blue"),
    )  # fmt: skip
    (one,) = objects(out)
    assert [text(one, flag) for flag in ("truncated", "difficult", "occluded")] == ["1", "0", "0"]
    assert text(one, "attributes/attribute/name") == "colour"
    assert text(one, "attributes/attribute/value") == "red & <b>, \ufffdblue"


@pytest.mark.parametrize("class_id", [0, 255, 300])
def test_ids_that_a_palette_png_cannot_hold_are_refused_before_anything_is_written(
    tmp_path: Path, class_id: int
) -> None:
    taxonomy = Taxonomy("wide", (SegmentClass(class_id, "car"),), void_id=999, unlabelled_id=1000)
    with pytest.raises(UsageError, match=f'"car" has the id {class_id}.* 1 to 254'):
        export(tmp_path, taxonomy=taxonomy)
    assert not (tmp_path / "out").exists()


def test_more_objects_than_numbers_are_refused(tmp_path: Path) -> None:
    dots = [
        brush(str(n), "car", box(n // 60, n % 60, n // 60 + 1, n % 60 + 1, (48, 64)))
        for n in range(255)
    ]
    with pytest.raises(SegstudioError, match="255 segments; Pascal VOC numbers at most 254"):
        export(tmp_path, *dots)


@pytest.mark.parametrize("border_px", ["-1", "x", "51"])
def test_a_border_that_is_none_is_refused(tmp_path: Path, border_px: str) -> None:
    with pytest.raises(UsageError, match="border_px"):
        export(tmp_path, options={"border_px": border_px})


def test_the_tree_is_vocs(tmp_path: Path) -> None:
    tasks = [task(n, f"/{n}/same.jpg", subset=subset) for n, subset in ((1, "train"), (2, "val"))]
    options = {"split": "{subset}", "tree": "devkit"}
    source = source_of(
        tmp_path, [{**one, "annotations": [annotation(one["id"], 5, [])]} for one in tasks]
    )
    run("pascal-voc", source, tmp_path / "out", options=options, size_of=lambda *_: (4, 6))
    root = tmp_path / "out" / "VOCdevkit" / "VOC2012"
    files = [name for name in tree(root) if not name.startswith(".")]
    assert files == [
        "Annotations/same-task1.xml", "Annotations/same-task2.xml",
        "ImageSets/Main/train.txt", "ImageSets/Main/val.txt",
        "ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt",
        "SegmentationClass/same-task1.png", "SegmentationClass/same-task2.png",
        "SegmentationObject/same-task1.png", "SegmentationObject/same-task2.png",
        "labelmap.txt",
    ]  # fmt: skip
    assert (root / "ImageSets/Segmentation/val.txt").read_text() == "same-task2\n"
    assert (root / "labelmap.txt").read_text().splitlines()[1:] == [
        "background:0,0,0::", "car:128,0,0::", "road:128,128,128::", "ignored:224,224,192::",
    ]  # fmt: skip


def test_every_region_kind_of_a_real_project_is_pixel_exact(
    fixtures_dir: Path, tmp_path: Path
) -> None:
    source, raw = fixture_source(fixtures_dir)
    run("pascal-voc", source, tmp_path / "out", taxonomy=None, annotations="all")
    for raw_task in raw:
        for one in raw_task["annotations"]:
            if one["was_cancelled"]:
                continue
            top = np.zeros((512, 512), int)
            shapes = [region for region in one["result"] if region["type"] != "keypointlabels"]
            for number, region in enumerate(shapes, start=1):
                top[oracle_mask(region)] = number
            stem = raw_task["data"]["image"].rpartition("/")[2].removesuffix(".png")
            found = read(tmp_path / "out" / f"annotator-{one['completed_by']}", "Object", stem)
            visible = [number for number in range(1, len(shapes) + 1) if (top == number).any()]
            for value, number in enumerate(visible, start=1):
                assert np.array_equal(found == value, top == number), shapes[number - 1]["id"]
