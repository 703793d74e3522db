"""The compiled loop of `qa_plugins.metrics.run_join`; imported on first use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel
from segstudio.merge_kernels import order_of_parts

Int64Array = NDArray[np.int64]


@kernel
def label_runs(
    runs: Int64Array, counts: Int64Array
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, bool]:
    """Starts, stops and labels of parts of ``counts`` runs each in one list sorted by start.

    Then the area of each part, and whether no two runs share a pixel.
    """
    areas = np.zeros(len(counts), dtype=np.int64)
    if len(counts) == 1:
        is_disjoint = True
        for i in range(len(runs)):
            areas[0] += runs[i, 1] - runs[i, 0]
            if i and runs[i, 0] < runs[i - 1, 1]:
                is_disjoint = False
        zeros = np.zeros(len(runs), dtype=np.int64)
        return runs[:, 0].copy(), runs[:, 1].copy(), zeros, areas, is_disjoint
    order = order_of_parts(runs, counts)
    of_run = np.empty(len(runs), dtype=np.int64)
    at = 0
    for label in range(len(counts)):
        for i in range(at, at + counts[label]):
            of_run[i] = label
            areas[label] += runs[i, 1] - runs[i, 0]
        at += counts[label]
    starts = np.empty(len(runs), dtype=np.int64)
    stops = np.empty(len(runs), dtype=np.int64)
    labels = np.empty(len(runs), dtype=np.int64)
    disjoint = True
    for k in range(len(order)):
        i = order[k]
        starts[k], stops[k], labels[k] = runs[i, 0], runs[i, 1], of_run[i]
        if k and starts[k] < stops[k - 1]:
            disjoint = False
    return starts, stops, labels, areas, disjoint


@kernel
def join(
    starts_a: Int64Array,
    stops_a: Int64Array,
    labels_a: Int64Array,
    starts_b: Int64Array,
    stops_b: Int64Array,
    labels_b: Int64Array,
    highest_stop_b: Int64Array,
    shared: Int64Array,
    covered_a: Int64Array,
) -> None:
    """Add the overlap of each run of a with each run of b to ``shared`` and ``covered_a``.

    ``highest_stop_b[k]`` is the largest stop among the first k + 1 runs of b, so that runs of b
    that overlap each other are not passed over too early.
    """
    first = 0
    count_b = len(starts_b)
    for i in range(len(starts_a)):
        start, stop, label = starts_a[i], stops_a[i], labels_a[i]
        while first < count_b and highest_stop_b[first] <= start:
            first += 1
        reached = start
        k = first
        while k < count_b and starts_b[k] < stop:
            low = max(start, starts_b[k])
            high = min(stop, stops_b[k])
            if high > low:
                shared[label, labels_b[k]] += high - low
                if high > reached:
                    covered_a[label] += high - max(low, reached)
                    reached = high
            k += 1
