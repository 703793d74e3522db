"""Keeps the few worst tasks of a stream, for their pictures, and lets all others go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
