"""Where Label Studio reports that an annotation changed: a queue of tasks, and the door to it.

Label Studio waits for a webhook inside the annotator's own request, one second at most, and never
tries again. So the answer is sent before the event is even parsed, and an event that is lost, too
large or not understood only asks for a poll. Nothing in an event is believed but the task's id.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final

SECRET_HEADER: Final = "X-Segstudio-Watch"  # noqa: S105 - a name, not the secret
ACTIONS: Final = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
)
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
MAX_WAITING_TASKS: Final = 10_000
# Parsing more than this would hold up the next annotator's answer; a poll finds the task as well.
MAX_PARSED_BYTES: Final = 1024 * 1024
_MAX_READERS: Final = 16
_READ_TIMEOUT_S: Final = 10.0


class TaskQueue:
    """Tasks that wait to be measured: each once, first come first served, so many at most.

    >>> queue = TaskQueue(limit=2)
    >>> [queue.put(one) for one in (7, 7, 8, 9)]
    [True, True, True, False]
    >>> queue.take(10), queue.take(10), queue.take_poll_wish()
    ([7, 8], [], True)
    """

    def __init__(self, limit: int = MAX_WAITING_TASKS) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._tasks: dict[int, None] = {}
        self._wants_poll = False

    def put(self, task_id: int) -> bool:
        """Add a task; False when the queue is full, where a poll is wished for instead."""
        with self._changed:
            fits = task_id in self._tasks or len(self._tasks) < self._limit
            if fits:
                self._tasks[task_id] = None
            else:
                self._wants_poll = True
            self._changed.notify()
            return fits

    def wish_poll(self) -> None:
        """Say that something changed and nobody knows where."""
        with self._changed:
            self._wants_poll = True
            self._changed.notify()

    def take_poll_wish(self) -> bool:
        """Tell whether a poll was wished for since the last call."""
        with self._changed:
            wanted, self._wants_poll = self._wants_poll, False
            return wanted

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to do; False when the time was up before."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._tasks) or self._wants_poll, timeout_s)

    def take(self, count: int) -> list[int]:
        """Remove and return the first tasks, none when there is none."""
        with self._changed:
            first = list(self._tasks)[:count]
            for task_id in first:
                del self._tasks[task_id]
            return first


@dataclass(frozen=True, slots=True)
class Event:
    """What a webhook said: tasks whose annotations changed, or that some did somewhere."""

    task_ids: tuple[int, ...] = ()
    wants_poll: bool = False


def parse_event(payload: Any, project_id: int) -> Event:
    """Read a webhook's JSON; another project's, and another action's, is an event of nothing.

    >>> parse_event({"action": "ANNOTATION_UPDATED", "project": {"id": 1}, "task": {"id": 4}}, 1)
    Event(task_ids=(4,), wants_poll=False)
    """
    if not isinstance(payload, Mapping) or payload.get("action") not in ACTIONS:
        return Event()
    project = payload.get("project")
    sender = project.get("id") if isinstance(project, Mapping) else project
    if sender != project_id:
        return Event()
    found: dict[int, None] = {}
    for one in _objects(payload, "task"):
        _add_id(found, one.get("id"))
    for one in _objects(payload, "annotation"):
        _add_id(found, one.get("task"))
    # Deleted annotations come as bare ids, without their task.
    return Event(tuple(found), wants_poll=not found)


def _objects(payload: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found: list[Any] = []
    for key in (name, f"{name}s"):
        value = payload.get(key)
        found += value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, Mapping)]


def _add_id(found: dict[int, None], value: Any) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        found[value] = None


@dataclass(slots=True)
class WebhookEndpoint:
    """An HTTP server in a thread of its own; `with WebhookEndpoint(...) as endpoint:`.

    Attributes:
        queue: where the tasks go.
        project_id: whose events are heard.
        secret: what the header `SECRET_HEADER` must hold.
        host: the address to listen on.
        port: 0 takes a free one; read it back when the server runs.
    """

    queue: TaskQueue
    project_id: int
    secret: str
    host: str = "127.0.0.1"
    port: int = 0
    _server: ThreadingHTTPServer | None = field(default=None, init=False)

    def __enter__(self) -> WebhookEndpoint:
        handler = _handler(self.queue, self.project_id, self.secret)
        self._server = ThreadingHTTPServer((self.host, self.port), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="webhooks", daemon=True).start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _handler(queue: TaskQueue, project_id: int, secret: str) -> type[BaseHTTPRequestHandler]:
    readers = threading.BoundedSemaphore(_MAX_READERS)

    class Handler(BaseHTTPRequestHandler):
        timeout = _READ_TIMEOUT_S

        def do_POST(self) -> None:
            given = (self.headers.get(SECRET_HEADER) or "").encode()
            if not hmac.compare_digest(given, secret.encode()):
                self._answer(403)
                return
            length = self.headers.get("Content-Length") or ""
            if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY_BYTES:
                queue.wish_poll()
                self._answer(413 if length else 411)
                return
            if not readers.acquire(blocking=False):
                queue.wish_poll()
                self._answer(503)
                return
            try:
                body = self.rfile.read(int(length))
                self._answer(202)
                self._enqueue(body)
            finally:
                readers.release()

        def _enqueue(self, body: bytes) -> None:
            if len(body) > MAX_PARSED_BYTES:
                queue.wish_poll()
                return
            try:
                event = parse_event(json.loads(body), project_id)
            except (ValueError, RecursionError):
                event = Event(wants_poll=True)
            for task_id in event.task_ids:
                queue.put(task_id)
            if event.wants_poll:
                queue.wish_poll()

        def _answer(self, status: int) -> None:
            self.send_response_only(status)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Keep quiet: what an address asks for has no place on the terminal."""

    return Handler
