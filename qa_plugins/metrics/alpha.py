"""Krippendorff's alpha for nominal values: agreement beyond what chance would give.

Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): from the matrix of coincidences,
to which a unit judged by m people adds each of its m (m - 1) ordered pairs of values with the
weight 1 / (m - 1), so that m people on one pixel count as m values and not as m (m - 1) / 2 pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def nominal_alpha(coincidences: ArrayLike) -> float | None:
    """Alpha of a symmetric (values, values) matrix of coincidences.

    Returns:
        1 for perfect agreement, 0 for what chance gives, below 0 for less; None where all values
        are one and the same, or there are none: nothing could have been confused.

    >>> nominal_alpha([[10, 4], [4, 2]])  # the two coders of Krippendorff (2011), section A
    0.09523809523809523
    >>> nominal_alpha([[8, 0], [0, 0]]) is None
    True
    """
    matrix = np.asarray(coincidences, dtype=np.float64)
    of_value = matrix.sum(axis=1)
    total = of_value.sum()
    by_chance = total**2 - (of_value**2).sum()
    if by_chance <= 0:
        return None
    observed = total - np.trace(matrix)
    return float(1 - (total - 1) * observed / by_chance)


def one_against_rest(coincidences: ArrayLike, value: int) -> float | None:
    """Alpha of one value against all others taken together."""
    matrix = np.asarray(coincidences, dtype=np.float64)
    same = matrix[value, value]
    either = matrix[value].sum() - same
    rest = matrix.sum() - same - 2 * either
    return nominal_alpha([[same, either], [either, rest]])
