"""Which tasks are encoded ahead, and when that gives way."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from ml_backend.prewarm import NEXT_TASKS, Prewarmer
from ml_backend.protocol import PredictTask
from ml_backend.scheduler import BusyError, Priority
from segstudio.errors import ServerError


class Tasks:
    """A Label Studio with unlabelled tasks."""

    def __init__(self, sampling: str = "Sequential sampling", tasks: Any = None) -> None:
        self.sampling = sampling
        self.asked: list[dict[str, Any]] = []
        self.tasks = tasks
        self.projects = 0

    def project(self, project_id: int) -> dict[str, Any]:
        self.projects += 1
        return {"id": project_id, "sampling": self.sampling}

    def get_json(self, path: str, **params: Any) -> Any:
        assert path == "/api/tasks/"
        query = json.loads(params["query"])
        items = {
            item["filter"].rsplit(":")[-1]: (item["operator"], item["value"])
            for item in query["filters"]["items"]
        }
        self.asked.append({**items, "order": query["ordering"], "size": params["page_size"]})
        if isinstance(self.tasks, Exception):
            raise self.tasks
        found = [{"id": n, "data": {"image": f"/{n}.jpg"}} for n in range(101, 110)]
        return {"tasks": self.tasks if self.tasks is not None else found}


class Warmed:
    """Collects what is warmed and what is counted."""

    def __init__(self) -> None:
        self.tasks: list[tuple[int | None, Priority]] = []
        self.counts: dict[str, int] = {}

    def warm(self, task: PredictTask, label_config: str, priority: Priority) -> None:
        assert label_config == "<View/>"
        self.tasks.append((task.id, priority))

    def count(self, outcome: str) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1

    def wait(self, **counts: int) -> None:
        deadline = time.monotonic() + 10
        while self.counts != counts:
            assert time.monotonic() < deadline, self.counts
            time.sleep(0.005)


TASK = PredictTask(100, {"image": "/100.jpg"})


def test_an_opened_task_and_the_next_ones_are_warmed_in_the_order_of_ids():
    server, warmed = Tasks(), Warmed()
    prewarmer = Prewarmer(warmed.warm, lambda: False, server, warmed.count)
    prewarmer.opened("3", TASK, "<View/>")
    warmed.wait(warmed=1 + NEXT_TASKS)
    assert warmed.tasks[0] == (100, Priority.PREWARM)
    assert sorted(warmed.tasks[1:]) == [(n, Priority.AHEAD) for n in (101, 102, 103)]
    (asked,) = server.asked
    assert asked == {
        "id": ("greater", 100), "completed_at": ("empty", "True"),
        "order": ["tasks:id"], "size": NEXT_TASKS,
    }  # fmt: skip
    prewarmer.close()


def test_where_the_least_sure_come_first_those_are_warmed():
    server, warmed = Tasks("Uncertainty sampling"), Warmed()
    prewarmer = Prewarmer(warmed.warm, lambda: False, server, warmed.count)
    prewarmer.came_to("3", 100, "<View/>")
    warmed.wait(warmed=NEXT_TASKS)
    assert server.asked[0]["order"] == ["tasks:predictions_score"]
    assert server.asked[0]["id"] == ("not_equal", 100)
    prewarmer.close()


def test_where_chance_decides_nothing_is_guessed():
    server, warmed = Tasks("Uniform sampling"), Warmed()
    prewarmer = Prewarmer(warmed.warm, lambda: False, server, warmed.count)
    prewarmer.opened("3", TASK, "<View/>")
    warmed.wait(warmed=1)
    prewarmer._pool.shutdown(wait=True)
    assert (server.projects, server.asked, len(warmed.tasks)) == (1, [], 1)


def test_every_click_on_a_task_asks_once_and_the_sampling_is_kept():
    now, server, warmed = [0.0], Tasks(), Warmed()
    prewarmer = Prewarmer(warmed.warm, lambda: False, server, warmed.count, lambda: now[0])
    for _ in range(20):
        prewarmer.came_to("3", 100, "<View/>")
    prewarmer.came_to("3", 101, "<View/>")
    warmed.wait(warmed=2 * NEXT_TASKS)
    assert (len(server.asked), server.projects) == (2, 1)
    now[0] = 31
    prewarmer.came_to("3", 100, "<View/>")
    warmed.wait(warmed=3 * NEXT_TASKS)
    assert len(server.asked) == 3
    prewarmer.close()


def test_under_load_it_is_dropped():
    server, warmed = Tasks(), Warmed()
    prewarmer = Prewarmer(warmed.warm, lambda: True, server, warmed.count)
    prewarmer.opened("3", TASK, "<View/>")
    warmed.wait(dropped=2)
    assert (server.asked, warmed.tasks) == ([], [])
    prewarmer.close()


def test_a_flood_of_opened_tasks_is_bounded():
    gate, warmed = threading.Event(), Warmed()
    prewarmer = Prewarmer(lambda *_: gate.wait(10), lambda: False, None, warmed.count)
    for _ in range(1000):
        prewarmer.opened("3", TASK, "<View/>")
    assert warmed.counts == {"dropped": 1000 - 32}
    gate.set()
    warmed.wait(dropped=1000 - 32, warmed=32)
    prewarmer.close()


@pytest.mark.parametrize(
    ("tasks", "failed"),
    [
        (ServerError("Label Studio is away."), 1),
        ([{"id": "x", "data": {}}, {"id": 5}, 7, None], 0),
        ({"detail": "no list"}, 0),
    ],
)
def test_a_server_that_answers_badly_is_no_harm(tasks, failed):
    server, warmed = Tasks(tasks=tasks), Warmed()
    prewarmer = Prewarmer(warmed.warm, lambda: False, server, warmed.count)
    prewarmer.came_to("3", 100, "<View/>")
    prewarmer._pool.shutdown(wait=True)
    assert (warmed.tasks, warmed.counts.get("failed", 0)) == ([], failed)


def test_a_full_queue_is_counted_and_not_raised():
    def full(*_: object) -> None:
        raise BusyError("full")

    warmed = Warmed()
    prewarmer = Prewarmer(full, lambda: False, None, warmed.count)
    prewarmer.opened("3", TASK, "<View/>")
    warmed.wait(failed=1)
    prewarmer.close()
    prewarmer.opened("3", TASK, "<View/>")  # the server stops: nothing happens


@pytest.mark.parametrize(("project", "task"), [("", 1), ("abc", 1), ("3", None)])
def test_without_a_project_or_task_nobody_is_asked(project, task):
    server, warmed = Tasks(), Warmed()
    prewarmer = Prewarmer(warmed.warm, lambda: False, server, warmed.count)
    prewarmer.came_to(project, task, "<View/>")
    prewarmer._pool.shutdown(wait=True)
    assert (server.projects, server.asked) == (0, [])
