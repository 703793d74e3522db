"""Filters, and sources opened by their spec."""

from datetime import UTC, datetime

import pytest

from segstudio.errors import UsageError
from segstudio.source import TaskFilter, open_source, parse_and_filter


def task(number, *annotations, **data):
    return {"id": number, "data": data, "annotations": list(annotations)}


def annotation(user, *, day=1, skipped=False):
    return {
        "id": 10 * user + day,
        "completed_by": user,
        "was_cancelled": skipped,
        "result": [],
        "updated_at": f"2026-11-{day:02}T12:00:00Z",
    }


RAW = [
    task(1, annotation(1), annotation(2), batch=7),
    task(2, annotation(2, day=5), batch="7"),
    task(3, annotation(3, skipped=True), batch="8"),
    task(4),
]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        (TaskFilter(), {1: 2, 2: 1, 3: 1, 4: 0}),
        (TaskFilter(task_ids=frozenset({2, 4})), {2: 1, 4: 0}),
        (TaskFilter(annotators=frozenset({2})), {1: 1, 2: 1}),
        (TaskFilter(batch="batch=7"), {1: 2, 2: 1}),
        (TaskFilter(batch="batch = 8"), {3: 1}),
        (TaskFilter(batch="other=7"), {}),
        (TaskFilter(min_annotations=1), {1: 2, 2: 1}),
        (TaskFilter(min_annotations=2), {1: 2}),
        (TaskFilter(annotators=frozenset({2}), min_annotations=2), {}),
        (TaskFilter(since=datetime(2026, 11, 5, tzinfo=UTC)), {2: 1}),
        (TaskFilter(until=datetime(2026, 11, 1, 12, tzinfo=UTC)), {}),
        (TaskFilter(until=datetime(2026, 11, 2, tzinfo=UTC)), {1: 2, 3: 1}),
    ],
)
def test_filters_keep_tasks_and_annotations(filters, kept):
    problems = []
    tasks = parse_and_filter(RAW, filters, problems, "a list")
    assert {one.id: len(one.annotations) for one in tasks} == kept
    assert problems == []


@pytest.mark.parametrize(
    ("said", "annotations", "is_kept"),
    [
        ({"is_labeled": True, "overlap": 3}, [annotation(1)], True),
        ({"is_labeled": False, "overlap": 1}, [annotation(1), annotation(2)], False),
        ({"overlap": 2}, [annotation(1)], False),
        ({"overlap": 2}, [annotation(1), annotation(2)], True),
        ({"overlap": 2}, [annotation(1), annotation(2, skipped=True)], False),
        ({}, [annotation(1)], True),
        ({}, [annotation(1, skipped=True)], False),
        ({}, [], False),
    ],
)
def test_only_complete_tasks_are_kept_on_request(said, annotations, is_kept):
    raw = [{**task(1, *annotations), **said}]
    for filters, expected in (
        (TaskFilter(only_complete=True), is_kept),
        # Whether a task is complete does not depend on whose work is looked at.
        (TaskFilter(only_complete=True, annotators=frozenset({1})), is_kept),
        (TaskFilter(), True),
    ):
        assert bool(list(parse_and_filter(raw, filters, [], "a list"))) is expected


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"batch": "seven"}, "KEY=VALUE"),
        ({"batch": "=7"}, "KEY=VALUE"),
        ({"since": datetime(2026, 1, 1)}, "time zone"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(bad, sentence):
    with pytest.raises(UsageError, match=sentence):
        TaskFilter(**bad)


def test_a_task_that_cannot_be_read_is_reported_and_the_rest_goes_on():
    problems = []
    raw = [RAW[0], "text", {"id": 5, "data": "none"}, {"id": 1, "data": {}}, RAW[1]]
    tasks = list(parse_and_filter(raw, TaskFilter(), problems, "a list"))
    assert [one.id for one in tasks] == [1, 2]
    kinds = [(one.kind, one.task_id) for one in problems]
    assert kinds == [("bad-task", None), ("bad-task", 5), ("doubled-task", 1)]


@pytest.mark.parametrize("ids", [[1, 2, 8191, 8192, 8193, 10**9], [0, -1, -8193]])
def test_doubled_ids_are_found_wherever_they_are(ids):
    problems = []
    raw = [{"id": one, "data": {}} for one in [*ids, *ids]]
    tasks = list(parse_and_filter(raw, TaskFilter(), problems, "a list"))
    assert [one.id for one in tasks] == ids
    assert [one.task_id for one in problems] == ids


@pytest.mark.parametrize(
    ("spec", "options", "sentence"),
    [
        ("project:x", {}, "project:3"),
        ("/no/such/file.json", {}, "does not exist"),
        (".", {}, "is a folder"),
    ],
)
def test_a_source_that_is_not_there_is_a_sentence(spec, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        open_source(spec, **options)


def test_a_tab_needs_a_server(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[]")
    with pytest.raises(UsageError, match="needs SOURCE project:ID"):
        open_source(str(path), filters=TaskFilter(tab=3))
