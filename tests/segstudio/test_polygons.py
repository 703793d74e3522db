"""Masks to polygons and back: exact outlines, valid rings, simplification within its tolerance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from segstudio.masks import Mask, iou
from segstudio.polygons import Ring, keyhole_ring, mask_polygons, mask_rectangle, simplify
from segstudio.shapes import ellipse_mask, polygon_mask

Dense = NDArray[np.bool_]
images = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(lambda s: arrays(np.bool_, s))


def signed_area(ring: Ring) -> float:
    x, y = ring.T
    return float(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2


@settings(deadline=None, max_examples=200)
@given(images)
def test_outlines_give_back_the_very_mask(image: Dense) -> None:
    mask = Mask.from_dense(image)
    height_px, width_px = image.shape
    polygons = mask_polygons(mask)
    parts = mask.components(4)
    assert len(polygons) == len(parts)
    for (exterior, holes), part in zip(polygons, parts, strict=True):
        assert polygon_mask([exterior, *holes], height_px, width_px) == part
        assert signed_area(exterior) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        assert signed_area(exterior) + sum(map(signed_area, holes)) == part.area_px


@settings(deadline=None, max_examples=200)
@given(images)
def test_rings_never_touch_themselves_and_turn_at_every_point(image: Dense) -> None:
    for exterior, holes in mask_polygons(Mask.from_dense(image)):
        for ring in (exterior, *holes):
            assert len(np.unique(ring, axis=0)) == len(ring) >= 4
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps != 0).sum(axis=1) == 1).all()
            assert ((steps != 0) != (np.roll(steps, -1, axis=0) != 0)).all()


@settings(deadline=None)
@given(images)
def test_one_keyhole_ring_holds_any_mask(image: Dense) -> None:
    mask = Mask.from_dense(image)
    rings = [ring for exterior, holes in mask_polygons(mask) for ring in (exterior, *holes)]
    if rings:
        assert polygon_mask([keyhole_ring(rings)], *image.shape) == mask


def test_pixels_that_touch_by_a_corner_are_two_parts() -> None:
    polygons = mask_polygons(Mask.from_dense([[1, 0], [0, 1]]))
    assert [(len(exterior), len(holes)) for exterior, holes in polygons] == [(4, 0), (4, 0)]


def test_a_hole_that_reaches_the_outline_by_a_corner_is_a_hole() -> None:
    image = [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    [(exterior, holes)] = mask_polygons(Mask.from_dense(image))
    assert len(holes) == 1
    assert signed_area(holes[0]) == -1
    assert signed_area(exterior) == 12


def test_simplified_outlines_stay_within_the_tolerance() -> None:
    mask = ellipse_mask(60, 50, 45, 35, 100, 120, rotation_deg=30)
    [(exact, _)] = mask_polygons(mask)
    [(simple, _)] = mask_polygons(mask, tolerance_px=1.0)
    assert len(simple) < len(exact) / 4
    starts, ends = simple, np.roll(simple, -1, axis=0)
    for point in exact:
        chords = ends - starts
        along = np.clip(((point - starts) * chords).sum(1) / (chords**2).sum(1), 0, 1)
        assert np.hypot(*(starts + along[:, None] * chords - point).T).min() <= 1.0 + 1e-9
    overlap = iou(mask, polygon_mask([simple], 100, 120))
    assert overlap is not None
    assert overlap > 0.95


def test_a_ring_that_would_vanish_stays() -> None:
    pixel = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    np.testing.assert_array_equal(simplify(pixel, 5.0), pixel)
    assert len(mask_polygons(Mask.full(1, 1), tolerance_px=9.0)) == 1


def test_the_rectangle_is_the_bounding_box() -> None:
    assert mask_rectangle(Mask.from_dense([[0, 0, 0], [0, 1, 1]])) == (1.0, 1.0, 2.0, 1.0)
    assert mask_rectangle(Mask.empty(3, 3)) == (0.0, 0.0, 0.0, 0.0)


def test_nothing_has_no_outline() -> None:
    assert mask_polygons(Mask.empty(4, 4)) == []
    with pytest.raises(ValueError, match="no ring"):
        keyhole_ring([])
