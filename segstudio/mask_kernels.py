"""Compiled measures of one mask's runs: pixels and bounding box."""

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
