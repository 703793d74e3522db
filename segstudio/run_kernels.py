"""Compiled kernels on runs: set algebra, geometry, connected components.

`segstudio.runs` loads this module on first use; `segstudio.runs_reference` says in plain numpy what
each function does. "Segments" are runs cut at the ends of rows, so they may be adjacent.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Runs = NDArray[np.int64]


@kernel
def append(runs: Runs, count: int, start: int, stop: int) -> tuple[Runs, int]:
    """Append a run that starts at or after the end of the last one; merge the two if they meet."""
    if count and runs[count - 1, 1] == start:
        runs[count - 1, 1] = stop
        return runs, count
    if count == len(runs):
        grown = np.empty((2 * count + 16, 2), dtype=np.int64)
        grown[:count] = runs
        runs = grown
    runs[count, 0] = start
    runs[count, 1] = stop
    return runs, count + 1


@kernel
def scan_dense(flat: NDArray[np.uint8], words: NDArray[np.uint64]) -> Runs:
    """Runs of the bytes that are not 0; `words` are the same bytes, eight at a time.

    Stretches of equal pixels are passed 32 at a time; only words with a change are looked into.
    """
    bounds = np.empty(1024, dtype=np.int64)
    count = 0
    state = False
    expected = np.uint64(0)
    at = 0
    while at < len(words):
        while (
            at + 4 <= len(words)
            and (
                (words[at] ^ expected)
                | (words[at + 1] ^ expected)
                | (words[at + 2] ^ expected)
                | (words[at + 3] ^ expected)
            )
            == 0
        ):
            at += 4
        while at < len(words) and words[at] == expected:
            at += 1
        if at == len(words):
            break
        if count + 8 > len(bounds):
            grown = np.empty(2 * len(bounds), dtype=np.int64)
            grown[:count] = bounds[:count]
            bounds = grown
        for position in range(8 * at, 8 * at + 8):
            if (flat[position] != 0) != state:
                state = not state
                bounds[count] = position
                count += 1
        expected = np.uint64(0x0101010101010101) if state else np.uint64(0)
        at += 1
    tail = np.empty(count + 10, dtype=np.int64)
    tail[:count] = bounds[:count]
    for position in range(8 * len(words), len(flat)):
        if (flat[position] != 0) != state:
            state = not state
            tail[count] = position
            count += 1
    if state:
        tail[count] = len(flat)
        count += 1
    return tail[:count].copy().reshape(-1, 2)


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
    """The same pixels as segments that end where their row ends."""
    count = 0
    for i in range(len(runs)):
        count += (runs[i, 1] - 1) // width - runs[i, 0] // width + 1
    segments = np.empty((count, 2), dtype=np.int64)
    count = 0
    for i in range(len(runs)):
        start, stop = runs[i, 0], runs[i, 1]
        while start < stop:
            row_end = (start // width + 1) * width
            segments[count, 0] = start
            segments[count, 1] = min(stop, row_end)
            count += 1
            start = row_end
    return segments


@kernel
def transpose(runs: Runs, height: int, width: int) -> Runs:
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
            out, count = append(
                out, count, column * height + lines[at], column * height + lines[at + 1]
            )
            at += 2
    return out[:count].copy()


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
            out, count = append(out, count, segments[i, 0] + offset, segments[i, 1] + offset)
        stop = start
    return out[:count].copy()


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
            base = (row + dy) * width
            out, count = append(out, count, base + first, base + last)
    return out[:count].copy()


@kernel
def resize(runs: Runs, height: int, width: int, new_height: int, new_width: int) -> Runs:
    """Nearest neighbour: pixel (y, x) takes the source pixel that holds its centre."""
    segments = split_rows(runs, width)
    first_of_row = np.zeros(height + 1, dtype=np.int64)
    for i in range(len(segments)):
        first_of_row[segments[i, 0] // width + 1] += 1
    first_of_row = np.cumsum(first_of_row)
    out = np.empty((len(segments) + 16, 2), dtype=np.int64)
    count = 0
    for row in range(new_height):
        source = (2 * row + 1) * height // (2 * new_height)
        for i in range(first_of_row[source], first_of_row[source + 1]):
            # The first column whose centre lies at or after a source column's left edge.
            first = -((width - 2 * new_width * (segments[i, 0] - source * width)) // (2 * width))
            last = -((width - 2 * new_width * (segments[i, 1] - source * width)) // (2 * width))
            if first < last:
                out, count = append(out, count, row * new_width + first, row * new_width + last)
    return out[:count].copy()


@kernel
def shrink_rows(runs: Runs, height: int, width: int, distance: int) -> Runs:
    """Erosion by `distance` pixels to the left and right; outside the image is background."""
    segments = split_rows(runs, width)
    out = np.empty((len(segments), 2), dtype=np.int64)
    count = 0
    for i in range(len(segments)):
        start, stop = segments[i, 0] + distance, segments[i, 1] - distance
        if start < stop:
            out, count = append(out, count, start, stop)
    return out[:count].copy()


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
