"""Conflicts of objects that one rater drew in parts: split, merged, covered.

Matching is one to one, so a car that the other drew in two pieces would be a car with low overlap
and an extra one. Here such conflicts are found among those that matching left and named once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qa_plugins.metrics.instances import MATCH_IOU, Conflict, MatchResult

PART_INSIDE = 0.5
COVERED_INSIDE = 0.8
_SINGLE = ("low_overlap", "missing", "extra")
Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Side:
    """The objects of one rater: which are free still, and of a poor match its IoU and partner."""

    areas_px: Int64Array
    classes: Int64Array
    free: set[int | None]
    known_iou: dict[int | None, float | None]
    partner: dict[int | None, int | None]


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
    from qa_plugins.metrics.instances_kernel import parts_and_covers

    parts_of_a, parts_of_b, cover_of_a, cover_of_b = parts_and_covers(
        np.ascontiguousarray(shared_px), areas_a_px, areas_b_px, classes_a, classes_b,
        PART_INSIDE, COVERED_INSIDE,
    )  # fmt: skip
    low = [(one.a, one.b, one.iou) for one in single["low_overlap"]]
    free_a = {one.a for one in single["missing"]} | {a for a, _, _ in low}
    free_b = {one.b for one in single["extra"]} | {b for _, b, _ in low}
    iou_a = {a: iou for a, _, iou in low}
    iou_b = {b: iou for _, b, iou in low}
    partner_of_a = {a: b for a, b, _ in low}
    partner_of_b = {b: a for a, b, _ in low}
    found: list[Conflict] = []
    told: set[tuple[int | None, int | None]] = set()
    several_a = np.flatnonzero(parts_of_a > 1).tolist()
    several_b = np.flatnonzero(parts_of_b > 1).tolist()
    side_a = _Side(areas_a_px, classes_a, free_a, iou_a, partner_of_a)
    side_b = _Side(areas_b_px, classes_b, free_b, iou_b, partner_of_b)
    split = _groups(several_a, shared_px, side_a, side_b)
    for whole, parts, iou in split:
        found.append(Conflict("split", whole, None, iou, parts))
        told |= {(whole, part) for part in parts}
        free_a.discard(whole)
        free_b.difference_update(parts)
    merged = _groups(several_b, shared_px.T, side_b, side_a)
    for whole, parts, iou in merged:
        found.append(Conflict("merged", None, whole, iou, parts))
        told |= {(part, whole) for part in parts}
        free_b.discard(whole)
        free_a.difference_update(parts)
    table = shared_px, areas_a_px, areas_b_px
    kept: list[Conflict] = []
    for one in result.conflicts:
        if one.kind not in _SINGLE:
            kept.append(one)
        elif one.kind == "low_overlap":
            kept += [one] if (one.a, one.b) not in told else []
        elif one.a is not None and one.a in free_a:
            kept.append(_unless_covered(one, one.a, int(cover_of_a[one.a]), table))
        elif one.b is not None and one.b in free_b:
            kept.append(_unless_covered(one, int(cover_of_b[one.b]), one.b, table))
    return (*kept, *found)


def _groups(
    several: Sequence[int], shared_px: Int64Array, wholes: _Side, parts: _Side
) -> list[tuple[int, tuple[int, ...], float]]:
    """Each free whole that several parts make up, with its parts and their IoU together.

    ``several`` are those in which more than one part lies.
    """
    found: list[tuple[int, tuple[int, ...], float]] = []
    taken: set[int] = set()
    for whole in several:
        if whole not in wholes.free:
            continue
        is_part = (shared_px[whole] >= np.maximum(PART_INSIDE * parts.areas_px, 1)) & (
            parts.classes == wholes.classes[whole]
        )
        inside = [
            part
            for part in np.flatnonzero(is_part).tolist()
            if part in parts.free and part not in taken and parts.partner.get(part, whole) == whole
        ]
        if len(inside) < 2:
            continue
        shared = int(shared_px[whole, inside].sum())
        iou = shared / (int(wholes.areas_px[whole] + parts.areas_px[inside].sum()) - shared)
        if iou >= MATCH_IOU and iou > (wholes.known_iou.get(whole) or 0.0):
            found.append((whole, tuple(inside), iou))
            taken.update(inside)
    return found


def _unless_covered(
    one: Conflict, a: int, b: int, table: tuple[Int64Array, Int64Array, Int64Array]
) -> Conflict:
    """The conflict of an object alone, or of being covered by the larger one (-1 is none)."""
    if a < 0 or b < 0:
        return one
    shared_px, areas_a_px, areas_b_px = table
    union_px = areas_a_px[a] + areas_b_px[b] - shared_px[a, b]
    return Conflict("covered", a, b, float(shared_px[a, b] / union_px))
