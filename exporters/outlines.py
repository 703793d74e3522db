"""Masks as one closed ring of pixels each, for formats that know polygons without holes.

Programs that draw outline and inside (OpenCV's `fillPoly`, Pillow's `polygon`) draw a ring of
*pixels*, those along the mask's inner edge, as the mask itself. Holes hang on the ring by bridges
that run through the mask, so they cost nothing; parts hang on it by bridges through what lies
between them, one pixel wide, which such programs draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segstudio import runs as kernels
from segstudio.masks import Mask
from segstudio.polygons import Ring, mask_polygons

_MOST_STEPS = 8


@dataclass(frozen=True, slots=True, eq=False)
class PixelRing:
    """A closed ring along the pixels of a mask's inner edge, not repeated at its end.

    `corners` is (n, 4) int64: column and row of a pixel, and towards which of its corners the
    outline turns there, -1 for left or top and 1 for right or bottom. `bridged_parts` counts the
    bridges that leave the mask.
    """

    corners: NDArray[np.int64]
    bridged_parts: int = 0

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Return the (n, 2) pixels [column, row]: what a program that draws outlines needs."""
        return self.corners[:, :2]

    def points(self, inset_px: float) -> NDArray[np.float64]:
        """Return (n, 2) points [x, y] so far inside the mask's outline.

        Rounded down to whole pixels they are `pixels`, as long as they are kept to better than
        `inset_px`; read as they are, they enclose the mask but for a seam of that width.
        """
        return self.corners[:, :2] + 0.5 + self.corners[:, 2:] * (0.5 - inset_px)


def part_rings(mask: Mask) -> list[PixelRing]:
    """Return one ring for each 4-connected part of a mask, holes on bridges inside the mask.

    An empty mask gives [].

    >>> [ring] = part_rings(Mask.from_dense([[1, 1, 1], [1, 0, 1], [1, 1, 1]]))
    >>> sorted(set(map(tuple, ring.pixels.tolist()))) == [(0, 0), (0, 2), (2, 0), (2, 2)]
    True
    """
    row_runs = kernels.split_rows(mask.runs, mask.width_px)
    rings = []
    for exterior, holes in mask_polygons(mask):
        loops = [_corners(ring, mask) for ring in (exterior, *holes)]
        rings.append(PixelRing(_hung(loops, row_runs, mask.width_px) if holes else loops[0]))
    return rings


def single_ring(mask: Mask) -> PixelRing | None:
    """Return one ring for the whole mask, its parts joined by bridges; None when it is empty.

    Parts that touch by a corner are joined there; that bridge leaves the mask nowhere and is not
    counted.
    """
    rings = [ring.corners for ring in part_rings(mask)]
    if not rings:
        return None
    touching = _contacts(rings)
    paths = []
    waiting = dict.fromkeys(range(len(rings)))
    while waiting:
        first = next(iter(waiting))
        del waiting[first]
        path, reached = rings[first], [first]
        for part in reached:
            for other, here, there in touching.get(part, ()):
                if other in waiting:
                    del waiting[other]
                    reached.append(other)
                    at = int(np.argmax((path == rings[part][here]).all(axis=1)))
                    path = _joined(path, at, rings[other], there)
        paths.append(path)
    path = paths[0]
    for other_path in paths[1:]:
        path = _joined(path, *_near_corners(path, other_path))
    return PixelRing(path, len(paths) - 1)


def _contacts(rings: list[NDArray[np.int64]]) -> dict[int, list[tuple[int, int, int]]]:
    """Return, for each ring, the (other ring, own corner, other corner) that touch, in order."""
    from scipy.spatial import cKDTree

    if len(rings) == 1:
        return {}
    owners = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    places = np.concatenate([np.arange(len(ring)) for ring in rings])
    # Corners that face each other across the point where two pixels touch are 0.28 px apart.
    points = PixelRing(np.concatenate(rings)).points(0.1)
    pairs = cKDTree(points).query_pairs(0.3, output_type="ndarray")
    pairs = pairs[owners[pairs[:, 0]] != owners[pairs[:, 1]]]
    touching: dict[int, list[tuple[int, int, int]]] = {}
    for a, b in sorted(pairs.tolist()):
        touching.setdefault(int(owners[a]), []).append((int(owners[b]), places[a], places[b]))
        touching.setdefault(int(owners[b]), []).append((int(owners[a]), places[b], places[a]))
    return touching


