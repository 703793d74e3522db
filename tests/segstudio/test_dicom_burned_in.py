"""Text in the pixels: what the header tells, and what the plain detector sees."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset

from segstudio.dicom_burned_in import assess, detect_text, outside_regions, parse_box
from segstudio.dicom_files import read_header
from segstudio.dicom_pixels import auto_window, chosen_window, iter_frames, to_8bit
from segstudio.errors import UsageError
from tests.segstudio.dicom_cases import make_dataset


def speckle(seed: int = 3) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(90, 25, (256, 256))
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2).clip(0, 255), np.uint8)


@pytest.mark.parametrize(("ink", "size"), [(255, 0.4), (255, 0.8), (0, 0.5)])
def test_lines_of_text_are_found_where_they_are(ink: int, size: float) -> None:
    picture = speckle()
    cv2.putText(picture, "QWERTHA ZYX", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1)
    boxes = detect_text(picture)
    assert boxes
    left, bottom = min(box[0] for box in boxes), max(box[1] + box[3] for box in boxes)
    assert left <= 21 and 60 <= bottom <= 75


def test_speckle_edges_and_empty_pictures_hold_no_text() -> None:
    scene = speckle(5)
    cv2.ellipse(scene, (128, 128), (90, 60), 20, 0, 360, 220, 3)
    for picture in (speckle(), scene, np.zeros((64, 64), np.uint8)):
        assert detect_text(picture) == ()


@pytest.mark.parametrize(
    ("name", "has_text"),
    [
        ("examples_jpeg2k.dcm", True), ("examples_palette.dcm", True),
        ("examples_rgb_color.dcm", True), ("693_J2KI.dcm", False), ("CT_small.dcm", False),
        ("MR_small.dcm", False), ("examples_overlay.dcm", False), ("liver_1frame.dcm", False),
    ],
)  # fmt: skip
def test_real_images_of_devices(name: str, has_text: bool) -> None:
    path = Path(get_testdata_files(name)[0])
    header = read_header(path)
    stored = next(iter_frames(path, header, [0]))
    auto = auto_window([(stored, header, 0)])
    shown = to_8bit(stored, header, 0, chosen_window(header, 0, None, auto))
    assert bool(detect_text(shown)) is has_text


@pytest.mark.parametrize(
    ("modality", "stated", "boxes", "verdict"),
    [
        ("CT", None, (), "unlikely"),
        ("CT", "NO", (), "declared absent"),
        ("CT", "YES", (), "declared"),
        ("CT", "NO", ((1, 2, 3, 4),), "suspected"),
        ("US", None, (), "suspected"),
        ("US", "NO", (), "declared absent"),
        ("OT", None, (), "suspected"),
    ],
)
def test_verdicts(
    modality: str, stated: str | None, boxes: tuple[tuple[int, int, int, int], ...], verdict: str
) -> None:
    found = assess(make_dataset(modality=modality, BurnedInAnnotation=stated), boxes)
    assert found.verdict == verdict
    assert found.is_likely == (verdict in ("declared", "suspected"))
    assert bool(found.reasons) == (verdict != "unlikely")


def test_what_lies_outside_of_ultrasound_regions_is_boxed() -> None:
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 1
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 5, 6
    dataset = make_dataset(SequenceOfUltrasoundRegions=[region])
    covered = np.zeros((8, 8), int)
    for x, y, width, height in outside_regions(dataset):
        covered[y : y + height, x : x + width] += 1
    expected = np.ones((8, 8), int)
    expected[1:7, 2:6] = 0
    assert np.array_equal(covered, expected)
    assert outside_regions(make_dataset()) == ()


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "-1,0,5,5", "0,0,0,5"])
def test_boxes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--mask-region"):
        parse_box(text)
