"""The door of webhooks: who may come in, what is understood, and what only asks for a poll."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from qa_plugins import watch_endpoint
from qa_plugins.watch_endpoint import (
    MAX_PARSED_BYTES,
    SECRET_HEADER,
    Event,
    TaskQueue,
    WebhookEndpoint,
    parse_event,
)

SECRET = "s" * 32


def test_the_servers_own_event_names_its_task(fixtures_dir: Path) -> None:
    path = fixtures_dir / "label_studio" / "webhook-annotation-created.json"
    assert parse_event(json.loads(path.read_text()), 1) == Event((4,))


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (
            {"action": "ANNOTATIONS_CREATED", "annotation": [{"task": 2}, {"task": 3}]},
            Event((2, 3)),
        ),
        ({"action": "ANNOTATION_UPDATED", "annotation": {"task": 5}}, Event((5,))),
        (
            {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 9}]},
            Event(wants_poll=True),
        ),
        ({"action": "ANNOTATION_UPDATED", "task": {"id": "4; drop"}}, Event(wants_poll=True)),
        ({"action": "PROJECT_UPDATED"}, Event()),
    ],
)
def test_events_are_read(payload: dict[str, Any], event: Event) -> None:
    assert parse_event({**payload, "project": {"id": 1}}, 1) == event
    assert parse_event({**payload, "project": {"id": 2}}, 1) == Event()
    assert parse_event([payload], 1) == Event()


def post(endpoint: WebhookEndpoint, content: bytes, secret: str = SECRET) -> int:
    url = f"http://{endpoint.host}:{endpoint.port}/"
    return httpx.post(url, content=content, headers={SECRET_HEADER: secret}).status_code


def event(task_id: int) -> bytes:
    return json.dumps(
        {"action": "ANNOTATION_UPDATED", "project": {"id": 1}, "task": {"id": task_id}}
    ).encode()


def test_each_task_waits_once_and_what_is_not_understood_asks_for_a_poll() -> None:
    queue = TaskQueue()
    with WebhookEndpoint(queue, 1, SECRET) as endpoint:
        assert [post(endpoint, event(n)) for n in (4, 5, 4)] == [202, 202, 202]
        assert queue.wait(5)
        assert post(endpoint, b"{no json") == 202
    # Closing the endpoint waits for no handler; the last event may still be on its way.
    while not queue.take_poll_wish():
        assert queue.wait(5)
    assert sorted(queue.take(9)) == [4, 5]


def test_who_does_not_know_the_secret_changes_nothing() -> None:
    queue = TaskQueue()
    with WebhookEndpoint(queue, 1, SECRET) as endpoint:
        assert [post(endpoint, event(4), secret) for secret in ("", "wrong")] == [403, 403]
        assert httpx.get(f"http://{endpoint.host}:{endpoint.port}/").status_code == 501
    assert not queue.wait(0.05)


def test_a_body_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_endpoint, "MAX_BODY_BYTES", 10)
    queue = TaskQueue()
    with WebhookEndpoint(queue, 1, SECRET) as endpoint:
        assert post(endpoint, event(4)) == 413
    assert queue.take_poll_wish()
    assert queue.take(9) == []


def test_a_large_event_is_answered_and_left_to_a_poll() -> None:
    queue = TaskQueue()
    large = event(4)[:-1] + b', "annotation": {"result": "' + b"x" * MAX_PARSED_BYTES + b'"}}'
    with WebhookEndpoint(queue, 1, SECRET) as endpoint:
        assert post(endpoint, large) == 202
        assert queue.wait(5)
    assert queue.take_poll_wish()
    assert queue.take(9) == []
