"""Conflicts of objects that one rater drew in parts: split, merged, covered.

Matching is one to one, so a car that the other drew in two pieces would be a car with low overlap
and an extra one. Here such conflicts are found among those that matching left and named once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qa_plugins.metrics.instances import MATCH_IOU, Conflict, MatchResult

PART_INSIDE = 0.5
COVERED_INSIDE = 0.8
_SINGLE = ("low_overlap", "missing", "extra")
Int64Array = NDArray[np.int64]


def name_parts(
    result: MatchResult,
    shared_px: Int64Array,
    areas_a_px: Int64Array,
    areas_b_px: Int64Array,
    classes_a: Int64Array,
    classes_b: Int64Array,
) -> tuple[Conflict, ...]:
    """The conflicts of a match with those of parts put in place of the single ones.

    - "split": an object of a that was not matched well, and two objects or more of b of its class
      that lie in it by half or more and together overlap it better (IoU 0.4 or more).
    - "merged": the same with the sides exchanged.
    - "covered": an object without a counterpart of which four fifths lie in a larger object of
      the other, of the same class: it was drawn as part of that.

    Args:
        result: of `match_instances`.
        shared_px: pixels that objects share, shape (objects a, objects b).
        areas_a_px: areas of the objects of a.
        areas_b_px: the same of b.
        classes_a: classes of the objects of a.
        classes_b: the same of b.
    """
    single = {kind: [one for one in result.conflicts if one.kind == kind] for kind in _SINGLE}
    if not single["missing"] and not single["extra"]:
        return result.conflicts
    shared = np.where(classes_a[:, None] == classes_b[None, :], shared_px, 0)
    low = [(one.a, one.b, one.iou) for one in single["low_overlap"]]
    free_a = {one.a for one in single["missing"]} | {a for a, _, _ in low}
    free_b = {one.b for one in single["extra"]} | {b for _, b, _ in low}
    iou_a = {a: iou for a, _, iou in low}
    iou_b = {b: iou for _, b, iou in low}
    partner_of_a = {a: b for a, b, _ in low}
    partner_of_b = {b: a for a, b, _ in low}
    found: list[Conflict] = []
    told: set[tuple[int | None, int | None]] = set()
    split = _groups(shared, areas_a_px, areas_b_px, free_a, free_b, iou_a, partner_of_b)
    for whole, parts, iou in split:
        found.append(Conflict("split", whole, None, iou, parts))
        told |= {(whole, part) for part in parts}
        free_a.discard(whole)
        free_b.difference_update(parts)
    merged = _groups(shared.T, areas_b_px, areas_a_px, free_b, free_a, iou_b, partner_of_a)
    for whole, parts, iou in merged:
        found.append(Conflict("merged", None, whole, iou, parts))
        told |= {(part, whole) for part in parts}
        free_b.discard(whole)
        free_a.difference_update(parts)
    covered_a, covered_b = _covered_ones(shared, areas_a_px, areas_b_px)
    kept: list[Conflict] = []
    for one in result.conflicts:
        if one.kind not in _SINGLE:
            kept.append(one)
        elif one.kind == "low_overlap":
            kept += [one] if (one.a, one.b) not in told else []
        elif (one.a in free_a) if one.b is None else (one.b in free_b):
            is_covered = one.a in covered_a if one.b is None else one.b in covered_b
            kept.append(_covered(one, shared, areas_a_px, areas_b_px) if is_covered else one)
    return (*kept, *found)


def _groups(
    shared: Int64Array,
    wholes_px: Int64Array,
    parts_px: Int64Array,
    free_wholes: Iterable[int | None],
    free_parts: set[int | None],
    known_iou: dict[int | None, float | None],
    whole_of_part: dict[int | None, int | None],
) -> list[tuple[int, tuple[int, ...], float]]:
    """Each whole that several parts make up, with its parts and their IoU together."""
    found: list[tuple[int, tuple[int, ...], float]] = []
    taken: set[int] = set()
    inside = shared >= np.maximum(PART_INSIDE * parts_px, 1)
    of_several = set(np.flatnonzero(inside.sum(axis=1) > 1).tolist())
    for whole in sorted(one for one in free_wholes if one in of_several and one is not None):
        parts = [
            int(part)
            for part in np.flatnonzero(inside[whole])
            if part in free_parts
            and part not in taken
            and whole_of_part.get(int(part), whole) == whole
        ]
        if len(parts) < 2:
            continue
        shared_px = int(shared[whole, parts].sum())
        iou = shared_px / (int(wholes_px[whole] + parts_px[parts].sum()) - shared_px)
        if iou >= MATCH_IOU and iou > (known_iou.get(whole) or 0.0):
            found.append((whole, tuple(parts), iou))
            taken.update(parts)
    return found


def _covered_ones(
    shared: Int64Array, areas_a_px: Int64Array, areas_b_px: Int64Array
) -> tuple[set[int], set[int]]:
    """The objects of a, and those of b, that lie in a larger one of the other."""
    a_px, b_px = areas_a_px[:, None], areas_b_px[None, :]
    overlap = shared > 0
    of_a = overlap & (b_px > a_px) & (shared >= COVERED_INSIDE * a_px)
    of_b = overlap & (a_px > b_px) & (shared >= COVERED_INSIDE * b_px)
    return (
        set(np.flatnonzero(of_a.any(axis=1)).tolist()),
        set(np.flatnonzero(of_b.any(axis=0)).tolist()),
    )


def _covered(
    one: Conflict, shared: Int64Array, areas_a_px: Int64Array, areas_b_px: Int64Array
) -> Conflict:
    """The conflict of an object that lies in a larger one of the other."""
    if one.a is not None:
        own_px, row, others_px = areas_a_px[one.a], shared[one.a], areas_b_px
    else:
        own_px, row, others_px = areas_b_px[one.b], shared[:, one.b], areas_a_px
    inside = np.flatnonzero((row >= COVERED_INSIDE * own_px) & (others_px > own_px) & (row > 0))
    over = int(inside[np.argmax(row[inside])])
    iou = float(row[over] / (own_px + others_px[over] - row[over]))
    return Conflict("covered", *((one.a, over) if one.a is not None else (over, one.b)), iou)
