"""Objects of two raters matched one to one, and what did not match.

Two passes of the Hungarian method: within a class first, then what is left across classes, so that
an object under another name is one conflict and not two. Conventions follow CVAT's quality control
(match from IoU 0.4, "low overlap" below 0.8) and panoptic quality (Kirillov et al., CVPR 2019: a
true positive has IoU above 0.5, strictly).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

MATCH_IOU = 0.4
LOW_OVERLAP_IOU = 0.8
PANOPTIC_IOU = 0.5
_ABOVE_PANOPTIC_IOU: Final = math.nextafter(PANOPTIC_IOU, 1)

ConflictKind = Literal[
    "missing", "extra", "mismatching_label", "low_overlap", "covered", "split", "merged"
]
Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Conflict:
    """One object on which two raters differ; ``a`` and ``b`` index the raters' objects.

    "missing": only the first rater drew it. "extra": only the second. No rater is the truth: the
    first of a pair (the smaller id) plays the reference. "split": several objects of the second,
    the ``parts``, make up ``a``; "merged": several of the first make up ``b``; "covered": the
    smaller of the two lies in the larger; see `qa_plugins.metrics.part_conflicts`.
    """

    kind: ConflictKind
    a: int | None
    b: int | None
    iou: float | None
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MatchResult:
    """Matched pairs of one class each, and the typed conflicts."""

    matches: tuple[tuple[int, int, float], ...]
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class PanopticCounts:
    """Sufficient statistics of PQ and F1 of one class; they add up."""

    true_positives: int = 0
    only_a: int = 0
    only_b: int = 0
    iou_sum: float = 0.0

    def __add__(self, other: PanopticCounts) -> PanopticCounts:
        return PanopticCounts(
            self.true_positives + other.true_positives,
            self.only_a + other.only_a,
            self.only_b + other.only_b,
            self.iou_sum + other.iou_sum,
        )

    @property
    def _denominator(self) -> float:
        return self.true_positives + (self.only_a + self.only_b) / 2

    @property
    def panoptic_quality(self) -> float | None:
        """Sum of IoU over TP + FP/2 + FN/2; None when there is no object.

        >>> PanopticCounts(true_positives=1, only_a=1, only_b=1, iou_sum=0.8).panoptic_quality
        0.4
        """
        return self.iou_sum / self._denominator if self._denominator else None

    @property
    def segmentation_quality(self) -> float | None:
        """Mean IoU of the matched objects, SQ; None when there is no match (panopticapi: 0)."""
        return self.iou_sum / self.true_positives if self.true_positives else None

    @property
    def f1(self) -> float | None:
        """TP over TP + FP/2 + FN/2, also called RQ; None when there is no object."""
        return self.true_positives / self._denominator if self._denominator else None


def pairwise_iou(
    shared_px: Int64Array, areas_a_px: Int64Array, areas_b_px: Int64Array
) -> FloatArray:
    """IoU of each object of a with each of b, shape (a, b); 0 where both are empty."""
    from qa_plugins.metrics.instances_kernel import iou_table

    return iou_table(np.ascontiguousarray(shared_px), areas_a_px, areas_b_px)


def match_instances(iou: FloatArray, classes_a: Int64Array, classes_b: Int64Array) -> MatchResult:
    """Match objects one to one and name what does not match.

    Args:
        iou: shape (objects a, objects b).
        classes_a: class of each object of a, shape (objects a,).
        classes_b: the same of b.
    """
    free_a = np.ones(len(classes_a), dtype=np.bool_)
    free_b = np.ones(len(classes_b), dtype=np.bool_)
    matches = _assign(iou, classes_a, classes_b, free_a, free_b, at_least=MATCH_IOU)
    for i, j in matches:
        free_a[i] = free_b[j] = False
    # Two objects of one class that overlap less than MATCH_IOU are two conflicts, not a new name.
    renamed = _assign(
        iou, classes_a, classes_b, free_a, free_b, at_least=MATCH_IOU, is_same_class=False
    )
    for i, j in renamed:
        free_a[i] = free_b[j] = False
    matched = tuple((i, j, float(iou[i, j])) for i, j in matches)
    conflicts = [
        Conflict("low_overlap", i, j, value) for i, j, value in matched if value < LOW_OVERLAP_IOU
    ]
    conflicts += [Conflict("mismatching_label", i, j, float(iou[i, j])) for i, j in renamed]
    conflicts += [Conflict("missing", i, None, None) for i in np.flatnonzero(free_a).tolist()]
    conflicts += [Conflict("extra", None, j, None) for j in np.flatnonzero(free_b).tolist()]
    return MatchResult(matched, tuple(conflicts))


def panoptic_counts(
    iou: FloatArray, classes_a: Int64Array, classes_b: Int64Array, class_count: int
) -> list[PanopticCounts]:
    """Counts of PQ and F1 for each class.

    Objects of one rater may overlap, so a match above 0.5 need not be unique: the Hungarian method
    chooses. Where they do not overlap this is panopticapi's matching.
    """
    free_a = np.ones(len(classes_a), dtype=np.bool_)
    free_b = np.ones(len(classes_b), dtype=np.bool_)
    matches = _assign(iou, classes_a, classes_b, free_a, free_b, at_least=_ABOVE_PANOPTIC_IOU)
    true_positives = [0] * class_count
    iou_sums = [0.0] * class_count
    for i, j in matches:
        true_positives[classes_a[i]] += 1
        iou_sums[classes_a[i]] += float(iou[i, j])
    of_a = np.bincount(classes_a, minlength=class_count).tolist()
    of_b = np.bincount(classes_b, minlength=class_count).tolist()
    return [
        PanopticCounts(matched, of_a[c] - matched, of_b[c] - matched, iou_sums[c])
        for c, matched in enumerate(true_positives)
    ]


def _tie_weights(classes_a: Int64Array, classes_b: Int64Array) -> FloatArray:
    """A little for each pair of classes, the same both ways round, shape (objects a, objects b).

    Where one object fits two of other names equally well, it goes to the same one whoever of the
    raters comes first: agreement is symmetric.
    """
    low = np.minimum(classes_a[:, None], classes_b[None, :])
    high = np.maximum(classes_a[:, None], classes_b[None, :])
    mixed = (low * 73_856_093 + high * 19_349_663) % 1_000_003  # sums of few are hardly ever alike
    return np.asarray(mixed * 1e-15, np.float64)


def _assign(
    iou: FloatArray,
    classes_a: Int64Array,
    classes_b: Int64Array,
    free_a: BoolArray,
    free_b: BoolArray,
    *,
    at_least: float,
    is_same_class: bool = True,
) -> list[tuple[int, int]]:
    """Pairs of free objects of the best total IoU, each ``at_least`` so much; sorted.

    Either all of one class, or all of two: there a little is added to equal totals.
    """
    from qa_plugins.metrics.instances_kernel import clear_partners

    partner_of_a, is_clear = clear_partners(
        np.ascontiguousarray(iou), classes_a, classes_b, free_a, free_b, is_same_class, at_least
    )
    if is_clear:
        return [(i, j) for i, j in enumerate(partner_of_a.tolist()) if j >= 0]
    from scipy.optimize import linear_sum_assignment

    left_a, left_b = np.flatnonzero(free_a), np.flatnonzero(free_b)
    kinds_a, kinds_b = classes_a[left_a], classes_b[left_b]
    values = iou[np.ix_(left_a, left_b)]
    may_match = (kinds_a[:, None] == kinds_b[None, :]) == is_same_class
    allowed = np.where(may_match & (values >= at_least), values, 0.0)
    ties = 0.0 if is_same_class else _tie_weights(kinds_a, kinds_b)
    rows, columns = linear_sum_assignment(np.where(allowed > 0, allowed + ties, 0.0), maximize=True)
    return [
        (int(left_a[i]), int(left_b[j]))
        for i, j in zip(rows, columns, strict=True)
        if allowed[i, j] > 0
    ]
