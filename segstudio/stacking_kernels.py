"""Compiled stacking: layers of runs laid on each other; `segstudio.stacking` says what it means."""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Runs = NDArray[np.int64]
Ints = NDArray[np.int64]
Numbers = NDArray[np.generic]


@kernel
def _lay(pieces: Ints, first: int, middle: int, end: int, out: Ints) -> int:
    """Lay the pieces [middle, end) on [first, middle), both in order; how many `out` then has.

    A piece is (start, stop, layer).
    """
    count = 0
    top = middle
    for bottom in range(first, middle):
        start, stop, layer = pieces[bottom, 0], pieces[bottom, 1], pieces[bottom, 2]
        while start < stop:
            while top < end and pieces[top, 1] <= start:
                out[count, 0] = pieces[top, 0]
                out[count, 1] = pieces[top, 1]
                out[count, 2] = pieces[top, 2]
                count += 1
                top += 1
            if top == end or pieces[top, 0] >= stop:
                out[count, 0] = start
                out[count, 1] = stop
                out[count, 2] = layer
                count += 1
                break
            if pieces[top, 0] > start:
                out[count, 0] = start
                out[count, 1] = pieces[top, 0]
                out[count, 2] = layer
                count += 1
            # `top` itself is written when what lies under it is done.
            start = pieces[top, 1]
    while top < end:
        out[count, 0] = pieces[top, 0]
        out[count, 1] = pieces[top, 1]
        out[count, 2] = pieces[top, 2]
        count += 1
        top += 1
    return count


@kernel
def stack(runs: Runs, ends: Ints) -> tuple[Runs, Ints]:
    """What can be seen of each layer, and where each layer's runs end.

    Args:
        runs: the runs of all layers, one layer after the other, bottom first.
        ends: where each layer ends in `runs`.
    """
    layers = len(ends)
    pieces = np.empty((len(runs), 3), dtype=np.int64)
    starts = np.zeros(layers + 1, dtype=np.int64)
    at = 0
    for layer in range(layers):
        while at < ends[layer]:
            pieces[at, 0] = runs[at, 0]
            pieces[at, 1] = runs[at, 1]
            pieces[at, 2] = layer
            at += 1
        starts[layer + 1] = at
    stacks = layers
    while stacks > 1:
        # Each piece on top cuts at most one below it in two.
        out = np.empty((2 * len(pieces), 3), dtype=np.int64)
        count = 0
        merged = 0
        for i in range(0, stacks, 2):
            first, middle = starts[i], starts[i + 1]
            end = starts[i + 2] if i + 1 < stacks else middle
            count += _lay(pieces, first, middle, end, out[count:])
            merged += 1
            starts[merged] = count
        pieces = out[:count]
        stacks = merged
    counts = np.zeros(layers + 1, dtype=np.int64)
    for i in range(len(pieces)):
        counts[pieces[i, 2] + 1] += 1
    places = np.cumsum(counts)
    seen_ends = places[1:].copy()
    seen = np.empty((len(pieces), 2), dtype=np.int64)
    for i in range(len(pieces)):
        place = places[pieces[i, 2]]
        places[pieces[i, 2]] += 1
        seen[place, 0] = pieces[i, 0]
        seen[place, 1] = pieces[i, 1]
    return seen, seen_ends


@kernel
def paint(flat: Numbers, runs: Runs, number: np.generic) -> None:
    """Set the pixels of the runs to a number."""
    for i in range(len(runs)):
        flat[runs[i, 0] : runs[i, 1]] = number
