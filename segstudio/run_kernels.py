"""Compiled kernels on runs: set algebra, geometry, connected components.

`segstudio.runs` loads this module on first use; `segstudio.runs_reference` says in plain numpy what
each function does. "Segments" are runs cut at the ends of rows, so they may be adjacent.
"""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Runs = NDArray[np.int64]


# Inner loops neither hand an array to another kernel nor put a bigger one in its place: numba
# counts references at both, which costs more than the work of one run.


@kernel
def joined(runs: Runs, count: int) -> Runs:
    """The first `count` runs, which are in order and disjoint, with those that meet made one."""
    last = -1
    for i in range(count):
        if last >= 0 and runs[last, 1] == runs[i, 0]:
            runs[last, 1] = runs[i, 1]
        else:
            last += 1
            runs[last, 0] = runs[i, 0]
            runs[last, 1] = runs[i, 1]
    return runs[: last + 1].copy()


@kernel
def _scan(
    words: NDArray[np.uint64],
    first: int,
    last: int,
    state: bool,
    bounds: NDArray[np.int64],
    count: int,
) -> int:
    """Write where the bytes of words [first, last) change between 0 and not 0; the new count.

    Stretches of equal pixels are passed four words at a time.
    """
    ones = np.uint64(0x0101010101010101)
    at = first
    while at < last:
        expected = ones if state else np.uint64(0)
        while (
            at + 4 <= last
            and (words[at] ^ expected)
            | (words[at + 1] ^ expected)
            | (words[at + 2] ^ expected)
            | (words[at + 3] ^ expected)
            == 0
        ):
            at += 4
        while at < last and words[at] == expected:
            at += 1
        if at == last:
            break
        word = words[at]
        for position in range(8 * at, 8 * at + 8):
            if (word & np.uint64(255) != 0) != state:
                state = not state
                bounds[count] = position
                count += 1
            word >>= np.uint64(8)
        at += 1
    return count


@kernel
def scan_dense(flat: NDArray[np.uint8], words: NDArray[np.uint64]) -> Runs:
    """Runs of the bytes that are not 0; `words` are the same bytes, eight at a time."""
    block = 4096
    bounds = np.empty(8 * block + 16, dtype=np.int64)
    count = 0
    for first in range(0, len(words), block):
        if count + 8 * block + 16 > len(bounds):
            bigger = np.empty(2 * len(bounds), dtype=np.int64)
            bigger[:count] = bounds[:count]
            bounds = bigger
        last = min(first + block, len(words))
        count = _scan(words, first, last, count & 1 == 1, bounds, count)
    for position in range(8 * len(words), len(flat)):
        if (flat[position] != 0) != (count & 1 == 1):
            bounds[count] = position
            count += 1
    if count & 1:
        bounds[count] = len(flat)
        count += 1
    return bounds[:count].copy().reshape(-1, 2)


@kernel
def to_dense(runs: Runs, pixels: int) -> NDArray[np.bool_]:
    """The flat boolean array of `pixels` pixels that `runs` describes."""
    dense = np.zeros(pixels, dtype=np.bool_)
    for i in range(len(runs)):
        dense[runs[i, 0] : runs[i, 1]] = True
    return dense


