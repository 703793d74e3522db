"""`segstudio qa watch`: what changed becomes current, by webhook and by polling."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pytest
from click.testing import CliRunner

from qa_plugins import watch as watch_module
from qa_plugins.command import qa
from qa_plugins.gates import GateSet
from qa_plugins.runner import QaRun
from qa_plugins.watch import Watch
from qa_plugins.watch_command import parse_listen
from qa_plugins.watch_endpoint import SECRET_HEADER
from qa_plugins.worst import WorstTasks
from segstudio.client import Client, connect
from segstudio.errors import ServerError, UsageError
from segstudio.taxonomy import derive_taxonomy
from segstudio.writeback import WriteSummary
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation, context

if TYPE_CHECKING:
    from tests.conftest import RunningLabelStudio

FULL = np.ones((20, 20))
HALF = np.vstack([np.ones((10, 20)), np.zeros((10, 20))])


def never_used() -> Client:
    return Client("http://127.0.0.1:9", "x" * 40)


def make(client: Client, project_id: int = 1, **fields: Any) -> Watch:
    return Watch(
        client, project_id, lambda source: derive_taxonomy(source.label_config), GateSet(),
        lambda sentence: None, **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["batch.json"], "project:ID"),
        (["project:1", "--once", "--register"], "Leave out --register"),
        (["project:1", "--unregister", "--register"], "give it alone"),
        (["project:1", "--listen", "everywhere"], "HOST:PORT"),
        (["project:1", "--rater", "user:3"], "prediction:VERSION"),
    ],
)
def test_usage_errors_are_sentences(arguments: list[str], words: str) -> None:
    server = ["--url", "http://127.0.0.1:9", "--api-key", "x" * 40]
    result = CliRunner().invoke(qa, ["watch", *arguments, *server])
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)


def test_a_weak_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSTUDIO_WATCH_SECRET", "short")
    server = ["--url", "http://127.0.0.1:9", "--api-key", "x" * 40]
    result = CliRunner().invoke(qa, ["watch", "project:1", *server])
    assert "16 or more" in str(result.exception)


def test_qa_help_names_watch_and_watch_has_its_own() -> None:
    assert "qa watch" in CliRunner().invoke(qa, ["--help"]).output
    assert "--register" in CliRunner().invoke(qa, ["watch", "--help"]).output


@pytest.mark.parametrize("text", ["9095", "host:", "host:99999", ":1"])
def test_addresses_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_listen(text)


def test_each_poll_takes_only_what_changed_since(monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = {1: "2026-01-01T00:00:00Z", 2: "2026-01-01T00:01:00Z"}
    monkeypatch.setattr(
        watch_module, "task_rows",
        lambda client, project_id, fields, changed_after: [
            {"id": one, "updated_at": stamp} for one, stamp in stamps.items()
            if changed_after is None or stamp > changed_after.isoformat().replace("+00:00", "Z")
        ],
    )  # fmt: skip
    measured: list[list[int]] = []
    monkeypatch.setattr(Watch, "_measure_and_write", lambda self, ids: measured.append(list(ids)))
    watching = make(never_used())
    assert watching.catch_up() == 2
    assert watching.catch_up() == 0  # task 2 is within the overlap, and known
    stamps[1] = "2026-01-01T00:00:58Z"
    assert watching.catch_up() == 1
    assert measured == [[1, 2], [1]]


def test_trouble_is_waited_out_and_loses_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, measured, said = threading.Event(), [], []
    answers: list[Exception | None] = [ServerError("Down.", 503), None]

    def measure(self: Watch, ids: list[int]) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        measured.append(list(ids))
        stop.set()

    monkeypatch.setattr(Watch, "_measure_and_write", measure)
    monkeypatch.setattr(watch_module, "task_rows", lambda *_, **__: [])
    watching = make(never_used(), settle_s=0.0)
    watching.say = said.append
    watching.queue.put(7)
    watching.run(stop)
    assert measured == [[7]]
    assert said == ["Down. Trying again in 1 s."]


def test_a_refused_token_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ServerError("No.", 401)

    monkeypatch.setattr(watch_module, "task_rows", refuse)
    with pytest.raises(ServerError, match=r"No\."):
        make(never_used()).run(threading.Event())


def test_a_task_that_cannot_be_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = {"kind": "task-failed", "task_id": 7, "message": "Too bad."}
    found = QaRun(
        {"tasks": [], "errors": [failure]}, WorstTasks(0), context(), {}, {7: "old"}, {7: "new"}
    )
    monkeypatch.setattr(
        watch_module,
        "open_source",
        lambda *_, **__: SimpleNamespace(label_config=context().label_config),
    )
    monkeypatch.setattr(watch_module, "run_checks", lambda *_, **__: found)
    monkeypatch.setattr(watch_module, "ensure_tab", lambda *_: 1)
    written: list[Any] = []

    def write(_client: Client, _project_id: int, records: list[Any]) -> WriteSummary:
        written.extend(records)
        return WriteSummary(1, 0, 0, ())

    monkeypatch.setattr(watch_module, "write_results", write)
    watching, said = make(never_used()), []
    watching.say = said.append
    watching.queue.put(7)
    watching._refresh(watching.queue.take(1))
    assert said[0] == "1 tasks could not be measured. First: task 7: Too bad."
    assert [one.data for one in written] == [{"qa_stale": "yes"}]


def drawn(person: int, array: Any) -> dict[str, Any]:
    made = annotation(1, person, [("car", array)])
    return {"completed_by": person, "result": made["result"], "ground_truth": False}


def test_a_changed_annotation_makes_its_task_current_on_a_real_server(
    label_studio: RunningLabelStudio, project_factory: Callable[..., Any]
) -> None:
    sdk = label_studio.sdk()
    project = project_factory(CONFIG_XML, title="qa watch")
    mails = [f"w-{uuid4().hex[:12]}@example.org" for _ in range(2)]
    people = [sdk.users.create(username=mail[:14], email=mail).id for mail in mails]
    tasks = [
        {"data": {"image": f"{n}.png"}, "annotations": [drawn(one, FULL) for one in people]}
        for n in range(2)
    ]
    sdk.projects.import_tasks(id=project.id, request=tasks)

    def state() -> list[tuple[Any, Any]]:
        found = sorted(sdk.tasks.list(project=project.id, fields="all"), key=lambda one: one.id)
        return [(one.data.get("qa_miou"), one.data.get("qa_stale")) for one in found]

    def wait_until(wanted: list[tuple[Any, Any]], watching: subprocess.Popen[str]) -> None:
        end_s = time.monotonic() + 240
        while state() != wanted and time.monotonic() < end_s and watching.poll() is None:
            time.sleep(0.5)
        assert state() == wanted

    client = connect(label_studio.url, label_studio.api_key)
    first = min(sdk.tasks.list(project=project.id, fields="all"), key=lambda one: one.id)
    changed = f"/api/annotations/{first.annotations[0]['id']}/"
    server = ["--url", label_studio.url, "--api-key", label_studio.api_key]
    # So long between polls that the second value can only come by webhook.
    command = [
        sys.executable, "-m", "segstudio.cli", "qa", "watch", f"project:{project.id}", *server,
        "--register", "--listen", "127.0.0.1:0", "--poll-s", "10000", "--settle-s", "0.1",
    ]  # fmt: skip
    watching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until([(1.0, "no"), (1.0, "no")], watching)
        hooks = client.get_json("/api/webhooks/", project=project.id)
        assert [set(one["headers"]) for one in hooks] == [{SECRET_HEADER}]
        client.request("PATCH", changed, json={"result": drawn(people[0], HALF)["result"]})
        wait_until([(0.5, "no"), (1.0, "no")], watching)
    finally:
        watching.terminate()
        _, said = watching.communicate(timeout=60)
    assert watching.returncode == 0, said
    assert "The watch has ended." in said
    assert label_studio.api_key not in said
    assert client.get_json("/api/webhooks/", project=project.id) == []

    # Nobody watches; a look at what was changed since the last one finds the deletion.
    looking = make(client, project.id)
    assert looking.catch_up() == 2
    client.request("DELETE", changed)
    assert looking.catch_up() == 1
    assert state() == [(None, None), (1.0, "no")]
    result = CliRunner().invoke(
        qa, ["watch", f"project:{project.id}", "--once", *server], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "2 tasks looked at" in result.output
    assert state() == [(None, None), (1.0, "no")]

    # With a model as one rater more, the one annotator of the first task is compared again.
    half = {"task": first.id, "model_version": "m1", "result": drawn(1, HALF)["result"]}
    client.request("POST", "/api/predictions/", json=half)
    command = ["watch", f"project:{project.id}", "--once", "--rater", "prediction:m1", *server]
    assert CliRunner().invoke(qa, command, catch_exceptions=False).exit_code == 0
    assert state() == [(0.5, "no"), (1.0, "no")]
