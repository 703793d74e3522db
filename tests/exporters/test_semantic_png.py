import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segstudio.taxonomy import SegmentClass, Taxonomy
from tests.exporters.projects import (
    TAXONOMY,
    annotation,
    box,
    brush,
    names,
    run,
    source_of,
    task,
)

WIDE = Taxonomy(
    name="wide",
    classes=(SegmentClass(300, "car"), SegmentClass(1000, "road", kind="stuff")),
    void_id=65535,
)
FROM_ZERO = Taxonomy(
    name="from-zero",
    classes=(
        SegmentClass(0, "car", color=(1, 2, 3)),
        SegmentClass(2, "road", kind="stuff", color=(4, 5, 6)),
    ),
    unlabelled_id=255,
)


def export(tmp_path: Path, *regions: dict[str, Any], **options: Any) -> Path:
    tasks = [task(1, "/data/upload/1/photo.jpg", annotation(1, 5, regions))]
    run("semantic-png", source_of(tmp_path, tasks), tmp_path / "out", **options)
    return tmp_path / "out"


def pixels(out: Path, stem: str = "photo") -> np.ndarray:
    with Image.open(out / "masks" / f"{stem}.png") as image:
        return np.asarray(image)


REGIONS = (
    brush("a", "car", box(0, 0, 4, 4)),
    brush("b", "road", box(4, 0, 8, 10)),
    brush("c", "glare", box(6, 6, 8, 8)),
)


def expected(unlabelled: int, car: int, road: int, void: int) -> np.ndarray:
    values = np.full((8, 10), unlabelled)
    values[0:4, 0:4], values[4:8] = car, road
    values[6:8, 6:8] = void
    return values


def test_pixels_are_class_ids_with_void_and_unlabelled_apart(tmp_path: Path) -> None:
    out = export(tmp_path, *REGIONS)
    assert np.array_equal(pixels(out), expected(0, 1, 7, 255))


def test_a_viewer_sees_the_taxonomys_colours(tmp_path: Path) -> None:
    with Image.open(export(tmp_path, *REGIONS) / "masks" / "photo.png") as image:
        assert image.mode == "P"
        shown = image.convert("RGB")
    assert shown.getpixel((0, 0)) == (220, 20, 60)
    assert shown.getpixel((0, 7)) == (128, 64, 128)
    assert shown.getpixel((9, 0)) == (0, 0, 0)


def test_ids_above_255_are_kept_in_16_bits(tmp_path: Path) -> None:
    out = export(tmp_path, *REGIONS[:2], taxonomy=WIDE)
    values = pixels(out)
    assert sorted(np.unique(values).tolist()) == [0, 300, 1000]
    assert json.loads((out / "colormap.json").read_text())["dtype"] == "uint16"


def test_one_png_an_image_named_like_the_image(tmp_path: Path) -> None:
    assert names(export(tmp_path, *REGIONS) / "masks") == ["photo.png"]


def test_an_image_without_regions_is_kept_as_all_unlabelled(tmp_path: Path) -> None:
    out = export(tmp_path, size_of=lambda *_: (3, 4))
    assert pixels(out).tolist() == [[0] * 4] * 3


@pytest.mark.parametrize("dense", [box(4, 0, 5, 10), box(0, 0, 8, 10) & ~box(2, 2, 5, 5)])
def test_lines_and_holes_are_exact(tmp_path: Path, dense: np.ndarray) -> None:
    out = export(tmp_path, brush("a", "car", dense))
    assert np.array_equal(pixels(out) == 1, dense)


def test_colormap_json_names_every_value_that_a_pixel_can_have(tmp_path: Path) -> None:
    found = json.loads((export(tmp_path, *REGIONS) / "colormap.json").read_text())
    assert [(one["id"], one["name"], one["kind"]) for one in found["entries"]] == [
        (0, "unlabelled", "none"),
        (1, "car", "thing"),
        (7, "road", "stuff"),
        (255, "void", "void"),
    ]
    assert found["ignore_index"] == 255 and found["num_classes"] == 2
    assert len(found["palette"]) == 256 and found["palette"][7] == [128, 64, 128]


def test_colormap_txt_is_one_line_a_value(tmp_path: Path) -> None:
    lines = (export(tmp_path, *REGIONS) / "colormap.txt").read_text().splitlines()
    assert lines == [
        "# id red green blue name",
        "0 0 0 0 unlabelled",
        "1 220 20 60 car",
        "7 128 64 128 road",
        "255 0 0 0 void",
    ]


def test_a_class_of_two_lines_stays_on_one_line_of_colormap_txt(tmp_path: Path) -> None:
    taxonomy = Taxonomy(name="odd", classes=(SegmentClass(1, "a\nb\tc", color=(1, 2, 3)),))
    out = export(tmp_path, brush("r", "a\nb\tc", box(0, 0, 2, 2)), taxonomy=taxonomy)
    assert (out / "colormap.txt").read_text().splitlines()[2] == "1 1 2 3 a b c"


def read_as_mmsegmentation(out: Path) -> np.ndarray:
    """The training target that MMSegmentation's LoadAnnotations makes of a label map."""
    config = json.loads((out / "mmsegmentation.json").read_text())
    target = pixels(out).astype(np.uint8)
    if config["reduce_zero_label"]:
        target[target == 0] = 255
        target = target - 1
        target[target == 254] = 255
    return target


@pytest.mark.parametrize(("taxonomy", "regions"), [(TAXONOMY, REGIONS), (FROM_ZERO, REGIONS[:2])])
def test_mmsegmentation_finds_each_class_under_its_own_name(
    tmp_path: Path, taxonomy: Taxonomy, regions: tuple[dict[str, Any], ...]
) -> None:
    out = export(tmp_path, *regions, taxonomy=taxonomy)
    config = json.loads((out / "mmsegmentation.json").read_text())
    target, classes = read_as_mmsegmentation(out), config["metainfo"]["classes"]
    assert classes[target[0, 0]] == "car" and classes[target[7, 0]] == "road"
    assert target[0, 9] == config["ignore_index"]
    color = taxonomy.by_name["road"].color
    assert config["metainfo"]["palette"][target[7, 0]] == list(color)
    assert len(config["metainfo"]["palette"]) == len(classes)


def test_what_a_label_map_cannot_hold_is_counted(tmp_path: Path) -> None:
    note = {
        "id": "a", "type": "choices", "from_name": "iscrowd", "to_name": "image",
        "original_width": 10, "original_height": 8, "value": {"choices": ["yes"]},
    }  # fmt: skip
    regions = [brush(n, "car", box(0, at, 2, at + 2)) for n, at in (("a", 0), ("b", 3), ("c", 6))]
    losses = json.loads((export(tmp_path, *regions, note) / "dataset.json").read_text())["losses"]
    assert losses["instances_merged"] == 2
    assert losses["segments_without_their_attributes"] == 1
