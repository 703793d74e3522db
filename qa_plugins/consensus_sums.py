"""What the check ``consensus`` measures of a task, and its sums over a batch or a subset of it.

An annotator's IoU is to the majority of the others. That of the batch adds up everybody's pixels
class by class (``accumulated``), or is the mean of the values of images (``per_image``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qa_plugins.consensus_files import PAGE_SIDE_PX, png_uri
from qa_plugins.metrics.overlap import mean_without_none

PICTURES: Final = 6
LISTED: Final = 5_000

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassVotes:
    """One class on one image: areas in pixels, and the annotators' rows of `_COLUMNS`.

    ``people`` has shape (annotators, 6): pixels shared with the majority of the others and joint
    with it; expected true positives and positives, true negatives and negatives under STAPLE.
    """

    name: str
    any_px: int
    unanimous_px: int
    majority_px: int
    staple_px: int
    people: FloatArray


@dataclass(frozen=True, slots=True)
class ImageConsensus:
    """One image: who drew it, its classes, its objects by quorum, its pictures as PNG files."""

    stem: str
    size_px: tuple[int, int]
    classes: tuple[ClassVotes, ...]
    split: float
    objects_agreed: Mapping[str, int]
    objects_without_majority: int
    labels_png: bytes
    heat_png: bytes
    page_png: bytes


@dataclass(frozen=True, slots=True)
class TaskConsensus:
    """One task; ``raw`` is the task with its consensus where that was asked for."""

    task_id: int
    annotators: tuple[int, ...]
    images: tuple[ImageConsensus, ...]
    raw: Mapping[str, Any] | None = None
    not_written: str = ""
    subsets: tuple[int, ...] = ()
    place: str = ""


@dataclass(slots=True)
class OthersSums:
    """One annotator and class: pixels shared with the majority of the others and joint with it."""

    shared_px: int = 0
    joint_px: int = 0
    iou_sum: float = 0.0
    images: int = 0
    tasks: int = 0

    def add(self, shared_px: int, joint_px: int) -> None:
        """Add one image on which the annotator or the others have the class."""
        self.shared_px += shared_px
        self.joint_px += joint_px
        self.iou_sum += shared_px / joint_px
        self.images += 1

    def merge(self, other: OthersSums) -> None:
        """Add another annotator's sums; tasks are counted where they are known to be others."""
        self.shared_px += other.shared_px
        self.joint_px += other.joint_px
        self.iou_sum += other.iou_sum
        self.images += other.images

    def as_json(self) -> dict[str, float | None]:
        """Return the IoU, accumulated and per image; null where nobody has the class."""
        return {
            "accumulated": _ratio(self.shared_px, self.joint_px),
            "per_image": _ratio(self.iou_sum, self.images),
        }


@dataclass(slots=True)
class AgainstOthers:
    """Everybody's IoU to the majority of the others, by class and task; what gates are judged on.

    ``compared`` has for each annotator the tasks with the IoU of each class.
    """

    tasks: int = 0
    sums: dict[tuple[int, str], OthersSums] = field(default_factory=dict)
    compared: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, measurement: TaskConsensus) -> None:
        """Take in one task; one without a consensus says nothing."""
        if not measurement.images:
            return
        self.tasks += 1
        for place, person in enumerate(measurement.annotators):
            of_task: dict[str, OthersSums] = {}
            for image in measurement.images:
                for one in image.classes:
                    shared_px, joint_px = (int(value) for value in one.people[place, :2])
                    if joint_px:
                        of_task.setdefault(one.name, OthersSums()).add(shared_px, joint_px)
            for name, found in of_task.items():
                sums = self.sums.setdefault((person, name), OthersSums())
                sums.merge(found)
                sums.tasks += 1
            entry = _task_entry(measurement.task_id, person, of_task)
            self.compared.setdefault(person, []).append(entry)

    def as_json(self, people: Mapping[tuple[int, str], FloatArray]) -> dict[str, Any]:
        """Return the batch and the annotators; ``people`` is `ConsensusSums.people`."""
        pooled: dict[str, OthersSums] = {}
        for (_, name), sums in self.sums.items():
            pooled.setdefault(name, OthersSums()).merge(sums)
        return {
            "batch": {
                "compared_tasks": self.tasks,
                "scored_tasks": len(
                    {
                        entry["id"]
                        for entries in self.compared.values()
                        for entry in entries
                        if entry["miou"] is not None
                    }
                ),
                "miou": _means(pooled.values()),
            },
            "annotators": [
                {
                    "id": person,
                    "tasks": len(self.compared[person]),
                    "scored_tasks": sum(
                        entry["miou"] is not None for entry in self.compared[person]
                    ),
                    "miou": _means(sums for (who, _), sums in self.sums.items() if who == person),
                    "classes": [
                        self._class_json(person, name, row)
                        for (who, name), row in sorted(people.items())
                        if who == person
                    ],
                    "compared": self.compared[person],
                }
                for person in sorted(self.compared)
            ],
        }

    def _class_json(self, person: int, name: str, row: FloatArray) -> dict[str, Any]:
        sums = self.sums.get((person, name), OthersSums())
        return {
            "name": name,
            "images": int(row[0]),
            "tasks": sums.tasks,
            "iou": sums.as_json(),
            **_person_scores(row[1:]),
        }


