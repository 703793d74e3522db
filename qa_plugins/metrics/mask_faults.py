"""Faults of a single shape: specks, holes, slivers, outlines that cross themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segstudio.masks import Mask

_BLOCK = 512


def small_parts(mask: Mask, below_px: int) -> list[Mask]:
    """Return the connected parts (8 neighbours) with fewer pixels than `below_px`.

    The largest part is never one of them: a small object is small, not a speck. Empty gives [].

    >>> [part.area_px for part in small_parts(Mask.from_dense([[1, 1, 0, 1]]), 2)]
    [1]
    """
    parts = mask.components(8)
    if len(parts) < 2:
        return []
    largest = max(parts, key=lambda part: part.area_px)
    return [part for part in parts if part is not largest and part.area_px < below_px]


def small_holes(mask: Mask, below_px: int) -> list[Mask]:
    """Return the holes (background that 4 neighbours cannot leave) below `below_px` pixels.

    Background that reaches the border of the image is no hole. Empty gives [].

    >>> ring = Mask.from_dense([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> [hole.bbox for hole in small_holes(ring, 4)]
    [(1, 1, 1, 1)]
    """
    if mask.is_empty:
        return []
    return [
        part
        for part in mask.complement().components(4)
        if part.area_px < below_px and not _touches_border(part)
    ]


def slivers(mask: Mask, at_least_px: int) -> list[Mask]:
    """Return the connected parts of `at_least_px` pixels or more that are 2 pixels thin or less.

    Thin means that taking one pixel off all around leaves nothing. Empty gives [].

    >>> wire, blob = np.zeros((5, 9)), np.ones((5, 9))
    >>> wire[2] = 1
    >>> len(slivers(Mask.from_dense(wire), 5)), len(slivers(Mask.from_dense(blob), 5))
    (1, 0)
    """
    return [
        part
        for part in mask.components(8)
        if part.area_px >= at_least_px and part.erode(1).is_empty
    ]


def crossing_edges(points: ArrayLike) -> tuple[int, int] | None:
    """Return the first two edges of a closed outline that cross, by their start points.

    Edges that share a vertex do not count, nor do those that only touch. Exact up to rounding of
    float64; in blocks, so that memory stays bounded for outlines of many points.

    Args:
        points: (n, 2) vertices; the last is joined to the first.

    >>> crossing_edges([[0, 0], [2, 2], [2, 0], [0, 2]]), crossing_edges([[0, 0], [2, 0], [2, 2]])
    ((0, 2), None)
    """
    start = np.asarray(points, np.float64).reshape(-1, 2)
    if len(start) > 1:  # repeated points make edges without length
        start = start[(start != np.roll(start, -1, axis=0)).any(axis=1)]
    if len(start) < 4:
        return None
    end = np.roll(start, -1, axis=0)
    for first in range(0, len(start), _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, len(start)))
        crosses = _cross(start[rows], end[rows], start, end)
        crosses &= np.arange(len(start))[None, :] > rows[:, None]
        found = np.argwhere(crosses)
        if len(found):
            row, column = found[0]
            return int(rows[row]), int(column)
    return None


def _cross(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether each edge a-b properly crosses each edge c-d, shape (len(a), len(c))."""
    ab, cd = (b - a)[:, None], (d - c)[None]

    def side(edge: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sign(edge[..., 0] * point[..., 1] - edge[..., 1] * point[..., 0])

    ac, ad = c[None] - a[:, None], d[None] - a[:, None]
    ca, cb = -ac, b[:, None] - c[None]
    crosses: NDArray[np.bool_] = (side(ab, ac) * side(ab, ad) < 0) & (
        side(cd, ca) * side(cd, cb) < 0
    )
    return crosses


def _touches_border(mask: Mask) -> bool:
    x, y, width, height = mask.bbox
    return x == 0 or y == 0 or x + width == mask.width_px or y + height == mask.height_px
