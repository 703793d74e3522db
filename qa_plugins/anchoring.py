"""Anchoring: how much of an agreement two people only share because they began with one pre-label.

A pair that corrected the same pre-label agrees where neither touched it, and that says nothing
about the two. So agreement is also measured on what people decided: with P the shared pre-label, A
and B the two masks of a class, the changes are A xor P and B xor P, and the agreement of the
changes is |both changed| / |either changed|; null where nobody changed anything. A pair without a
shared pre-label has P empty, which gives its IoU.

Two people share a pre-label when their annotations name the same ``parent_prediction``, or, where
one names none, when both hold the same untouched predicted region. Its pixels are those of the
prediction; where an export does not hold it, those of the regions that one of the two left
untouched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from qa_plugins.drawing import NOTHING, Drawing, Place, draw
from qa_plugins.metrics.overlap import mean_without_none
from segstudio.images import ImageKey
from segstudio.masks import Mask
from segstudio.regions import Region, same_geometry
from segstudio.tasks import Annotation, Task
from segstudio.taxonomy import Taxonomy

Assistance = Literal["assisted", "mixed", "unassisted"]
ASSISTANCE: Final[tuple[Assistance, ...]] = ("assisted", "mixed", "unassisted")
Int64Array = NDArray[np.int64]
_UNTOUCHED: Final = "prediction"
_PREDICTED: Final = (_UNTOUCHED, "prediction-changed")


@dataclass(frozen=True, slots=True, eq=False)
class ImageAnchoring:
    """Counts of one image on which a pair shares a pre-label; P pairs, C classes.

    ``changed_px`` and ``both_changed_px`` (P, C) are the pixels that either and that both changed,
    ``untouched_px`` (P, C) those that both left to the class as the pre-label had them.
    """

    shared: tuple[bool, ...]
    changed_px: Int64Array
    both_changed_px: Int64Array
    untouched_px: Int64Array


def is_assisted(annotation: Annotation) -> bool:
    """Whether a model had a part in it: a parent prediction, or predicted or scored regions."""
    return annotation.parent_prediction is not None or any(
        region.origin in _PREDICTED or region.score is not None for region in annotation.regions
    )


def shared_prelabels(
    task: Task, annotations: Sequence[Annotation]
) -> list[tuple[Region, ...] | None]:
    """The regions of the pre-label that each pair shares, None for a pair that shares none."""
    predictions = {one.id: one.regions for one in task.predictions if one.id is not None}
    return [_shared(a, b, predictions) for a, b in combinations(annotations, 2)]


def _shared(
    a: Annotation, b: Annotation, predictions: Mapping[int, tuple[Region, ...]]
) -> tuple[Region, ...] | None:
    parents = {one.parent_prediction for one in (a, b) if one.parent_prediction is not None}
    if len(parents) > 1:
        return None
    untouched_a, untouched_b = (
        [region for region in one.regions if region.origin == _UNTOUCHED] for one in (a, b)
    )
    if parents and a.parent_prediction == b.parent_prediction:
        known = predictions.get(parents.pop())
        return (*untouched_a, *untouched_b) if known is None else known
    same = [one for one in untouched_a if any(_is_same(one, other) for other in untouched_b)]
    if not same:
        return None
    return predictions.get(parents.pop(), tuple(same)) if parents else tuple(same)


def _is_same(one: Region, other: Region) -> bool:
    return (
        one.labels == other.labels
        and (one.to_name, one.item_index) == (other.to_name, other.item_index)
        and same_geometry(one.value, other.value)
    )


def measure_anchoring(
    key: ImageKey,
    size_px: tuple[int, int],
    drawings: Sequence[Drawing],
    classes: Sequence[str],
    prelabels: Sequence[tuple[Region, ...] | None],
    taxonomy: Taxonomy,
) -> ImageAnchoring | None:
    """Count what the pairs of one image changed; None where no pair shares a pre-label.

    Args:
        key: the image.
        size_px: its (height, width).
        drawings: one an annotator.
        classes: C names.
        prelabels: one a pair, see `shared_prelabels`.
        taxonomy: what the labels of the pre-label mean.
    """
    if not classes or all(one is None for one in prelabels):
        return None
    shape = len(prelabels), len(classes)
    changed, both, untouched = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    drawn: dict[int, Drawing] = {}  # all pairs of a task mostly share one pre-label
    empty = Mask.empty(*size_px)
    for pair, (i, j) in enumerate(combinations(range(len(drawings)), 2)):
        regions = prelabels[pair]
        if regions is None:
            continue
        if id(regions) not in drawn:
            drawn[id(regions)] = _draw(regions, key, size_px, taxonomy)
        for column, name in enumerate(classes):
            p, a, b = (
                one.class_masks.get(name, empty)
                for one in (drawn[id(regions)], drawings[i], drawings[j])
            )
            change_a, change_b = a ^ p, b ^ p
            changed[pair, column] = (change_a | change_b).area_px
            both[pair, column] = (change_a & change_b).area_px
            untouched[pair, column] = (a & b & p).area_px
    return ImageAnchoring(tuple(one is not None for one in prelabels), changed, both, untouched)


def _draw(
    regions: Iterable[Region], key: ImageKey, size_px: tuple[int, int], taxonomy: Taxonomy
) -> Drawing:
    on_image = [one for one in regions if (one.to_name, one.item_index) == tuple(key)]
    drawing, _ = draw(on_image, taxonomy, *size_px, Place(0, None))
    return NOTHING if drawing is None else drawing


@dataclass(slots=True)
class AnchoringSums:
    """Agreement of a batch on what people decided, and with and without a model's help."""

    pairs: Counter[str] = field(default_factory=Counter)
    shared_pairs: int = 0
    agreed_px: Counter[str] = field(default_factory=Counter)
    untouched_px: Counter[str] = field(default_factory=Counter)
    changed_px: Counter[str] = field(default_factory=Counter)
    both_changed_px: Counter[str] = field(default_factory=Counter)
    intersection_px: Counter[tuple[str, str]] = field(default_factory=Counter)
    union_px: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(
        self,
        classes: Sequence[str],
        intersections_px: Int64Array,
        unions_px: Int64Array,
        assisted: Sequence[bool | None],
        anchoring: ImageAnchoring | None,
    ) -> None:
        """Add one image: pixels of each pair and class, shape (P, C).

        ``assisted`` says who had a model's help, None of a rater that is a model: it decides
        nothing, so its pairs are left out.
        """
        helped = list(combinations(assisted, 2))
        people = [row for row, pair in enumerate(helped) if None not in pair]
        groups = [_assistance(helped[row]) for row in people]
        changed, both = unions_px, intersections_px
        untouched = np.zeros_like(intersections_px)
        if anchoring is not None:
            is_shared = np.array(anchoring.shared)[:, None]
            changed = np.where(is_shared, anchoring.changed_px, unions_px)
            both = np.where(is_shared, anchoring.both_changed_px, intersections_px)
            untouched = anchoring.untouched_px
            self.shared_pairs += sum(anchoring.shared[row] for row in people)
        intersections_px, unions_px = intersections_px[people], unions_px[people]
        changed, both, untouched = changed[people], both[people], untouched[people]
        self.pairs.update(groups)
        for column, name in enumerate(classes):
            self.agreed_px[name] += int(intersections_px[:, column].sum())
            self.untouched_px[name] += int(untouched[:, column].sum())
            self.changed_px[name] += int(changed[:, column].sum())
            self.both_changed_px[name] += int(both[:, column].sum())
            for row, group in enumerate(groups):
                self.intersection_px[group, name] += int(intersections_px[row, column])
                self.union_px[group, name] += int(unions_px[row, column])

    def merge(self, other: AnchoringSums) -> None:
        """Add the sums of another part of the batch."""
        self.pairs.update(other.pairs)
        self.shared_pairs += other.shared_pairs
        for mine, theirs in (
            (self.agreed_px, other.agreed_px),
            (self.untouched_px, other.untouched_px),
            (self.changed_px, other.changed_px),
            (self.both_changed_px, other.both_changed_px),
        ):
            mine.update(theirs)
        self.intersection_px.update(other.intersection_px)
        self.union_px.update(other.union_px)

    def class_json(self, name: str) -> dict[str, Any]:
        """Agreement on what people decided about one class."""
        return {
            "iou": _ratio(self.both_changed_px[name], self.changed_px[name]),
            "untouched_share": _ratio(self.untouched_px[name], self.agreed_px[name]),
        }

    def as_json(self) -> dict[str, Any]:
        """The same of the batch: means over the classes that have a value, and by assistance."""
        names = sorted(self.agreed_px)
        return {
            "shared_pairs": self.shared_pairs,
            "untouched_share": _ratio(self.untouched_px.total(), self.agreed_px.total()),
            "miou_decided": mean_without_none(self.class_json(name)["iou"] for name in names),
            "by_assistance": {
                group: {
                    "pairs": self.pairs[group],
                    "miou": mean_without_none(
                        _ratio(self.intersection_px[group, name], self.union_px[group, name])
                        for name in names
                    ),
                }
                for group in ASSISTANCE
            },
        }


def _assistance(helped: tuple[bool | None, ...]) -> Assistance:
    return "assisted" if all(helped) else "mixed" if any(helped) else "unassisted"


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
