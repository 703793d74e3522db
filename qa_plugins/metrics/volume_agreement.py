"""Agreement of two series of measurements: bias and limits of agreement.

Source: Bland and Altman 1986, The Lancet 327: 307-310.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_LIMIT_SDS: Final = 1.96


@dataclass(frozen=True, slots=True)
class LimitsOfAgreement:
    """The mean of the differences (first minus second), and where 95% of them are expected.

    With one pair of measurements the standard deviation and the limits are None.
    """

    pairs: int
    bias: float
    sd: float | None
    lower: float | None
    upper: float | None


def limits_of_agreement(
    first: Sequence[float], second: Sequence[float]
) -> LimitsOfAgreement | None:
    """Return bias and 95% limits of agreement of measurements of the same things.

    None where there is nothing to compare.

    Raises:
        ValueError: the two have different lengths.

    >>> found = limits_of_agreement([10.0, 12.0, 14.0], [9.0, 12.0, 12.0])
    >>> found.bias, found.sd, round(found.upper, 2)
    (1.0, 1.0, 2.96)
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} measurements cannot be paired with {len(second)}.")
    if not first:
        return None
    differences = np.asarray(first, float) - np.asarray(second, float)
    bias = float(differences.mean())
    if len(differences) == 1:
        return LimitsOfAgreement(1, bias, None, None, None)
    sd = float(differences.std(ddof=1))
    return LimitsOfAgreement(
        len(differences), bias, sd, bias - _LIMIT_SDS * sd, bias + _LIMIT_SDS * sd
    )
