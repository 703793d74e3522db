"""Pixel confusion between raters who are peers: which class one drew where the other drew another.

No rater is the truth, so each pair counts in both directions and the matrix is symmetric.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]


def pair_confusion(
    shared_px: Int64Array,
    area_a_px: Int64Array,
    area_b_px: Int64Array,
    covered_a_px: Int64Array,
    covered_b_px: Int64Array,
) -> Int64Array:
    """Confusion of one pair, shape (classes + 1, classes + 1); the last index is "unlabelled".

    Pixels that neither rater labelled are not counted: background is no class.

    >>> shared = np.array([[4, 1], [0, 3]])
    >>> areas = np.array([6, 3]), np.array([4, 5])
    >>> pair_confusion(shared, *areas, shared.sum(axis=1), shared.sum(axis=0)).tolist()
    [[8, 1, 1], [1, 6, 1], [1, 1, 0]]
    """
    classes = len(area_a_px)
    one_way = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    one_way[:classes, :classes] = shared_px
    one_way[:classes, classes] = area_a_px - covered_a_px
    one_way[classes, :classes] = area_b_px - covered_b_px
    return one_way + one_way.T
