"""Images encoded before the first click: the opened task's, and those of the tasks that come next.

Nobody waits for this, so it gives way: a bounded number of tasks, behind every click, dropped while
the queue is long. What goes wrong here is logged, and told properly at the first click.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ml_backend.logs import log_event
from ml_backend.protocol import PredictTask
from ml_backend.scheduler import BusyError, Priority
from segstudio.client import Client
from segstudio.errors import SegstudioError

__all__ = ["NEXT_TASKS", "Prewarmer"]

NEXT_TASKS = 3
"""Tasks of the queue that are encoded ahead of the annotator."""

_LOG = logging.getLogger("ml_backend")
_THREADS = 2
_PENDING = 32  # jobs that wait or run here; more are dropped
_ASK_AGAIN_S = 30.0  # the next tasks of a task are not asked for twice within this time
_SAMPLING_KEPT_S = 60.0
_REMEMBERED = 1024

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Warm = Callable[[PredictTask, str, Priority], None]
"""Fetches and encodes a task's image under a label config and returns when it is queued."""


class Prewarmer:
    """Warms opened tasks and, where there is a connection to Label Studio, the next ones."""

    def __init__(
        self,
        warm: Warm,
        is_loaded: Callable[[], bool],
        client: Client | None = None,
        count: Callable[[str], None] = lambda outcome: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warm = warm
        self._is_loaded = is_loaded
        self._client = client
        self._count = count
        self._clock = clock
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="prewarm")
        self._pending = 0
        self._asked: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._sampling: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    def opened(self, project_id: str, task: PredictTask, label_config: str) -> None:
        """Warm a task that was just opened, then those that come after it."""
        self._submit(lambda: self._warm_one(task, label_config, Priority.PREWARM))
        self.came_to(project_id, task.id, label_config)

    def came_to(self, project_id: str, task_id: int | None, label_config: str) -> None:
        """Warm the tasks that an annotator of this task will see next. Returns at once."""
        if self._client is None or task_id is None or not project_id.isdecimal():
            return
        place, now = (project_id, task_id), self._clock()
        with self._lock:
            asked_s = self._asked.get(place)
            if asked_s is not None and now - asked_s < _ASK_AGAIN_S:
                return
            _remember(self._asked, place, now)
        self._submit(lambda: self._warm_next(project_id, task_id, label_config))

    def close(self) -> None:
        """Drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._pending >= _PENDING:
                self._count("dropped")
                return
            self._pending += 1

        def run() -> None:
            try:
                work()
            except (SegstudioError, BusyError, RuntimeError) as error:
                self._count("failed")
                log_event(_LOG, logging.WARNING, "prewarm", reason=str(error))
            finally:
                with self._lock:
                    self._pending -= 1

        try:
            self._pool.submit(run)
        except RuntimeError:  # the server stops
            with self._lock:
                self._pending -= 1

    def _warm_one(self, task: PredictTask, label_config: str, priority: Priority) -> None:
        if self._is_loaded():
            self._count("dropped")
            return
        self._warm(task, label_config, priority)
        self._count("warmed")

    def _warm_next(self, project_id: str, task_id: int, label_config: str) -> None:
        if self._is_loaded():
            self._count("dropped")
            return
        for task in self._next_tasks(project_id, task_id):
            self._submit(partial(self._warm_one, task, label_config, Priority.AHEAD))

    def _next_tasks(self, project_id: str, task_id: int) -> list[PredictTask]:
        """Ask Label Studio for the unlabelled tasks that follow, in the project's own order."""
        assert self._client is not None  # noqa: S101 - callers ask first
        sampling = self._sampling_of(project_id)
        unlabelled = _filter("completed_at", "Datetime", "empty", "True")
        if "uniform" in sampling:
            return []  # the next task is drawn by chance
        if "uncertainty" in sampling:
            others = _filter("id", "Number", "not_equal", task_id)
            return self._list(project_id, [others, unlabelled], "tasks:predictions_score")
        after = _filter("id", "Number", "greater", task_id)
        return self._list(project_id, [after, unlabelled], "tasks:id")

    def _list(self, project_id: str, items: list[dict[str, Any]], order: str) -> list[PredictTask]:
        assert self._client is not None  # noqa: S101
        answer = self._client.get_json(
            "/api/tasks/",
            what=f"the next tasks of project {project_id}",
            project=project_id,
            page_size=NEXT_TASKS,
            include="id,data",
            resolve_uri="false",
            query=json.dumps(
                {"filters": {"conjunction": "and", "items": items}, "ordering": [order]}
            ),
        )
        found = answer.get("tasks") if isinstance(answer, dict) else None
        return [
            PredictTask(one["id"], one["data"])
            for one in (found if isinstance(found, list) else [])[:NEXT_TASKS]
            if isinstance(one, dict)
            and isinstance(one.get("id"), int)
            and isinstance(one.get("data"), dict)
        ]

    def _sampling_of(self, project_id: str) -> str:
        """The project's order of tasks, e.g. "sequential sampling", asked for once a minute."""
        assert self._client is not None  # noqa: S101
        with self._lock:
            kept = self._sampling.get(project_id)
        if kept is not None and self._clock() - kept[0] < _SAMPLING_KEPT_S:
            return kept[1]
        sampling = str(self._client.project(int(project_id)).get("sampling") or "").lower()
        with self._lock:
            _remember(self._sampling, project_id, (self._clock(), sampling))
        return sampling


def _filter(column: str, kind: str, operator: str, value: object) -> dict[str, Any]:
    return {
        "filter": f"filter:tasks:{column}",
        "type": kind,
        "operator": operator,
        "value": value,
    }


def _remember(table: OrderedDict[K, V], key: K, value: V) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > _REMEMBERED:
        table.popitem(last=False)
