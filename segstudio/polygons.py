"""Masks to polygons with holes: the outline of the pixels, exact, or simplified on request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segstudio import runs as kernels
from segstudio.masks import Mask

Ring = NDArray[np.float64]
"""(n, 2) points [x, y] in pixels; closed from the last to the first, which is not repeated."""


def mask_polygons(mask: Mask, tolerance_px: float = 0.0) -> list[tuple[Ring, list[Ring]]]:
    """The (exterior, holes) of every part of a mask; [] when it is empty.

    Rings follow the edges between pixels, so `shapes.polygon_mask` of all of them gives back the
    very mask. Parts are 4-connected: pixels that touch by a corner are two parts whose rings share
    that point. No ring touches itself, exteriors run clockwise as seen and holes the other way, in
    order of their first pixel, so that each part is a valid polygon to other tools.

    With `tolerance_px` above 0 every ring is simplified (Douglas and Peucker 1973) so that no
    corner it loses lies further from it than that; a ring that would keep fewer than 3 points stays
    as it was. Simplified rings may cross, and no longer give back the very pixels.

    >>> mask = Mask.from_dense([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> [(exterior, holes)] = mask_polygons(mask)
    >>> exterior.tolist()
    [[0.0, 0.0], [3.0, 0.0], [3.0, 3.0], [0.0, 3.0]]
    >>> holes[0].tolist()
    [[2.0, 1.0], [1.0, 1.0], [1.0, 2.0], [2.0, 2.0]]
    """
    if mask.is_empty:
        return []
    segments = kernels.split_rows(mask.runs, mask.width_px)
    labels = kernels.component_labels(segments, mask.width_px, 0)
    exteriors: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for ring, pixel in _rings(mask):
        label = int(labels[np.searchsorted(segments[:, 0], pixel, side="right") - 1])
        x, y = ring.T
        is_exterior = x @ np.roll(y, -1) > np.roll(x, -1) @ y
        if tolerance_px > 0:
            ring = simplify(ring, tolerance_px)
        if is_exterior:
            exteriors[label] = ring
        else:
            holes.setdefault(label, []).append(ring)
    return [(exteriors[label], holes.get(label, [])) for label in sorted(exteriors)]


def mask_rectangle(mask: Mask) -> tuple[float, float, float, float]:
    """The bounding box (x, y, width, height) in pixels, which draws every pixel of the mask."""
    x_px, y_px, width_px, height_px = mask.bbox
    return float(x_px), float(y_px), float(width_px), float(height_px)


def keyhole_ring(rings: Sequence[Ring]) -> Ring:
    """One ring that encloses what many rings enclose together by the even-odd rule.

    Each ring after the first is reached and left along one bridge, whose two sides coincide and
    therefore enclose nothing. Bridges join nearest points, so that they cross little.

    Raises:
        ValueError: when there is no ring.
    """
    if not rings:
        raise ValueError("There is no ring to join.")
    path = rings[0]
    for ring in rings[1:]:
        # The nearest corner of the path to the new ring's first corner, then the nearest of the
        # new ring to that one: close enough to the shortest bridge, in linear time.
        on_path = int(np.argmin(((path - ring[0]) ** 2).sum(axis=1)))
        on_ring = int(np.argmin(((ring - path[on_path]) ** 2).sum(axis=1)))
        loop = np.vstack([ring[on_ring:], ring[: on_ring + 1]])
        path = np.vstack([path[: on_path + 1], loop, path[on_path:]])
    return path


def simplify(ring: Ring, tolerance_px: float) -> Ring:
    """The ring without the corners that lie within `tolerance_px` of it (Douglas-Peucker).

    The ring is cut at its first point and at the point farthest from it. A result of fewer than 3
    points encloses nothing; the ring is then returned as it was.
    """
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    keep = np.zeros(len(ring) + 1, dtype=np.bool_)
    closed = np.vstack([ring, ring[:1]])
    keep[[0, far, len(ring)]] = True
    stack = [(0, far), (far, len(ring))]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        start, chord = closed[first], closed[last] - closed[first]
        offsets = closed[first + 1 : last] - start
        length_squared = chord @ chord
        if length_squared:
            along = np.clip(offsets @ chord / length_squared, 0.0, 1.0)
            offsets = offsets - along[:, None] * chord
        distances_squared = (offsets**2).sum(axis=1)
        worst = int(np.argmax(distances_squared))
        if distances_squared[worst] > tolerance_px**2:
            middle = first + 1 + worst
            keep[middle] = True
            stack += [(first, middle), (middle, last)]
    kept = ring[keep[:-1]]
    return kept if len(kept) >= 3 else ring


def _rings(mask: Mask) -> list[tuple[Ring, int]]:
    """Every ring with the flat index of a pixel inside the mask that it runs along.

    A horizontal edge lies between two rows where one has a pixel and the other has not. Edges run
    with the mask on their right as seen: to the right above a pixel, to the left below one. An end
    of an edge meets the end of another at the other end of a vertical edge, and vertical edges pair
    the ends of a column line from top to bottom. Where two pixels touch by a corner, the edge below
    a pixel goes on upward, so that the ring stays with its pixel.
    """
    width = mask.width_px
    below = mask.runs  # of the canvas of height + 1 rows of lines: line y lies above pixel row y
    above = mask.runs + width
    tops = kernels.split_rows(kernels.difference(below, above), width)
    bottoms = kernels.split_rows(kernels.difference(above, below), width)
    count = len(tops)
    edges = np.concatenate([tops, bottoms])
    line = edges[:, 0] // width
    left, right = edges[:, 0] - line * width, edges[:, 1] - line * width
    is_bottom = np.arange(len(edges)) >= count
    # Every edge twice: once for its left end, once for its right one.
    ends_x = np.concatenate([left, right])
    ends_y = np.concatenate([line, line])
    order = np.lexsort((~np.concatenate([is_bottom, is_bottom]), ends_y, ends_x))
    partner = np.empty(len(order), dtype=np.int64)
    partner[order[0::2]] = order[1::2]
    partner[order[1::2]] = order[0::2]
    edge = np.arange(len(edges))
    following = partner[np.where(is_bottom, edge, edge + len(edges))] % len(edges)
    start_x, end_x = np.where(is_bottom, right, left), np.where(is_bottom, left, right)
    pixels = np.where(is_bottom, edges[:, 0] - width, edges[:, 0])

    rings: list[tuple[Ring, int]] = []
    nexts, done = following.tolist(), np.zeros(len(edges), dtype=np.bool_).tolist()
    for first in np.argsort(edges[:, 0], kind="stable").tolist():
        if done[first]:
            continue
        members = []
        at = first
        while not done[at]:
            done[at] = True
            members.append(at)
            at = nexts[at]
        xs = np.column_stack([start_x[members], end_x[members]]).ravel()
        ys = np.repeat(line[members], 2)
        rings += _without_touching(xs, ys, width + 1, int(pixels[first]))
    return rings


def _without_touching(
    xs: NDArray[np.int64], ys: NDArray[np.int64], stride: int, pixel: int
) -> list[tuple[Ring, int]]:
    """Cut a ring that visits a point twice into rings that do not."""
    points = np.column_stack([xs, ys]).astype(np.float64)
    keys = ys * stride + xs
    if len(np.unique(keys)) == len(keys):
        return [(points, pixel)]
    rings = []
    path: list[int] = []
    position_of: dict[int, int] = {}
    for index, key in enumerate(keys.tolist()):
        if key in position_of:
            start = position_of[key]
            loop = path[start:]
            rings.append((points[loop], pixel))
            for gone in loop:
                del position_of[int(keys[gone])]
            del path[start:]
        position_of[key] = len(path)
        path.append(index)
    rings.append((points[path], pixel))
    return rings
