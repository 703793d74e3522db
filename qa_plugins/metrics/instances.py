"""Objects of two raters matched one to one, and what did not match.

Two passes of the Hungarian method: within a class first, then what is left across classes, so that
an object under another name is one conflict and not two. Conventions follow CVAT's quality control
(match from IoU 0.4, "low overlap" below 0.8) and panoptic quality (Kirillov et al., CVPR 2019: a
true positive has IoU above 0.5, strictly).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qa_plugins.metrics.overlap import ratio

MATCH_IOU = 0.4
LOW_OVERLAP_IOU = 0.8
PANOPTIC_IOU = 0.5

ConflictKind = Literal[
    "missing", "extra", "mismatching_label", "low_overlap", "covered", "split", "merged"
]
Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.float64]


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
    union = areas_a_px[:, None] + areas_b_px[None, :] - shared_px
    return np.nan_to_num(ratio(shared_px, union), nan=0.0)


def match_instances(iou: FloatArray, classes_a: Int64Array, classes_b: Int64Array) -> MatchResult:
    """Match objects one to one and name what does not match.

    Args:
        iou: shape (objects a, objects b).
        classes_a: class of each object of a, shape (objects a,).
        classes_b: the same of b.
    """
    same_class = classes_a[:, None] == classes_b[None, :]
    matches = _assign(np.where(same_class, iou, 0.0), MATCH_IOU)
    matched_a = {i for i, _ in matches}
    matched_b = {j for _, j in matches}
    left_a = [i for i in range(len(classes_a)) if i not in matched_a]
    left_b = [j for j in range(len(classes_b)) if j not in matched_b]
    # Two objects of one class that overlap less than MATCH_IOU are two conflicts, not a new name.
    other_class = np.where(same_class, 0.0, iou)[np.ix_(left_a, left_b)]
    ties = _tie_weights(classes_a[left_a], classes_b[left_b])
    renamed = [(left_a[i], left_b[j]) for i, j in _assign(other_class, MATCH_IOU, ties)]
    renamed_a = {i for i, _ in renamed}
    renamed_b = {j for _, j in renamed}
    conflicts = [
        Conflict("low_overlap", i, j, float(iou[i, j]))
        for i, j in matches
        if iou[i, j] < LOW_OVERLAP_IOU
    ]
    conflicts += [Conflict("mismatching_label", i, j, float(iou[i, j])) for i, j in renamed]
    conflicts += [Conflict("missing", i, None, None) for i in left_a if i not in renamed_a]
    conflicts += [Conflict("extra", None, j, None) for j in left_b if j not in renamed_b]
    return MatchResult(tuple((i, j, float(iou[i, j])) for i, j in matches), tuple(conflicts))


def panoptic_counts(
    iou: FloatArray, classes_a: Int64Array, classes_b: Int64Array, class_count: int
) -> list[PanopticCounts]:
    """Counts of PQ and F1 for each class.

    Objects of one rater may overlap, so a match above 0.5 need not be unique: the Hungarian method
    chooses. Where they do not overlap this is panopticapi's matching.
    """
    same_class = classes_a[:, None] == classes_b[None, :]
    allowed = np.where(same_class & (iou > PANOPTIC_IOU), iou, 0.0)
    matches = _assign(allowed, PANOPTIC_IOU)
    true_positives = np.zeros(class_count, dtype=np.int64)
    iou_sum = np.zeros(class_count)
    for i, j in matches:
        true_positives[classes_a[i]] += 1
        iou_sum[classes_a[i]] += iou[i, j]
    only_a = np.bincount(classes_a, minlength=class_count) - true_positives
    only_b = np.bincount(classes_b, minlength=class_count) - true_positives
    return [
        PanopticCounts(int(true_positives[c]), int(only_a[c]), int(only_b[c]), float(iou_sum[c]))
        for c in range(class_count)
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
    iou: FloatArray, at_least: float, ties: FloatArray | None = None
) -> list[tuple[int, int]]:
    """Pairs of the best total IoU, each at ``at_least`` or above; sorted by the first index.

    ``ties`` is added where totals would be equal otherwise.
    """
    allowed = np.where(iou >= at_least, iou, 0.0)
    candidates = allowed > 0
    if not candidates.any():
        return []
    if (candidates.sum(axis=0) <= 1).all() and (candidates.sum(axis=1) <= 1).all():
        rows, columns = np.nonzero(candidates)  # nothing to choose between
    else:
        from scipy.optimize import linear_sum_assignment

        wanted = allowed if ties is None else np.where(candidates, allowed + ties, 0.0)
        rows, columns = linear_sum_assignment(wanted, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if allowed[i, j] > 0]
