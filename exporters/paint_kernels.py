"""Compiled painting: numbers to colours and rows to their differences, one pass each.

`exporters.panoptic_ids` and `exporters.png` load this module on first use and hold the same in
plain numpy in their tests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.generic]


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


@kernel
def paint_rows(
    runs: NDArray[np.int64],
    ends: NDArray[np.int64],
    numbers: NDArray[np.int64],
    at: NDArray[np.int64],
    first: int,
    rows: Numbers,
) -> None:
    """Paint some rows of a picture with the numbers of its segments; 0 where there is none.

    Args:
        runs: those of all segments, one segment after the other, sorted within each.
        ends: where each segment ends in `runs`.
        numbers: the number of each segment.
        at: the first run of each segment that reaches into these rows; moved on to the next ones.
        first: the first row.
        rows: to be painted, contiguous.
    """
    flat = rows.reshape(-1)
    flat[:] = 0
    offset = first * rows.shape[1]
    stop = offset + len(flat)
    for segment in range(len(ends)):
        i = at[segment]
        while i < ends[segment] and runs[i, 0] < stop:
            last = min(runs[i, 1], stop)
            flat[max(runs[i, 0], offset) - offset : last - offset] = numbers[segment]
            if runs[i, 1] > stop:
                break
            i += 1
        at[segment] = i


@kernel
def filter_up_painted(
    rows: Numbers,
    words: NDArray[np.uint64],
    colors: Bytes,
    filtered: Bytes,
    touched: NDArray[np.int64],
    count: int,
) -> int:
    """PNG's filter "Up" of the rows' colours, which are never painted; the count of changed words.

    Args:
        rows: numbers, (1 + n, width); the first row is the one above.
        words: the same, eight bytes at a time, flat.
        colors: of each number.
        filtered: (n, 1 + 3 * width), zeros but for the first column and what `touched` says.
        touched: the words that changed in the call before; then those that changed now.
        count: of the call before.
    """
    width = rows.shape[1]
    in_row = len(words) // len(rows)
    step = width // in_row
    bits = np.uint64(64 // step)
    mask = (np.uint64(1) << bits) - np.uint64(1)
    for i in range(count):
        row, word = touched[i] // in_row, touched[i] % in_row
        first = 3 * step * word + 1
        for place in range(first, min(first + 3 * step, filtered.shape[1])):
            filtered[row, place] = 0
    count = 0
    at = in_row
    while at < len(words):
        # Most of a row is like the one above it.
        while (
            at + 4 <= len(words)
            and (words[at] ^ words[at - in_row])
            | (words[at + 1] ^ words[at + 1 - in_row])
            | (words[at + 2] ^ words[at + 2 - in_row])
            | (words[at + 3] ^ words[at + 3 - in_row])
            == 0
        ):
            at += 4
        while at < len(words) and words[at] == words[at - in_row]:
            at += 1
        if at == len(words):
            break
        touched[count] = at - in_row
        count += 1
        row = at // in_row
        x = at % in_row * step
        differ = words[at] ^ words[at - in_row]
        while differ != 0 and 3 * x + 3 < filtered.shape[1]:
            if differ & mask != 0:
                number, above = rows[row, x], rows[row - 1, x]
                place = 3 * x + 1
                filtered[row - 1, place] = colors[number, 0] - colors[above, 0]
                filtered[row - 1, place + 1] = colors[number, 1] - colors[above, 1]
                filtered[row - 1, place + 2] = colors[number, 2] - colors[above, 2]
            differ >>= bits
            x += 1
        at += 1
    return count
