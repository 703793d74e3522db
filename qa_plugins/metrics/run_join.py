"""Intersections of many masks at once, computed from their runs and never from pixels.

The masks of one annotator (one a class, or one an object) become one list of labelled runs sorted
by start. Two such lists are joined in one pass: the time grows with the outlines, not the area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRuns:
    """Runs of several masks of one image, sorted by start; masks may overlap each other.

    ``starts``, ``stops`` and ``labels`` have shape (runs,); ``areas_px`` has shape (labels,).
    ``disjoint`` says that no two runs share a pixel.
    """

    starts: Int64Array
    stops: Int64Array
    labels: Int64Array
    areas_px: Int64Array
    disjoint: bool

    @property
    def label_count(self) -> int:
        """Number of masks, the empty ones included."""
        return len(self.areas_px)


def labelled_runs(masks_runs: Sequence[Int64Array]) -> LabelledRuns:
    """Put the runs of several masks into one sorted list.

    Args:
        masks_runs: one (n, 2) array of [start, stop) flat pixel indices a mask, each sorted.

    Returns:
        The joined list; label i is the position in ``masks_runs``. No mask gives an empty list.

    >>> runs = labelled_runs([np.array([[0, 2], [8, 9]]), np.array([[2, 5]])])
    >>> runs.starts.tolist(), runs.labels.tolist(), runs.areas_px.tolist(), runs.disjoint
    ([0, 2, 8], [0, 1, 0], [3, 3], True)
    """
    counts = [len(runs) for runs in masks_runs]
    if not any(counts):
        empty = np.zeros(0, dtype=np.int64)
        return LabelledRuns(empty, empty, empty, np.zeros(len(counts), dtype=np.int64), True)
    from qa_plugins.metrics.run_join_kernel import label_runs

    together = masks_runs[0] if len(counts) == 1 else np.concatenate(masks_runs)
    runs = np.ascontiguousarray(together, dtype=np.int64)
    return LabelledRuns(*label_runs(runs, np.array(counts, dtype=np.int64)))


def intersections(a: LabelledRuns, b: LabelledRuns) -> Int64Array:
    """Pixels shared by each mask of ``a`` and each mask of ``b``, shape (labels a, labels b)."""
    shared, _, _ = join_pairs([a, b])
    result: Int64Array = shared[0]
    return result


def join_pairs(
    lists: Sequence[LabelledRuns],
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Join every pair of lists; all must have the same number of labels or there is one pair.

    Returns:
        ``shared`` (pairs, labels, labels): pixels in label i of the first and label j of the
        second; ``covered_first`` and ``covered_second`` (pairs, labels): pixels of a label that
        any mask of the other list covers. Pairs come in the order of itertools.combinations.
    """
    pairs = [(i, j) for i in range(len(lists)) for j in range(i + 1, len(lists))]
    rows = max((item.label_count for item in lists[:-1]), default=0)
    columns = max((item.label_count for item in lists[1:]), default=0)
    shared = np.zeros((len(pairs), rows, columns), dtype=np.int64)
    covered_first = np.zeros((len(pairs), rows), dtype=np.int64)
    covered_second = np.zeros((len(pairs), columns), dtype=np.int64)
    highest_stops = [
        item.stops if item.disjoint else np.maximum.accumulate(item.stops) for item in lists
    ]
    from qa_plugins.metrics.run_join_kernel import join

    for pair, (i, j) in enumerate(pairs):
        a, b = lists[i], lists[j]
        join(
            a.starts, a.stops, a.labels, b.starts, b.stops, b.labels, highest_stops[j],
            shared[pair], covered_first[pair],
        )  # fmt: skip
        if a.disjoint:
            covered_second[pair] = shared[pair].sum(axis=0)
        else:
            scratch = np.zeros((columns, rows), dtype=np.int64)
            join(
                b.starts, b.stops, b.labels, a.starts, a.stops, a.labels, highest_stops[i],
                scratch, covered_second[pair],
            )  # fmt: skip
    return shared, covered_first, covered_second


def intersections_reference(a: LabelledRuns, b: LabelledRuns) -> Int64Array:
    """The same as ``intersections`` in plain numpy, one pair of masks at a time.

    A mask's coverage function (pixels below x) is evaluated at the ends of the other's runs.
    """
    shared = np.zeros((a.label_count, b.label_count), dtype=np.int64)
    for j in range(b.label_count):
        starts, stops = b.starts[b.labels == j], b.stops[b.labels == j]
        if not len(starts):
            continue
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(stops - starts)])

        def pixels_below(
            position: Int64Array,
            starts: Int64Array = starts,
            stops: Int64Array = stops,
            before: Int64Array = before,
        ) -> Int64Array:
            index = np.searchsorted(starts, position, side="right") - 1
            inside = np.minimum(position, stops[index]) - starts[index]
            return np.where(index < 0, 0, before[index] + inside)

        shares = pixels_below(a.stops) - pixels_below(a.starts)
        for i in range(a.label_count):
            shared[i, j] = shares[a.labels == i].sum()
    return shared
