"""Masks to ellipses."""

from __future__ import annotations

import math

import numpy as np

from segstudio import runs as kernels
from segstudio.masks import Mask


def mask_ellipse(mask: Mask) -> tuple[float, float, float, float, float]:
    """The ellipse (x, y, radius_x, radius_y, rotation_deg) that a mask is closest to by moments.

    Its centre and the directions of its axes are the mask's (of the squares that its pixels are),
    the ratio of its radii that of the mask's standard deviations along them, its area the mask's:
    for the mask of an ellipse that is the ellipse itself, up to what rasterising it lost. Pixels;
    `radius_x` is the larger one, `rotation_deg` in [0, 180), clockwise as seen. Moments as in
    Teague, "Image analysis via the general theory of moments" (1980).

    Raises:
        ValueError: when the mask is empty.

    >>> [round(number, 3) for number in mask_ellipse(Mask.full(2, 6))]
    [3.0, 1.0, 3.385, 1.128, 0.0]
    """
    if mask.is_empty:
        raise ValueError("An empty mask has no ellipse: an ellipse encloses an area.")
    segments = kernels.split_rows(mask.runs, mask.width_px)
    row = segments[:, 0] // mask.width_px
    length = (segments[:, 1] - segments[:, 0]).astype(np.float64)
    middle = segments[:, 0] - row * mask.width_px + length / 2
    area = length.sum()
    x, y = (length @ middle) / area, (length @ (row + 0.5)) / area
    dx, dy = middle - x, row + 0.5 - y
    # A segment is a rectangle of length x 1 pixels: its own variances are length**2 / 12 and 1/12.
    variance_x = (length @ (dx**2 + length**2 / 12)) / area
    variance_y = (length @ dy**2) / area + 1 / 12
    covariance = (length @ (dx * dy)) / area
    half_sum, half_difference = (variance_x + variance_y) / 2, (variance_x - variance_y) / 2
    spread = math.hypot(half_difference, covariance)
    # The variances along the axes are half_sum +- spread; written so, the small one is exact.
    large = half_sum + spread
    small = (variance_x * variance_y - covariance**2) / large
    rotation_deg = math.degrees(0.5 * math.atan2(covariance, half_difference)) % 180.0
    ratio = math.sqrt(large / small)
    radius_y_px = math.sqrt(area / (math.pi * ratio))
    return float(x), float(y), ratio * radius_y_px, radius_y_px, rotation_deg
