"""Write-back: merged, verified, repeated where lost, never more than asked; also for real."""

import copy
import json
import threading

import pytest

from segstudio.client import connect
from segstudio.errors import ServerError, UsageError
from segstudio.http_client import RetryingClient
from segstudio.progress import ProgressLine
from segstudio.source import TaskFilter, open_source
from segstudio.writeback import (
    TaskRecord,
    ensure_tab,
    merged_task,
    number_filter,
    remove_tab,
    write_instructions,
    write_results,
)
from tests.segstudio.fake_server import Answer, FakeServer

TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Car"/></BrushLabels></View>'
)

RECTANGLE = {
    "id": "r", "type": "rectangle", "from_name": "box", "to_name": "image", "image_rotation": 0,
    "original_width": 20, "original_height": 20,
    "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0},
}  # fmt: skip


class FakeTasks:
    """Tasks behind the two endpoints that write-back uses; `lose` undoes a task's first writes."""

    def __init__(self, tasks, lose=None, refuse=()):
        self.tasks = copy.deepcopy(tasks)
        self.lose = dict(lose or {})
        self.refuse = dict(refuse)
        self.patches = []

    def __call__(self, asked):
        if asked.method == "GET":
            assert asked.query["resolve_uri"] == "false"
            items = json.loads(asked.query["query"])["filters"]["items"]
            wanted = [item["value"] for item in items]
            return {"tasks": [{"id": n, **self.tasks[n]} for n in wanted if n in self.tasks]}
        number = int(asked.path.split("/")[3])
        if number in self.refuse:
            return Answer(self.refuse[number], {"detail": "no"})
        self.patches.append((number, asked.body))
        if self.lose.get(number, 0) > 0:
            self.lose[number] -= 1
        else:
            self.tasks[number].update(asked.body)
        return {"id": number}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(RetryingClient, "sleep", staticmethod(lambda delay_s: None))


def write(fake, records, **options):
    with FakeServer(fake) as server, connect(server.url, TOKEN) as client:
        return write_results(client, 1, records, **options)


TASKS = {
    1: {"data": {"image": "a.jpg", "qa_old": 1}, "meta": {"mine": 1}},
    2: {"data": {"image": "b.jpg"}, "meta": {"segstudio": {"gold": 3, "agreement": {"old": 1}}}},
    3: {"data": {"image": "c.jpg", "qa_miou": 0.3}, "meta": None},
}
RECORDS = [
    TaskRecord(1, {"agreement": {"miou": 0.1}}, {"qa_miou": 0.1, "qa_old": None}),
    TaskRecord(2, {"agreement": {"miou": 0.2}}, {"qa_miou": 0.2}),
    TaskRecord(3, {}, {"qa_miou": 0.3}),
]


def test_records_are_merged_and_only_what_differs_is_written():
    fake = FakeTasks(TASKS)
    summary = write(fake, RECORDS)
    assert (summary.written, summary.unchanged, summary.retried) == (2, 1, 0)
    assert fake.tasks[1] == {
        "data": {"image": "a.jpg", "qa_miou": 0.1},
        "meta": {"mine": 1, "segstudio": {"agreement": {"miou": 0.1}}},
    }
    assert fake.tasks[2]["meta"] == {"segstudio": {"gold": 3, "agreement": {"miou": 0.2}}}
    assert [number for number, _ in fake.patches] == [1, 2]


def test_the_same_records_again_write_nothing():
    fake = FakeTasks(TASKS)
    write(fake, RECORDS)
    fake.patches.clear()
    summary = write(fake, RECORDS)
    assert (summary.written, summary.unchanged, fake.patches) == (0, 3, [])
    assert str(summary) == "0 tasks written, 3 already up to date"


def test_a_key_that_is_none_is_removed_and_the_last_one_takes_segstudio_along():
    fake = FakeTasks(TASKS)
    write(fake, [TaskRecord(2, {"agreement": None}), TaskRecord(3, {"agreement": None})])
    assert fake.tasks[2]["meta"] == {"segstudio": {"gold": 3}}
    write(fake, [TaskRecord(2, {"gold": None}), TaskRecord(3, {}, {"qa_miou": None})])
    assert fake.tasks[2]["meta"] == {}
    assert fake.tasks[3] == {"data": {"image": "c.jpg"}, "meta": None}


def test_data_is_not_sent_where_only_meta_changes():
    fake = FakeTasks(TASKS)
    write(fake, [TaskRecord(3, {"gold": 1}, {"qa_miou": 0.3})])
    assert fake.patches == [(3, {"meta": {"segstudio": {"gold": 1}}})]


