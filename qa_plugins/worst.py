"""Keeps the few worst tasks of a stream, for their pictures, and lets all others go."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segstudio.tasks import Task


@dataclass(slots=True)
class WorstTasks:
    """The tasks with the lowest mIoU, and for each class the task where it is lowest."""

    limit: int = 6
    _lowest: list[tuple[float, int, Task]] = field(default_factory=list)
    _of_class: dict[str, tuple[float, int, Task]] = field(default_factory=dict)

    def offer(self, task: Task, entry: Mapping[str, Any]) -> None:
        """Look at one task with its entry of ``tasks``."""
        if entry["miou"] is None:
            return
        # heapq keeps its smallest item first: negated, that is the best of the worst.
        heapq.heappush(self._lowest, (-entry["miou"], -task.id, task))
        if len(self._lowest) > self.limit:
            heapq.heappop(self._lowest)
        for name, value in entry["classes"].items():
            candidate = (value, task.id, task)
            if name not in self._of_class or candidate[:2] < self._of_class[name][:2]:
                self._of_class[name] = candidate

    def chosen(self, classes: list[str]) -> list[tuple[Task, str]]:
        """The tasks to show with the reason: the lowest, then the lowest of each given class."""
        shown: dict[int, tuple[Task, str]] = {}
        for negated, _, task in sorted(self._lowest, key=lambda item: (-item[0], -item[1])):
            if -negated < 1.0:
                shown[task.id] = (task, "among the lowest of the batch")
        for name in classes:
            if name in self._of_class and self._of_class[name][0] < 1.0:
                task = self._of_class[name][2]
                shown.setdefault(task.id, (task, f"the lowest for {name}"))
        return list(shown.values())
