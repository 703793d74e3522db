"""Rings of pixels, drawn by OpenCV and by Pillow, are the masks they come from."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from exporters.outlines import PixelRing, part_rings, single_ring
from segstudio.masks import Mask
from segstudio.shapes import polygon_mask
from tests.exporters.hard_cases import ALL, ONE_PART, PARTS


def opencv(rings: list[PixelRing], shape: tuple[int, int]) -> np.ndarray:
    drawn = np.zeros(shape, np.uint8)
    for ring in rings:
        cv2.fillPoly(drawn, [ring.pixels.astype(np.int32)], 1)
    return drawn.astype(bool)


def pillow(rings: list[PixelRing], shape: tuple[int, int]) -> np.ndarray:
    image = Image.new("L", shape[::-1], 0)
    for ring in rings:
        ImageDraw.Draw(image).polygon([(int(x), int(y)) for x, y in ring.pixels], fill=1)
    return np.asarray(image).astype(bool)


@pytest.mark.parametrize("name", ALL)
def test_the_rings_of_the_parts_are_drawn_as_the_mask(name: str) -> None:
    rings = part_rings(Mask.from_dense(ALL[name]))
    assert np.array_equal(opencv(rings, ALL[name].shape), ALL[name])
    assert np.array_equal(pillow(rings, ALL[name].shape), ALL[name])


masks = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.floats(0.2, 1))


@settings(max_examples=150, deadline=None)
@given(masks)
def test_any_mask_is_drawn_exactly_and_its_points_enclose_it(
    case: tuple[int, int, int, float],
) -> None:
    height_px, width_px, seed, share = case
    dense = np.random.default_rng(seed).random((height_px, width_px)) < share
    rings = part_rings(Mask.from_dense(dense))
    assert np.array_equal(opencv(rings, dense.shape), dense)
    assert np.array_equal(pillow(rings, dense.shape), dense)
    enclosed = np.zeros_like(dense)
    for ring in rings:
        points = ring.points(0.05)
        assert np.array_equal(np.floor(points), ring.pixels)
        enclosed |= polygon_mask([points], height_px, width_px).to_dense()
    assert np.array_equal(enclosed, dense)


@pytest.mark.parametrize("name", ONE_PART)
def test_one_ring_is_enough_for_what_touches_by_corners(name: str) -> None:
    ring = single_ring(Mask.from_dense(ONE_PART[name]))
    assert ring is not None and ring.bridged_parts == 0
    assert np.array_equal(opencv([ring], ONE_PART[name].shape), ONE_PART[name])


@pytest.mark.parametrize("name", PARTS)
def test_bridges_between_parts_add_little_and_lose_nothing(name: str) -> None:
    ring = single_ring(Mask.from_dense(PARTS[name]))
    assert ring is not None and ring.bridged_parts == 1
    drawn = opencv([ring], PARTS[name].shape)
    assert not (PARTS[name] & ~drawn).any()
    # Two bridges side by side at most, each as long as the image is wide.
    assert (drawn & ~PARTS[name]).sum() <= 2 * 64


def test_an_empty_mask_has_no_ring() -> None:
    assert part_rings(Mask.empty(3, 4)) == []
    assert single_ring(Mask.empty(3, 4)) is None
