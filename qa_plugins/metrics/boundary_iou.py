"""Boundary IoU: overlap of the bands along two outlines (Cheng et al., CVPR 2021).

Region IoU of a large object hides a wrong outline; the band sees nothing else. The band's width is
2% of the image diagonal, at least one pixel, as in the authors' code.
"""

from __future__ import annotations

import math

from segstudio.masks import Mask, intersection_area

DIAGONAL_SHARE = 0.02


def band_width_px(height_px: int, width_px: int) -> int:
    """Width of the band in pixels.

    >>> band_width_px(480, 854)
    20
    """
    return max(1, round(DIAGONAL_SHARE * math.hypot(height_px, width_px)))


def boundary_iou(a: Mask, b: Mask, distance_px: int | None = None) -> float | None:
    """IoU of the inner bands of two masks of one size; None when both masks are empty."""
    width = distance_px or band_width_px(a.height_px, a.width_px)
    band_a, band_b = a.boundary(width), b.boundary(width)
    shared = intersection_area(band_a, band_b)
    union = band_a.area_px + band_b.area_px - shared
    return shared / union if union else None
