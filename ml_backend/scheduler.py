"""One queue a device: clicks before pre-warming before batches, and no work done twice.

A device computes one thing at a time, so one thread serves it. An annotator who waits for a mask
must not wait for a batch: the most urgent job goes first, first come first served among equals.
Jobs with the same key share one result, and a job that nobody waits for any more is not begun.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from enum import IntEnum
from itertools import count
from typing import Any, TypeVar, cast

__all__ = ["BusyError", "DeviceScheduler", "Priority"]

T = TypeVar("T")


class Priority(IntEnum):
    """Who waits: an annotator, one who has opened a task, one who will soon, or nobody."""

    CLICK = 0
    PREWARM = 1
    AHEAD = 2
    BATCH = 3


class BusyError(RuntimeError):
    """The queue is full; the message says how full."""


class _Job:
    """A piece of work, its future, and whether a worker has taken it."""

    __slots__ = ("expires_s", "future", "key", "priority", "taken", "work")

    def __init__(
        self,
        work: Callable[[], Any],
        key: Hashable | None,
        priority: Priority,
        expires_s: float | None,
    ) -> None:
        self.work = work
        self.key = key
        self.priority = priority
        self.expires_s = expires_s
        self.future: Future[Any] = Future()
        self.taken = False


class DeviceScheduler:
    """A bounded priority queue with one worker thread.

    >>> scheduler = DeviceScheduler("cpu")
    >>> scheduler.submit(lambda: 6 * 7).result()
    42
    >>> scheduler.close()
    """

    def __init__(self, device: str, limit: int = 64) -> None:
        self.device = device
        self.limit = limit
        self._heap: list[tuple[int, int, _Job]] = []
        self._jobs: dict[Hashable, _Job] = {}
        self._waiting = 0
        self._order = count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"device-{device}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return self._waiting

    def submit(
        self,
        work: Callable[[], T],
        *,
        key: Hashable | None = None,
        priority: Priority = Priority.CLICK,
        expires_s: float | None = None,
    ) -> Future[T]:
        """Queue `work` and return its future; a job of the same key is shared and hurried up.

        `expires_s` (of `time.monotonic`) is when nobody will wait for it any more: a job not begun
        by then ends in a TimeoutError. A shared job lasts as long as its most patient caller.

        Clicks may fill the whole queue, less urgent work three quarters of it, so that there is
        room for a click when a batch piles up. Raises BusyError where there is no room, and
        RuntimeError after `close`.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError(f"The queue of {self.device} is closed: the server stops.")
            job = self._jobs.get(key) if key is not None else None
            if job is not None:
                if job.expires_s is not None:
                    job.expires_s = None if expires_s is None else max(job.expires_s, expires_s)
                if priority < job.priority and not job.taken:
                    job.priority = priority
                    # The old entry stays in the heap and is skipped once the job is taken.
                    heapq.heappush(self._heap, (priority, next(self._order), job))
                return cast("Future[T]", job.future)
            room = self.limit if priority is Priority.CLICK else max(1, self.limit * 3 // 4)
            if self._waiting >= room:
                raise BusyError(
                    f"{self._waiting} requests wait for {self.device} already (at most {room} "
                    f"of this kind may); try again in a moment."
                )
            job = _Job(work, key, priority, expires_s)
            if key is not None:
                self._jobs[key] = job
            self._waiting += 1
            heapq.heappush(self._heap, (priority, next(self._order), job))
            self._changed.notify()
            return cast("Future[T]", job.future)

    def close(self, timeout_s: float = 10.0) -> None:
        """Refuse new work, cancel what waits, and let the running job end."""
        with self._changed:
            self._closed = True
            for _, _, job in self._heap:
                if not job.taken:
                    job.future.cancel()
            self._heap.clear()
            self._jobs.clear()
            self._waiting = 0
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._heap and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                _, _, job = heapq.heappop(self._heap)
                if job.taken:
                    continue
                job.taken = True
                self._waiting -= 1
                is_late = job.expires_s is not None and job.expires_s < time.monotonic()
                if is_late:
                    self._forget(job)
            if job.future.set_running_or_notify_cancel():
                if is_late:
                    job.future.set_exception(TimeoutError("Nobody waited for this any more."))
                else:
                    _run(job)
            with self._changed:
                self._forget(job)
            del job  # do not keep the last result alive while idle

    def _forget(self, job: _Job) -> None:
        """Let the next job of this key be a new one; to be called under the lock."""
        if job.key is not None and self._jobs.get(job.key) is job:
            del self._jobs[job.key]


def _run(job: _Job) -> None:
    try:
        job.future.set_result(job.work())
    except BaseException as error:
        job.future.set_exception(error)
