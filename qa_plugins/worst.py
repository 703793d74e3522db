"""Keeps the few tasks of a stream that are worth a picture, and lets all others go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qa_plugins.edge_notes import EdgeNotes
from qa_plugins.measurement import TaskMeasurement
from segstudio.tasks import Task


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A task as it stands for one class: the class's IoU, and the task's mean and worst class."""

    value: float
    task_id: int
    miou: float
    worst_class: str
    task: Task
    place: str


@dataclass(slots=True)
class WorstTasks:
    """For each class the few tasks where it is lowest, and with them the lowest of all.

    No class that is the worst of its task gets more than ``per_class`` of the pictures, and of
    neighbouring frames, which say the same thing twice, only the lowest one is kept.
    """

    limit: int = 6
    per_class: int = 2
    _of_class: dict[str, list[_Candidate]] = field(default_factory=dict)

    def offer(self, task: Task, entry: Mapping[str, Any], place: str = "") -> None:
        """Look at one task with its entry of ``tasks``; neighbours have the same ``place``."""
        if entry["miou"] is None:
            return
        for name, value in entry["classes"].items():
            kept = self._of_class.setdefault(name, [])
            kept.append(
                _Candidate(
                    value, task.id, entry["miou"], entry["worst_class"], task,
                    place or f"task={task.id}",
                )
            )  # fmt: skip
            kept.sort(key=lambda one: (one.value, one.task_id))
            lowest = {one.place: one for one in reversed(kept)}
            kept[:] = [one for one in kept if lowest[one.place] is one][: self.per_class]

    def chosen(self, classes: list[str]) -> list[tuple[Task, str]]:
        """The tasks to show with the reason: the lowest, then the lowest of each given class."""
        kept = {one.task_id: one for of_class in self._of_class.values() for one in of_class}
        shown: dict[int, tuple[Task, str]] = {}
        taken: Counter[str] = Counter()
        places: set[str] = set()
        for one in sorted(kept.values(), key=lambda one: (one.miou, one.task_id)):
            if len(shown) == self.limit or one.miou >= 1.0:
                break
            if taken[one.worst_class] < self.per_class and one.place not in places:
                taken[one.worst_class] += 1
                places.add(one.place)
                shown[one.task_id] = (one.task, "one of the lowest of the batch")
        for name in classes if self.limit else ():
            for one in self._of_class.get(name, ())[:1]:
                if one.value < 1.0:
                    shown.setdefault(one.task_id, (one.task, f"the lowest for {name}"))
        return list(shown.values())


@dataclass(slots=True)
class TasksByKey:
    """For each key (a class, a person) the few tasks of the highest score, bounded in all.

    ``per_place`` keeps neighbouring frames of one clip from saying the same thing; where more than
    ``limit`` tasks would be kept together, the keys that have most of them give the least away.
    """

    per_key: int
    limit: int = 48
    per_place: int = 1
    _kept: dict[Any, list[tuple[float, int, str, Task]]] = field(default_factory=dict)

    def offer(self, key: Any, score: float, task: Task, place: str = "") -> None:
        """Look at one task; a score of 0 or less is not kept."""
        if score <= 0 or not self.per_key:
            return
        items = self._kept.setdefault(key, [])
        items.append((score, task.id, place or f"task={task.id}", task))
        items.sort(key=lambda item: (-item[0], item[1]))
        seen: Counter[str] = Counter()
        kept = []
        for item in items:
            seen[item[2]] += 1
            if seen[item[2]] <= self.per_place:
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

    def offer(self, task: Task, measurement: TaskMeasurement, place: str) -> None:
        """Look at one measured task; neighbouring frames have the same ``place``."""
        self.worst.offer(task, measurement.entry, place)
        for name, pixels in disputed_px(measurement).items():
            self.disputed.offer(name, pixels, task, place)
        if self.of_person.per_key:
            for person, distance in distance_to_others(measurement).items():
                self.of_person.offer(person, distance, task, place)
