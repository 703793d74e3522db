"""Boundary IoU against the reference implementation of Cheng et al. (CVPR 2021).

Expected bands and counts were computed with boundary-iou-api's ``mask_to_boundary`` (dilation ratio
0.02; OpenCV's erosion with a 3 x 3 kernel of the mask padded with zeros). The package is in no
index, so its figures stand here instead of the package.
"""

from __future__ import annotations

import numpy as np
import pytest

from qa_plugins.metrics.boundary_iou import band_width_px, boundary_iou
from segstudio.masks import Mask

BANDS = [
    (
        "........ .######. .######. .######. .###.##. .######. .######. ........",
        "........ .######. .#....#. .#.####. .#.#.##. .#.####. .######. ........",
    ),
    (
        "#####... #####... #####... #####... ........",
        "#####... #...#... #...#... #####... ........",
    ),
    ("##### ##### ##### ##### #####", "##### #...# #...# #...# #####"),
    ("....... .#####. .......", "....... .#####. ......."),
    ("#...... .#..... ..##### ..##### ..#####", "#...... .#..... ..##### ..#...# ..#####"),
    ("... ...", "... ..."),
    ("#", "#"),
]


def dense_of(rows: str) -> np.ndarray:
    return np.array([[one == "#" for one in row] for row in rows.split()])


@pytest.mark.parametrize(("mask", "band"), BANDS)
def test_the_band_is_that_of_the_reference(mask: str, band: str) -> None:
    found = Mask.from_dense(dense_of(mask)).boundary(1).to_dense()
    assert np.array_equal(found, dense_of(band))


def box(shape: tuple[int, int], top: int, left: int, bottom: int, right: int) -> Mask:
    dense = np.zeros(shape, dtype=bool)
    dense[top:bottom, left:right] = True
    return Mask.from_dense(dense)


@pytest.mark.parametrize(
    ("shape", "one", "other", "width_px", "expected"),
    [
        ((100, 100), (10, 10, 90, 90), (12, 10, 90, 90), 3, 764 / 1072),
        ((120, 160), (0, 0, 120, 80), (0, 0, 120, 82), 4, 1312 / 1776),
        ((120, 160), (0, 0, 120, 160), (0, 0, 120, 160), 4, 1.0),
        ((120, 160), (0, 0, 120, 160), (0, 0, 120, 159), 4, 2056 / 2288),
        ((240, 320), (100, 100, 104, 104), (100, 100, 104, 105), 8, 16 / 20),
        ((75, 100), (20, 20, 60, 70), (30, 30, 50, 60), 2, 0.0),
        ((50, 50), (0, 0, 0, 0), (5, 5, 9, 9), 1, 0.0),
        ((50, 50), (0, 0, 0, 0), (0, 0, 0, 0), 1, None),
        ((3, 4), (0, 0, 3, 2), (0, 1, 3, 3), 1, 3 / 9),
        ((60, 80), (5, 5, 40, 40), (41, 41, 60, 80), 2, 0.0),
    ],
)
def test_boundary_iou_is_that_of_the_reference(
    shape: tuple[int, int],
    one: tuple[int, int, int, int],
    other: tuple[int, int, int, int],
    width_px: int,
    expected: float | None,
) -> None:
    assert band_width_px(*shape) == width_px
    a, b = box(shape, *one), box(shape, *other)
    assert boundary_iou(a, b) == pytest.approx(expected, abs=1e-6)
    assert boundary_iou(b, a) == boundary_iou(a, b)


def band_by_the_paper(dense: np.ndarray, width_px: int) -> np.ndarray:
    """Pixels of the mask that have one outside it, or outside the image, within the distance."""
    around = np.pad(dense, width_px)
    views = np.lib.stride_tricks.sliding_window_view(around, (2 * width_px + 1,) * 2)
    return dense & ~views.all(axis=(2, 3))


@pytest.mark.parametrize("seed", range(8))
def test_random_masks_have_the_boundary_iou_of_the_formula(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = int(random.integers(1, 150)), int(random.integers(1, 150))
    coarse = random.random((2, 12, 12)) < 0.6
    dense = [np.kron(one, np.ones((13, 13), dtype=bool))[: shape[0], : shape[1]] for one in coarse]
    width_px = max(1, round(0.02 * float(np.hypot(*shape))))
    first, second = (band_by_the_paper(one, width_px) for one in dense)
    union = (first | second).sum()
    expected = (first & second).sum() / union if union else None
    found = boundary_iou(*(Mask.from_dense(one) for one in dense))
    assert found == pytest.approx(expected, abs=1e-6)
