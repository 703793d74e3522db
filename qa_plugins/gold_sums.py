"""Sums of the check ``gold``: everybody's figures by class, readiness and drift.

Each annotator is one pair with the gold; the batch is all of these pairs together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from qa_plugins.agreement_sums import AgreementSums
from qa_plugins.measurement import ImageMeasurement, TaskMeasurement
from qa_plugins.metrics.average_precision import ImageObjects, average_precision
from qa_plugins.metrics.overlap import mean_without_none
from qa_plugins.metrics.significance import trend_test

GOLD_ID: Final = -1
"""Stands for the gold where the agreement's sums want an annotator; no user has it."""

SIGNIFICANT: Final = 0.05
MIN_DRIFT: Final = 0.03


@dataclass(frozen=True, slots=True)
class OutlineError:
    """One matched object: how far its outline lies from the gold's, and how much wider it is."""

    class_name: str
    distance_px: float | None
    offset_px: float | None


@dataclass(frozen=True, slots=True, eq=False)
class GoldComparison:
    """One annotator on one task against its gold."""

    annotator_id: int
    measurement: TaskMeasurement
    objects: tuple[ImageObjects, ...]
    outlines: tuple[OutlineError, ...]
    when: str


@dataclass(slots=True)
class _Person:
    sums: AgreementSums
    objects: list[ImageObjects] = field(default_factory=list)
    outlines: list[OutlineError] = field(default_factory=list)
    history: list[tuple[str, int, float]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class GoldSums:
    """What is known of a batch or a subset of it: the batch as a whole, and each annotator."""

    pooled: AgreementSums = field(default_factory=AgreementSums)
    people: dict[int, _Person] = field(default_factory=dict)
    gold_tasks: int = 0

    def add(self, comparisons: Sequence[GoldComparison]) -> None:
        """Take in everybody's comparison with the gold of one task."""
        self.gold_tasks += 1
        for one in comparisons:
            person = self.people.setdefault(one.annotator_id, _Person(AgreementSums()))
            person.sums.add(one.measurement)
            person.objects += one.objects
            person.outlines += one.outlines
            person.entries.append(one.measurement.entry)
            miou = one.measurement.entry["miou"]
            if miou is not None:
                person.history.append((one.when, one.measurement.task_id, miou))
        if comparisons:
            self.pooled.add(_pooled(comparisons))

    def as_json(self, names: Sequence[str], ready_iou: float, ready_tasks: int) -> dict[str, Any]:
        """The figures of the batch and of each annotator; classes in the order of ``names``."""
        batch = self.pooled.as_json(names)["batch"]
        kept = ("compared_tasks", "scored_tasks", "miou", "dice", "boundary_iou", "pq", "f1")
        return {
            "gold_tasks": self.gold_tasks,
            "batch": {key: batch[key] for key in kept},
            "annotators": [
                _person_json(number, self.people[number], names, ready_iou, ready_tasks)
                for number in sorted(self.people)
            ],
        }


def _pooled(comparisons: Sequence[GoldComparison]) -> TaskMeasurement:
    """One task with everybody's pair with the gold, so that the task is resampled as one."""
    first = comparisons[0].measurement
    people = tuple(one.annotator_id for one in comparisons)
    images: list[ImageMeasurement] = [
        image for one in comparisons for image in one.measurement.images
    ]
    return TaskMeasurement(
        first.task_id, (GOLD_ID, *people), people, tuple(images), {}, (), first.unit, {}
    )


def _person_json(
    number: int, person: _Person, names: Sequence[str], ready_iou: float, ready_tasks: int
) -> dict[str, Any]:
    sums = person.sums.as_json(names)
    precisions = average_precision(person.objects, names)
    classes = []
    for one in sums["classes"]:
        errors = [error for error in person.outlines if error.class_name == one["name"]]
        classes.append(
            {
                **one,
                "outline_distance_px": mean_without_none(error.distance_px for error in errors),
                "offset_px": mean_without_none(error.offset_px for error in errors),
                "ap": asdict(precisions[one["name"]])
                if one["name"] in precisions
                else {"at_50": None, "at_75": None, "at_50_to_95": None},
            }
        )
    return {
        "id": number,
        "tasks": sums["batch"]["compared_tasks"],
        "scored_tasks": sums["batch"]["scored_tasks"],
        "miou": sums["batch"]["miou"],
        "classes": classes,
        "readiness": _judge(classes, sums["batch"]["compared_tasks"], ready_iou, ready_tasks),
        "drift": _drift_of(person.history),
        "compared": [_compared_task(entry, number) for entry in person.entries],
    }


def _compared_task(entry: dict[str, Any], person: int) -> dict[str, Any]:
    kept = ("id", "miou", "mdice", "worst_class", "classes", "classes_dice")
    return {**{key: entry[key] for key in kept}, "annotators": [person]}


def _judge(
    classes: Sequence[dict[str, Any]], tasks: int, ready_iou: float, ready_tasks: int
) -> dict[str, Any]:
    """Ready, not ready (a class is below), or open (too few tasks, or too wide an interval)."""
    failing, unsure, has_value = [], [], False
    for one in classes:
        value, interval = one["iou"]["per_image"], one["iou"]["ci95"]
        if value is None:
            continue
        has_value = True
        if value < ready_iou:
            failing.append(one["name"])
        elif one["tasks"] < ready_tasks or interval is None or interval[0] < ready_iou:
            unsure.append(one["name"])
    if tasks < ready_tasks or not has_value:
        verdict = "open"
    elif failing:
        verdict = "not ready"
    else:
        verdict = "open" if unsure else "ready"
    return {"verdict": verdict, "below": failing, "unsure": unsure}


def _drift_of(history: Sequence[tuple[str, int, float]]) -> dict[str, Any]:
    """Whether the mean IoU against gold moves with time, and from where to where."""
    ordered = [value for _, _, value in sorted(history)]
    third = max(1, len(ordered) // 3)
    p_value = trend_test(ordered)
    start, end = mean_without_none(ordered[:third]), mean_without_none(ordered[-third:])
    moved = start is not None and end is not None and abs(end - start) >= MIN_DRIFT
    return {
        "tasks": len(ordered),
        "first_third": start,
        "last_third": end,
        "p_value": p_value,
        "is_significant": bool(p_value is not None and p_value < SIGNIFICANT and moved),
    }