@kernel
def merge_sorted(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Runs:
    """The union of [start, stop) intervals sorted by start; empty ones are left out."""
    runs = np.empty((len(starts), 2), dtype=np.int64)
    count = 0
    for i in range(len(starts)):
        if stops[i] <= starts[i]:
            continue
        if count and starts[i] <= runs[count - 1, 1]:
            runs[count - 1, 1] = max(runs[count - 1, 1], stops[i])
        else:
            runs[count, 0] = starts[i]
            runs[count, 1] = stops[i]
            count += 1
    return runs[:count].copy()


@kernel
def combine(a: Runs, b: Runs, truth: int) -> Runs:
    """Sweep over the ends of both; bit 2 * in_a + in_b of `truth` says what is kept."""
    runs = np.empty((len(a) + len(b), 2), dtype=np.int64)
    count = 0
    i = j = 0
    end_i, end_j = 2 * len(a), 2 * len(b)
    a_bounds, b_bounds = a.reshape(-1), b.reshape(-1)
    kept = False
    start = 0
    while i < end_i or j < end_j:
        at = a_bounds[i] if i < end_i else b_bounds[j]
        if j < end_j and b_bounds[j] < at:
            at = b_bounds[j]
        if i < end_i and a_bounds[i] == at:
            i += 1
        if j < end_j and b_bounds[j] == at:
            j += 1
        keep = (truth >> (2 * (i & 1) + (j & 1))) & 1 == 1
        if keep and not kept:
            start = at
        elif kept and not keep:
            runs[count, 0] = start
            runs[count, 1] = at
            count += 1
        kept = keep
    return runs[:count].copy()


@kernel
def intersection_area(a: Runs, b: Runs) -> int:
    """How many pixels both have."""
    area = 0
    i = j = 0
    while i < len(a) and j < len(b):
        area += max(0, min(a[i, 1], b[j, 1]) - max(a[i, 0], b[j, 0]))
        if a[i, 1] <= b[j, 1]:
            i += 1
        else:
            j += 1
    return area


@kernel
def split_rows(runs: Runs, width: int) -> Runs:
    """The same pixels as segments that end where their row ends.

    Most runs begin in the row of the one before or in the next; division is what takes time here.
    """
    count = 0
    row_end = 0
    for i in range(len(runs)):
        start, stop = runs[i, 0], runs[i, 1]
        if start >= row_end:
            row_end += width
            if start >= row_end:
                row_end = (start // width + 1) * width
        count += 1
        if stop > row_end:
            rows = (stop - row_end - 1) // width + 1
            row_end += rows * width
            count += rows
    segments = np.empty((count, 2), dtype=np.int64)
    count = 0
    row_end = 0
    for i in range(len(runs)):
        start, stop = runs[i, 0], runs[i, 1]
        if start >= row_end:
            row_end += width
            if start >= row_end:
                row_end = (start // width + 1) * width
        while stop > row_end:
            segments[count, 0] = start
            segments[count, 1] = row_end
            count += 1
            start = row_end
            row_end += width
        segments[count, 0] = start
        segments[count, 1] = stop
        count += 1
    return segments


@kernel
def turn_dense(flat: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """The transposed image, in blocks that stay in the processor's cache."""
    turned = np.empty(height * width, dtype=np.bool_)
    for top in range(0, height, 64):
        for left in range(0, width, 64):
            for column in range(left, min(left + 64, width)):
                for row in range(top, min(top + 64, height)):
                    turned[column * height + row] = flat[row * width + column]
    return turned


@kernel
def turn_runs(runs: Runs, height: int, width: int) -> Runs:
    """Runs of the transposed image, without its pixels.

    A column changes between two rows exactly where the rows differ. Those stretches are counted
    per column, then every column gets the lines of its changes, which come in order.
    """
    segments = split_rows(runs, width)
    stretches = np.empty((4 * len(segments) + 4, 3), dtype=np.int64)  # first, last + 1, line
    changes = np.zeros(width + 1, dtype=np.int64)
    count = 0
    upper = lower = 0  # the segments of the rows above and below the line start here
    line = segments[0, 0] // width if len(segments) else height + 1
    while line <= height:
        i, base_i = upper, (line - 1) * width
        end_i = lower
        j, base_j = lower, line * width
        end_j = lower
        while end_j < len(segments) and segments[end_j, 0] < base_j + width:
            end_j += 1
        i, end_i, j, end_j = 2 * i, 2 * end_i, 2 * j, 2 * end_j
        differ = False
        start = 0
        while i < end_i or j < end_j:
            at_i = segments[i >> 1, i & 1] - base_i if i < end_i else width + 1
            at_j = segments[j >> 1, j & 1] - base_j if j < end_j else width + 1
            at = min(at_i, at_j)
            differed = differ
            if at_i == at:
                i += 1
                differ = not differ
            if at_j == at:
                j += 1
                differ = not differ
            if differ and not differed:
                start = at
            elif differed and not differ:
                stretches[count, 0] = start
                stretches[count, 1] = at
                stretches[count, 2] = line
                count += 1
                changes[start] += 1
                changes[at] -= 1
        upper, lower = lower, end_j >> 1
        line += 1
        if upper == lower:
            if lower == len(segments):
                break
            line = segments[lower, 0] // width
    total = 0
    running = 0
    where = np.empty(width + 1, dtype=np.int64)
    for column in range(width):
        where[column] = total
        running += changes[column]
        total += running
    where[width] = total
    lines = np.empty(total, dtype=np.int64)
    for k in range(count):
        for column in range(stretches[k, 0], stretches[k, 1]):
            lines[where[column]] = stretches[k, 2]
            where[column] += 1
    out = np.empty((total // 2, 2), dtype=np.int64)
    count = 0
    at = 0
    for column in range(width):
        while at < where[column]:
            out[count, 0] = column * height + lines[at]
            out[count, 1] = column * height + lines[at + 1]
            count += 1
            at += 2
    return joined(out, count)


@kernel
def flip_rows(runs: Runs, height: int, width: int) -> Runs:
    """Runs of the image upside down."""
    segments = split_rows(runs, width)
    out = np.empty((len(segments), 2), dtype=np.int64)
    count = 0
    stop = len(segments)
    while stop > 0:
        row = segments[stop - 1, 0] // width
        start = stop
        while start > 0 and segments[start - 1, 0] >= row * width:
            start -= 1
        offset = (height - 1 - 2 * row) * width
        for i in range(start, stop):
            out[count, 0] = segments[i, 0] + offset
            out[count, 1] = segments[i, 1] + offset
            count += 1
        stop = start
    return joined(out, count)


@kernel
def shift(runs: Runs, height: int, width: int, dx: int, dy: int) -> Runs:
    """Runs moved right by `dx` and down by `dy`; what leaves the image is cut off."""
    segments = split_rows(runs, width)
    out = np.empty((len(segments), 2), dtype=np.int64)
    count = 0
    for i in range(len(segments)):
        row = segments[i, 0] // width
        first = max(segments[i, 0] - row * width + dx, 0)
        last = min(segments[i, 1] - row * width + dx, width)
        if 0 <= row + dy < height and first < last:
            out[count, 0] = (row + dy) * width + first
            out[count, 1] = (row + dy) * width + last
            count += 1
    return joined(out, count)


@kernel
def resize(runs: Runs, height: int, width: int, new_height: int, new_width: int) -> Runs:
    """Nearest neighbour: pixel (y, x) takes the source pixel that holds its centre."""
    segments = split_rows(runs, width)
    first_of_row = np.zeros(height + 1, dtype=np.int64)
    for i in range(len(segments)):
        first_of_row[segments[i, 0] // width + 1] += 1
    first_of_row = np.cumsum(first_of_row)
    count = 0
    for row in range(new_height):
        source = (2 * row + 1) * height // (2 * new_height)
        count += first_of_row[source + 1] - first_of_row[source]
    out = np.empty((count, 2), dtype=np.int64)
    count = 0
    for row in range(new_height):
        source = (2 * row + 1) * height // (2 * new_height)
        for i in range(first_of_row[source], first_of_row[source + 1]):
            # The first column whose centre lies at or after a source column's left edge.
            first = -((width - 2 * new_width * (segments[i, 0] - source * width)) // (2 * width))
            last = -((width - 2 * new_width * (segments[i, 1] - source * width)) // (2 * width))
            if first < last:
                out[count, 0] = row * new_width + first
                out[count, 1] = row * new_width + last
                count += 1
    return joined(out, count)


@kernel
def shrink_rows(runs: Runs, height: int, width: int, distance: int) -> Runs:
    """Erosion by `distance` pixels to the left and right; outside the image is background."""
    segments = split_rows(runs, width)
    out = np.empty((len(segments), 2), dtype=np.int64)
    count = 0
    for i in range(len(segments)):
        start, stop = segments[i, 0] + distance, segments[i, 1] - distance
        if start < stop:
            out[count, 0] = start
            out[count, 1] = stop
            count += 1
    return joined(out, count)


@kernel
def component_labels(segments: Runs, width: int, reach: int) -> NDArray[np.int64]:
    """Component number of every row segment, by union-find over touching segments."""
    parent = np.arange(len(segments))
    above = 0
    for i in range(len(segments)):
        row = segments[i, 0] // width
        while above < i and segments[above, 0] < (row - 1) * width:
            above += 1
        j = above
        while j < i and segments[j, 1] + width + reach <= segments[i, 0]:
            j += 1
        above = j
        while (
            j < i
            and segments[j, 0] < row * width
            and segments[j, 0] + width < segments[i, 1] + reach
        ):
            a, b = i, j
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            parent[max(a, b)] = min(a, b)
            j += 1
    labels = np.empty(len(segments), dtype=np.int64)
    count = 0
    for i in range(len(segments)):
        root = i
        while parent[root] != root:
            root = parent[root]
        if root == i:
            labels[i] = count
            count += 1
        else:
            labels[i] = labels[root]
    return labels
