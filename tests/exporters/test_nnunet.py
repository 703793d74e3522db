"""nnU-Net v2 raw data sets, read as nnU-Net's own NaturalImage2DIO and verification do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segstudio.errors import UsageError
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
    tree,
)  # fmt: skip

ROOT = "Dataset001_streets"


def export(tmp_path: Path, **options: Any) -> Path:
    """Three photos of 10 x 8: a JPEG, a PNG stored in grey, and one of which nothing is there."""
    photos = tmp_path / "photos" / "1"
    photos.mkdir(parents=True)
    rng = np.random.default_rng(7)
    Image.fromarray(rng.integers(0, 255, (8, 10, 3), np.uint8)).save(photos / "a.jpg")
    Image.fromarray(rng.integers(0, 255, (8, 10), np.uint8)).save(photos / "b.png")
    drawn = [
        brush("r1", "car", box(0, 0, 3, 4)), brush("r2", "road", box(4, 0, 8, 10)),
        brush("r3", "car", box(1, 6, 3, 9)), brush("r4", "glare", box(6, 2, 8, 5)),
    ]  # fmt: skip
    tasks = [
        task(1, "/data/upload/1/a.jpg", annotation(1, 5, drawn), subset="train"),
        task(2, "/data/upload/1/b.png", annotation(2, 5, drawn[1:2]), subset="val"),
        task(3, "/data/upload/1/gone.jpg", annotation(3, 5, drawn[:1]), subset="test"),
    ]
    run("nnunet", source_of(tmp_path, tasks), tmp_path / "out", roots=(tmp_path / "photos",),
        **options)  # fmt: skip
    return tmp_path / "out"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def dataset(out: Path, root: str = ROOT) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / root / "dataset.json").read_text())
    return found


def test_labels_are_consecutive_from_background_to_ignore(tmp_path: Path) -> None:
    out = export(tmp_path)
    assert dataset(out)["labels"] == {"background": 0, "car": 1, "road": 2, "ignore": 3}
    expected = np.zeros((8, 10), np.uint8)
    expected[4:8] = 2
    expected[0:3, 0:4] = expected[1:3, 6:9] = 1
    expected[6:8, 2:5] = 3
    assert np.array_equal(pixels(out / ROOT / "labelsTr" / "a.png"), expected)
    assert dataset(out)["class_ids"] == {"car": 1, "road": 7}


def test_a_taxonomy_without_void_has_no_ignore_label(tmp_path: Path) -> None:
    taxonomy = Taxonomy("t", (SegmentClass(9, "car"), SegmentClass(4, "Background")))
    out = export(tmp_path, taxonomy=taxonomy)
    assert dataset(out, "Dataset001_t")["labels"] == {"background": 0, "car": 1}
    assert set(np.unique(pixels(out / "Dataset001_t" / "labelsTr" / "a.png"))) == {0, 1}


@pytest.mark.parametrize(
    ("channels", "names_of", "shape"),
    [("rgb", {"0": "R", "1": "G", "2": "B"}, (8, 10, 3)), ("grey", {"0": "grey"}, (8, 10))],
)
def test_images_are_png_with_the_same_channels_and_the_size_of_their_labels(
    channels: str, names_of: dict[str, str], shape: tuple[int, ...], tmp_path: Path
) -> None:
    out = export(tmp_path, images="copy", options={"channels": channels})
    assert dataset(out)["channel_names"] == names_of and dataset(out)["file_ending"] == ".png"
    folder = out / ROOT
    assert names(folder / "imagesTr") == ["a_0000.png", "b_0000.png"]
    for case in ("a", "b"):
        assert pixels(folder / "imagesTr" / f"{case}_0000.png").shape == shape
        assert pixels(folder / "labelsTr" / f"{case}.png").shape == shape[:2]
    if channels == "rgb":
        with Image.open(tmp_path / "photos" / "1" / "a.jpg") as photo:
            assert np.array_equal(pixels(folder / "imagesTr" / "a_0000.png"), np.asarray(photo))
    problems = json.loads((out / "dataset.json").read_text())["problems"]["counts"]
    assert problems == {"image-not-copied": 1}


def test_splits_are_nnunets(tmp_path: Path) -> None:
    out = export(tmp_path, options={"split": "{subset}", "dataset_id": "27", "dataset_name": "x y"})
    folder = out / "Dataset027_xy"
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {"train": ["a"], "val": ["b"]}
    ]
    assert names(folder / "labelsTr") == ["a.png", "b.png"]
    assert names(folder / "labelsTs") == ["gone.png"]
    assert dataset(out, "Dataset027_xy")["numTraining"] == 2


def test_without_a_split_nnunet_makes_its_own(tmp_path: Path) -> None:
    out = export(tmp_path)
    assert dataset(out)["numTraining"] == 3
    assert not [name for name in tree(out) if "splits" in name or "Ts/" in name]


@pytest.mark.parametrize(
    ("options", "classes", "words"),
    [
        ({"dataset_id": "0"}, TAXONOMY.classes, "from 1 to 999"),
        ({"dataset_id": "x"}, TAXONOMY.classes, "from 1 to 999"),
        ({"channels": "cmyk"}, TAXONOMY.classes, "rgb, grey"),
        ({}, (SegmentClass(1, "Ignore"),), "keeps for VOID"),
    ],
)
def test_what_nnunet_cannot_hold_is_refused_before_anything_is_written(
    options: dict[str, str], classes: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        export(tmp_path, taxonomy=Taxonomy("t", classes), options=options)
    assert not (tmp_path / "out").exists()
