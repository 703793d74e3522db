from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from ml_backend.scheduler import BusyError, DeviceScheduler, Priority


@pytest.fixture
def scheduler() -> Iterator[DeviceScheduler]:
    made = DeviceScheduler("test", limit=5)
    yield made
    made.close()


@pytest.fixture
def gate(scheduler: DeviceScheduler) -> Iterator[threading.Event]:
    """Keeps the worker busy until it is set."""
    event, begun = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        event.wait(10)

    scheduler.submit(block)
    assert begun.wait(10)
    yield event
    event.set()


def test_clicks_go_before_prewarming_before_batches(scheduler, gate):
    done: list[str] = []
    futures = [
        scheduler.submit(lambda: done.append("batch"), priority=Priority.BATCH),
        scheduler.submit(lambda: done.append("ahead"), priority=Priority.AHEAD),
        scheduler.submit(lambda: done.append("prewarm"), priority=Priority.PREWARM),
        scheduler.submit(lambda: done.append("click")),
    ]
    gate.set()
    for future in futures:
        future.result(10)
    assert done == ["click", "prewarm", "ahead", "batch"]


def test_equals_are_served_in_their_order(scheduler, gate):
    done: list[int] = []
    futures = [scheduler.submit(lambda i=i: done.append(i)) for i in range(4)]
    gate.set()
    for future in futures:
        future.result(10)
    assert done == [0, 1, 2, 3]


def test_work_of_one_key_is_done_once(scheduler, gate):
    calls: list[int] = []
    first = scheduler.submit(lambda: calls.append(1), key="a")
    second = scheduler.submit(lambda: calls.append(2), key="a")
    gate.set()
    first.result(10)
    assert second is first
    assert calls == [1]


def test_a_click_hurries_the_prewarming_it_shares(scheduler, gate):
    done: list[str] = []
    scheduler.submit(lambda: done.append("other"), priority=Priority.PREWARM)
    shared = scheduler.submit(lambda: done.append("mine"), key="k", priority=Priority.PREWARM)
    assert scheduler.submit(lambda: done.append("never"), key="k") is shared
    last = scheduler.submit(lambda: None, priority=Priority.BATCH)
    gate.set()
    last.result(10)
    assert done == ["mine", "other"]


def test_after_its_end_a_key_is_worked_on_again(scheduler):
    assert scheduler.submit(lambda: 1, key="a").result(10) == 1
    assert scheduler.submit(lambda: 2, key="a").result(10) == 2


def test_a_full_queue_says_so_and_keeps_room_for_clicks(scheduler, gate):
    for _ in range(3):
        scheduler.submit(lambda: None, priority=Priority.BATCH)
    with pytest.raises(BusyError, match="3 requests wait for test already"):
        scheduler.submit(lambda: None, priority=Priority.BATCH)
    for _ in range(2):
        scheduler.submit(lambda: None)
    with pytest.raises(BusyError, match="at most 5"):
        scheduler.submit(lambda: None)
    assert scheduler.waiting == 5


def test_work_that_nobody_waits_for_any_more_is_not_begun(scheduler, gate):
    done: list[str] = []
    late = time.monotonic() - 1
    dropped = scheduler.submit(lambda: done.append("late"), key="a", expires_s=late)
    shared = scheduler.submit(lambda: done.append("shared"), key="b", expires_s=late)
    assert scheduler.submit(lambda: None, key="b", expires_s=time.monotonic() + 60) is shared
    gate.set()
    with pytest.raises(TimeoutError, match="Nobody waited"):
        dropped.result(10)
    shared.result(10)
    assert done == ["shared"]
    assert scheduler.submit(lambda: "again", key="a").result(10) == "again"


def test_an_error_goes_to_its_caller_and_the_worker_goes_on(scheduler):
    failing = scheduler.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.result(10)
    assert scheduler.submit(lambda: "on").result(10) == "on"


def test_closing_cancels_what_waits_and_refuses_more(scheduler, gate):
    waiting = scheduler.submit(lambda: None)
    threading.Timer(0.05, gate.set).start()
    scheduler.close()
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        scheduler.submit(lambda: None)
