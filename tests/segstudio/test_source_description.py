"""A source in words: what reports, cards and manifests say of where their numbers come from."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from segstudio.source import TaskFilter, describe_selection

PROJECT = SimpleNamespace(
    description="project 3 at http://ls", project_ids=(3,), client=SimpleNamespace(url="http://ls")
)
MORNING = datetime(2026, 11, 1, 2, 0, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("filters", "words", "values"),
    [
        (TaskFilter(), "", {}),
        (TaskFilter(batch="batch = 7"), ", batch=7", {"batch": "batch=7"}),
        (TaskFilter(tab=5), ", tab 5", {"tab": 5}),
        (TaskFilter(task_ids=frozenset({9, 2})), ", tasks 2, 9", {"tasks": [2, 9]}),
        (
            TaskFilter(annotators=frozenset({4})),
            ", annotations of user 4",
            {"annotators": [4]},
        ),
        (
            TaskFilter(since=MORNING, until=datetime(2026, 11, 8, tzinfo=UTC)),
            ", annotations changed at or after 2026-11-01T00:00:00Z (UTC)"
            ", annotations changed before 2026-11-08T00:00:00Z (UTC)",
            {"since": "2026-11-01T00:00:00Z", "until": "2026-11-08T00:00:00Z"},
        ),
        (
            TaskFilter(min_annotations=2, only_complete=True),
            ", tasks with 2 or more annotations, complete tasks",
            {"min_annotations": 2, "complete": True},
        ),
    ],
)
def test_every_filter_is_named_and_times_are_utc(filters, words, values):
    selection = describe_selection(SimpleNamespace(**vars(PROJECT), filters=filters))
    assert selection.text == f"project 3 at http://ls{words}"
    assert selection.as_json()["filters"] == values
    assert selection.as_json()["projects"] == [3]


def test_a_file_is_named_without_its_folders_and_many_ids_are_cut():
    source = SimpleNamespace(
        description="/home/somebody/export.json",
        project_ids=(),
        filters=TaskFilter(task_ids=frozenset(range(1, 14))),
    )
    selection = describe_selection(source)
    assert selection.text == "export.json, tasks 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more"
    assert selection.as_json()["server"] is None
