"""The compiled loops of `qa_plugins.metrics.instances` and `part_conflicts`; imported on first use.

A task has a handful of objects a person: one loop over their pairs costs less than the calls of a
dozen array operations on it.
"""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@kernel
def iou_table(shared_px: Int64Array, areas_a_px: Int64Array, areas_b_px: Int64Array) -> FloatArray:
    """IoU of each object of a with each of b, shape (a, b); 0 where both are empty."""
    iou = np.zeros(shared_px.shape, dtype=np.float64)
    for i in range(len(areas_a_px)):
        for j in range(len(areas_b_px)):
            union = areas_a_px[i] + areas_b_px[j] - shared_px[i, j]
            if union:
                iou[i, j] = shared_px[i, j] / union
    return iou


@kernel
def clear_partners(
    iou: FloatArray,
    classes_a: Int64Array,
    classes_b: Int64Array,
    free_a: BoolArray,
    free_b: BoolArray,
    is_same_class: bool,
    at_least: float,
) -> tuple[Int64Array, bool]:
    """The one object of b that may be each object of a's, -1 for none, where none has a choice.

    Only free objects count, of one class or of two, whose IoU is ``at_least`` so much. False where
    an object has several to choose from: then the first array says nothing.
    """
    partner_of_a = np.full(len(classes_a), -1, dtype=np.int64)
    is_partner = np.zeros(len(classes_b), dtype=np.bool_)
    for i in range(len(classes_a)):
        if not free_a[i]:
            continue
        for j in range(len(classes_b)):
            if iou[i, j] < at_least or not free_b[j]:
                continue
            if (classes_a[i] == classes_b[j]) != is_same_class:
                continue
            if partner_of_a[i] >= 0 or is_partner[j]:
                return partner_of_a, False
            partner_of_a[i] = j
            is_partner[j] = True
    return partner_of_a, True


@kernel
def parts_and_covers(
    shared_px: Int64Array,
    areas_a_px: Int64Array,
    areas_b_px: Int64Array,
    classes_a: Int64Array,
    classes_b: Int64Array,
    part_inside: float,
    covered_inside: float,
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """What `name_parts` needs to know of the pairs of objects of one class.

    How many parts of b lie in each object of a, how many of a in each of b; then the larger object
    of b that covers each of a, and of a each of b: the one that shares most, -1 for none.
    """
    parts_of_a = np.zeros(len(areas_a_px), dtype=np.int64)
    parts_of_b = np.zeros(len(areas_b_px), dtype=np.int64)
    cover_of_a = np.full(len(areas_a_px), -1, dtype=np.int64)
    cover_of_b = np.full(len(areas_b_px), -1, dtype=np.int64)
    for i in range(len(areas_a_px)):
        for j in range(len(areas_b_px)):
            shared = shared_px[i, j]
            if shared <= 0 or classes_a[i] != classes_b[j]:
                continue
            a_px, b_px = areas_a_px[i], areas_b_px[j]
            parts_of_a[i] += shared >= part_inside * b_px
            parts_of_b[j] += shared >= part_inside * a_px
            best_px = shared_px[i, cover_of_a[i]] if cover_of_a[i] >= 0 else 0
            if b_px > a_px and shared >= covered_inside * a_px and shared > best_px:
                cover_of_a[i] = j
            best_px = shared_px[cover_of_b[j], j] if cover_of_b[j] >= 0 else 0
            if a_px > b_px and shared >= covered_inside * b_px and shared > best_px:
                cover_of_b[j] = i
    return parts_of_a, parts_of_b, cover_of_a, cover_of_b