def _task_entry(task_id: int, person: int, classes: Mapping[str, OthersSums]) -> dict[str, Any]:
    """One task of one annotator: each class is the mean over the task's images."""
    values = {name: sums.iou_sum / sums.images for name, sums in sorted(classes.items())}
    return {
        "id": task_id,
        "annotators": [person],
        "miou": mean_without_none(values.values()),
        "worst_class": min(values, key=lambda name: (values[name], name)) if values else None,
        "classes": values,
    }


def _means(sums: Iterable[OthersSums]) -> dict[str, float | None]:
    known = [one.as_json() for one in sums]
    return {
        key: mean_without_none(one[key] for one in known) for key in ("accumulated", "per_image")
    }


@dataclass(slots=True)
class ConsensusSums:
    """Sums over the batch: areas and images by class, `ClassVotes.people` by person and class."""

    tasks: int = 0
    with_consensus: int = 0
    images: int = 0
    split: float = 0.0
    lost_objects: int = 0
    areas: dict[str, FloatArray] = field(default_factory=dict)
    objects: Counter[str] = field(default_factory=Counter)
    people: dict[tuple[int, str], FloatArray] = field(default_factory=dict)
    others: AgainstOthers = field(default_factory=AgainstOthers)
    listed: list[dict[str, Any]] = field(default_factory=list)
    disputed: list[tuple[float, int, str, ImageConsensus]] = field(default_factory=list)
    not_written: list[str] = field(default_factory=list)
    pairs_only: bool = True

    def add(self, measurement: TaskConsensus) -> None:
        """Take in one task."""
        self.tasks += 1
        self.with_consensus += bool(measurement.images)
        if measurement.not_written:
            self.not_written.append(measurement.not_written)
        self.others.add(measurement)
        for image in measurement.images:
            self.images += 1
            self.split += image.split
            self.lost_objects += image.objects_without_majority
            self.objects.update(image.objects_agreed)
            self.pairs_only &= len(measurement.annotators) < 3
            for one in image.classes:
                areas = [1, one.any_px, one.unanimous_px, one.majority_px, one.staple_px]
                self.areas[one.name] = self.areas.get(one.name, np.zeros(5)) + np.array(areas)
                for person, row in zip(measurement.annotators, one.people, strict=True):
                    before = self.people.get((person, one.name), np.zeros(7))
                    self.people[person, one.name] = before + np.array([1, *row])
            if len(self.listed) < LISTED:
                self.listed.append(_image_entry(measurement, image))
            self._keep_disputed(measurement, image)

    def _keep_disputed(self, measurement: TaskConsensus, image: ImageConsensus) -> None:
        """Keep the images whose votes are split most, one of neighbouring frames."""
        alone = measurement.place in ("", f"task={measurement.task_id}")
        place = image.stem if alone else measurement.place
        self.disputed.append((image.split, measurement.task_id, place, image))
        self.disputed.sort(key=lambda entry: (-entry[0], entry[1], entry[3].stem))
        first = {entry[2]: entry for entry in reversed(self.disputed)}
        self.disputed = [one for one in self.disputed if first[one[2]] is one][:PICTURES]

    def as_json(self) -> dict[str, Any]:
        """Return the summary as ``qa.json`` has it, but for the files."""
        return {
            "tasks": self.tasks,
            "tasks_with_consensus": self.with_consensus,
            "tasks_without": self.tasks - self.with_consensus,
            "images": self.images,
            "split": self.split / self.images if self.images else None,
            "two_annotators_at_most": bool(self.images) and self.pairs_only,
            "objects_without_majority": self.lost_objects,
            "classes": [
                {
                    "name": name,
                    "images": int(areas[0]),
                    "unanimous_share": _ratio(areas[2], areas[1]),
                    "majority_share": _ratio(areas[3], areas[1]),
                    "staple_share": _ratio(areas[4], areas[1]),
                    "objects_agreed": self.objects[name],
                }
                for name, areas in sorted(self.areas.items())
            ],
            **self.others.as_json(self.people),
            "listed_images": self.listed,
            "images_not_listed": self.images - len(self.listed),
            "most_disputed": [
                {"task": task_id, "split": split, **_page_picture(image)}
                for split, task_id, _, image in self.disputed
                if split > 0
            ],
            "tasks_not_written": self.not_written,
        }


def _image_entry(measurement: TaskConsensus, image: ImageConsensus) -> dict[str, Any]:
    return {
        "task": measurement.task_id,
        "file": f"{image.stem}.png",
        "split": image.split,
        "objects_without_majority": image.objects_without_majority,
        "classes": [
            {
                "name": one.name,
                "majority_px": one.majority_px,
                "staple_px": one.staple_px,
                "annotators": [
                    {"id": person, **_person_scores(row)}
                    for person, row in zip(measurement.annotators, one.people, strict=True)
                ],
            }
            for one in image.classes
        ],
    }


def _page_picture(image: ImageConsensus) -> dict[str, Any]:
    height_px, width_px = image.size_px
    scale = min(1.0, PAGE_SIDE_PX / max(height_px, width_px))
    return {
        "uri": png_uri(image.page_png),
        "width_px": max(1, round(width_px * scale)),
        "height_px": max(1, round(height_px * scale)),
    }


def _person_scores(row: FloatArray) -> dict[str, float | None]:
    return {
        "iou_to_others": _ratio(row[0], row[1]),
        "sensitivity": _ratio(row[2], row[3]),
        "specificity": _ratio(row[4], row[5]),
    }


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None
