"""The gold sidecar: what goes into it, what shows that it was changed; who reads it."""

import json

import pytest

from batch.gold_check import findings, progress
from batch.gold_file import GoldFile, GoldTask, choose_gold, hash_of, read_gold, write_gold
from batch.gold_seed import data_model, plain_data
from qa_plugins.gold_reference import find_gold
from segstudio.errors import SourceError, UsageError
from segstudio.plugins import CheckContext
from segstudio.tasks import parse_task
from segstudio.taxonomy import SegmentClass, Taxonomy
from segstudio.writeback import StreamPlace
from tests.batch.people import box

DATA = {"image": "a.png"}


def annotation(number, *regions, user=1, truth=False, cancelled=False):
    return {"id": number, "result": list(regions), "completed_by": user, "ground_truth": truth,
            "was_cancelled": cancelled, "lead_time": 3.0, "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z"}  # fmt: skip


GOLD = annotation(7, box("Car", 10, 10, 30, 30), truth=True)


def gold_task(**changes):
    before = StreamPlace(5, 1, True)
    values = {"task_id": 5, "data": DATA, "annotation": GOLD, "drawing_hash": hash_of(GOLD),
              "on_server": 7, "before": before} | changes  # fmt: skip
    return GoldTask(**values)


def gold_file(*tasks):
    return GoldFile("http://ls", 3, 3, tasks or (gold_task(),))


def test_the_file_reads_back_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "gold.json"
    write_gold(path, gold_file())
    assert read_gold(path) == (gold_file(), [])
    assert path.stat().st_mode & 0o077 == 0
    assert [one.name for one in tmp_path.iterdir()] == ["gold.json"]


def test_the_check_gold_reads_it(tmp_path, monkeypatch):
    path = tmp_path / "gold.json"
    write_gold(path, gold_file())
    context = CheckContext(Taxonomy("t", (SegmentClass(1, "Car"),)), None, {"gold": str(path)})
    found = find_gold(parse_task({"id": 5, "data": DATA, "annotations": []}), context)
    assert (found.annotation.id, found.problems) == (7, ())
    assert find_gold(parse_task({"id": 6, "data": DATA}), context).annotation is None


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (lambda raw: raw["tasks"][0]["annotations"][0]["result"][0]["value"].update(x=11), 2),
        (lambda raw: raw["tasks"][0]["annotations"][0].update(result=None), 2),
        (lambda raw: raw["tasks"].clear(), 1),
        (lambda raw: raw.update(annotators=1), 1),
        (lambda raw: raw.update(digest="0"), 1),
        (lambda raw: None, 0),
    ],
)
def test_any_change_of_the_file_is_seen(tmp_path, change, sentences):
    path = tmp_path / "gold.json"
    write_gold(path, gold_file())
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    assert len(read_gold(path)[1]) == sentences


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("[]", UsageError, "no gold file"),
        ("{", SourceError, "cannot be read"),
        ('{"format": "segstudio-gold", "version": 9}', UsageError, "version 9"),
        ('{"format": "segstudio-gold", "version": 1, "tasks": [{}]}', SourceError, "lacks"),
    ],
)
def test_what_is_no_gold_file_is_refused_in_a_sentence(tmp_path, text, kind, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(kind, match=said):
        read_gold(tmp_path / "x.json")
    with pytest.raises(UsageError, match="There is no gold file"):
        read_gold(tmp_path / "none.json")


TRUTH, MINE = GOLD, annotation(8, box("Car", 11, 10, 30, 30), user=2)


@pytest.mark.parametrize(
    ("annotations", "wanted", "chosen"),
    [
        ([TRUTH, MINE], "ground-truth", 7),
        ([TRUTH, MINE], "user:2", 8),
        ([TRUTH, MINE], "user:9", None),
        ([MINE, annotation(9, user=3, cancelled=True)], "only", 8),
        ([], "only", None),
        ([{**MINE, "completed_by": {"id": 2}}], "user:2", 8),
    ],
)
def test_which_annotation_is_gold(annotations, wanted, chosen):
    found = choose_gold({"id": 5, "annotations": annotations}, wanted)
    assert (found and found["id"]) == chosen


@pytest.mark.parametrize(
    ("annotations", "wanted", "said"),
    [
        ([TRUTH, MINE], "only", "Task 5 has 2 annotations that could be its gold"),
        ([TRUTH], "best", "not 'best'"),
        ([{**TRUTH, "result": [{**box("Car", 1, 1, 2, 2), "value": 3}]}], "only", "whole"),
    ],
)
def test_gold_that_is_not_plain_is_refused(annotations, wanted, said):
    with pytest.raises(UsageError, match=said):
        choose_gold({"id": 5, "annotations": annotations}, wanted)


def raw_task(*annotations, number=5, data=DATA, meta=None, overlap=3, labeled=False):
    return {"id": number, "data": data, "meta": meta, "annotations": list(annotations),
            "overlap": overlap, "is_labeled": labeled}  # fmt: skip


MOVED = {**GOLD, "result": [box("Car", 12, 10, 30, 30)], "updated_by": 4}
COPIED = annotation(9, box("Car", 10, 10, 30, 30), user=4)


@pytest.mark.parametrize(
    ("gold", "task", "said", "tampering"),
    [
        (gold_task(), raw_task(GOLD), "in sight of every annotator", False),
        (gold_task(), raw_task(MOVED), "changed on the server (by user 4", True),
        (gold_task(), raw_task(), "was removed", False),
        (gold_task(hidden=True), raw_task(COPIED), "of user 4 on task 5 equals the gold", True),
        (gold_task(hidden=True), raw_task(MOVED), "hidden, which was cut short", True),
        (gold_task(hidden=True), raw_task(GOLD), "still in the project: a call was cut", False),
        (gold_task(hidden=True), raw_task(labeled=True), "offered to nobody", False),
        (gold_task(), raw_task(number=6), "no longer in the project", False),
        (gold_task(hidden=True), raw_task(meta={"g": 1}), "meta key 'g', which no other", False),
        (gold_task(hidden=True), raw_task(data={}), "lacks the data key 'image'", False),
    ],
)
def test_what_happened_to_gold_is_said(gold, task, said, tampering):
    other = raw_task(number=1, meta={})
    (found,) = findings(gold_file(gold), [task, other])
    assert said in found.text
    assert found.is_tampering is tampering


REUSED = {**annotation(7, box("Car", 12, 10, 30, 30), user=2), "created_at": "2026-02-01T00:00:00Z"}


def test_a_drawing_that_got_the_number_of_hidden_gold_is_its_annotators_own():
    gold = gold_file(gold_task(hidden=True))
    assert findings(gold, [raw_task(REUSED), raw_task(number=1)]) == []
    assert progress(gold, [raw_task(REUSED)])[0].annotators == (2,)


def test_hidden_gold_that_annotators_drew_their_own_way_is_as_it_should_be():
    assert findings(gold_file(gold_task(hidden=True)), [raw_task(MINE), raw_task(number=1)]) == []


def test_progress_counts_people_and_not_the_gold():
    (row,) = progress(gold_file(), [raw_task(GOLD, MINE, annotation(10, user=3, cancelled=True))])
    assert (row.annotators, row.in_stream) == ((2,), True)


def test_imported_gold_has_the_keys_that_the_other_tasks_have():
    model = data_model([{"image": "a", "batch": 7, "qa_miou": 1}, {"image": "b", "batch": 7}])
    assert model == {"image": None, "batch": 7}
    assert plain_data({"image": "c", "gold": 1}, model) == {"image": "c", "batch": 7}
    assert data_model([]) == {}