def test_a_dry_run_sends_nothing_and_says_what_it_would():
    fake = FakeTasks(TASKS)
    summary = write(fake, RECORDS, dry_run=True)
    assert (summary.written, summary.unchanged, fake.patches) == (2, 1, [])
    assert str(summary) == "2 tasks would be written, 1 already up to date"


def test_a_write_that_is_lost_is_repeated():
    fake = FakeTasks(TASKS, lose={2: 2})
    summary = write(fake, RECORDS)
    assert (summary.written, summary.unchanged, summary.retried) == (2, 1, 2)
    assert fake.tasks[2]["data"]["qa_miou"] == 0.2
    assert summary.problems == ()


def test_a_write_that_is_always_lost_is_reported():
    fake = FakeTasks(TASKS, lose={2: 99})
    summary = write(fake, RECORDS)
    assert summary.written == 1
    (problem,) = summary.problems
    assert (problem.kind, problem.task_id) == ("not-written", 2)
    assert "keeps overwriting" in problem.message


def test_missing_and_refused_tasks_are_reported_and_the_rest_is_written(capsys):
    fake = FakeTasks(TASKS, refuse={2: 400})
    records = [*RECORDS, TaskRecord(9, {}, {"qa_miou": 1.0})]
    with ProgressLine("write-back", 4) as progress:
        summary = write(fake, records, progress=progress)
    assert summary.written == 1
    assert [(one.kind, one.task_id) for one in summary.problems] == [
        ("missing-task", 9),
        ("not-written", 2),
    ]
    assert (progress.done, progress.failed) == (4, 2)


def test_a_refusal_that_meets_every_task_stops_at_once():
    fake = FakeTasks(TASKS, refuse={1: 403})
    with pytest.raises(ServerError, match="does not allow this user task 1"):
        write(fake, RECORDS)


def test_more_records_than_one_reading_holds():
    tasks = {number: {"data": {}, "meta": {}} for number in range(1, 124)}
    fake = FakeTasks(tasks)
    records = (TaskRecord(number, {}, {"qa_n": number}) for number in tasks)
    assert write(fake, records).written == 123
    assert [fake.tasks[number]["data"]["qa_n"] for number in tasks] == list(tasks)


def test_two_records_of_one_task_are_both_written():
    fake = FakeTasks(TASKS)
    write(fake, [TaskRecord(1, {"a": 1}, {"qa_a": 1}), TaskRecord(1, {"b": 2}, {"qa_b": 2})])
    assert fake.tasks[1]["meta"]["segstudio"] == {"a": 1, "b": 2}
    assert fake.tasks[1]["data"]["image"] == "a.jpg"
    assert len(fake.patches) == 1


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (TaskRecord(1, {}, {"image": "x.jpg"}), "columns of ours are named qa_"),
        (TaskRecord(1, {}, {"qa_miou": float("nan")}), "give None"),
        (TaskRecord(1, {}, {"qa_miou": [1]}), "has a list in 'qa_miou'"),
        (TaskRecord(1, {"segstudio": {}}, {}), "only what goes below it"),
        (TaskRecord(1, {"x": {1, 2}}, {}), "cannot be written as JSON"),
    ],
)
def test_a_record_that_would_do_harm_is_refused(record, sentence):
    with pytest.raises(UsageError, match=sentence):
        write(FakeTasks(TASKS), [record])


def test_merging_leaves_the_task_given_as_it_was():
    task = {"meta": {"segstudio": {"a": {"b": 1}}}, "data": {"image": "x"}}
    before = copy.deepcopy(task)
    merged_task(task, TaskRecord(1, {"a": {"c": 2}}, {"qa_x": 1}))
    assert task == before


@pytest.fixture
def real_project(label_studio, project_factory):
    project = project_factory(CONFIG)
    with connect(label_studio.url, label_studio.api_key) as client:
        tasks = [{"data": {"image": f"https://example.com/{n}.jpg"}} for n in range(6)]
        client.request("POST", f"/api/projects/{project.id}/import", json=tasks)
        yield client, project.id


