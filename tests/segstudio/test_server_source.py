"""Tasks from a server: pages, filters, resumption; against a scripted server and a real one."""

import json

import pytest

from segstudio import server_source
from segstudio.client import connect
from segstudio.errors import ServerError
from segstudio.http_client import RetryingClient
from segstudio.source import TaskFilter, open_source
from tests.segstudio.fake_server import Answer, FakeServer

TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Car"/></BrushLabels></View>'
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(RetryingClient, "sleep", staticmethod(lambda delay_s: None))
    monkeypatch.setattr(server_source, "PAGE_TASKS", 4)


class FakeProject:
    """The tasks endpoint; answers 502 to pages larger than `heaviest`, or after `fails_after`."""

    def __init__(self, ids, heaviest=100, fails_after=None):
        self.ids, self.heaviest, self.fails_after = ids, heaviest, fails_after
        self.pages = []

    def __call__(self, asked):
        query = json.loads(asked.query["query"])
        assert query["ordering"] == ["tasks:id"]
        last_id = query["filters"]["items"][0]["value"]
        size = int(asked.query["page_size"])
        if size > self.heaviest or (self.fails_after is not None and last_id >= self.fails_after):
            return Answer(502, {"detail": "too heavy"})
        self.pages.append((last_id, size))
        found = [one for one in self.ids if one > last_id]
        tasks = [{"id": one, "data": {}, "annotations": []} for one in found[:size]]
        return {"tasks": tasks, "total": len(found)}


def read(fake, start_after=0, **filters):
    with FakeServer(fake) as server, connect(server.url, TOKEN) as client:
        source = open_source("project:1", client=client, filters=TaskFilter(**filters))
        return [task.id for task in source.tasks(start_after)]


def test_pages_follow_the_last_id_so_that_deleted_tasks_shift_nothing():
    fake = FakeProject([1, 2, 3, 7, 8, 9, 10, 11, 30])
    assert read(fake) == [1, 2, 3, 7, 8, 9, 10, 11, 30]
    assert fake.pages == [(0, 4), (7, 4), (11, 4)]


def test_an_empty_project_has_no_tasks():
    assert read(FakeProject([])) == []


def test_reading_resumes_after_a_task():
    assert read(FakeProject(list(range(1, 10))), start_after=6) == [7, 8, 9]


def test_pages_that_are_too_heavy_for_the_server_become_smaller():
    fake = FakeProject(list(range(1, 8)), heaviest=1)
    assert read(fake) == list(range(1, 8))
    assert max(size for _, size in fake.pages) == 1


def test_a_server_that_stays_broken_says_how_far_reading_came():
    fake = FakeProject(list(range(1, 10)), fails_after=4)
    seen = []
    with (
        FakeServer(fake) as server,
        connect(server.url, TOKEN) as client,
        pytest.raises(ServerError, match="up to id 4 have been read"),
    ):
        for task in open_source("project:1", client=client).tasks():
            seen.append(task.id)
    assert seen == [1, 2, 3, 4]


@pytest.fixture
def real_project(label_studio, project_factory):
    project = project_factory(CONFIG)
    region = {
        "id": "r",
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "original_width": 2,
        "original_height": 2,
        "value": {"format": "rle", "rle": [0, 0, 0, 16], "brushlabels": ["Car"]},
    }
    tasks = [
        {
            "data": {"image": f"https://example.com/{n}.jpg", "batch": n % 2},
            "annotations": [{"result": [region]} for _ in range(n % 3)],
        }
        for n in range(11)
    ]
    with connect(label_studio.url, label_studio.api_key) as client:
        client.request("POST", f"/api/projects/{project.id}/import", json=tasks)
        yield client, f"project:{project.id}"


def test_a_real_project_is_read_whole_and_in_order(real_project):
    client, spec = real_project
    source = open_source(spec, client=client)
    tasks = list(source.tasks())
    assert len(tasks) == source.count() == 11
    assert [task.data["image"] for task in tasks] == [
        f"https://example.com/{n}.jpg" for n in range(11)
    ]
    assert [len(task.annotations) for task in tasks] == [n % 3 for n in range(11)]
    assert source.label_config.label_names == ("Car",)
    assert source.description.endswith(client.url)
    first = tasks[0].id
    assert [task.id for task in source.tasks(first + 8)] == [first + 9, first + 10]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"min_annotations": 2}, [2, 5, 8]),
        ({"batch": "batch=1"}, [1, 3, 5, 7, 9]),
        ({"batch": "batch=0", "min_annotations": 1}, [2, 4, 8, 10]),
    ],
)
def test_filters_on_a_real_project(real_project, filters, kept):
    client, spec = real_project
    source = open_source(spec, client=client, filters=TaskFilter(**filters))
    assert [task.data["image"] for task in source.tasks()] == [
        f"https://example.com/{n}.jpg" for n in kept
    ]
    assert source.count() in (len(kept), None)


def test_named_tasks_are_asked_for_alone_and_missing_ones_reported(real_project):
    client, spec = real_project
    ids = [task.id for task in open_source(spec, client=client).tasks()]
    wanted = frozenset({ids[0], ids[7], 10**8})
    source = open_source(spec, client=client, filters=TaskFilter(task_ids=wanted))
    assert [task.id for task in source.tasks()] == [ids[0], ids[7]]
    assert [(one.kind, one.task_id) for one in source.problems] == [("missing-task", 10**8)]


def test_a_missing_project_is_a_sentence(label_studio):
    with (
        connect(label_studio.url, label_studio.api_key) as client,
        pytest.raises(ServerError, match="There is no project 999999"),
    ):
        list(open_source("project:999999", client=client).tasks())
