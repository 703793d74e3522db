"""Rasterisation in exact fractions and plain numpy: what the tests compare `raster` to."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int64]


def fill_polygon(edges: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The (height, width) pixels inside the loops of (n, 4) edges, by the even-odd rule.

    Every edge that crosses a row of centres, its upper end included, flips the pixels whose centre
    lies on it or to the right of it.
    """
    inside = np.zeros((height, width), dtype=np.bool_)
    for edge in edges.tolist():
        x0, y0, x1, y1 = (Fraction(number) for number in edge)
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        for row in range(height):
            centre = Fraction(2 * row + 1, 2)
            if y0 <= centre < y1:
                crossing = x0 + (centre - y0) * (x1 - x0) / (y1 - y0)
                first = min(max(math.ceil(crossing - Fraction(1, 2)), 0), width)
                inside[row, first:] ^= True
    return inside


def fill_ellipse(
    x: float,
    y: float,
    radius_x: float,
    radius_y: float,
    cosine: float,
    sine: float,
    height: int,
    width: int,
) -> NDArray[np.bool_]:
    """The (height, width) pixels whose centre satisfies the equation of the ellipse."""
    dy = np.arange(height)[:, None] + 0.5 - y
    dx = np.arange(width)[None, :] + 0.5 - x
    along = (dx * cosine + dy * sine) / radius_x
    across = (dy * cosine - dx * sine) / radius_y
    inside: NDArray[np.bool_] = along * along + across * across <= 1.0
    return inside
