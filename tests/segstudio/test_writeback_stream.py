"""Overlap and state of tasks: raised or set exactly, once, and read back; for real, too."""

import json
import uuid

import pytest

from segstudio.client import connect
from segstudio.errors import ServerError
from segstudio.http_client import RetryingClient
from segstudio.writeback import (
    StreamPlace,
    read_result,
    read_stream_places,
    remove_annotation,
    set_stream_places,
    write_overlaps,
    write_result,
)
from segstudio.writeback_stream import overlap_changes
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation
from tests.segstudio.fake_server import Answer, FakeServer

TOKEN = "0123456789abcdef0123456789abcdef01234567"


class FakePlaces:
    """Tasks with overlap and state; `stubborn` ones keep what they have."""

    def __init__(self, stubborn=(), refused=None):
        self.tasks = {1: (1, True), 2: (3, False)}
        self.patches, self.stubborn, self.refused = [], stubborn, refused

    def __call__(self, asked):
        if asked.method == "GET":
            items = json.loads(asked.query["query"])["filters"]["items"]
            wanted = [item["value"] for item in items if item["value"] in self.tasks]
            return {"tasks": [self.row(number) for number in wanted]}
        number = int(asked.path.split("/")[3])
        if self.refused:
            return Answer(self.refused, {"detail": "no"})
        self.patches.append(number)
        if number not in self.stubborn:
            self.tasks[number] = asked.body["overlap"], asked.body["is_labeled"]
        return self.row(number)

    def row(self, number):
        overlap, is_labeled = self.tasks[number]
        return {"id": number, "overlap": overlap, "is_labeled": is_labeled}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(RetryingClient, "sleep", staticmethod(lambda delay_s: None))


def set_places(fake, places, **options):
    with FakeServer(fake) as server, connect(server.url, TOKEN) as client:
        return set_stream_places(client, 9, places, **options)


WANTED = [StreamPlace(1, 2, False), StreamPlace(2, 3, False), StreamPlace(7, 1, True)]


def test_only_what_differs_is_written_and_a_missing_task_is_said():
    fake = FakePlaces()
    dry = set_places(fake, WANTED, dry_run=True)
    assert (dry.written, dry.unchanged, fake.patches) == (1, 1, [])
    first, second = set_places(fake, WANTED), set_places(fake, WANTED)
    assert (first.written, first.unchanged, second.written, second.unchanged) == (1, 1, 0, 2)
    assert fake.patches == [1]
    assert fake.tasks[1] == (2, False)
    (problem,) = first.problems
    assert (problem.kind, problem.task_id) == ("missing-task", 7)


def test_what_does_not_read_back_is_a_problem_and_no_success():
    summary = set_places(FakePlaces(stubborn=[1]), WANTED[:1])
    assert summary.written == 0
    assert "reads back as 1 and True" in summary.problems[0].message


@pytest.mark.parametrize(("status", "raises"), [(404, False), (403, True)])
def test_a_refusal_of_one_task_stops_nothing_and_one_of_all_does(status, raises):
    fake = FakePlaces(refused=status)
    if raises:
        with pytest.raises(ServerError, match="does not allow"):
            set_places(fake, WANTED[:1])
    else:
        assert set_places(fake, WANTED[:1]).problems[0].kind == "not-written"


def test_places_are_read_as_they_are():
    with FakeServer(FakePlaces()) as server, connect(server.url, TOKEN) as client:
        assert read_stream_places(client, 9, [1, 7]) == {1: StreamPlace(1, 1, True)}
        assert read_stream_places(client, 9, []) == {}


def test_results_are_written_whole_and_one_that_is_gone_is_none():
    kept = {"result": [{"id": "a"}]}

    def answer(asked):
        if asked.path.endswith("/404/"):
            return Answer(404, {"detail": "none"})
        if asked.method == "PATCH" and not asked.path.endswith("/5/"):
            kept.update(asked.body)
        return kept

    with FakeServer(answer) as server, connect(server.url, TOKEN) as client:
        write_result(client, "draft", 1, [{"id": "b", "value": {"x": 1}}])
        assert read_result(client, "prediction", 1) == [{"id": "b", "value": {"x": 1}}]
        assert read_result(client, "annotation", 404) is None
        assert remove_annotation(client, 404) is False
        assert remove_annotation(client, 1) is True
        with pytest.raises(ServerError, match="does not read back so"):
            write_result(client, "annotation", 5, [])


@pytest.mark.parametrize(
    ("overlap", "labelled", "annotations", "wanted", "changes"),
    [
        (1, True, 1, 2, {"overlap": 2, "is_labeled": False}),
        (1, False, 0, 2, {"overlap": 2, "is_labeled": False}),
        (2, True, 1, 2, {"overlap": 2, "is_labeled": False}),
        (2, False, 1, 2, {}),
        (2, True, 2, 2, {}),
        (3, False, 1, 2, {}),
        (1, True, 2, 2, {"overlap": 2}),
        (None, True, 1, 1, {}),
    ],
)
def test_what_is_written_to_raise_an_overlap(overlap, labelled, annotations, wanted, changes):
    row = {"overlap": overlap, "is_labeled": labelled, "total_annotations": annotations}
    assert overlap_changes(row, wanted) == changes


@pytest.mark.server
def test_a_finished_task_comes_back_into_the_stream(label_studio):
    sdk = label_studio.sdk()
    name = f"overlap-{uuid.uuid4().hex[:8]}"
    person = sdk.users.create(username=name, email=f"{name}@example.org").id
    project = sdk.projects.create(title=name, label_config=CONFIG_XML)
    tasks = [
        {"data": {"image": f"/data/upload/{n}.png"},
         "annotations": [annotation(0, person, [("car", [[0, 1]])])]}
        for n in (1, 2)
    ]  # fmt: skip
    sdk.projects.import_tasks(id=project.id, request=tasks)
    try:
        with connect(label_studio.url, label_studio.api_key) as client:
            rows = client.get_json("/api/tasks/", project=project.id, fields="all")["tasks"]
            first, second = sorted(int(row["id"]) for row in rows)
            wanted = {first: 2, 999_999_999: 2}
            planned = write_overlaps(client, project.id, wanted, dry_run=True)
            assert str(planned) == (
                "overlap of 1 tasks would be raised, 0 asked for it already, 1 failed"
            )
            done = write_overlaps(client, project.id, wanted)
            again = write_overlaps(client, project.id, {first: 2})
            assert (done.raised, len(done.problems)) == (1, 1)
            assert (again.raised, again.unchanged) == (0, 1)
            served = client.get_json(f"/api/projects/{project.id}/next/")
            assert served["id"] == first
            other = client.get_json(f"/api/tasks/{second}/")
            assert (other["overlap"], other["is_labeled"]) == (1, True)
    finally:
        sdk.projects.delete(id=project.id)