def test_results_become_sortable_columns_on_a_real_server(real_project):
    client, project_id = real_project
    ids = [task.id for task in open_source(f"project:{project_id}", client=client).tasks()]
    records = [
        TaskRecord(one, {"agreement": {"miou": n / 7}}, {"qa_miou": n / 7})
        for n, one in enumerate(ids)
    ]
    assert write_results(client, project_id, records).written == 6
    again = write_results(client, project_id, records)
    assert (again.written, again.unchanged) == (0, 6)

    low = [number_filter("data.qa_miou", "less", 0.5)]
    order = ["-tasks:data.qa_miou"]
    columns = ["tasks:id", "tasks:data.qa_miou"]
    tab = ensure_tab(client, project_id, "QA: needs rework", low, order, columns)
    assert ensure_tab(client, project_id, "QA: needs rework", low, order, columns) == tab
    views = client.get_json("/api/dm/views/", project=project_id)
    assert [view["data"]["title"] for view in views] == ["Default", "QA: needs rework"]
    in_tab = open_source(f"project:{project_id}", client=client, filters=TaskFilter(tab=tab))
    assert [task.id for task in in_tab.tasks()] == [ids[3], ids[2], ids[1], ids[0]]
    task = next(iter(in_tab.tasks()))
    assert task.data["image"] == "https://example.com/3.jpg"
    assert task.meta["segstudio"]["agreement"] == {"miou": 3 / 7}

    # What a lead changes in the tab outlives the next write-back.
    path = f"/api/dm/views/{tab}/"
    body = {"project": project_id, "data": {**_view(client, project_id, tab), **_by_a_lead(low)}}
    client.request("PATCH", path, json=body)
    theirs = _view(client, project_id, tab)
    assert theirs["columnsWidth"] == {"tasks:id": 321}
    assert ensure_tab(client, project_id, "QA: needs rework", low, order, columns) == tab
    assert _view(client, project_id, tab) == theirs
    in_tab = open_source(f"project:{project_id}", client=client, filters=TaskFilter(tab=tab))
    assert [task.id for task in in_tab.tasks()] == [ids[2], ids[3]]
    assert remove_tab(client, project_id, "QA: needs rework", low) == 1


def _by_a_lead(filters):
    """Another order, a column shown, one hidden, a width and one filter more."""
    more = number_filter("data.qa_miou", "greater", 0.2)
    return {
        "filters": {"conjunction": "and", "items": [*filters, more]},
        "ordering": ["tasks:id"],
        "hiddenColumns": {"explore": ["tasks:data.qa_miou"], "labeling": []},
        "columnsWidth": {"tasks:id": 321},
    }


def _view(client, project_id, view_id):
    views = client.get_json("/api/dm/views/", project=project_id)
    return next(view["data"] for view in views if view["id"] == view_id)


def test_writing_survives_other_writers_on_a_real_server(real_project):
    client, project_id = real_project
    ids = [task.id for task in open_source(f"project:{project_id}", client=client).tasks()]
    stop = threading.Event()
    saved = {}

    def meddle():
        # Annotators at work: their submissions save the task, as the server does.
        with connect(client.url, client._api_key) as other:
            while not stop.is_set():
                for one in ids:
                    path = f"/api/tasks/{one}/annotations/"
                    answer = other.request("POST", path, json={"result": [RECTANGLE]})
                    made = answer.json()["id"]
                    answer = other.request(
                        "PATCH", f"/api/annotations/{made}/", json={"lead_time": float(made)}
                    )
                    saved[made] = answer.json()["lead_time"]

    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        records = [TaskRecord(one, {"n": one}, {"qa_n": one}) for one in ids]
        summary = write_results(client, project_id, records)
    finally:
        stop.set()
        meddler.join()
    assert summary.problems == ()
    stored = {}
    for task in open_source(f"project:{project_id}", client=client).tasks():
        assert (task.meta["segstudio"]["n"], task.data["qa_n"]) == (task.id, task.id)
        stored |= {one.id: one for one in task.annotations}
    # Nothing that an annotator was told to be saved is gone.
    assert saved
    assert {one.id: one.lead_time_s for one in stored.values()} == saved
    assert all(one.regions[0].value["width"] == 5 for one in stored.values())


def test_instructions_keep_what_people_wrote_on_a_real_server(real_project):
    client, project_id = real_project
    path = f"/api/projects/{project_id}/"
    client.request("PATCH", path, json={"expert_instruction": "<p>Be kind.</p>"})
    assert write_instructions(client, project_id, "<p>Rule <b>1</b> & more</p>", dry_run=True)
    assert write_instructions(client, project_id, "<p>Rule <b>1</b> & more</p>")
    assert not write_instructions(client, project_id, "<p>Rule <b>1</b> & more</p>")
    assert write_instructions(client, project_id, "<p>Rule 2</p>")
    project = client.project(project_id)
    text = project["expert_instruction"]
    assert text.startswith("<p>Be kind.</p>")
    assert "Rule 2" in text
    assert "Rule <b>" not in text
    assert project["show_instruction"] is True
