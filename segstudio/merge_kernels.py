"""Compiled work on the runs of several masks: sorted into one list, united, told far from near."""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel
from segstudio.run_kernels import joined, split_rows

Runs = NDArray[np.int64]
Int64Array = NDArray[np.int64]


_DIGIT_BITS = 11
_FEW_RUNS = 512  # below that a merge is the shorter way


@kernel
def _order_of_many(runs: Runs, highest: int) -> Int64Array:
    """Positions that sort runs by start (0 to `highest`), digit by digit from the last one."""
    order = np.arange(len(runs))
    sorted_so_far = np.empty(len(runs), dtype=np.int64)
    shift = 0
    while highest >> shift:
        places = np.zeros((1 << _DIGIT_BITS) + 1, dtype=np.int64)
        for i in range(len(runs)):
            places[((runs[i, 0] >> shift) & ((1 << _DIGIT_BITS) - 1)) + 1] += 1
        for digit in range(1 << _DIGIT_BITS):
            places[digit + 1] += places[digit]
        for k in range(len(runs)):
            digit = (runs[order[k], 0] >> shift) & ((1 << _DIGIT_BITS) - 1)
            sorted_so_far[places[digit]] = order[k]
            places[digit] += 1
        order, sorted_so_far = sorted_so_far, order
        shift += _DIGIT_BITS
    return order


@kernel
def order_of_parts(runs: Runs, counts: Int64Array) -> Int64Array:
    """Positions that sort parts by start, each part sorted already; equal starts keep their order.

    Neighbouring parts are merged two by two until one is left. Many runs of many parts are sorted
    by digits: where two parts lie in the same rows, no processor can foresee which comes next.
    """
    if len(counts) > 2 and len(runs) > _FEW_RUNS:
        lowest = highest = runs[0, 0]
        is_sorted = True
        for i in range(1, len(runs)):
            is_sorted &= runs[i - 1, 0] <= runs[i, 0]
            lowest = min(lowest, runs[i, 0])
            highest = max(highest, runs[i, 0])
        if lowest >= 0 and not is_sorted:
            return _order_of_many(runs, highest)
    order = np.arange(len(runs))
    merged = np.empty(len(runs), dtype=np.int64)
    ends = np.cumsum(counts)
    parts = len(ends)
    while parts > 1:
        for pair in range((parts + 1) // 2):
            at = ends[2 * pair - 1] if pair else 0
            i, middle = at, ends[2 * pair]
            j, stop = middle, ends[min(2 * pair + 1, parts - 1)]
            if i < middle < stop and runs[order[middle - 1], 0] > runs[order[middle], 0]:
                while i < middle and j < stop:
                    if runs[order[i], 0] <= runs[order[j], 0]:
                        merged[at] = order[i]
                        i += 1
                    else:
                        merged[at] = order[j]
                        j += 1
                    at += 1
                while i < middle:
                    merged[at] = order[i]
                    i += 1
                    at += 1
            else:
                j = i
            while j < stop:
                merged[at] = order[j]
                j += 1
                at += 1
            ends[pair] = stop
        parts = (parts + 1) // 2
        order, merged = merged, order
    return order


@kernel
def unite(runs: Runs, counts: Int64Array) -> Runs:
    """The union of parts that lie one behind the other in `runs`, `counts` runs each."""
    order = order_of_parts(runs, counts)
    out = np.empty((len(runs), 2), dtype=np.int64)
    last = -1
    for k in range(len(order)):
        start, stop = runs[order[k], 0], runs[order[k], 1]
        if last >= 0 and start <= out[last, 1]:
            out[last, 1] = max(out[last, 1], stop)
        else:
            last += 1
            out[last, 0] = start
            out[last, 1] = stop
    return out[: last + 1].copy()


@kernel
def farther(a: Runs, b: Runs, height: int, width: int, distance: int) -> Runs:
    """The pixels of `a` that have none of `b` within `distance`, diagonals too.

    Every row of `a` loses what the rows of `b` around it reach, the nearest row first: of masks
    that are much alike nothing is left after a row or two.
    """
    segments = split_rows(a, width)
    others = split_rows(b, width)
    first = np.zeros(height + 1, dtype=np.int64)  # of each row among the others
    row, row_end = -1, np.int64(0)
    for i in range(len(others)):
        if others[i, 0] >= row_end:
            row = others[i, 0] // width
            row_end = (row + 1) * width
        first[row + 1] += 1
    for row in range(height):
        first[row + 1] += first[row]
    left = np.empty((width // 2 + 1, 2), dtype=np.int64)
    kept = np.empty((width // 2 + 1, 2), dtype=np.int64)
    out = np.empty((len(segments) + len(a) + 16, 2), dtype=np.int64)
    total = 0
    row_end = np.int64(0)
    for i in range(len(segments)):
        if segments[i, 0] >= row_end:
            row = segments[i, 0] // width
            row_end = (row + 1) * width
        left[0, 0] = segments[i, 0] - row * width
        left[0, 1] = segments[i, 1] - row * width
        count = 1
        for step in range(2 * distance + 1):
            # 0, -1, 1, -2, 2, ...
            other = row + (step // 2 if step % 2 == 0 else -(step // 2) - 1)
            if count == 0:
                break
            if not 0 <= other < height:
                continue
            k, end = first[other], first[other + 1]
            base = other * width
            pieces = 0
            for piece in range(count):
                start, stop = left[piece, 0], left[piece, 1]
                while k < end and others[k, 1] - base + distance <= start:
                    k += 1
                j = k
                while j < end and others[j, 0] - base - distance < stop:
                    low = others[j, 0] - base - distance
                    if low > start:
                        kept[pieces, 0] = start
                        kept[pieces, 1] = low
                        pieces += 1
                    start = max(start, others[j, 1] - base + distance)
                    j += 1
                if start < stop:
                    kept[pieces, 0] = start
                    kept[pieces, 1] = stop
                    pieces += 1
            for piece in range(pieces):
                left[piece, 0] = kept[piece, 0]
                left[piece, 1] = kept[piece, 1]
            count = pieces
        if total + count > len(out):
            wider = np.empty((2 * (total + count), 2), dtype=np.int64)
            wider[:total] = out[:total]
            out = wider
        for piece in range(count):
            out[total, 0] = row * width + left[piece, 0]
            out[total, 1] = row * width + left[piece, 1]
            total += 1
    return joined(out, total)
