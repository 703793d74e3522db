"""Tests that keep chance from being reported as habit.

Values of one picture share its causes, so the unit is the task wherever there are tasks enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_UNITS = 6
"""Fewest values with which a two-sided rank test can reach 0.05."""


@dataclass(frozen=True, slots=True)
class LocationTest:
    """Whether values lie off zero: their mean, the share of units with its sign, the p-value.

    `unit` is "task" or "object": what was counted as independent.
    """

    mean: float
    same_sign: int
    units: int
    unit: str
    p_value: float


def location_test(values: Sequence[float], groups: Sequence[int]) -> LocationTest | None:
    """Test whether values lie systematically off zero (Wilcoxon's signed ranks, two-sided).

    Args:
        values: one an object.
        groups: the task of each value. With `MIN_UNITS` tasks or more, means of tasks are tested;
            with fewer, the objects themselves.

    Returns:
        None where there are fewer than `MIN_UNITS` of either.

    >>> location_test([3.0, 3.1, 2.9, 3.2, 3.0, 2.8], [1, 2, 3, 4, 5, 6]).p_value < 0.05
    True
    >>> location_test([1.0, -1.0], [1, 2]) is None
    True
    """
    from scipy import stats

    by_group: dict[int, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        by_group.setdefault(group, []).append(value)
    means = [float(np.mean(found)) for found in by_group.values()]
    units, unit = (means, "task") if len(means) >= MIN_UNITS else (list(values), "object")
    if len(units) < MIN_UNITS:
        return None
    mean = float(np.mean(values))
    p_value = 1.0
    if any(units):
        p_value = float(stats.wilcoxon(units, zero_method="zsplit").pvalue)
    same = sum(1 for value in units if value * mean > 0)
    return LocationTest(mean, same, len(units), unit, p_value)


def lot_test(hits: int, cases: int, expected: float) -> float:
    """Return the p-value that somebody is hit more often than by lot (exact binomial, one-sided).

    Args:
        hits: how often it was this one.
        cases: how often it was anybody.
        expected: how often it would be this one if lots were drawn.

    >>> lot_test(9, 9, 3.0) < 0.001, lot_test(3, 9, 3.0) > 0.5, lot_test(0, 0, 0.0)
    (True, True, 1.0)
    """
    from scipy import stats

    if not cases:
        return 1.0
    return float(stats.binomtest(hits, cases, expected / cases, alternative="greater").pvalue)


def trend_test(values: Sequence[float]) -> float | None:
    """Return the p-value that values in order of time rise or fall (Kendall's tau, two-sided).

    None for fewer than 8 values, of which no trend can be told.

    >>> trend_test([0.9, 0.89, 0.88, 0.85, 0.86, 0.8, 0.79, 0.75]) < 0.01, trend_test([1.0, 0.0])
    (True, None)
    """
    from scipy import stats

    if len(values) < 8:
        return None
    if len(set(values)) == 1:
        return 1.0
    return float(stats.kendalltau(range(len(values)), values).pvalue)


def sign_test(more: int, fewer: int) -> float:
    """Return the p-value that two counts differ by more than chance (exact, two-sided).

    >>> sign_test(10, 0) < 0.01, sign_test(6, 4) > 0.5, sign_test(0, 0)
    (True, True, 1.0)
    """
    from scipy import stats

    if not more + fewer:
        return 1.0
    return float(stats.binomtest(more, more + fewer, 0.5).pvalue)


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for how many were looked at (Benjamini and Hochberg 1995).

    >>> [round(value, 3) for value in adjust_p_values([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    from scipy import stats

    if not p_values:
        return []
    adjusted: list[float] = stats.false_discovery_control(p_values).tolist()
    return adjusted
