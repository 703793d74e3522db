"""Masks to ellipses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudio.ellipses import mask_ellipse
from segstudio.masks import Mask, iou
from segstudio.shapes import ellipse_mask


@settings(deadline=None, max_examples=60)
@given(
    st.floats(60, 140), st.floats(60, 100), st.floats(8, 55), st.floats(8, 55), st.floats(0, 179)
)
def test_the_mask_of_an_ellipse_gives_the_ellipse(
    x: float, y: float, radius_x: float, radius_y: float, rotation_deg: float
) -> None:
    mask = ellipse_mask(x, y, radius_x, radius_y, 160, 200, rotation_deg=rotation_deg)
    found_x, found_y, large, small, found_deg = mask_ellipse(mask)
    assert math.hypot(found_x - x, found_y - y) < 0.5
    assert (large, small) == pytest.approx(
        (max(radius_x, radius_y), min(radius_x, radius_y)), abs=0.6
    )
    again = ellipse_mask(found_x, found_y, large, small, 160, 200, rotation_deg=found_deg)
    assert (iou(mask, again) or 0) > 0.9
    if abs(radius_x - radius_y) > 8:
        along_deg = rotation_deg if radius_x > radius_y else rotation_deg + 90
        difference = (found_deg - along_deg + 90) % 180 - 90
        assert abs(difference) < 4


def test_moments_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(5)
    dense = rng.random((40, 50)) < 0.3
    x, y, large, small, rotation_deg = mask_ellipse(Mask.from_dense(dense))
    rows, columns = np.nonzero(dense)
    assert (x, y) == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5))
    covariance = np.cov(columns, rows, bias=True) + np.eye(2) / 12
    variances, axes = np.linalg.eigh(covariance)
    assert large / small == pytest.approx(math.sqrt(variances[1] / variances[0]))
    assert math.pi * large * small == pytest.approx(dense.sum())
    along = math.radians(rotation_deg)
    assert abs(axes[:, 1] @ [math.cos(along), math.sin(along)]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("dense", "ellipse"),
    [
        ([[1]], (0.5, 0.5, 0.564, 0.564, 0)),
        ([[0, 0, 0], [1, 1, 1]], (1.5, 1.5, 1.693, 0.564, 0)),
        ([[1], [1], [1]], (0.5, 1.5, 1.693, 0.564, 90)),
    ],
)
def test_small_masks(dense: list[list[int]], ellipse: tuple[float, ...]) -> None:
    assert mask_ellipse(Mask.from_dense(dense)) == pytest.approx(ellipse, abs=1e-3)


def test_an_empty_mask_has_no_ellipse() -> None:
    with pytest.raises(ValueError, match="no ellipse"):
        mask_ellipse(Mask.empty(3, 3))
