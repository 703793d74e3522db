"""Region overlap of class masks: IoU and Dice from counts that add up over images.

Counts are sufficient: those of two halves of a batch, added, are those of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class OverlapCounts:
    """Pixel counts of two raters, one entry a class; all arrays have one shape."""

    intersection_px: Int64Array
    area_a_px: Int64Array
    area_b_px: Int64Array

    def __add__(self, other: OverlapCounts) -> OverlapCounts:
        return OverlapCounts(
            self.intersection_px + other.intersection_px,
            self.area_a_px + other.area_a_px,
            self.area_b_px + other.area_b_px,
        )

    @property
    def union_px(self) -> Int64Array:
        """Pixels that either rater drew."""
        return self.area_a_px + self.area_b_px - self.intersection_px

    def iou(self) -> FloatArray:
        """Intersection over union; NaN where neither rater drew the class.

        >>> counts = OverlapCounts(np.array([2, 0]), np.array([3, 0]), np.array([3, 0]))
        >>> counts.iou().tolist(), counts.dice().tolist()
        ([0.5, nan], [0.6666666666666666, nan])
        """
        return ratio(self.intersection_px, self.union_px)

    def dice(self) -> FloatArray:
        """Twice the intersection over the sum of the areas; NaN where neither drew the class."""
        return ratio(2 * self.intersection_px, self.area_a_px + self.area_b_px)


def ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> FloatArray:
    """Divide element by element; NaN where the denominator is 0."""
    top = np.asarray(numerator, dtype=np.float64)
    bottom = np.asarray(denominator, dtype=np.float64)
    result = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=result, where=bottom != 0)
    return result


def mean_without_none(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None when there is none.

    >>> mean_without_none([0.5, None, 1.0])
    0.75
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_of_known(values: FloatArray) -> float | None:
    """Mean of the values that are not NaN; None when there is none.

    >>> mean_of_known(np.array([0.5, np.nan, 1.0]))
    0.75
    """
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
