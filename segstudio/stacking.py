"""Layers of runs on top of each other: what of each can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int64]


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
    from segstudio.stacking_kernels import stack

    ends = np.cumsum([len(runs) for runs in layers])
    seen, seen_ends = stack(np.concatenate(layers), ends)
    bounds = [0, *seen_ends.tolist()]
    return [seen[start:end] for start, end in pairwise(bounds)]


def paint_runs(
    painted: Sequence[tuple[Runs, int]], size_px: int, background: int, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return a flat array of `size_px` numbers: each layer's number on its runs.

    The layers must be disjoint; what none covers is `background`.
    """
    from segstudio.stacking_kernels import paint

    flat = np.full(size_px, background, dtype=dtype)
    for runs, number in painted:
        paint(flat, runs, flat.dtype.type(number))
    return flat
