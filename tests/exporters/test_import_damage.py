"""Damaged and hostile data sets: a sentence and a count each, the rest goes on, strict stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from exporters.importers.dataset import DatasetError, ImportedImage
from exporters.importers.folder import DatasetFolder
from exporters.importers.label_images import read_label_map
from exporters.importers.tasks import image_url
from exporters.panoptic_ids import segment_ids
from segstudio.cli import main
from segstudio.errors import SegstudioError, UsageError
from segstudio.images import annotated_images
from segstudio.label_config import parse_label_config
from segstudio.tasks import parse_task
from tests.exporters.imports import import_folder, imported
from tests.exporters.projects import CONFIG, annotation, task
from tests.exporters.test_import_layouts import coco, save, write

IDS = np.zeros((3, 4, 3), np.uint8)
IDS[0, :, 0], IDS[2, :, 0] = 5, 9  # segments 5 and 9, on R


def panoptic(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """Two images of two segments each; `change` damages the JSON."""
    found: dict[str, Any] = {
        "images": [
            {"id": at, "file_name": f"{name}.jpg", "height": 3, "width": 4}
            for at, name in enumerate("ab", start=1)
        ],
        "annotations": [
            {
                "image_id": at,
                "file_name": f"{name}.png",
                "segments_info": [{"id": 5, "category_id": 1}, {"id": 9, "category_id": 2}],
            }
            for at, name in enumerate("ab", start=1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    change(found)
    for name in "ab":
        save(folder / f"{name}.png", IDS)
    write(folder / "panoptic.json", json.dumps(found))
    return folder


def first(found: dict[str, Any], *path: Any, value: Any) -> None:
    for step in path[:-1]:
        found = found[step]
    found[path[-1]] = value


def in_json(*path: Any, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        panoptic(folder, lambda found: first(found, *path, value=value))

    return change


def instead_of_png(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        panoptic(folder)
        (folder / "a.png").unlink()
        make(folder / "a.png")

    return change


def palette(path: Path) -> None:
    save(path, np.ones((3, 4), np.uint8), palette=True)


def deep(path: Path) -> None:
    save(path, np.full((3, 4), 300, np.uint16))


def cut(path: Path) -> None:
    save(path, np.random.default_rng(1).integers(0, 255, (3, 4, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:60])


def linked_out(path: Path) -> None:
    outside = path.parent.parent / "outside.png"
    save(outside, IDS)
    path.symlink_to(outside)


INFO = ("annotations", 0, "segments_info")


@pytest.mark.parametrize(
    ("damage", "kind", "words", "segments"),
    [
        (in_json(*INFO, 0, "id", value=6), "segment-without-pixels", "no pixel of the segment 6",
         3),
        (in_json(*INFO, value=[{"id": 5, "category_id": 1}]), "pixels-without-segment",
         "4 pixels of the id 9, which the JSON lacks", 3),
        (in_json(*INFO, 0, "category_id", value=77), "unknown-category", "the category 77", 3),
        (in_json(*INFO, 0, "id", value=[5]), "segment-without-pixels", "the segment [5]", 3),
        (in_json("annotations", 0, "file_name", value="gone.png"), "image-left-out",
         "gone.png of a.jpg is missing", 2),
        (in_json("annotations", 0, "image_id", value=44), "stray-annotation",
         "belong to no image", 2),
        (in_json("images", 0, "width", value=5), "image-left-out", "but the JSON says 5 x 3", 2),
        (in_json("images", 0, "height", value="3"), "image-left-out", "whole numbers", 2),
        (in_json("images", 0, "file_name", value="../../x"), "image-left-out",
         "'../../x' leads out of the data set's folder", 2),
        (in_json("images", 0, "file_name", value="/etc/passwd"), "image-left-out", "leads out", 2),
        (in_json("images", 0, "file_name", value="..\\..\\x"), "image-left-out", "leads out", 2),
        (in_json("annotations", 0, "file_name", value="../../x.png"), "image-left-out",
         "leads out", 2),
        (in_json("images", 1, "id", value=1), "doubled-image", "more than once", 2),
        (instead_of_png(palette), "image-left-out", "a.png is a palette PNG", 2),
        (instead_of_png(deep), "image-left-out", "a.png is a 16-bit grey PNG", 2),
        (instead_of_png(cut), "image-left-out", "a.png is damaged", 2),
        (instead_of_png(lambda path: write(path, "text")), "image-left-out", "is no PNG", 2),
        (instead_of_png(linked_out), "image-left-out", "a link that leads out", 2),
    ],
)  # fmt: skip
def test_panoptic_damage_is_counted_and_the_rest_goes_on(
    damage: Callable[[Path], None], kind: str, words: str, segments: int, tmp_path: Path
) -> None:
    damage(tmp_path / "d")
    summary = import_folder("coco-panoptic", tmp_path / "d", tmp_path / "t.json")
    assert summary.problem_counts[kind] == 1
    (sentence,) = (one.message for one in summary.first_problems if one.kind == kind)
    assert words in sentence and sentence.endswith(".")
    assert summary.segments == segments
    assert len(imported(summary)) == summary.images
    with pytest.raises(SegstudioError, match="--strict"):
        import_folder("coco-panoptic", tmp_path / "d", tmp_path / "s.json", strict=True)
    assert not list(tmp_path.glob("s.*")) and not list(tmp_path.glob(".*"))


CUT_RLE = {"size": [3, 4], "counts": "0"}


@pytest.mark.parametrize(
    ("annotation", "kind", "words"),
    [
        ({"category_id": 1, "segmentation": CUT_RLE}, "damaged-mask", "do not describe 4 x 3"),
        ({"category_id": 1, "segmentation": {"size": [3, 4], "counts": [3, 3]}}, "damaged-mask",
         "do not describe"),
        ({"category_id": 1, "segmentation": {"size": [4, 3], "counts": [12]}}, "damaged-mask",
         "of the size [4, 3]"),
        ({"category_id": 1, "segmentation": [[0, 0, 1, 1]]}, "damaged-mask", "at least 3 points"),
        ({"category_id": 1, "segmentation": [[0, 0, 1e9, 0, 0, 1e9]]}, "damaged-mask",
         "far outside"),
        ({"category_id": 1}, "damaged-mask", "neither an RLE nor polygons"),
        ({"category_id": 1, "segmentation": {"size": [3, 4], "counts": [12]}},
         "segment-without-pixels", "no pixel"),
        ({"category_id": "cat", "segmentation": []}, "unknown-category", "'cat'"),
    ],
)  # fmt: skip
def test_instance_damage_is_counted_and_the_rest_goes_on(
    annotation: dict[str, Any], kind: str, words: str, tmp_path: Path
) -> None:
    whole = {"category_id": 90, "segmentation": {"size": [3, 4], "counts": [0, 12]}}
    coco(tmp_path / "d", "instances.json", [annotation, whole])
    summary = import_folder("coco-instances", tmp_path / "d", tmp_path / "t.json")
    assert dict(summary.problem_counts) == {kind: 1} and summary.segments == 1
    assert words in summary.first_problems[0].message
    with pytest.raises(SegstudioError, match="--strict"):
        import_folder("coco-instances", tmp_path / "d", tmp_path / "s.json", strict=True)


def test_label_maps_that_disagree_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a_labelIds.png", np.full((2, 2), 7, np.uint8))
    save(tmp_path / "d" / "a_instanceIds.png", np.array([[26000, 7], [99, 50001]], np.uint16))
    save(tmp_path / "d" / "b_labelIds.png", np.full((2, 2), 7, np.uint8))
    save(tmp_path / "d" / "b_instanceIds.png", np.full((2, 3), 7, np.uint16))
    summary = import_folder("cityscapes", tmp_path / "d", tmp_path / "t.json")
    assert summary.problem_counts == {
        "png-disagree": 1, "unknown-category": 2, "image-left-out": 1,
    }  # fmt: skip
    assert summary.images == 1 and summary.segments == 2


def test_voc_pngs_that_disagree_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "d/SegmentationClass/a.png", np.array([[1, 2], [0, 77]], np.uint8), True)
    save(tmp_path / "d/SegmentationObject/a.png", np.array([[1, 1], [2, 0]], np.uint8), True)
    write(tmp_path / "d/Annotations/a.xml", "<annotation><object>")
    write(tmp_path / "d/ImageSets/Segmentation/train.txt", "a\ngone\n../../x\n")
    summary = import_folder("voc", tmp_path / "d", tmp_path / "t.json")
    assert summary.problem_counts == {
        "damaged-xml": 1, "png-disagree": 2, "unknown-category": 1, "image-left-out": 2,
    }  # fmt: skip
    assert summary.segments == 2


def test_a_true_colour_picture_is_no_label_map(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((2, 2, 3), 9, np.uint8))
    with pytest.raises(SegstudioError, match=r"the colour \(9, 9, 9\), which no class has"):
        read_label_map(tmp_path / "a.png", "a.png", {(0, 0, 0): 0})


def test_a_name_with_letters_no_encoding_has_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a.png", np.ones((2, 2), np.uint8))
    (tmp_path / "d" / "b\udcff.png").write_bytes((tmp_path / "d" / "a.png").read_bytes())
    summary = import_folder("semantic-png", tmp_path / "d", tmp_path / "t.json")
    assert summary.images == 1 and summary.problem_counts == {"image-left-out": 1}
    assert "not UTF-8" in summary.first_problems[0].message


@pytest.mark.parametrize(
    ("format_name", "files", "words"),
    [
        ("coco-panoptic", {}, "holds no panoptic.json"),
        ("coco-panoptic", {"a.json": "{}", "b.json": "{}"}, r"2 JSON files \(a.json, b.json\)"),
        ("coco-panoptic", {"panoptic.json": "{}"}, "lists no images"),
        ("coco-panoptic", {"panoptic.json": '{"images": [{"id": 1}, {"i'}, "not valid JSON"),
        ("coco-instances", {"a.json": '{"images": [{"id": 1}]}'}, "names no classes"),
        ("coco-instances",
         {"a.json": '{"images": [{"id": 1}], "categories": [{"id": "x"}]}'}, "the id 'x'"),
        ("coco-instances",
         {"a.json": '{"images": [{"id": 1}], "categories": [{"id": 1}, {"id": 1}]}'}, "id 1 to"),
        ("semantic-png", {}, "no PNG label maps"),
        ("cityscapes", {}, "_labelIds.png"),
        ("pascal-voc", {}, "SegmentationClass"),
        ("semantic-png", {"masks/a.png": "", "colormap.json": "{}"}, "colormap.json' is damaged|"
         "colormap.json is damaged"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_data_set_of_the_format_is_a_sentence(
    format_name: str, files: dict[str, str], words: str, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    for name, text in files.items():
        write(tmp_path / "d" / name, text)
    with pytest.raises(DatasetError, match=words) as raised:
        import_folder(format_name, tmp_path / "d", tmp_path / "t.json")
    assert raised.value.exit_code == 3 and not list(tmp_path.glob("t.*"))


def test_what_no_import_wrote_is_not_overwritten(tmp_path: Path) -> None:
    panoptic(tmp_path / "d")
    write(tmp_path / "t.json", '[{"id": 1, "annotations": [{"result": []}]}]')
    with pytest.raises(UsageError, match="may hold annotations"):
        import_folder("coco-panoptic", tmp_path / "d", tmp_path / "t.json")
    (tmp_path / "t.json").unlink()
    for _ in range(2):
        import_folder("coco-panoptic", tmp_path / "d", tmp_path / "t.json")


def test_a_run_that_fails_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panoptic(tmp_path / "d")
    files = import_folder("coco-panoptic", tmp_path / "d", tmp_path / "t.json").files
    before = {path.name: path.read_bytes() for path in tmp_path.glob("t.*")}
    panoptic(tmp_path / "d", lambda found: first(found, "categories", 0, "name", value="lion"))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("exporters.importers.runner.write_text", stop)
    with pytest.raises(KeyboardInterrupt):
        import_folder("coco-panoptic", tmp_path / "d", files.tasks)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", "C:/a", "a\\..\\b", "a\0b"])
def test_hostile_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SegstudioError, match="leads out"):
        DatasetFolder(tmp_path).path(name)


def test_the_command_says_what_it_read_and_what_is_next(tmp_path: Path) -> None:
    panoptic(tmp_path / "d", lambda found: first(found, *INFO, 0, "category_id", value=77))
    out = tmp_path / "t.json"
    command = ["import", "coco-panoptic", str(tmp_path / "d"), "--out", str(out)]
    result = CliRunner().invoke(main, [*command, "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert f"2 images, 3 segments of 2 classes from coco-panoptic as annotations in {out}" in (
        result.stdout
    )
    assert "1 x unknown-category" in result.stdout and "the category 77" in result.stdout
    assert "t.label-config.xml" in result.stdout and "t.taxonomy.yaml" in result.stdout
    strict = CliRunner().invoke(main, [*command, "--workers", "1", "--strict"])
    assert strict.exit_code == 3 and "--strict" in strict.stderr
    wrong = CliRunner().invoke(main, ["import", "coco", str(tmp_path), "--out", str(out)])
    assert wrong.exit_code == 2 and "There is no import of the format 'coco'" in wrong.stderr


@pytest.mark.parametrize(
    ("reference", "taken"),
    [
        ("https://example.org/a.jpg", True), ("S3://bucket/a.jpg", True),
        ("/data/upload/1/a.jpg", True), ("b/a.jpg", True), ("", False),
        ("/etc/passwd", False), ("../a.jpg", False), ("/data/../etc/passwd", False),
        ("file:///etc/passwd", False), ("C:/a.jpg", False), ("javascript:alert(1)", False),
    ],
)  # fmt: skip
def test_where_a_data_set_says_its_picture_lies_is_judged(reference: str, taken: bool) -> None:
    image = ImportedImage("a.jpg", 1, 1, (), reference)
    assert image_url(image) == (reference if taken else "/data/local-files/?d=a.jpg")


def test_a_json_that_is_a_link_out_is_not_read(tmp_path: Path) -> None:
    panoptic(tmp_path / "outside")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "panoptic_val.json").symlink_to(tmp_path / "outside" / "panoptic.json")
    with pytest.raises(SegstudioError, match="a link that leads out"):
        import_folder("coco-panoptic", tmp_path / "d", tmp_path / "t.json")


def test_known_ids_are_restored_once_and_only_where_they_are_ids() -> None:
    red = ((255, 0, 0), False)
    ids = segment_ids([red, red, red, red], [], known=[7, 7, "9", 255])
    assert ids[0] == 7 and ids[3] == 255 and len(set(ids)) == 4
    assert segment_ids([red, red], [], known=[-1, 1 << 24]) == segment_ids([red, red], [])


@pytest.mark.parametrize("size", [(3, 4), (0, 4), ("3", 4), (1 << 20, 1 << 20), None])
def test_an_imported_size_counts_where_nobody_drew(size: Any) -> None:
    noted = None if size is None else {"height_px": size[0], "width_px": size[1]}
    raw = task(1, "a.jpg", annotation(1, 1, []), x=1) | {"meta": {"segstudio": {"import": noted}}}
    parsed = parse_task(raw)
    images, problems = annotated_images(parsed, parsed.annotations[0], parse_label_config(CONFIG))
    found = [(one.height_px, one.width_px) for one in images]
    assert found == ([(3, 4)] if size == (3, 4) else []) and bool(problems) == (size != (3, 4))


def test_pictures_are_not_opened(tmp_path: Path) -> None:
    panoptic(tmp_path / "d")
    (tmp_path / "d" / "a.jpg").symlink_to("/nowhere/a.jpg")
    Image.new("RGB", (1, 1)).save(tmp_path / "d" / "b.jpg")
    summary = import_folder("coco-panoptic", tmp_path / "d", tmp_path / "t.json")
    assert summary.images == 2 and not summary.first_problems
