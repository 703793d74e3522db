"""How each annotator's objects deviate from those of the others on one image.

An object is compared with its counterpart in every other drawing. Where several others drew it, the
deviation that most of them confirm counts (of two others the smaller one): when one of
three draws too wide, the other two are not called too narrow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qa_plugins.drawing import Drawing
from qa_plugins.metrics.instances import MatchResult, match_instances, pairwise_iou
from qa_plugins.metrics.outlines import OutlineComparison, compare_outlines
from qa_plugins.metrics.run_join import intersections, labelled_runs


@dataclass(frozen=True, slots=True)
class ObjectDeviation:
    """One annotator's object against its counterparts; see `compare_outlines` for the units."""

    annotator_id: int
    class_name: str
    offset_px: float | None
    shift_x_px: float
    shift_y_px: float
    log_length_ratio: float | None


@dataclass(slots=True)
class Deviations:
    """Deviations of one image or of many; two of them add up.

    ``agreed`` counts by (annotator, class) the objects that all others drew as that class,
    ``missed`` those of them that the annotator lacks, ``swapped`` by (annotator, class of the
    others, own class) those that the annotator called something else. ``dissents`` counts by the
    same key as ``missed`` the objects on which exactly one of those who annotated the image stood
    alone, whoever it was, and ``by_chance`` how many of them would be the annotator's if the one
    were drawn by lot. ``only`` counts by
    (annotator, the other, class) objects of one of two annotators that the other lacks; used where
    nobody else can tell who is right.
    """

    objects: list[ObjectDeviation] = field(default_factory=list)
    agreed: Counter[tuple[int, str]] = field(default_factory=Counter)
    missed: Counter[tuple[int, str]] = field(default_factory=Counter)
    swapped: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    dissents: Counter[tuple[int, str]] = field(default_factory=Counter)
    by_chance: dict[tuple[int, str], float] = field(default_factory=dict)
    only: Counter[tuple[int, int, str]] = field(default_factory=Counter)

    def add(self, other: Deviations) -> None:
        """Add another image's deviations."""
        self.objects.extend(other.objects)
        self.agreed.update(other.agreed)
        self.missed.update(other.missed)
        self.swapped.update(other.swapped)
        self.dissents.update(other.dissents)
        for key, expected in other.by_chance.items():
            self.by_chance[key] = self.by_chance.get(key, 0.0) + expected
        self.only.update(other.only)


def image_deviations(annotators: Sequence[int], drawings: Sequence[Drawing]) -> Deviations:
    """Compare the objects of an image; one drawing an annotator, at least two of them."""
    names = sorted({one.class_name for drawing in drawings for one in drawing.objects})
    matches = {
        (i, j): match_drawings(drawings[i], drawings[j])
        for i in range(len(drawings))
        for j in range(len(drawings))
        if i != j
    }
    found = Deviations()
    for me, person in enumerate(annotators):
        others = [one for one in range(len(drawings)) if one != me]
        found.objects += _outline_deviations(person, me, others, drawings, matches)
        if len(others) == 1:
            _count_alone(found, annotators, me, others[0], drawings, matches)
        else:
            _count_missed(found, person, me, others, drawings, matches)
    _count_dissents(found, annotators, names)
    return found


def confirmed(values: Sequence[float]) -> float:
    """Return the value that more than half of the values reach or exceed, with one sign; else 0.

    >>> confirmed([3.0, 2.0]), confirmed([3.0, -0.1]), confirmed([3.0]), confirmed([3.0, 2.8, 0.0])
    (2.0, 0.0, 3.0, 2.8)
    """
    needed = len(values) // 2 + 1
    above = sorted((value for value in values if value > 0), reverse=True)
    below = sorted(value for value in values if value < 0)
    if len(above) >= needed:
        return above[needed - 1]
    if len(below) >= needed:
        return below[needed - 1]
    return 0.0


def match_drawings(a: Drawing, b: Drawing) -> MatchResult:
    """Match the objects of two drawings, see `match_instances`."""
    names = sorted({one.class_name for drawing in (a, b) for one in drawing.objects})
    runs_a, runs_b = (labelled_runs([one.mask.runs for one in side.objects]) for side in (a, b))
    shared = intersections(runs_a, runs_b)
    iou = pairwise_iou(shared[: len(a.objects), : len(b.objects)], runs_a.areas_px, runs_b.areas_px)
    classes = [
        np.array([names.index(one.class_name) for one in side.objects], np.int64) for side in (a, b)
    ]
    return match_instances(iou, *classes)


def _outline_deviations(
    person: int,
    me: int,
    others: Sequence[int],
    drawings: Sequence[Drawing],
    matches: dict[tuple[int, int], MatchResult],
) -> list[ObjectDeviation]:
    against: dict[int, list[OutlineComparison]] = {}
    for other in others:
        for mine, theirs, _ in matches[me, other].matches:
            masks = drawings[me].objects[mine].mask, drawings[other].objects[theirs].mask
            against.setdefault(mine, []).append(compare_outlines(*masks))
    found = []
    for mine, comparisons in sorted(against.items()):
        offsets = [one.offset_px for one in comparisons if one.offset_px is not None]
        ratios = [one.log_length_ratio for one in comparisons if one.log_length_ratio is not None]
        found.append(
            ObjectDeviation(
                annotator_id=person,
                class_name=drawings[me].objects[mine].class_name,
                offset_px=confirmed(offsets) if offsets else None,
                shift_x_px=confirmed([one.shift_px[0] for one in comparisons]),
                shift_y_px=confirmed([one.shift_px[1] for one in comparisons]),
                log_length_ratio=confirmed(ratios) if ratios else None,
            )
        )
    return found


def _count_missed(
    found: Deviations,
    person: int,
    me: int,
    others: Sequence[int],
    drawings: Sequence[Drawing],
    matches: dict[tuple[int, int], MatchResult],
) -> None:
    """Count what all others drew alike, and what became of it here."""
    first, *rest = others
    agreed = set(range(len(drawings[first].objects)))
    for other in rest:
        agreed &= {theirs for theirs, _, _ in matches[first, other].matches}
    hit = {theirs for theirs, _, _ in matches[first, me].matches}
    renamed = {
        conflict.a: conflict.b
        for conflict in matches[first, me].conflicts
        if conflict.kind == "mismatching_label"
    }
    for index in agreed:
        name = drawings[first].objects[index].class_name
        found.agreed[person, name] += 1
        mine = renamed.get(index)
        if mine is not None:
            found.swapped[person, name, drawings[me].objects[mine].class_name] += 1
        elif index not in hit:
            found.missed[person, name] += 1


def _count_dissents(found: Deviations, annotators: Sequence[int], names: Sequence[str]) -> None:
    for name in names:
        alone = sum(found.missed[person, name] for person in annotators)
        alone += sum(count for (_, theirs, _), count in found.swapped.items() if theirs == name)
        if alone:
            for person in annotators:
                found.dissents[person, name] = alone
                found.by_chance[person, name] = alone / len(annotators)


def _count_alone(
    found: Deviations,
    annotators: Sequence[int],
    me: int,
    other: int,
    drawings: Sequence[Drawing],
    matches: dict[tuple[int, int], MatchResult],
) -> None:
    for conflict in matches[me, other].conflicts:
        if conflict.kind == "missing" and conflict.a is not None:
            name = drawings[me].objects[conflict.a].class_name
            found.only[annotators[me], annotators[other], name] += 1
