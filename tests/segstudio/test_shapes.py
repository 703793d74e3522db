"""Shapes to masks: exact against fractions, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudio import brush_rle, raster_reference, shapes
from segstudio.masks import Mask
from segstudio.regions import Region
from segstudio.shapes import RegionShapeError, ellipse_mask, polygon_mask, rectangle_mask

# Whole, half and arbitrary coordinates, inside and outside of the image, on centres and on edges.
coordinates = st.one_of(
    st.integers(-6, 30).map(float),
    st.integers(-12, 60).map(lambda n: n / 2),
    st.integers(-60, 300).map(lambda n: n / 10),
    st.floats(-40, 60, allow_nan=False),
)
rings = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9)


def region(kind: Any, value: dict[str, Any], width_px: int = 10, height_px: int = 10) -> Region:
    return Region("r1", kind, "tag", "image", ("Car",), value, width_px, height_px)


def edges_of(parts: list[list[tuple[float, float]]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    arrays = [np.where(np.abs(part) < 1e-100, 0.0, part) for part in parts]
    return np.concatenate([np.hstack([ring, np.roll(ring, -1, axis=0)]) for ring in arrays])


@settings(deadline=None, max_examples=300)
@given(st.lists(rings, min_size=1, max_size=3), st.integers(1, 20), st.integers(1, 20))
def test_polygons_are_exact(
    parts: list[list[tuple[float, float]]], height_px: int, width_px: int
) -> None:
    expected = raster_reference.fill_polygon(edges_of(parts), height_px, width_px)
    assert polygon_mask(parts, height_px, width_px) == Mask.from_dense(expected)


def test_centres_on_a_slanted_edge_are_decided_exactly() -> None:
    # The edge from (0.1, 0.1) to (30.1, 30.1) passes within a rounding error of every centre.
    ring = [(0.1, 0.1), (30.1, 30.1), (30.1, 0.1)]
    expected = raster_reference.fill_polygon(edges_of([ring]), 32, 32)
    assert polygon_mask([ring], 32, 32) == Mask.from_dense(expected)


def test_polygons_that_share_an_edge_share_no_pixel_and_leave_no_gap() -> None:
    a, b, c, d = (0.5, 0.5), (13.5, 2.5), (11.5, 12.5), (1.5, 14.5)
    whole = polygon_mask([[a, b, c, d]], 16, 16)
    halves = polygon_mask([[a, b, c]], 16, 16), polygon_mask([[a, c, d]], 16, 16)
    assert (halves[0] & halves[1]).is_empty
    assert halves[0] | halves[1] == whole


def test_self_intersection_follows_the_even_odd_rule() -> None:
    pentagram = [(10 + 9 * np.sin(4 * np.pi * k / 5), 10 - 9 * np.cos(4 * np.pi * k / 5))
                 for k in range(5)]  # fmt: skip
    mask = polygon_mask([pentagram], 20, 20).to_dense()
    assert not mask[10, 10]
    assert mask[4, 9]


def test_parts_and_holes_count_together() -> None:
    parts = [
        [(0, 0), (4, 0), (4, 4), (0, 4)],
        [(1, 1), (3, 1), (3, 3), (1, 3)],
        [(5, 0), (6, 0), (6, 1), (5, 1)],
    ]
    assert polygon_mask(parts, 4, 6).to_dense().astype(int).tolist() == [
        [1, 1, 1, 1, 0, 1],
        [1, 0, 0, 1, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
    ]


def test_what_lies_outside_is_cut_off() -> None:
    far = [(-1e6, -1e6), (1e6, -1e6), (1e6, 1e6), (-1e6, 1e6)]
    assert polygon_mask([far], 5, 7) == Mask.full(5, 7)
    assert polygon_mask([[(20, 20), (30, 20), (30, 30)]], 5, 7).is_empty
    assert rectangle_mask(-3, -3, 5, 5, 5, 7).bbox == (0, 0, 2, 2)


@pytest.mark.parametrize("parts", [[], [[]], [[(1, 1)]], [[(1, 1), (5, 5)]]])
def test_rings_without_area_enclose_nothing(parts: list[Any]) -> None:
    assert polygon_mask(parts, 8, 8).is_empty


def test_polygons_with_more_crossings_than_fit_at_once() -> None:
    points = np.random.default_rng(0).random((6001, 2)) * (40, 1000)
    mask = polygon_mask([points], 1000, 40)
    rows = [137, 500, 862]
    edges = np.hstack([points, np.roll(points, -1, axis=0)])
    for row in rows:
        near = edges[(np.minimum(edges[:, 1], edges[:, 3]) < row + 1)
                     & (np.maximum(edges[:, 1], edges[:, 3]) > row)]  # fmt: skip
        near = near - (0, row, 0, row)
        expected = raster_reference.fill_polygon(near, 1, 40)
        np.testing.assert_array_equal(mask.to_dense()[row], expected[0])


@pytest.mark.parametrize(
    ("rotation_deg", "box"),
    [(0, (4, 4, 3, 2)), (90, (2, 4, 2, 3)), (180, (1, 2, 3, 2)), (270, (4, 1, 2, 3)),
     (-90, (4, 1, 2, 3)), (450, (2, 4, 2, 3))],
)  # fmt: skip
def test_rectangles_turn_clockwise_about_their_top_left_corner(
    rotation_deg: float, box: tuple[int, int, int, int]
) -> None:
    mask = rectangle_mask(4, 4, 3, 2, 10, 10, rotation_deg=rotation_deg)
    assert mask.bbox == box
    assert mask.area_px == 6


def test_rotation_applies_to_pixels_not_to_percent() -> None:
    value = {"x": 20, "y": 20, "width": 30, "height": 20, "rotation": 90}
    wide = shapes.region_mask(region("rectangle", value, 1000, 500))
    assert wide.bbox == (100, 100, 100, 300)


@settings(deadline=None, max_examples=150)
@given(
    st.floats(-10, 40), st.floats(-10, 40), st.floats(0.2, 30), st.floats(0.2, 30),
    st.one_of(st.floats(-720, 720), st.sampled_from([0.0, 45.0, 90.0, 180.0])),
)  # fmt: skip
def test_ellipses_are_their_equation(
    x: float, y: float, radius_x: float, radius_y: float, rotation_deg: float
) -> None:
    cosine, sine = shapes._cosine_sine(rotation_deg)
    expected = raster_reference.fill_ellipse(x, y, radius_x, radius_y, cosine, sine, 30, 25)
    ours = ellipse_mask(x, y, radius_x, radius_y, 30, 25, rotation_deg=rotation_deg)
    np.testing.assert_array_equal(ours.to_dense(), expected)


def test_an_ellipse_turned_by_a_quarter_swaps_its_radii() -> None:
    turned = ellipse_mask(12, 11, 9, 4, 25, 25, rotation_deg=90)
    assert turned == ellipse_mask(12, 11, 4, 9, 25, 25)
    assert ellipse_mask(12, 11, 0, 4, 25, 25).is_empty


@pytest.mark.parametrize(
    ("kind", "value", "area_px"),
    [
        ("polygon", {"points": [[0, 0], [50, 0], [50, 50], [0, 50]], "closed": True}, 25),
        ("polygon", {"points": [[0, 0], [50, 0], [50, 50], [0, 50]], "closed": False}, 25),
        ("rectangle", {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}, 12),
        ("rectangle", {"x": 10, "y": 20, "width": 30, "height": 40}, 12),
        ("ellipse", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "rotation": 0}, 12),
        ("brush", {"format": "rle", "rle": brush_rle.encode(Mask.full(10, 10))}, 100),
        ("polygon", {"points": [[1, 1], [1, 1], [1, 1]], "closed": True}, 0),
    ],
)
def test_every_kind_of_region_has_its_pixels(
    kind: Any, value: dict[str, Any], area_px: int
) -> None:
    assert shapes.region_mask(region(kind, value)).area_px == area_px


def test_image_rotation_changes_nothing() -> None:
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    turned = Region("r", "rectangle", "t", "i", (), value, 20, 10, image_rotation_deg=90)
    assert shapes.region_mask(turned) == shapes.region_mask(region("rectangle", value, 20, 10))


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("keypoint", {"x": 1, "y": 1, "width": 1}, "keypoint has no area"),
        ("brush", {"format": "rle", "rle": [1, 2]}, "'r1' cannot be read: A brush stream starts"),
        ("brush", {"format": "rle"}, "brush of region 'r1' is damaged"),
        ("bitmask", {"imageDataURL": "nothing"}, "'r1' cannot be read: a bitmask starts with"),
        ("polygon", {"points": [[1, 1], [2, float("nan")], [3, 3]]}, "not finite"),
        ("polygon", {"points": [[1, 1], [2]]}, "polygon of region 'r1' is damaged"),
        ("polygon", {"points": [1, 2, 3]}, "is damaged"),
        ("rectangle", {"x": 1, "y": 1, "width": 1}, "rectangle of region 'r1' is damaged"),
        ("rectangle", {"x": 1, "y": 1, "width": 1, "height": 1, "rotation": float("inf")}, "inf"),
        ("ellipse", {"x": 1, "y": 1, "radiusX": float("inf"), "radiusY": 1}, "not finite"),
    ],
)
def test_what_no_mask_can_come_from_is_refused_in_a_sentence(
    kind: Any, value: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RegionShapeError, match=sentence):
        shapes.region_mask(region(kind, value))


def test_an_image_above_the_limit_is_refused() -> None:
    with pytest.raises(RegionShapeError, match="above the limit"):
        shapes.region_mask(region("rectangle", {}, 1 << 20, 1 << 20))
