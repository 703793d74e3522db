"""Stored predictions against a server of a few lines; a real one: tests/qa_plugins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from segstudio.errors import ServerError
from segstudio.writeback import TaskPrediction, remove_predictions, write_predictions

A, B = [{"id": "a"}], [{"id": "b"}]


class FakeServer:
    """Predictions as (task, version, result) by id; task 9 refuses to be written."""

    url = "http://server"

    def __init__(self, *predictions: tuple[int, str, Any]) -> None:
        self.stored = {
            number: {"id": number, "task": task, "model_version": version, "result": result,
                     "project": 1}
            for number, (task, version, result) in enumerate(predictions, start=1)
        }  # fmt: skip
        self.sent: list[str] = []

    def get_json(self, path: str, **given: Any) -> Any:
        if path == "/api/predictions/":
            return [one for one in self.stored.values() if one["task"] == given["task"]]
        ids = sorted({one["task"] for one in self.stored.values() if one["model_version"] == "v"})
        return {"tasks": [{"id": one} for one in ids]}

    def request(self, method: str, path: str, *, what: str, json: Any = None) -> Any:
        self.sent.append(method)
        if json is not None and json["task"] == 9:
            raise ServerError("No.", 400)
        number = int(path.split("/")[3] or len(self.stored) + 1)
        if method == "DELETE":
            return self.stored.pop(number)
        self.stored[number] = {**self.stored.get(number, {"id": number, "project": 1}), **json}
        return SimpleNamespace(value=self.stored[number])

    def json_of(self, response: Any) -> Any:
        return response.value

    def of(self, version: str) -> list[tuple[int, Any]]:
        return [(one["task"], one["result"]) for one in self.stored.values()
                if one["model_version"] == version]  # fmt: skip


def write(server: FakeServer, *wanted: tuple[int, Any], **options: Any) -> str:
    predictions = [TaskPrediction(task, result) for task, result in wanted]
    return str(write_predictions(server, 1, "v", predictions, **options))  # type: ignore[arg-type]


def test_the_same_is_not_written_again_and_another_takes_its_place() -> None:
    server = FakeServer((1, "v", A), (2, "v", A), (3, "other", A))
    said = write(server, (1, A), (2, B), (3, B))
    assert said == "2 predictions written, 1 already there"
    assert server.sent == ["PATCH", "POST"]
    assert server.of("v") == [(1, A), (2, B), (3, B)] and server.of("other") == [(3, A)]
    assert write(server, (1, A), (2, B), (3, B)) == "0 predictions written, 3 already there"
    assert len(server.sent) == 2


def test_a_second_one_of_the_version_is_taken_away() -> None:
    server = FakeServer((1, "v", B), (1, "v", A), (1, "v", A))
    assert write(server, (1, A)) == "1 prediction written, 0 already there"
    assert server.of("v") == [(1, A)] and set(server.sent) == {"DELETE"}


def test_outdated_ones_go_and_a_dry_run_sends_nothing() -> None:
    server = FakeServer((1, "v", A), (2, "v", A), (3, "v", A))
    dry = write(server, (1, A), outdated={1, 2}, dry_run=True)
    assert dry == "0 predictions would be written, 1 already there, 1 would be removed"
    assert not server.sent
    write(server, (1, A), outdated={1, 2})
    assert server.of("v") == [(1, A), (3, A)]
    assert remove_predictions(server, 1, "v").removed == 2  # type: ignore[arg-type]
    assert server.of("v") == []


def test_a_task_that_refuses_is_reported_and_the_rest_is_written() -> None:
    server = FakeServer()
    assert write(server, (9, A), (1, A)) == "1 prediction written, 0 already there, 1 failed"
