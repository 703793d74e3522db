"""How well a polygon of few vertices, or a box, captures a mask."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask, iou
from segstudio.polygons import Ring, mask_polygons
from segstudio.shapes import polygon_mask


def polygon_iou(mask: Mask, vertices: int) -> float:
    """Return the IoU of the best polygon of at most so many vertices that was found for a mask.

    One polygon has no hole and one part, so both lower the result, as they do for an annotator.
    The largest part's outer ring is thinned out corner by corner, the one that spans the least area
    with its neighbours first (Visvalingam and Whyatt 1993), from its corners and from the middles
    of its edges, the better of both taken: a lower bound of the best that is possible.

    Raises:
        ValueError: an empty mask, or fewer than 3 vertices.

    >>> square = np.zeros((9, 9))
    >>> square[2:7, 2:7] = 1
    >>> polygon_iou(Mask.from_dense(square), 4)
    1.0
    """
    return polygon_ious(mask, [vertices])[0]


def polygon_ious(mask: Mask, counts: Sequence[int]) -> list[float]:
    """Return `polygon_iou` for several numbers of vertices, thinning out once."""
    if mask.is_empty:
        raise ValueError("An empty mask has no polygon.")
    if min(counts, default=3) < 3:
        raise ValueError(f"A polygon has 3 vertices or more, not {min(counts)}.")
    cut = _cut(mask)
    rings = [exterior for exterior, _ in mask_polygons(cut)]
    ring = max(rings, key=_area)
    candidates = [ring, (ring + np.roll(ring, -1, axis=0)) / 2]
    best = [0.0] * len(counts)
    for candidate in candidates:
        order = thinning_order(candidate)
        for at, count in enumerate(counts):
            kept = candidate[np.sort(order[-count:])]
            drawn = polygon_mask([kept], cut.height_px, cut.width_px)
            best[at] = max(best[at], iou(drawn, cut) or 0.0)
    return best


def box_iou(mask: Mask) -> float:
    """Return the IoU of a mask with its bounding box.

    Raises:
        ValueError: an empty mask.

    >>> box_iou(Mask.from_dense([[1, 1], [1, 0]]))
    0.75
    """
    if mask.is_empty:
        raise ValueError("An empty mask has no box.")
    _, _, width_px, height_px = mask.bbox
    return float(mask.area_px / (width_px * height_px))


def thinning_order(ring: Ring) -> NDArray[np.int64]:
    """Return the points of a ring in the order in which they are given up, the last ones kept.

    A point's area is never counted below that of one given up before it, as in the paper.
    """
    count = len(ring)
    before = [(at - 1) % count for at in range(count)]
    after = [(at + 1) % count for at in range(count)]
    points = ring.tolist()

    def spanned(at: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[before[at]], points[at], points[after[at]]
        return float(abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)))

    areas = [spanned(at) for at in range(count)]
    queue = [(area, at) for at, area in enumerate(areas)]
    heapq.heapify(queue)
    gone: list[int] = []
    is_gone = [False] * count
    while queue:
        area, at = heapq.heappop(queue)
        if is_gone[at] or area != areas[at]:
            continue
        is_gone[at] = True
        gone.append(at)
        left, right = before[at], after[at]
        after[left], before[right] = right, left
        for neighbour in (left, right):
            if not is_gone[neighbour]:
                areas[neighbour] = max(area, spanned(neighbour))
                heapq.heappush(queue, (areas[neighbour], neighbour))
    return np.array(gone, dtype=np.int64)


def _cut(mask: Mask) -> Mask:
    """The mask in a canvas of its bounding box: what lies around it costs time only."""
    x, y, width_px, height_px = mask.bbox
    return Mask.from_dense(mask.to_dense()[y : y + height_px, x : x + width_px])


def _area(ring: Ring) -> float:
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - np.roll(x, -1) @ y)) / 2
