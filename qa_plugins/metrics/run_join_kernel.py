"""The compiled loop of `qa_plugins.metrics.run_join`; imported on first use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Int64Array = NDArray[np.int64]


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
