"""Keeps the few tasks of a stream that are worth a picture, and lets all others go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qa_plugins.edge_notes import EdgeNotes
from qa_plugins.measurement import TaskMeasurement
from segstudio.tasks import Task


@dataclass(slots=True)
class WorstTasks:
    """For each class the few tasks where it is lowest, and with them the lowest of all.

    The pictures of neighbouring frames say the same thing six times, so that no class that is the
    worst of its task gets more than ``per_class`` of the pictures.
    """

    limit: int = 6
    per_class: int = 2
    _of_class: dict[str, list[tuple[float, int, float, str, Task]]] = field(default_factory=dict)

    def offer(self, task: Task, entry: Mapping[str, Any]) -> None:
        """Look at one task with its entry of ``tasks``."""
        if entry["miou"] is None:
            return
        for name, value in entry["classes"].items():
            kept = self._of_class.setdefault(name, [])
            kept.append((value, task.id, entry["miou"], entry["worst_class"], task))
            kept.sort(key=lambda item: item[:2])
            del kept[self.per_class :]

    def chosen(self, classes: list[str]) -> list[tuple[Task, str]]:
        """The tasks to show with the reason: the lowest, then the lowest of each given class."""
        kept = {item[1]: item for items in self._of_class.values() for item in items}
        shown: dict[int, tuple[Task, str]] = {}
        taken: Counter[str] = Counter()
        for _, task_id, miou, worst_class, task in sorted(
            kept.values(), key=lambda item: (item[2], item[1])
        ):
            if len(shown) == self.limit or miou >= 1.0:
                break
            if taken[worst_class] < self.per_class:
                taken[worst_class] += 1
                shown[task_id] = (task, "one of the lowest of the batch")
        for name in classes if self.limit else ():
            for value, task_id, _, _, task in self._of_class.get(name, ())[:1]:
                if value < 1.0:
                    shown.setdefault(task_id, (task, f"the lowest for {name}"))
        return list(shown.values())


@dataclass(slots=True)
class TasksByKey:
    """For each key (a class, a person) the few tasks of the highest score, bounded in all.

    ``per_unit`` keeps neighbouring frames of one clip from saying the same thing; where more than
    ``limit`` tasks would be kept together, the keys that have most of them give the least away.
    """

    per_key: int
    limit: int = 48
    per_unit: int = 2
    _kept: dict[Any, list[tuple[float, int, str, Task]]] = field(default_factory=dict)

    def offer(self, key: Any, score: float, task: Task, unit: str = "") -> None:
        """Look at one task; a score of 0 or less is not kept."""
        if score <= 0 or not self.per_key:
            return
        items = self._kept.setdefault(key, [])
        items.append((score, task.id, unit or f"task={task.id}", task))
        items.sort(key=lambda item: (-item[0], item[1]))
        seen: Counter[str] = Counter()
        kept = []
        for item in items:
            seen[item[2]] += 1
            if seen[item[2]] <= self.per_unit:
                kept.append(item)
        items[:] = kept[: self.per_key]
        while len({item[1] for kept in self._kept.values() for item in kept}) > self.limit:
            longest = max(self._kept.values(), key=len)
            longest.pop()

    def of(self, key: Any) -> list[tuple[Task, float]]:
        """The tasks kept for a key with their scores, the highest first."""
        return [(task, score) for score, _, _, task in self._kept.get(key, [])]

    def by_task(self) -> list[tuple[Task, list[Any]]]:
        """Each kept task once, by its id, with the keys that it was kept for."""
        tasks: dict[int, tuple[Task, list[Any]]] = {}
        for key, items in self._kept.items():
            for _, task_id, _, task in items:
                tasks.setdefault(task_id, (task, []))[1].append(key)
        return [tasks[task_id] for task_id in sorted(tasks)]


def disputed_px(measurement: TaskMeasurement) -> dict[str, int]:
    """For each class the pixels that the two people who differ most gave to it differently."""
    found: Counter[str] = Counter()
    for image in measurement.images:
        overlap = image.overlap
        differ = overlap.area_a_px + overlap.area_b_px - 2 * overlap.intersection_px
        for column, name in enumerate(image.classes):
            found[name] += int(differ[:, column].max(initial=0))
    return dict(found)


def distance_to_others(measurement: TaskMeasurement) -> dict[int, float]:
    """For each annotator 1 minus the mean IoU with the others on this task, over the classes."""
    values: dict[int, list[float]] = {}
    for image in measurement.images:
        for pair, row in zip(image.pairs, image.overlap.iou(), strict=True):
            known = [float(value) for value in row if value == value]  # NaN: neither drew it
            for person in pair:
                values.setdefault(person, []).extend(known)
    return {person: 1 - sum(known) / len(known) for person, known in values.items() if known}


@dataclass(slots=True)
class Kept:
    """What a run keeps of its tasks for the page: pictures, disputed places, notes."""

    worst: WorstTasks
    disputed: TasksByKey
    of_person: TasksByKey
    notes: EdgeNotes = field(default_factory=EdgeNotes)

    def offer(self, task: Task, measurement: TaskMeasurement) -> None:
        """Look at one measured task."""
        self.worst.offer(task, measurement.entry)
        for name, pixels in disputed_px(measurement).items():
            self.disputed.offer(name, pixels, task, measurement.unit)
        if self.of_person.per_key:
            for person, distance in distance_to_others(measurement).items():
                self.of_person.offer(person, distance, task, measurement.unit)
