"""The mask type against numpy, pycocotools, scipy, Pillow and OpenCV."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from scipy import ndimage

from segstudio.masks import (
    MAX_PIXELS,
    Mask,
    MaskError,
    intersection_area,
    iou,
    union_all,
    union_area,
)

Dense = NDArray[np.bool_]

shapes = st.tuples(st.integers(1, 30), st.integers(1, 30))
images = shapes.flatmap(lambda shape: arrays(np.bool_, shape))
pairs = shapes.flatmap(lambda s: st.tuples(arrays(np.bool_, s), arrays(np.bool_, s)))


def assert_proper(mask: Mask) -> None:
    """Runs are sorted, disjoint, never adjacent, not empty and inside the image."""
    bounds = mask.runs.ravel()
    assert (np.diff(bounds) > 0).all()
    assert not len(bounds) or (bounds[0] >= 0 and bounds[-1] <= mask.height_px * mask.width_px)
    assert mask.runs.dtype == np.int64


@settings(deadline=None)
@given(images)
def test_dense_arrays_go_in_and_out(image: Dense) -> None:
    mask = Mask.from_dense(image)
    assert_proper(mask)
    np.testing.assert_array_equal(mask.to_dense(), image)
    np.testing.assert_array_equal(np.asarray(mask), image)
    assert np.asarray(mask, dtype=np.uint8).dtype == np.uint8
    assert mask.area_px == image.sum()
    assert mask.is_empty == (not image.any())
    assert Mask.from_dense(np.asfortranarray(image)) == mask
    assert Mask.from_dense(image * np.float32(0.5)) == mask


@settings(deadline=None)
@given(images)
def test_bbox_is_the_smallest_box(image: Dense) -> None:
    ys, xs = np.nonzero(image)
    box = (0, 0, 0, 0)
    if len(ys):
        box = (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1)
    assert Mask.from_dense(image).bbox == box


@settings(deadline=None)
@given(images)
def test_coco_rle_is_byte_for_byte_that_of_pycocotools(image: Dense) -> None:
    expected = coco.encode(np.asfortranarray(image.astype(np.uint8)))
    mask = Mask.from_dense(image)
    assert mask.to_coco_rle() == expected
    assert Mask.from_coco_rle(expected) == mask
    assert Mask.from_coco_rle({**expected, "counts": expected["counts"].decode()}) == mask


@pytest.mark.parametrize("size", [(1, 1), (1, 70_000), (70_000, 1), (300, 400)])
@pytest.mark.parametrize("density", [0.0, 0.001, 0.5, 1.0])
def test_coco_rle_of_long_counts(size: tuple[int, int], density: float) -> None:
    image = np.random.default_rng(0).random(size) < density
    expected = coco.encode(np.asfortranarray(image.astype(np.uint8)))
    assert Mask.from_dense(image).to_coco_rle() == expected
    assert Mask.from_coco_rle(expected) == Mask.from_dense(image)


def test_uncompressed_coco_counts_are_read() -> None:
    mask = Mask.from_coco_rle({"size": [2, 3], "counts": [1, 2, 0, 1, 2]})
    assert mask.to_dense().astype(int).tolist() == [[0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [2, 3]},
        {"size": [2], "counts": b"6"},
        {"size": [2, 3], "counts": b"7"},
        {"size": [2, 3], "counts": "6\u00e9"},
        {"size": [2, 3], "counts": [1, -1, 6]},
        {"size": [2, 3], "counts": [5]},
        {"size": [2, 3], "counts": b""},
        {"size": [2, 3], "counts": b"oooooooooooooooooooooooo0"},
    ],
)
def test_damaged_coco_rle_is_refused(rle: dict[str, Any]) -> None:
    with pytest.raises(MaskError, match="COCO RLE"):
        Mask.from_coco_rle(rle)


@settings(deadline=None)
@given(pairs)
def test_operators_equal_those_of_numpy(pair: tuple[Dense, Dense]) -> None:
    a, b = pair
    mask_a, mask_b = Mask.from_dense(a), Mask.from_dense(b)
    for ours, expected in (
        (mask_a & mask_b, a & b),
        (mask_a | mask_b, a | b),
        (mask_a - mask_b, a & ~b),
        (mask_a ^ mask_b, a ^ b),
        (mask_a.complement(), ~a),
        (union_all([mask_a, mask_b, mask_a], *a.shape), a | b),
    ):
        assert_proper(ours)
        np.testing.assert_array_equal(ours.to_dense(), expected)
    assert intersection_area(mask_a, mask_b) == (a & b).sum()
    assert union_area(mask_a, mask_b) == (a | b).sum()
    expected_iou = (a & b).sum() / (a | b).sum() if (a | b).any() else None
    assert iou(mask_a, mask_b) == expected_iou
    assert (mask_a == mask_b) == np.array_equal(a, b)


@settings(deadline=None)
@given(images, st.integers(-40, 40), st.integers(-40, 40))
def test_shift_moves_and_cuts(image: Dense, dx_px: int, dy_px: int) -> None:
    expected = ndimage.shift(image.astype(np.uint8), (dy_px, dx_px), order=0).astype(bool)
    np.testing.assert_array_equal(Mask.from_dense(image).shift(dx_px, dy_px).to_dense(), expected)


@settings(deadline=None)
@given(images, st.integers(1, 60), st.integers(1, 60))
def test_resize_takes_the_pixel_that_holds_the_centre(
    image: Dense, height_px: int, width_px: int
) -> None:
    ours = Mask.from_dense(image).resize(height_px, width_px)
    assert_proper(ours)
    ys = [math.floor(Fraction(2 * y + 1, 2 * height_px) * image.shape[0]) for y in range(height_px)]
    xs = [math.floor(Fraction(2 * x + 1, 2 * width_px) * image.shape[1]) for x in range(width_px)]
    np.testing.assert_array_equal(ours.to_dense(), image[np.ix_(ys, xs)])


@pytest.mark.parametrize("size", [(31, 17), (64, 200), (7, 250), (100, 90)])
def test_resize_is_the_nearest_neighbour_of_pillow_and_opencv(size: tuple[int, int]) -> None:
    pixels = (np.random.default_rng(0).random((97, 89)) < 0.5).astype(np.uint8)
    ours = Mask.from_dense(pixels).resize(*size).to_dense()
    opencv = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(ours, opencv.astype(bool))
    pillow = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(ours, np.asarray(pillow).astype(bool))


@settings(deadline=None)
@given(images, st.integers(-5, 5))
def test_rotate90_turns_as_numpy_does(image: Dense, quarter_turns: int) -> None:
    turned = Mask.from_dense(image).rotate90(quarter_turns)
    assert_proper(turned)
    np.testing.assert_array_equal(turned.to_dense(), np.rot90(image, quarter_turns))


@settings(deadline=None)
@given(images, st.sampled_from([4, 8]))
def test_components_equal_those_of_scipy(image: Dense, connectivity: int) -> None:
    structure = np.ones((3, 3)) if connectivity == 8 else None
    labels, count = ndimage.label(image, structure)
    parts = Mask.from_dense(image).components(connectivity)
    assert len(parts) == count
    for part in parts:
        assert_proper(part)
        first = int(part.runs[0, 0])
        np.testing.assert_array_equal(part.to_dense(), labels == labels.ravel()[first])
    firsts = [int(part.runs[0, 0]) for part in parts]
    assert firsts == sorted(firsts)


@settings(deadline=None)
@given(images, st.integers(1, 6))
def test_boundary_is_the_band_of_boundary_iou(image: Dense, distance_px: int) -> None:
    padded = cv2.copyMakeBorder(image.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance_px)[1:-1, 1:-1]
    band = Mask.from_dense(image).boundary(distance_px)
    np.testing.assert_array_equal(band.to_dense(), image & ~eroded.astype(bool))


@settings(deadline=None)
@given(images, st.integers(0, 6))
def test_dilation_is_that_of_a_square_and_nothing_wraps_at_the_border(
    image: Dense, distance_px: int
) -> None:
    side = 2 * distance_px + 1
    expected = ndimage.binary_dilation(image, np.ones((side, side), bool))
    grown = Mask.from_dense(image).dilate(distance_px)
    assert_proper(grown)
    np.testing.assert_array_equal(grown.to_dense(), expected)
    shifted = Mask.from_dense(image[::-1])
    assert shifted.farther_than(distance_px, Mask.from_dense(image)) == shifted - grown


def test_full_and_empty() -> None:
    assert Mask.full(3, 4) == Mask.from_dense(np.ones((3, 4)))
    assert Mask.empty(3, 4) == Mask.from_dense(np.zeros((3, 4)))
    assert Mask.full(3, 4).area_px == 12
    assert iou(Mask.empty(2, 2), Mask.empty(2, 2)) is None
    assert iou(Mask.empty(2, 2), Mask.full(2, 2)) == 0.0
    assert union_all([], 3, 4) == Mask.empty(3, 4)
    assert Mask.empty(3, 4).components() == []


def test_masks_without_pixels_are_masks() -> None:
    nothing = Mask.from_dense(np.zeros((0, 5)))
    assert nothing == Mask.empty(0, 5) == Mask.full(0, 5)
    assert nothing.to_dense().shape == (0, 5)
    assert nothing.resize(0, 9) == Mask.empty(0, 9)
    assert Mask.from_coco_rle(nothing.to_coco_rle()) == nothing
    with pytest.raises(MaskError, match="cannot be resized"):
        nothing.resize(2, 2)


def test_runs_in_any_order_are_put_in_order() -> None:
    mask = Mask.from_runs(2, 5, [[7, 9], [0, 2], [2, 4], [8, 10], [5, 5]])
    assert mask.runs.tolist() == [[0, 4], [7, 10]]


@pytest.mark.parametrize("runs", [[[0, 11]], [[-1, 2]], [[4, 2]]])
def test_runs_outside_the_image_or_backwards_are_refused(runs: list[list[int]]) -> None:
    with pytest.raises(MaskError, match=r"[Rr]uns? "):
        Mask.from_runs(2, 5, runs)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Mask.empty(-1, 5), "cannot be 5 x -1 pixels"),
        (lambda: Mask.full(1 << 16, 1 << 16), f"limit of {MAX_PIXELS} pixels"),
        (lambda: Mask.from_dense(np.zeros((2, 2, 4))), r"shape \(2, 2, 4\)"),
        (lambda: Mask.full(2, 2) & Mask.full(2, 3), "2 x 2 and 3 x 2 pixels cannot be combined"),
        (lambda: Mask.full(2, 2).boundary(0), "at least 1 pixel wide"),
        (lambda: Mask.full(2, 2).components(6), "4 or 8, not 6"),
        (lambda: union_all([Mask.full(2, 2)], 3, 3), "cannot be combined"),
    ],
)
def test_what_cannot_be_a_mask_is_refused_in_a_sentence(build: Any, sentence: str) -> None:
    with pytest.raises(MaskError, match=sentence):
        build()


def test_masks_are_values() -> None:
    mask = Mask.from_dense([[0, 1], [1, 1]])
    same = Mask.from_dense([[0, 3], [1, 1]])
    assert mask == same
    assert hash(mask) == hash(same)
    assert mask != Mask.from_dense([[0, 1, 1, 1]])
    assert mask != "mask"
    assert pickle.loads(pickle.dumps(mask)) == mask
    assert repr(mask) == "Mask(2 x 2 px, 3 px on, runs: 1)"
    with pytest.raises(ValueError, match="always made anew"):
        np.array(mask, copy=False)
