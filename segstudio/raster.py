"""Compiled rasterisation: shapes with real coordinates to runs of pixels, decided exactly.

The convention is that of `segstudio.shapes`: a pixel is on when its centre lies inside. Crossings
of an edge with a row of centres are computed in floating point; where one comes so close to a
centre that rounding could decide, the side is found with exact arithmetic instead (error-free sums
and products after Dekker 1971 and Shewchuk 1997).
"""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel
from segstudio.run_kernels import joined

Runs = NDArray[np.int64]

_CROSSINGS_AT_ONCE = 1 << 22  # 32 MB: memory stays bounded for polygons of any complexity
_SPLITTER = 134217729.0  # 2**27 + 1


@kernel
def _add_product(terms: NDArray[np.float64], at: int, a: float, b: float, sign: float) -> None:
    """Store `sign * a * b` without rounding as the sum of two terms."""
    product = a * b
    big = _SPLITTER * a
    a_high = big - (big - a)
    a_low = a - a_high
    big = _SPLITTER * b
    b_high = big - (big - b)
    b_low = b - b_high
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    terms[at] = sign * product
    terms[at + 1] = sign * error


@kernel
def _tail(a: float, b: float) -> float:
    """What `a - b` loses to rounding."""
    difference = a - b
    b_part = a - difference
    a_part = difference + b_part
    return (a - a_part) + (b_part - b)


@kernel
def _at_or_right(x: float, y: float, x0: float, y0: float, x1: float, y1: float) -> bool:
    """Whether (x, y) lies on the line through the edge or to the right of it; y0 < y1.

    This is (x - x0)(y1 - y0) - (x1 - x0)(y - y0) >= 0, exactly.
    """
    terms = np.empty(16, dtype=np.float64)
    first = (x - x0, _tail(x, x0))
    second = (y1 - y0, _tail(y1, y0))
    third = (x1 - x0, _tail(x1, x0))
    fourth = (y - y0, _tail(y, y0))
    at = 0
    for i in range(2):
        for j in range(2):
            _add_product(terms, at, first[i], second[j], 1.0)
            _add_product(terms, at + 2, third[i], fourth[j], -1.0)
            at += 4
    # Grow an expansion term by term: its components never overlap, so the last one that is not
    # zero has the sign of the exact sum.
    parts = np.zeros(16, dtype=np.float64)
    for i in range(16):
        carry = terms[i]
        for j in range(i):
            total = carry + parts[j]
            part = total - carry
            error = (carry - (total - part)) + (parts[j] - part)
            parts[j] = error
            carry = total
        parts[i] = carry
    for i in range(15, -1, -1):
        if parts[i] != 0.0:
            return parts[i] > 0.0
    return True


@kernel
def _first_column(row_centre: float, x0: float, y0: float, x1: float, y1: float, width: int) -> int:
    """The first column in 0..width whose centre is on the edge or right of it; y0 < y1."""
    crossing = x0 + (row_centre - y0) * ((x1 - x0) / (y1 - y0)) - 0.5
    if crossing < -1.0:
        return 0
    if crossing > width + 1.0:
        return width
    nearest = np.rint(crossing)
    if abs(crossing - nearest) > 1e-14 * (abs(x0) + abs(x1) + 1.0):
        column = math.ceil(crossing)
    elif _at_or_right(nearest + 0.5, row_centre, x0, y0, x1, y1):
        column = int(nearest)
    else:
        column = int(nearest) + 1
    return min(max(column, 0), width)


@kernel
def _first_row(y: float, height: int) -> int:
    """The first row in 0..height whose centre is at or below `y`."""
    if y <= 0.5:
        return 0
    if y > height - 0.5:
        return height
    row = math.ceil(y - 0.5)
    while row + 0.5 < y:
        row += 1
    while row > 0 and row - 0.5 >= y:
        row -= 1
    return row


