"""Layers of runs on top of each other: what of each can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int64]


class _Owned(NamedTuple):
    """Sorted, disjoint runs, each belonging to a layer."""

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    owners: NDArray[np.int64]


def stack_runs(layers: Sequence[Runs]) -> list[Runs]:
    """Return the visible part of each layer; later layers hide earlier ones.

    Halves are stacked first and then laid on each other, so that the work grows with the number
    of runs times the logarithm of the number of layers, not with its square.

    Args:
        layers: runs as (n, 2) [start, stop), sorted and disjoint within a layer, bottom first.

    Returns:
        As many arrays of runs, disjoint from each other. No layers give an empty list.

    >>> [runs.tolist() for runs in stack_runs([np.array([[0, 9]]), np.array([[3, 5]])])]
    [[[0, 3], [5, 9]], [[3, 5]]]
    """
    if not layers:
        return []
    seen = _stack(layers, 0, len(layers))
    order = np.argsort(seen.owners, kind="stable")
    runs = np.stack([seen.starts[order], seen.stops[order]], axis=1)
    ends = np.searchsorted(seen.owners[order], np.arange(len(layers)), side="right")
    return np.split(runs, ends[:-1])


def paint_runs(
    painted: Sequence[tuple[Runs, int]], size_px: int, background: int, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return a flat array of `size_px` numbers: each layer's number on its runs.

    The layers must be disjoint; what none covers is `background`.
    """
    runs = np.concatenate([np.zeros((0, 2), np.int64), *(runs for runs, _ in painted)])
    numbers = np.repeat(
        np.array([number for _, number in painted], dtype=np.int64),
        np.array([len(runs) for runs, _ in painted], dtype=np.int64),
    )
    order = np.argsort(runs[:, 0], kind="stable")
    # Background and runs take turns, background first and last; pieces may have no length.
    bounds = np.concatenate([[0], runs[order].reshape(-1), [size_px]])
    values = np.full(2 * len(runs) + 1, background, dtype=dtype)
    values[1::2] = numbers[order]
    return np.repeat(values, np.diff(bounds))


def _stack(layers: Sequence[Runs], first: int, end: int) -> _Owned:
    if end - first == 1:
        runs = np.asarray(layers[first], dtype=np.int64).reshape(-1, 2)
        return _Owned(runs[:, 0], runs[:, 1], np.full(len(runs), first, dtype=np.int64))
    middle = (first + end) // 2
    top = _stack(layers, middle, end)
    bottom = _outside(_stack(layers, first, middle), top)
    starts = np.concatenate([bottom.starts, top.starts])
    order = np.argsort(starts, kind="stable")
    return _Owned(
        starts[order],
        np.concatenate([bottom.stops, top.stops])[order],
        np.concatenate([bottom.owners, top.owners])[order],
    )


def _outside(bottom: _Owned, top: _Owned) -> _Owned:
    """Cut from `bottom` what `top` covers: each run with each gap of `top` that it touches."""
    if not len(bottom.starts) or not len(top.starts):
        return bottom
    gap_starts = np.concatenate([[np.iinfo(np.int64).min], top.stops])
    gap_stops = np.concatenate([top.starts, [np.iinfo(np.int64).max]])
    lowest = np.searchsorted(gap_stops, bottom.starts, side="right")
    counts = np.searchsorted(gap_starts, bottom.stops, side="left") - lowest
    run_index = np.repeat(np.arange(len(counts)), counts)
    first_of_run = np.cumsum(counts) - counts
    gap_index = np.arange(len(run_index)) - first_of_run[run_index] + lowest[run_index]
    starts = np.maximum(bottom.starts[run_index], gap_starts[gap_index])
    stops = np.minimum(bottom.stops[run_index], gap_stops[gap_index])
    kept = starts < stops  # two runs of `top` that touch have a gap of no length
    return _Owned(starts[kept], stops[kept], bottom.owners[run_index[kept]])
