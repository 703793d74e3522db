"""Compiled painting: numbers to colours and rows to their differences, one pass each.

`exporters.panoptic_ids` and `exporters.png` load this module on first use and hold the same in
plain numpy in their tests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Bytes = NDArray[np.uint8]


@kernel
def paint(numbers: NDArray[np.int32], colors: Bytes) -> Bytes:
    """Colours of a flat array of numbers, as (n, 3); every number must have a row in `colors`."""
    painted = np.empty((numbers.size, 3), dtype=np.uint8)
    for pixel in range(numbers.size):
        number = numbers[pixel]
        painted[pixel, 0] = colors[number, 0]
        painted[pixel, 1] = colors[number, 1]
        painted[pixel, 2] = colors[number, 2]
    return painted


@kernel
def filter_up(rows: Bytes, above: Bytes) -> Bytes:
    """PNG's filter "Up": each row less the one above it, with the filter's number 2 in front."""
    height, width = rows.shape
    filtered = np.empty((height, width + 1), dtype=np.uint8)
    for row in range(height):
        filtered[row, 0] = 2
        before = above if row == 0 else rows[row - 1]
        for column in range(width):
            filtered[row, column + 1] = rows[row, column] - before[column]
    return filtered
