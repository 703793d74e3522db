"""Compiled work on one mask's runs: pixels, bounding box, growing."""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Runs = NDArray[np.int64]


@kernel
def area(runs: Runs) -> int:
    """How many pixels are on."""
    pixels = 0
    for i in range(len(runs)):
        pixels += runs[i, 1] - runs[i, 0]
    return pixels


@kernel
def box(runs: Runs, width: int) -> tuple[int, int, int, int]:
    """The smallest (x, y, width, height) around at least one run."""
    top = row = runs[0, 0] // width
    left, right = width, 0
    for i in range(len(runs)):
        start, last = runs[i, 0], runs[i, 1] - 1
        # Most runs begin in the row of the one before; division is what takes time here.
        if start >= (row + 1) * width:
            row = start // width
        first = start - row * width
        if last < (row + 1) * width:
            left = min(left, first)
            right = max(right, last - row * width)
        else:
            row = last // width
            left, right = 0, width - 1
    bottom = (runs[len(runs) - 1, 1] - 1) // width
    return left, top, right - left + 1, bottom - top + 1


@kernel
def grow_rows(runs: Runs, width: int, distance: int) -> Runs:
    """Runs that reach `distance` pixels further to both sides, as far as their row goes."""
    count = 0
    for i in range(len(runs)):
        count += (runs[i, 1] - 1) // width - runs[i, 0] // width + 1
    out = np.empty((count, 2), dtype=np.int64)
    last = -1
    for i in range(len(runs)):
        start = runs[i, 0]
        while start < runs[i, 1]:
            row_start = start // width * width
            row_stop = row_start + width
            stop = min(runs[i, 1], row_stop)
            first = max(start - distance, row_start)
            end = min(stop + distance, row_stop)
            if last >= 0 and first <= out[last, 1]:
                out[last, 1] = max(out[last, 1], end)
            else:
                last += 1
                out[last, 0] = first
                out[last, 1] = end
            start = stop
    return out[: last + 1].copy()
