"""Tasks from a server: pages, filters, resumption; against a scripted server and a real one."""

import base64
import json
import time

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
        pytest.raises(ServerError, match=r"up to id 4 of project 1 at http.* have been read"),
    ):
        for task in open_source("project:1", client=client).tasks():
            seen.append(task.id)
    assert seen == [1, 2, 3, 4]


class TabOrNamed(FakeProject):
    """The same tasks for a tab and for named ids; pages of a tab are counted from 1."""

    def __call__(self, asked):
        size = int(asked.query["page_size"])
        if size > self.heaviest:
            return Answer(504, {"detail": "too slow"})
        if "view" in asked.query:
            first = (int(asked.query["page"]) - 1) * size
            found = self.ids[first : first + size]
        else:
            items = json.loads(asked.query["query"])["filters"]["items"]
            found = [one for one in self.ids if one in {item["value"] for item in items}]
        self.pages.append(len(found))
        return {"tasks": [{"id": one, "data": {}} for one in found], "total": len(self.ids)}


@pytest.mark.parametrize("filters", [{"tab": 7}, {"task_ids": frozenset({5, 3, 1, 9, 7})}])
@pytest.mark.parametrize(("heaviest", "pages"), [(100, 1), (20, 1), (1, 5)])
def test_tabs_and_named_tasks_come_in_smaller_pages_too(monkeypatch, filters, heaviest, pages):
    monkeypatch.setattr(server_source, "PAGE_TASKS", 100)
    fake = TabOrNamed([1, 3, 5, 7, 9], heaviest=heaviest)
    assert read(fake, **filters) == [1, 3, 5, 7, 9]
    assert len(fake.pages) == pages


def test_a_connection_that_breaks_within_a_page_loses_and_doubles_nothing():
    project, asked_pages = FakeProject(list(range(1, 10))), []

    def answer(asked):
        asked_pages.append(asked)
        return Answer(body=project(asked), is_cut=len(asked_pages) in (2, 3))

    assert read(answer) == list(range(1, 10))
    assert len(asked_pages) == 5


def test_a_server_that_restarts_between_two_pages_is_waited_for(monkeypatch):
    project, delays_s = FakeProject(list(range(1, 10))), []
    first = FakeServer(project)
    second = None

    def sleep(delay_s):
        nonlocal second
        delays_s.append(delay_s)
        if len(delays_s) == 6:
            second = FakeServer(project, port=first.port)
            second.__enter__()

    monkeypatch.setattr(RetryingClient, "sleep", staticmethod(sleep))
    with first, connect(first.url, TOKEN) as client:
        tasks = open_source("project:1", client=client).tasks()
        seen = [next(tasks).id for _ in range(4)]
        first.__exit__()
        try:
            seen += [task.id for task in tasks]
        finally:
            if second is not None:
                second.__exit__()
    assert seen == list(range(1, 10))
    assert 20 < sum(delays_s) < 60


def test_a_server_that_never_comes_back_is_given_up_once_and_reading_can_go_on_later():
    project = FakeProject(list(range(1, 10)))
    with FakeServer(project) as server, connect(server.url, TOKEN) as client:
        tasks = open_source("project:1", client=client).tasks()
        seen = [next(tasks).id for _ in range(4)]
        server.__exit__()
        with pytest.raises(ServerError, match=r"Nothing answers.*up to id 4 of project 1"):
            next(tasks)
    assert seen + read(project, start_after=seen[-1]) == list(range(1, 10))


def test_an_access_token_that_ends_between_two_pages_is_renewed():
    project, issued = FakeProject(list(range(1, 10))), []

    def answer(asked):
        if asked.path == "/api/token/refresh/":
            issued.append(f"{jwt(n=len(issued))}")
            busy = len(issued) in (2, 3)  # the server is busy when the token ends
            return Answer(503, {}) if busy else {"access": issued[-1]}
        if asked.headers["authorization"] != f"Bearer {issued[-1]}" or len(project.pages) == 2:
            project.pages.append("refused")
            return Answer(401, {"detail": "Given token not valid"})
        return project(asked)

    with FakeServer(answer) as server, connect(server.url, jwt(token_type="refresh")) as client:
        source = open_source("project:1", client=client)
        assert [task.id for task in source.tasks()] == list(range(1, 10))
    assert project.pages[:3] == [(0, 4), (4, 4), "refused"]
    assert len(issued) == 4


def jwt(**claims):
    claims = {"exp": time.time() + 300, **claims}
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=")
             for one in ({"alg": "HS256"}, claims)]  # fmt: skip
    return ".".join([*parts, "c2lnbmF0dXJl"])


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