def _corners(ring: Ring, mask: Mask) -> NDArray[np.int64]:
    """Return the corners of a ring of `mask_polygons`, which runs with the mask on its right."""
    points = ring.astype(np.int64)
    came = np.sign(points - np.roll(points, 1, axis=0))
    goes = np.sign(np.roll(points, -1, axis=0) - points)
    # Right of a direction (dx, dy), y down, is (-dy, dx): there lies the corner's own pixel.
    inward = np.stack([-came[:, 1] - goes[:, 1], came[:, 0] + goes[:, 0]], axis=1)
    corners = np.hstack([points + (inward - 1) // 2, -inward])
    # Where the ring passes between two pixels that touch by a corner, it belongs to both in turn.
    pinched = np.flatnonzero(~_is_on(mask, corners))
    last = np.stack([-came[:, 1] - came[:, 0], came[:, 0] - came[:, 1]], axis=1)[pinched]
    first = np.stack([goes[:, 0] - goes[:, 1], goes[:, 0] + goes[:, 1]], axis=1)[pinched]
    corners[pinched] = np.hstack([points[pinched] + (last - 1) // 2, -last])
    following = np.hstack([points[pinched] + (first - 1) // 2, -first])
    return np.insert(corners, pinched + 1, following, axis=0)


def _is_on(mask: Mask, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    flat = corners[:, 1] * mask.width_px + corners[:, 0]
    run = np.searchsorted(mask.runs[:, 0], flat, side="right") - 1
    return np.asarray((run >= 0) & (flat < mask.runs[run, 1]))


def _hung(
    rings: list[NDArray[np.int64]], row_runs: NDArray[np.int64], width_px: int
) -> NDArray[np.int64]:
    """Return one ring of an exterior and its holes.

    Each hole hangs on a bridge from its leftmost corner straight to the left, up to where the mask
    ends: at a left edge of the exterior or of a hole that begins further to the left.
    """
    corners = np.concatenate(rings)
    sizes = np.array([len(ring) for ring in rings])
    firsts = np.cumsum(sizes) - sizes
    ahead = np.arange(1, len(corners) + 1)
    ahead[firsts + sizes - 1] = firsts
    after = corners[ahead]
    is_left = (corners[:, 0] == after[:, 0]) & (corners[:, 2] == -1) & (after[:, 2] == -1)
    left = np.flatnonzero(is_left & (after[:, 1] <= corners[:, 1]))
    rows = int(corners[:, 1].max()) + 1
    keys = corners[left, 0] * rows + after[left, 1]
    left, keys = left[np.argsort(keys, kind="stable")], np.sort(keys)

    hanging: dict[int, list[tuple[int, int, NDArray[np.int64]]]] = {}
    for number in range(1, len(rings)):
        start = int(np.argmin(rings[number][:, 0]))
        column, row, _, toward_y = rings[number][start]
        run = np.searchsorted(row_runs[:, 0], row * width_px + column, side="right") - 1
        end = row_runs[run, 0] - row * width_px
        edge = int(left[np.searchsorted(keys, end * rows + row, side="right") - 1])
        bridge_end = np.array([[end, row, -1, toward_y]])
        hanging.setdefault(edge, []).append((number, start, bridge_end))

    done: list[NDArray[np.int64]] = []
    # What is still to be walked, last first: corners as they are, or a ring from a corner on.
    waiting: list[NDArray[np.int64] | tuple[int, int]] = [(0, 0)]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, tuple):
            done.append(item)
            continue
        number, start = item
        walk = np.roll(np.arange(firsts[number], firsts[number] + sizes[number]), -start)
        steps: list[NDArray[np.int64] | tuple[int, int]] = []
        begin = 0
        for at, edge in enumerate(walk.tolist()):
            # A left edge runs upwards: the lowest bridge comes first.
            for child in sorted(hanging.get(edge, ()), key=lambda one: -int(one[2][0, 1])):
                steps += [corners[walk[begin : at + 1]], child[2], child[:2], child[2]]
                begin = at + 1
        steps.append(corners[walk[begin:]])
        if number:
            steps.append(corners[walk[:1]])
        waiting += reversed(steps)
    return np.concatenate(done)


def _joined(
    path: NDArray[np.int64], on_path: int, part: NDArray[np.int64], on_part: int
) -> NDArray[np.int64]:
    """Hang a part on the path by a bridge from corner to corner."""
    loop = np.vstack([part[on_part:], part[: on_part + 1]])
    return np.vstack([path[: on_path + 1], loop, path[on_path:]])


def _near_corners(
    path: NDArray[np.int64], part: NDArray[np.int64]
) -> tuple[int, NDArray[np.int64], int]:
    """Return a corner of the path, the part, and a corner of it, each the other's nearest."""
    on_part, on_path = 0, -1
    for _ in range(_MOST_STEPS):
        nearest = _nearest(path, part[on_part])
        if nearest == on_path:
            break
        on_path = nearest
        on_part = _nearest(part, path[on_path])
    return on_path, part, on_part


def _nearest(corners: NDArray[np.int64], to: NDArray[np.int64]) -> int:
    return int(np.argmin(((corners[:, :2] - to[:2]) ** 2).sum(axis=1)))
