"""Distances between the surfaces of two masks in millimetres: Hausdorff, surface Dice.

The definition of Nikolov et al. 2018 (arXiv:1809.04430), as their library surface-distance has it:
a surface element lies wherever the corners of 2 x 2 (x 2) voxels are partly inside. In 3-D it
weighs by its area (marching cubes), in 2-D by the length of the contour; percentiles and surface
Dice are shares of area or length, not of voxels. Distances are between the elements' places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Triangle = tuple[int, int, int]

_ROUNDING: Final = 1e-9  # a distance that equals the tolerance but for rounding is within it
_SQUARE: Final = ((0, 0), (0, 1), (1, 1), (1, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """The elements of a mask's surface: their places (n, d) in mm, and their size (n,).

    A size is an area in mm² in 3-D, a length in mm in 2-D. An empty mask has no elements.
    """

    places_mm: FloatArray
    sizes: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceDistances:
    """For each element of either surface, how far the other surface is, ascending, and its size."""

    first_to_second_mm: FloatArray
    first_sizes: FloatArray
    second_to_first_mm: FloatArray
    second_sizes: FloatArray


def surface_of(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Surface:
    """Return the surface elements of a mask.

    Args:
        mask: 2-D or 3-D; what lies outside of it is not in the mask.
        spacing_mm: the distance between voxels along each axis of the mask.

    Raises:
        ValueError: the mask has other than 2 or 3 axes, or the spacing does not fit it.
    """
    if mask.ndim not in (2, 3) or len(spacing_mm) != mask.ndim or min(spacing_mm) <= 0:
        raise ValueError(
            f"Surfaces are of masks with 2 or 3 axes and a positive spacing of each, not of "
            f"{mask.ndim} axes with {list(spacing_mm)} mm."
        )
    if not mask.any():
        return Surface(np.empty((0, mask.ndim)), np.empty(0))
    bounds = [_bounds(mask, axis) for axis in range(mask.ndim)]
    cut = mask[tuple(slice(low, high + 1) for low, high in bounds)]
    padded = np.pad(cut, 1).astype(np.uint8)
    codes = np.zeros([side - 1 for side in padded.shape], np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=mask.ndim)):
        shifted = padded[
            tuple(slice(at, at + side) for at, side in zip(corner, codes.shape, strict=True))
        ]
        codes |= shifted << np.uint8(bit)
    full = (1 << (1 << mask.ndim)) - 1
    places = np.argwhere((codes != 0) & (codes != full))
    table = _lengths(spacing_mm) if mask.ndim == 2 else _areas(spacing_mm)
    sizes = table[codes[tuple(places.T)]]
    lows = np.array([low for low, _ in bounds], float)
    # Element 0 lies half a step before the first voxel: between it and the padding.
    return Surface((places + lows - 0.5) * np.asarray(spacing_mm, float), sizes)


def surface_distances(first: Surface, second: Surface) -> SurfaceDistances | None:
    """Return the distances between two surfaces, or None where one of them has no element."""
    from scipy.spatial import cKDTree

    if not len(first.sizes) or not len(second.sizes):
        return None
    there = cKDTree(second.places_mm).query(first.places_mm)[0]
    back = cKDTree(first.places_mm).query(second.places_mm)[0]
    order, order_back = np.argsort(there, kind="stable"), np.argsort(back, kind="stable")
    return SurfaceDistances(
        there[order], first.sizes[order], back[order_back], second.sizes[order_back]
    )


def hausdorff_mm(distances: SurfaceDistances | None, percent: float = 95.0) -> float | None:
    """Return the distance that a share of either surface does not exceed, the larger of the two.

    100 percent is the Hausdorff distance. None where a surface is empty: no distance is defined.
    """
    if distances is None:
        return None
    sides = (
        (distances.first_to_second_mm, distances.first_sizes),
        (distances.second_to_first_mm, distances.second_sizes),
    )
    found = []
    for values, sizes in sides:
        share = np.cumsum(sizes) / sizes.sum()
        at = int(np.searchsorted(share, percent / 100))
        found.append(float(values[min(at, len(values) - 1)]))
    return max(found)


def surface_dice(distances: SurfaceDistances | None, tolerance_mm: float) -> float | None:
    """Return the share of both surfaces that lies within a tolerance of the other, 0 to 1.

    None where a surface is empty.
    """
    if distances is None:
        return None
    limit = tolerance_mm * (1 + _ROUNDING) + _ROUNDING
    near = (
        distances.first_sizes[distances.first_to_second_mm <= limit].sum()
        + distances.second_sizes[distances.second_to_first_mm <= limit].sum()
    )
    return float(near / (distances.first_sizes.sum() + distances.second_sizes.sum()))


def mean_distance_mm(distances: SurfaceDistances | None) -> float | None:
    """Return the mean distance over both surfaces, by size; None where a surface is empty."""
    if distances is None:
        return None
    total = (
        distances.first_to_second_mm @ distances.first_sizes
        + distances.second_to_first_mm @ distances.second_sizes
    )
    return float(total / (distances.first_sizes.sum() + distances.second_sizes.sum()))


def _bounds(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    others = tuple(other for other in range(mask.ndim) if other != axis)
    taken = np.flatnonzero(mask.any(axis=others))
    return int(taken[0]), int(taken[-1])


def _lengths(spacing_mm: Sequence[float]) -> FloatArray:
    """Return the contour length in 2 x 2 pixels for each of the 16 codes.

    A corner alone is cut off by half a diagonal, two side by side by one side's length.
    """
    first, second = spacing_mm
    corner = 0.5 * float(np.hypot(first, second))
    table = np.zeros(16)
    for code in range(1, 15):
        inside = [at for at in range(4) if code >> at & 1]  # bits: (0,0), (0,1), (1,0), (1,1)
        if len(inside) in (1, 3):
            table[code] = corner
        elif inside in ([0, 3], [1, 2]):
            table[code] = 2 * corner
        else:
            table[code] = second if inside in ([0, 1], [2, 3]) else first
    return table


def _areas(spacing_mm: Sequence[float]) -> FloatArray:
    """Return the surface area in 2 x 2 x 2 voxels for each of the 256 codes."""
    codes, normals = _surface_elements()
    first, second, third = spacing_mm
    scaled = normals * np.array([second * third, first * third, first * second])
    areas = np.bincount(codes, np.linalg.norm(scaled, axis=1), minlength=256)
    return areas.astype(np.float64)


@cache
def _surface_elements() -> tuple[NDArray[np.int64], FloatArray]:
    """Return the marching cubes' triangles: the code of each, and its normal, as long as its area.

    The polygons go through the middles of the edges that leave the mask. On a face whose diagonal
    corners are inside, the corners (inside or outside) of which the cube has fewer are cut off one
    by one. A polygon is cut into the triangles that have the largest area together, which gives
    the areas of surface-distance's table for every code.
    """
    codes, normals = [], []
    for code in range(1, 255):
        for polygon in map(np.array, _polygons(code)):
            best = max(
                _triangulations(0, len(polygon) - 1),
                key=lambda one, points=polygon: round(  # type: ignore[misc]
                    float(sum(np.linalg.norm(_normal(points, triangle)) for triangle in one)), 9
                ),
            )
            codes += [code] * len(best)
            normals += [_normal(polygon, triangle) for triangle in best]
    return np.array(codes), np.array(normals)


def _normal(points: FloatArray, triangle: Triangle) -> FloatArray:
    a, b, c = points[list(triangle)]
    normal: FloatArray = np.cross(b - a, c - a) / 2
    return normal


def _polygons(code: int) -> list[list[tuple[float, ...]]]:
    corners = list(product((0, 1), repeat=3))
    is_in = {corner: bool(code >> bit & 1) for bit, corner in enumerate(corners)}
    cuts_inside = sum(is_in.values()) <= 4
    links: dict[tuple[float, ...], list[tuple[float, ...]]] = {}
    for axis, side in product(range(3), (0, 1)):
        ring = [(*square[:axis], side, *square[axis:]) for square in _SQUARE]
        middles: dict[int, tuple[float, ...]] = {}
        for at in range(4):
            one, other = ring[at], ring[(at + 1) % 4]
            if is_in[one] != is_in[other]:
                middles[at] = tuple((a + b) / 2 for a, b in zip(one, other, strict=True))
        pairs = [tuple(middles)] if len(middles) == 2 else []
        if len(middles) == 4:
            pairs = [((at - 1) % 4, at) for at in range(4) if is_in[ring[at]] == cuts_inside]
        for a, b in pairs:
            links.setdefault(middles[a], []).append(middles[b])
            links.setdefault(middles[b], []).append(middles[a])
    polygons: list[list[tuple[float, ...]]] = []
    seen: set[tuple[float, ...]] = set()
    for start in sorted(links):
        polygon: list[tuple[float, ...]] = []
        following = [] if start in seen else [start]
        while following:
            polygon.append(following[0])
            seen.add(following[0])
            following = [point for point in links[following[0]] if point not in seen]
        if polygon:
            polygons.append(polygon)
    return polygons


@cache
def _triangulations(first: int, last: int) -> list[list[Triangle]]:
    """Return every way to cut the polygon of the points first..last into triangles."""
    if last - first < 2:
        return [[]]
    return [
        [*left, *right, (first, middle, last)]
        for middle in range(first + 1, last)
        for left in _triangulations(first, middle)
        for right in _triangulations(middle, last)
    ]
