import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from qa_plugins.metrics.mask_faults import crossing_edges, slivers, small_holes, small_parts
from segstudio.masks import Mask


def mask(text: str) -> Mask:
    rows = text.split()
    return Mask.from_dense([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("drawn", "below_px", "areas"),
    [
        ("....", 5, []),
        ("##..", 5, []),  # the only part is no speck
        ("##.#", 2, [1]),
        ("##.#", 1, []),
        ("##.# ...#", 5, [2]),
        ("##... ..#..", 5, []),  # joined at a corner
        ("###.#.#", 2, [1, 1]),
    ],
)
def test_specks_are_parts_beside_the_largest(drawn: str, below_px: int, areas: list[int]) -> None:
    assert [part.area_px for part in small_parts(mask(drawn), below_px)] == areas


@pytest.mark.parametrize(
    ("drawn", "below_px", "boxes"),
    [
        ("### #.# ###", 2, [(1, 1, 1, 1)]),
        ("### #.# ###", 1, []),
        ("### #.. ###", 5, []),  # open to the border
        ("#### #..# #### #.## ####", 2, [(1, 3, 1, 1)]),
        ("### #.# #.#", 5, []),
        (".###. #...# .###.", 9, [(1, 1, 3, 1)]),  # corners close a hole
    ],
)
def test_holes_are_background_that_cannot_leave(
    drawn: str, below_px: int, boxes: list[tuple[int, ...]]
) -> None:
    assert [part.bbox for part in small_holes(mask(drawn), below_px)] == boxes


@settings(deadline=None)
@given(st.integers(0, 2**30 - 1), st.integers(1, 12))
def test_holes_are_those_that_scipy_fills(bits: int, below_px: int) -> None:
    dense = np.array([bits >> at & 1 for at in range(30)], bool).reshape(5, 6)
    filled = ndimage.binary_fill_holes(dense) & ~dense
    labels, count = ndimage.label(filled)
    areas = sorted(int((labels == number).sum()) for number in range(1, count + 1))
    found = sorted(part.area_px for part in small_holes(Mask.from_dense(dense), below_px))
    assert found == [area for area in areas if area < below_px]


@pytest.mark.parametrize(
    ("drawn", "at_least_px", "count"),
    [
        ("...... ###### ......", 6, 1),
        ("...... ###### ......", 7, 0),
        ("..... ##### ##### .....", 5, 1),
        ("##### ##### #####", 5, 0),
    ],
)
def test_slivers_vanish_when_one_pixel_is_taken_off(
    drawn: str, at_least_px: int, count: int
) -> None:
    assert len(slivers(mask(drawn), at_least_px)) == count


@pytest.mark.parametrize(
    ("points", "edges"),
    [
        ([[0, 0], [2, 0], [2, 2], [0, 2]], None),
        ([[0, 0], [2, 2], [2, 0], [0, 2]], (0, 2)),
        ([[0, 0], [4, 0], [4, 4], [2, -1], [0, 4]], (0, 2)),
        ([[0, 0], [2, 0], [2, 0], [2, 2], [0, 2]], None),  # a point twice
        ([[0, 0], [2, 0], [1, 0], [1, 2]], None),  # back along its own edge: touches only
        ([[0, 0], [1, 1]], None),
        ([], None),
    ],
)
def test_crossing_edges_are_found(points: list[list[float]], edges: tuple[int, int] | None) -> None:
    assert crossing_edges(points) == edges


def test_a_crossing_far_along_a_long_outline_is_found() -> None:
    angle = np.linspace(0, 2 * np.pi, 1500, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert crossing_edges(circle) is None
    circle[[1300, 1301]] = circle[[1301, 1300]]
    assert crossing_edges(circle) == (1299, 1301)
