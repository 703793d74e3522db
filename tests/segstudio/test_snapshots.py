"""Snapshots: what makes a revision, what does not, and that nothing is stored twice."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest

from qa_plugins.history import read_history
from segstudio.errors import UsageError
from segstudio.masks import Mask
from segstudio.snapshot_store import pack_runs, unpack_runs
from segstudio.snapshots import (
    SnapshotRecorder,
    annotation_hash,
    drawing_hash,
    open_store,
    read_deletions,
    read_drawing,
    read_revisions,
    read_snapshots,
    record_snapshot,
)
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, raw_task

SQUARE = np.zeros((8, 8), bool)
SQUARE[2:5, 2:5] = True
WIDER = np.zeros((8, 8), bool)
WIDER[2:5, 2:7] = True
MONDAY = datetime(2026, 11, 16, 9, 0, tzinfo=UTC)
TUESDAY = datetime(2026, 11, 17, 9, 0, tzinfo=UTC)


def drawn(shape=SQUARE, label="car", number=1, person=1, **fields):
    fields = {"created_at": "2026-11-16T08:00:00Z", "updated_at": "2026-11-16T08:00:00Z", **fields}
    return annotation(number, person, [(label, shape)], **fields)


def task_of(*annotations, task_id=1, **data):
    return parse_task(raw_task(task_id, annotations, **data))


def hashes(raw):
    parsed = task_of(raw).annotations[0]
    return annotation_hash(parsed), drawing_hash(parsed)


@pytest.mark.parametrize(
    ("changed", "annotation_differs", "drawing_differs"),
    [
        ({}, False, False),
        ({"number": 9}, False, False),
        ({"lead_time": 3.0}, False, False),
        ({"updated_at": "2026-11-16T10:00:00+02:00"}, False, False),
        ({"updated_at": "2026-11-16T08:00:01Z"}, True, False),
        ({"person": 2}, True, False),
        ({"was_cancelled": True}, True, False),
        ({"ground_truth": True}, True, False),
        ({"label": "road"}, True, True),
        ({"shape": WIDER}, True, True),
    ],
)
def test_the_hash_changes_with_what_was_drawn_by_whom_and_when(
    changed, annotation_differs, drawing_differs
):
    one, other = hashes(drawn()), hashes(drawn(**changed))
    assert (one[0] != other[0], one[1] != other[1]) == (annotation_differs, drawing_differs)


def test_the_order_of_regions_counts_because_the_later_lies_on_top():
    forth = annotation(1, 1, [("car", SQUARE), ("road", WIDER)])
    back = annotation(1, 1, [("road", WIDER), ("car", SQUARE)])
    assert hashes(forth)[1] != hashes(back)[1]


def test_a_damaged_annotation_is_not_an_empty_one():
    damaged = drawn()
    damaged["result"][0]["original_width"] = 0
    assert hashes(damaged)[1] != hashes({**drawn(), "result": []})[1]


def test_only_what_changed_becomes_a_revision(tmp_path):
    path = tmp_path / "history.sqlite"
    first = [task_of(drawn()), task_of(drawn(number=2), task_id=2)]
    one = record_snapshot(path, "project 3", first, now=MONDAY)
    again = record_snapshot(path, "project 3", first, now=TUESDAY)
    assert (one.new_revisions, one.tasks, one.annotations) == (2, 2, 2)
    assert (again.id, again.new_revisions, again.digest) == (one.id, 0, one.digest)
    assert again.first_read_at == "2026-11-16T09:00:00.000000Z"
    assert again.last_read_at == "2026-11-17T09:00:00.000000Z"

    fixed = drawn(WIDER, updated_at="2026-11-17T08:00:00Z", updated_by=7, lead_time=12.5)
    third = record_snapshot(path, "project 3", [task_of(fixed, qa_round=1), first[1]], now=TUESDAY)
    assert (third.new_revisions, third.digest != one.digest) == (1, True)
    assert [one.id for one in read_snapshots(path)] == [one.id, third.id]
    before, after = read_revisions(path, task_id=1)
    assert (before.round, after.round) == (0, 1)
    assert (before.changed_by, after.changed_by, after.lead_time_s) == (None, 7, 12.5)
    assert before.classes != after.classes
    with closing(open_store(path)) as store:
        masks = [read_drawing(store, one.classes["car", 0]).to_dense() for one in (before, after)]
        assert np.array_equal(masks[0], SQUARE)
        assert np.array_equal(masks[1], WIDER)
        # Task 2 shows the same square: it is there once.
        assert store.execute("SELECT count(*) FROM snapshot_drawings").fetchone() == (2,)


def test_going_back_to_an_earlier_drawing_is_a_revision_too(tmp_path):
    path = tmp_path / "history.sqlite"
    for shape in (SQUARE, WIDER, SQUARE):
        record_snapshot(path, "s", [task_of(drawn(shape))], now=MONDAY)
    assert len(list(read_revisions(path))) == 3


def test_tasks_that_stream_by_are_handed_on_and_a_broken_stream_leaves_no_snapshot(tmp_path):
    path = tmp_path / "history.sqlite"

    def broken():
        yield from (task_of(drawn(), task_id=number) for number in range(1, 61))
        raise OSError("gone")

    with SnapshotRecorder(path, "s") as recorder:
        assert [one.id for one in recorder.watch(iter([task_of(drawn())]))] == [1]
    with pytest.raises(OSError, match="gone"), SnapshotRecorder(path, "s") as recorder:
        recorder.add(broken())
    assert len(read_snapshots(path)) == 1
    # What was seen before the trouble is true and stays.
    assert len(list(read_revisions(path))) == 60


def test_the_trend_of_qa_and_the_snapshots_live_in_one_file(tmp_path):
    path = tmp_path / "history.sqlite"
    record_snapshot(path, "s", [task_of(drawn())])
    assert read_history(path) == []
    assert len(read_snapshots(path)) == 1
    other = tmp_path / "other.sqlite"
    assert read_history(other) == []
    record_snapshot(other, "s", [task_of(drawn())])
    assert read_history(other) == []


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "mine.sqlite"
    with closing(sqlite3.connect(path)) as store:
        store.execute("CREATE TABLE mine (x)")
    with pytest.raises(UsageError, match="a database of something else"):
        record_snapshot(path, "s", [])
    text = tmp_path / "notes.txt"
    text.write_text("not a database, and longer than the head of one " * 20)
    with pytest.raises(UsageError, match="cannot be used as a history"):
        record_snapshot(text, "s", [])


@pytest.mark.parametrize("runs", [[], [[0, 1]], [[0, 5], [9, 12], [60, 64]]])
def test_packed_runs_come_back(runs):
    mask = Mask.from_runs(8, 8, runs)
    assert unpack_runs(8, 8, pack_runs(mask)) == mask


LS = {"origin": "http://ls", "tells_deleted": True}


def gone(path):
    return [(one.task_id, one.annotation, one.last.annotator_id) for one in read_deletions(path)]


def test_an_annotation_that_is_gone_from_the_server_is_marked_once_and_stays_readable(tmp_path):
    path = tmp_path / "history.sqlite"
    both, one = task_of(drawn(), drawn(WIDER, number=2, person=2)), task_of(drawn())
    other_task = task_of(task_id=2)
    record_snapshot(path, "s", [both], now=MONDAY, **LS)
    assert gone(path) == []
    record_snapshot(path, "s", [one, other_task], now=TUESDAY, **LS)
    record_snapshot(path, "s", [one], **LS)
    (found,) = read_deletions(path)
    assert (found.annotation, found.seen_at[:10]) == ("2", "2026-11-17")
    assert found.last.classes
    assert len(list(read_revisions(path))) == 2
    record_snapshot(path, "s", [both], **LS)  # a server that gives an id a second time
    assert gone(path) == []


def test_what_is_merely_not_read_is_not_called_deleted(tmp_path):
    path = tmp_path / "history.sqlite"
    both, one = task_of(drawn(), drawn(WIDER, number=2, person=2)), task_of(drawn())
    record_snapshot(path, "s", [both], **LS)
    record_snapshot(path, "s", [one], origin="http://ls")  # annotations were filtered
    record_snapshot(path, "s", [one], **{**LS, "origin": "http://other"})
    record_snapshot(path, "s", [], **LS)  # the task was filtered
    unreadable = parse_task({**raw_task(1, []), "annotations": [drawn(), {"id": 2, "result": 3}]})
    assert [one.kind for one in unreadable.problems] == ["unreadable-annotation"]
    record_snapshot(path, "s", [unreadable], **LS)
    assert gone(path) == []


def test_a_history_from_before_deletions_were_marked_is_gone_on_with(tmp_path):
    path = tmp_path / "history.sqlite"
    record_snapshot(path, "s", [task_of(drawn())], **LS)
    with closing(sqlite3.connect(path)) as store:
        store.execute("DROP TABLE snapshot_deletions")
    record_snapshot(path, "s", [task_of()], **LS)
    assert gone(path) == [(1, "1", 1)]