@kernel
def fill_polygon(edges: NDArray[np.float64], height: int, width: int) -> Runs:
    """Runs inside the closed loops that (n, 4) edges [x0, y0, x1, y1] make, by the even-odd rule.

    Coordinates are pixels, finite, and at most 2**40 in size.
    """
    rows_of = np.empty((len(edges), 2), dtype=np.int64)
    crossings_of_row = np.zeros(height + 1, dtype=np.int64)
    for edge in range(len(edges)):
        if edges[edge, 1] > edges[edge, 3]:
            x, y = edges[edge, 0], edges[edge, 1]
            edges[edge, 0], edges[edge, 1] = edges[edge, 2], edges[edge, 3]
            edges[edge, 2], edges[edge, 3] = x, y
        first, last = _first_row(edges[edge, 1], height), _first_row(edges[edge, 3], height)
        rows_of[edge, 0], rows_of[edge, 1] = first, last
        crossings_of_row[first] += 1
        crossings_of_row[last] -= 1
    crossings_of_row = np.cumsum(crossings_of_row)
    runs = np.empty((height + 16, 2), dtype=np.int64)
    count = 0
    top = 0
    while top < height:
        bottom = top
        total = 0
        while bottom < height and (
            bottom == top or total + crossings_of_row[bottom] <= _CROSSINGS_AT_ONCE
        ):
            total += crossings_of_row[bottom]
            bottom += 1
        ends = np.empty(bottom - top + 1, dtype=np.int64)
        ends[0] = 0
        for row in range(top, bottom):
            ends[row - top + 1] = ends[row - top] + crossings_of_row[row]
        filled = ends[:-1].copy()
        columns = np.empty(total, dtype=np.int64)
        if count + total // 2 > len(runs):
            bigger = np.empty((2 * count + total, 2), dtype=np.int64)
            bigger[:count] = runs[:count]
            runs = bigger
        for edge in range(len(edges)):
            for row in range(max(rows_of[edge, 0], top), min(rows_of[edge, 1], bottom)):
                columns[filled[row - top]] = _first_column(
                    row + 0.5,
                    edges[edge, 0],
                    edges[edge, 1],
                    edges[edge, 2],
                    edges[edge, 3],
                    width,
                )
                filled[row - top] += 1
        for row in range(top, bottom):
            here = columns[ends[row - top] : ends[row - top + 1]]
            _sort(here)
            for pair in range(0, len(here) - 1, 2):
                if here[pair] < here[pair + 1]:
                    runs[count, 0] = row * width + here[pair]
                    runs[count, 1] = row * width + here[pair + 1]
                    count += 1
        top = bottom
    return joined(runs, count)


@kernel
def _sort(values: NDArray[np.int64]) -> None:
    """Sort in place; rows mostly have two or four crossings."""
    if len(values) > 32:
        values.sort()
        return
    for i in range(1, len(values)):
        value = values[i]
        j = i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@kernel
def _in_ellipse(
    dx: float, dy: float, radius_x: float, radius_y: float, cosine: float, sine: float
) -> bool:
    along = (dx * cosine + dy * sine) / radius_x
    across = (dy * cosine - dx * sine) / radius_y
    return along * along + across * across <= 1.0


@kernel
def fill_ellipse(
    x: float,
    y: float,
    radius_x: float,
    radius_y: float,
    cosine: float,
    sine: float,
    height: int,
    width: int,
) -> Runs:
    """Runs of the pixels whose centre satisfies the equation of an ellipse about (x, y).

    Each row's interval is estimated from the quadratic and then moved until the equation itself
    holds at both its ends and not beyond them.
    """
    runs = np.empty((height, 2), dtype=np.int64)
    count = 0
    a = (cosine / radius_x) ** 2 + (sine / radius_y) ** 2
    b = cosine * sine * (1.0 / radius_x**2 - 1.0 / radius_y**2)
    half_height = math.sqrt((radius_x * sine) ** 2 + (radius_y * cosine) ** 2)
    top = max(0, math.floor(max(y - half_height, 0.0)) - 1)
    bottom = min(height, math.ceil(min(y + half_height, float(height))) + 1)
    for row in range(top, bottom):
        dy = row + 0.5 - y
        discriminant = a - (dy / (radius_x * radius_y)) ** 2
        half = math.sqrt(max(discriminant, 0.0)) / a
        middle = x - b * dy / a - 0.5
        first = math.ceil(min(max(middle - half, 0.0), width - 1.0))
        last = math.floor(min(max(middle + half, 0.0), width - 1.0))
        if last < first:
            # No centre between the estimated ends; one just outside may still be inside.
            first = last = int(min(max(np.rint(middle), 0.0), width - 1.0))
        while first <= last and not _in_ellipse(
            first + 0.5 - x, dy, radius_x, radius_y, cosine, sine
        ):
            first += 1
        while last >= first and not _in_ellipse(
            last + 0.5 - x, dy, radius_x, radius_y, cosine, sine
        ):
            last -= 1
        if last < first:
            continue
        while first > 0 and _in_ellipse(first - 0.5 - x, dy, radius_x, radius_y, cosine, sine):
            first -= 1
        while last + 1 < width and _in_ellipse(
            last + 1.5 - x, dy, radius_x, radius_y, cosine, sine
        ):
            last += 1
        runs[count, 0] = row * width + first
        runs[count, 1] = row * width + last + 1
        count += 1
    return joined(runs, count)
