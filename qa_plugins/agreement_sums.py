"""The agreement of a batch, kept as sums: tasks stream through, and two halves merge.

Definitions. Per image and pair of distinct annotators a class has IoU = |A and B| / |A or B|, null
when neither drew it. ``accumulated`` adds up intersections and unions over all pairs first;
``per_image`` is the mean of the non-null values. mIoU is the mean over the classes with a value.
Intervals resample tasks (or the clips that tasks belong to), never pairs: five annotators are one
task and not ten independent pairs. Point estimates weigh every pair alike, so an image of m people
counts m (m - 1) / 2 times; alpha weighs every person's pixel alike (m times).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qa_plugins.anchoring import AnchoringSums
from qa_plugins.disagreement import DisagreementSums, add_image
from qa_plugins.measurement import ImageMeasurement, TaskMeasurement
from qa_plugins.metrics.alpha import nominal_alpha, one_against_rest
from qa_plugins.metrics.bootstrap import REPLICATES, interval_95, unit_weights
from qa_plugins.metrics.instances import PanopticCounts
from qa_plugins.metrics.overlap import mean_without_none, ratio
from qa_plugins.overlap_sums import ClassSums, OverlapSums, PairSums, mious, sums_at

UNLABELLED = "(unlabelled)"
FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class AgreementSums:
    """Everything that the agreement of a batch needs; grows with classes and pairs, not tasks."""

    seed: int = 0
    replicates: int = REPLICATES
    tasks: int = 0
    compared_tasks: int = 0
    scored_tasks: int = 0  # of those: somebody drew something, so that there is a value
    pair_count: int = 0
    classes: dict[str, ClassSums] = field(default_factory=dict)
    pairs: dict[tuple[int, int], PairSums] = field(default_factory=dict)
    confusion_px: Counter[tuple[str, str]] = field(default_factory=Counter)
    annotations: Counter[int] = field(default_factory=Counter)
    scored: Counter[int] = field(default_factory=Counter)  # tasks with a value, by annotator
    seen: Counter[int] = field(default_factory=Counter)
    kept_out: Counter[str] = field(default_factory=Counter)
    conflicts: Counter[str] = field(default_factory=Counter)
    coincidences: dict[tuple[str, str], float] = field(default_factory=dict)  # of alpha
    disagreement: dict[str, DisagreementSums] = field(default_factory=dict)
    anchoring: AnchoringSums = field(default_factory=AnchoringSums)
    supercategories: dict[str, OverlapSums] = field(default_factory=dict)

    def add(self, task: TaskMeasurement) -> None:
        """Take one task in."""
        self.tasks += 1
        self.kept_out.update(task.kept_out)
        self.seen.update(task.seen)
        if not task.images:
            return
        self.compared_tasks += 1
        self.annotations.update(task.compared)
        drawn: dict[str, OverlapSums] = {}
        pairs: set[tuple[int, int]] = set()
        scored: set[int] = set()
        for image in task.images:
            self._add_image(image, drawn)
            if image.disagreement is not None:
                add_image(
                    self.disagreement, image.classes, image.disagreement, task.seconds_per_object
                )
                shared, union = image.overlap.intersection_px, image.overlap.union_px
                self.anchoring.add(image.classes, shared, union, task.assisted, image.anchoring)
            pairs.update(image.pairs)
            has_value: NDArray[np.bool_] = np.any(image.overlap.union_px > 0, axis=1)
            for pair, is_scored in zip(image.pairs, has_value, strict=True):
                scored.update(pair if is_scored else ())
        self.scored_tasks += bool(scored)
        self.scored.update(scored)
        for pair in pairs:
            self.pairs[pair].tasks += 1
        weights = unit_weights(task.unit, seed=self.seed, replicates=self.replicates)
        for name, sums in drawn.items():
            of_class = self._class(name)
            of_class.tasks += 1
            of_class.overlap.add(sums)
            of_class.note_units([task.unit])
            amounts = (sums.iou_sum, sums.values, sums.intersection_px, sums.union_px)
            of_class.replicates += np.asarray(amounts, dtype=np.float64)[:, None] * weights

    def merge(self, other: AgreementSums) -> None:
        """Add the sums of another part of the batch, made with the same seed."""
        self.tasks += other.tasks
        self.compared_tasks += other.compared_tasks
        self.scored_tasks += other.scored_tasks
        self.scored.update(other.scored)
        self.pair_count += other.pair_count
        for name, sums in other.classes.items():
            self._class(name).merge(sums)
        for pair, pair_sums in other.pairs.items():
            self.pairs.setdefault(pair, PairSums()).merge(pair_sums)
        self.confusion_px.update(other.confusion_px)
        self.annotations.update(other.annotations)
        self.seen.update(other.seen)
        self.kept_out.update(other.kept_out)
        self.conflicts.update(other.conflicts)
        for key, value in other.coincidences.items():
            self.coincidences[key] = self.coincidences.get(key, 0.0) + value
        for name, disagreement in other.disagreement.items():
            self.disagreement.setdefault(name, DisagreementSums()).merge(disagreement)
        self.anchoring.merge(other.anchoring)
        for name, overlap in other.supercategories.items():
            self.supercategories.setdefault(name, OverlapSums()).add(overlap)

    def as_json(self, class_names: Sequence[str] = ()) -> dict[str, Any]:
        """Batch, classes, annotators and pairs as ``qa.json`` states them.

        ``class_names`` come first and in their order, whether or not somebody drew them.
        """
        names = list(dict.fromkeys([*class_names, *sorted(self.classes)]))
        labels, matrix = self._coincidence_matrix()
        classes = [self._class_json(name, labels, matrix) for name in names]
        return {
            "batch": {**self._batch_json(classes), "alpha": nominal_alpha(matrix)},
            "classes": classes,
            "annotators": [self._annotator_json(person) for person in sorted(self.seen)],
            "pairs": [self._pair_json(pair) for pair in sorted(self.pairs)],
            "confusion": self._confusion_json(names),
        }

    def _class(self, name: str) -> ClassSums:
        if name not in self.classes:
            self.classes[name] = ClassSums(np.zeros((4, self.replicates)))
        return self.classes[name]

    def _add_image(self, image: ImageMeasurement, drawn: dict[str, OverlapSums]) -> None:
        overlap, boundary = image.overlap, image.boundary_overlap
        iou = overlap.iou()
        pairs = image.pairs
        self.pair_count += len(pairs)
        self.conflicts.update(conflict["type"] for conflict in image.conflicts)
        for row, pair in enumerate(pairs):
            of_pair = self.pairs.setdefault(pair, PairSums())
            for column, name in enumerate(image.classes):
                if not np.isnan(iou[row, column]):
                    value = sums_at(overlap, iou, row, column)
                    of_pair.of(name).add(value)
                    drawn.setdefault(name, OverlapSums()).add(value)
        labels = (*image.classes, UNLABELLED)
        for i, j in zip(*np.nonzero(image.confusion_px), strict=True):
            self.confusion_px[labels[i], labels[j]] += int(image.confusion_px[i, j])
        self._add_coincidences(image, labels)
        self._add_supercategories(image)
        for column, name in enumerate(image.classes):
            sums = self._class(name)
            sums.pixels += int(image.areas_px[:, column].sum())
            sums.boundary.add(
                OverlapSums(
                    int(boundary.intersection_px[:, column].sum()),
                    int((boundary.area_a_px + boundary.area_b_px)[:, column].sum()),
                )
            )
            counts = image.panoptic_counts[:, column].sum(axis=0)
            sums.panoptic += PanopticCounts(
                int(counts[0]), int(counts[1]), int(counts[2]),
                float(image.panoptic_iou[:, column].sum()),
            )  # fmt: skip

    def supercategories_json(self, members: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """Agreement of each supercategory, whose classes ``members`` names."""
        found = []
        for name, classes in members.items():
            sums = self.supercategories.get(name, OverlapSums())
            iou = {"accumulated": sums.accumulated, "per_image": sums.per_image}
            found.append({"name": name, "classes": [*classes], "iou": iou, "dice": sums.dice})
        return found

    def _add_supercategories(self, image: ImageMeasurement) -> None:
        if image.supercategory_overlap is None:
            return
        names, overlap = image.supercategory_overlap
        iou = overlap.iou()
        for row, column in zip(*np.nonzero(~np.isnan(iou)), strict=True):
            value = sums_at(overlap, iou, int(row), int(column))
            self.supercategories.setdefault(names[column], OverlapSums()).add(value)

    def _add_coincidences(self, image: ImageMeasurement, labels: Sequence[str]) -> None:
        matrix = image.confusion_px.astype(np.float64)
        matrix[-1, -1] += 2 * image.unlabelled_px
        matrix /= max(1, len(image.annotators) - 1)
        for i, j in zip(*np.nonzero(matrix), strict=True):
            key = labels[i], labels[j]
            self.coincidences[key] = self.coincidences.get(key, 0.0) + float(matrix[i, j])

    def _coincidence_matrix(self) -> tuple[list[str], FloatArray]:
        labels = sorted({label for key in self.coincidences for label in key})
        matrix = [
            [self.coincidences.get((row, column), 0.0) for column in labels] for row in labels
        ]
        return labels, np.array(matrix).reshape(len(labels), len(labels))

    def _class_json(self, name: str, labels: Sequence[str], matrix: FloatArray) -> dict[str, Any]:
        sums = self.classes.get(name) or ClassSums(np.zeros((4, self.replicates)))
        per_image, accumulated = self._class_replicates(sums)
        return {
            "name": name,
            "iou": {
                "accumulated": sums.overlap.accumulated,
                "per_image": sums.overlap.per_image,
                "ci95": _interval(per_image, sums.units),
                "ci95_accumulated": _interval(accumulated, sums.units),
            },
            "dice": sums.overlap.dice,
            "boundary_iou": sums.boundary.accumulated,
            "pq": sums.panoptic.panoptic_quality,
            "sq": sums.panoptic.segmentation_quality,
            "f1": sums.panoptic.f1,
            "tasks": sums.tasks,
            "pixels": sums.pixels,
            "disagreement": self.disagreement.get(name, DisagreementSums()).as_json(),
            "decided": self.anchoring.class_json(name),
            "alpha": one_against_rest(matrix, labels.index(name)) if name in labels else None,
        }

    def _batch_json(self, classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        drawn = [sums for sums in self.classes.values() if sums.overlap.values]
        per_image, accumulated = (
            _mean_of_rows([self._class_replicates(sums)[which] for sums in drawn])
            for which in (0, 1)
        )
        units = set().union(*(sums.units for sums in drawn))
        measured = len(self.annotations)
        return {
            "tasks": self.tasks,
            "compared_tasks": self.compared_tasks,
            "scored_tasks": self.scored_tasks,
            "pairs": self.pair_count,
            "miou": {
                "accumulated": mean_without_none(one["iou"]["accumulated"] for one in classes),
                "per_image": mean_without_none(one["iou"]["per_image"] for one in classes),
                "ci95": _interval(per_image, units),
                "ci95_accumulated": _interval(accumulated, units),
            },
            **{
                metric: mean_without_none(one[metric] for one in classes)
                for metric in ("dice", "boundary_iou", "pq", "f1")
            },
            "kept_out": dict(sorted(self.kept_out.items())),
            "conflicts": dict(sorted(self.conflicts.items())),
            "disagreement": self._whole_disagreement().as_json(),
            "anchoring": self.anchoring.as_json(),
            "coverage": {
                "annotators": len(self.seen),
                "annotators_compared": measured,
                "pairs_possible": len(self.seen) * (len(self.seen) - 1) // 2,
                "pairs_compared": len(self.pairs),
            },
        }

    def _whole_disagreement(self) -> DisagreementSums:
        whole = DisagreementSums()
        for sums in self.disagreement.values():
            whole.merge(sums)
        return whole

    def _class_replicates(self, sums: ClassSums) -> tuple[FloatArray, FloatArray]:
        iou_sum, values, intersection, union = sums.replicates
        return ratio(iou_sum, values), ratio(intersection, union)

    def _annotator_json(self, person: int) -> dict[str, Any]:
        together = PairSums()
        for pair, sums in self.pairs.items():
            if person in pair:
                together.merge(sums)
        return {
            "id": person,
            "tasks": self.annotations[person],
            "scored_tasks": self.scored[person],
            "annotations": self.seen[person],
            "miou": mious(together),
        }

    def _pair_json(self, pair: tuple[int, int]) -> dict[str, Any]:
        sums = self.pairs[pair]
        means = mious(sums)
        return {
            "a": pair[0],
            "b": pair[1],
            "miou": means["accumulated"],
            "miou_per_image": means["per_image"],
            "tasks": sums.tasks,
            "classes": {
                name: sums.classes[name].accumulated
                for name in sorted(sums.classes)
            },
        }  # fmt: skip

    def _confusion_json(self, names: Sequence[str]) -> dict[str, Any]:
        labels = [name for name in names if name in self.classes]
        labels.append(UNLABELLED)
        return {
            "labels": labels,
            "pixels": [[self.confusion_px[row, column] for column in labels] for row in labels],
        }


def _mean_of_rows(rows: Sequence[FloatArray]) -> FloatArray:
    """Mean over classes in each replicate, over the classes that it has; NaN where it has none."""
    if not rows:
        return np.full(1, np.nan)
    table = np.stack(rows)
    return ratio(np.nansum(table, axis=0), (~np.isnan(table)).sum(axis=0))


def _interval(replicates: FloatArray, units: set[str]) -> list[float] | None:
    interval = interval_95(replicates) if len(units) > 1 else None
    return None if interval is None else list(interval)
