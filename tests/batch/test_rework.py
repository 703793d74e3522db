"""Which tasks go back, to whom, and what becomes of them: decisions without a server."""

import random
from dataclasses import replace

import pytest

from batch.rework import (
    FailedTask,
    Place,
    Requirement,
    failed_tasks,
    look_at,
    missed,
    new_codes,
    tags_of,
    with_places,
)
from batch.rework_judge import drawings_of, judge
from batch.rework_state import (
    ReworkState,
    Round,
    RoundTask,
    read_state,
    with_outcomes,
    write_state,
)
from segstudio.errors import SourceError, UsageError
from segstudio.tasks import parse_task
from tests.batch.people import box


def conflict(kind, a, b, class_a="Car", class_b="Car", regions_a=(), regions_b=()):
    return {"type": kind, "a": a, "b": b, "class_a": class_a, "class_b": class_b,
            "regions_a": list(regions_a), "regions_b": list(regions_b), "iou": 0.0}  # fmt: skip


def entry(number, classes, people=(1, 2), conflicts=(), verdict="rework"):
    miou = sum(classes.values()) / len(classes)
    return {"id": number, "miou": miou, "mdice": miou, "classes": classes, "classes_dice": classes,
            "worst_class": min(classes, key=classes.get), "annotators": list(people),
            "conflicts": list(conflicts), "verdict": verdict}  # fmt: skip


def gate(scope, subject, threshold, worst, against="annotators", metric="iou", verdict="fail"):
    listed = [{"task": task, "value": value, "class": name} for task, value, name in worst]
    return {"scope": scope, "subject": subject, "threshold": threshold, "worst_tasks": listed,
            "against": against, "metric": metric, "verdict": verdict}  # fmt: skip


def qa(tasks, *gates):
    return {"batch": {"gates": list(gates)}, "tasks": tasks}


T1 = entry(1, {"Car": 0.5, "Tree": 0.9})
T2 = entry(2, {"Car": 0.2, "Tree": 0.3})
T3 = entry(3, {"Car": 0.9, "Tree": 0.1}, verdict="ok")


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ([gate("class", "Car", 0.7, [(2, 0.2, "Car"), (1, 0.5, "Car")])],
         [(2, "Car", 0.2), (1, "Car", 0.5)]),
        # Classes in the order of their worst task; a task once, under its worst class.
        ([gate("class", "Car", 0.7, [(2, 0.2, "Car"), (1, 0.5, "Car")]),
          gate("class", "Tree", 0.7, [(3, 0.1, "Tree"), (2, 0.3, "Tree")])],
         [(3, "Tree", 0.1), (2, "Car", 0.2), (1, "Car", 0.5)]),
        ([gate("batch", None, 0.7, [(2, 0.25, "Car")])], [(2, "Car", 0.25)]),
        ([gate("class", "Car", 0.1, [(2, 0.2, "Car")], verdict="pass")], []),
        ([], [(2, "Car", 0.25), (1, "Car", 0.7)]),
    ],
)  # fmt: skip
def test_failed_gates_name_their_tasks_the_worst_first(gates, expected):
    found = failed_tasks(qa([T1, T2, T3], *gates))
    assert [(one.task_id, one.class_name, pytest.approx(one.value)) for one in found] == expected


def test_a_task_has_to_reach_all_that_it_failed():
    gates = [gate("class", "Car", 0.7, [(2, 0.2, "Car")]),
             gate("batch", None, 0.8, [(2, 0.25, "Car")], metric="dice")]  # fmt: skip
    (one,) = failed_tasks(qa([T2], *gates))
    assert one.requirements == (Requirement("Car", "iou", 0.7), Requirement(None, "dice", 0.8))


@pytest.mark.parametrize(
    ("people", "conflicts", "expected"),
    [
        ((1, 2), [], (1, 2)),
        ((1, 2, 3), [conflict("missing", 1, 2), conflict("missing", 1, 3)], (1,)),
        ((1, 2, 3), [conflict("missing", 1, 2)], (1, 2, 3)),
        ((1, 2, 3), [], (1, 2, 3)),
        # What differs in another class is no reason to fix this one.
        ((1, 2, 3), [conflict("missing", 1, 2, "Tree", None),
                     conflict("missing", 1, 3, "Tree", None)], (1, 2, 3)),
        ((1, 2, 3, 4), [conflict("missing", 1, 3), conflict("missing", 1, 4),
                        conflict("missing", 2, 3), conflict("missing", 2, 4)], (1, 2, 3, 4)),
    ],
)  # fmt: skip
def test_who_differs_from_most_others_fixes_it_else_all(people, conflicts, expected):
    task = entry(1, {"Car": 0.5}, people, conflicts)
    (one,) = failed_tasks(qa([task], gate("class", "Car", 0.7, [(1, 0.5, "Car")])))
    assert one.people == expected


def test_a_gate_on_one_annotator_sends_the_task_to_nobody_else():
    (one,) = failed_tasks(qa([T1], gate("annotator", 2, 0.8, [(1, 0.7, "Car")])))
    assert one.people == (2,)


@pytest.mark.parametrize("wrong", [{}, {"batch": {}, "tasks": []}, {"batch": {"gates": [{}]}}])
def test_what_is_no_qa_result_is_refused(wrong):
    with pytest.raises(SourceError, match=r"no qa\.json"):
        failed_tasks(wrong)


def task(*drawn, number=1, data=None):
    annotations = [
        {"id": ident, "completed_by": by, "result": list(regions), "ground_truth": truth,
         "was_cancelled": False, "updated_at": at}
        for ident, by, regions, truth, at in drawn
    ]  # fmt: skip
    raw = {"id": number, "data": data or {}, "annotations": annotations, "project": 9}
    return parse_task(raw)


BIG, SMALL = box("Car", 10, 20, 30, 40, "big"), box("Car", 12, 22, 10, 10, "small")
FAR = box("Car", 60, 60, 10, 10, "far")


def test_what_to_look_at_is_class_kind_and_place_once_and_names_nobody():
    conflicts = [
        conflict("low_overlap", 1, 2, regions_a=[BIG["id"]], regions_b=[SMALL["id"]]),
        conflict("low_overlap", 1, 3, regions_a=[BIG["id"]], regions_b=[SMALL["id"]]),
        conflict("missing", 2, 3, class_b=None, regions_a=[FAR["id"]]),
        conflict("mismatching_label", 1, 2, "Tree", "Bush"),
    ]
    drawn = task((1, 1, [BIG], False, "t"), (2, 2, [SMALL, FAR], False, "t"))
    failed = FailedTask(1, 0.3, "Car", (Requirement("Car", "iou", 0.7),), (1, 2), (1, 2))
    one = with_places(failed, entry(1, {"Car": 0.3}, (1, 2, 3), conflicts), drawn)
    assert look_at(one, ["A", "B"]) == (
        "[A][B] Car outlined differently (x 10–40, y 20–60 px); "
        "Car drawn by some only (x 60–70, y 60–70 px)"
    )


def test_many_places_are_counted():
    places = tuple(Place("Car", "drawn by some only", (n, 0, 1, 1)) for n in range(7))
    text = look_at(FailedTask(1, 0.3, "Car", (), places=places), [])
    assert text.endswith("; and 2 more")
    assert text.count("Car") == 5


def test_letters_stay_and_new_people_get_new_ones():
    first = new_codes({}, [30, 10, 20], random.Random(1))
    assert sorted(first.values()) == ["A", "B", "C"]
    later = new_codes(first, [40, 10], random.Random(1))
    assert later == {**first, 40: "D"}
    assert new_codes(dict.fromkeys(range(27), "x"), [99], random.Random(0))[99] == "AB"


def test_in_whose_tabs_a_task_stands():
    one = FailedTask(1, 0.3, "Car", (), people=(1, 2))
    codes = {1: "B", 2: "A"}
    found = [tags_of(one, mode, codes) for mode in ("fix", "fresh", "adjudicate")]
    assert found == [["A", "B"], [], ["decide"]]


@pytest.mark.parametrize(
    ("measured", "needs", "short"),
    [
        ({"annotators": [entry(1, {"Car": 0.6})]}, [Requirement("Car", "iou", 0.7)],
         ["Car 0.600, 0.7 is required"]),
        ({"annotators": [entry(1, {"Car": 0.7})]}, [Requirement("Car", "iou", 0.7)], []),
        ({"annotators": [entry(1, {"Tree": 0.1})]}, [Requirement("Car", "iou", 0.7)], []),
        ({"annotators": [entry(1, {"Car": 0.2})]}, [Requirement(None, "dice", 0.7)],
         ["the mean of its classes 0.200, 0.7 is required"]),
        ({}, [Requirement("Car", "iou", 0.7)], ["it could not be measured against annotators"]),
        ({"gold": [entry(1, {"Car": 0.9}), entry(1, {"Car": 0.5})]},
         [Requirement("Car", "iou", 0.7, "gold")], ["Car 0.500, 0.7 is required"]),
    ],
)  # fmt: skip
def test_what_a_task_still_falls_short_of(measured, needs, short):
    assert missed(measured, needs) == short


OLD = task((1, 1, [BIG], False, "t1"), (2, 2, [SMALL], False, "t1"))
GOOD, BAD = {"Car": 0.9}, {"Car": 0.3}


def a_round(mode, people=(1, 2)):
    before = {"qa_round": None, "qa_look_at": None, "overlap": 2, "is_labeled": True}
    needs = (Requirement("Car", "iou", 0.7),)
    one = RoundTask(1, 9, "Car", 0.3, needs, people, (1, 2), "", before, None, drawings_of(OLD))
    return Round(1, mode, "open", (one,))


FIXED = task((1, 1, [BIG], False, "t2"), (2, 2, [BIG], False, "t2"))
ONE_DID = task((1, 1, [BIG], False, "t1"), (2, 2, [BIG], False, "t2"))
THIRD = task((1, 1, [BIG], False, "t1"), (2, 2, [SMALL], False, "t1"), (3, 3, [BIG], False, "t2"))
TRUTH = task((1, 1, [BIG], True, "t2"), (2, 2, [SMALL], False, "t1"))


@pytest.mark.parametrize(
    ("mode", "people", "now", "values", "status"),
    [
        ("fix", (1, 2), OLD, BAD, "waiting"),
        ("fix", (1, 2), ONE_DID, BAD, "waiting"),
        ("fix", (2,), ONE_DID, BAD, "below"),
        ("fix", (1, 2), FIXED, BAD, "below"),
        ("fix", (1, 2), ONE_DID, GOOD, "passed"),
        ("fresh", (1, 2), FIXED, GOOD, "waiting"),
        ("fresh", (1, 2), THIRD, BAD, "below"),
        ("fresh", (1, 2), THIRD, GOOD, "passed"),
        ("adjudicate", (1, 2), FIXED, BAD, "waiting"),
        ("adjudicate", (1, 2), THIRD, BAD, "passed"),
        ("adjudicate", (1, 2), TRUTH, BAD, "passed"),
        ("fix", (1, 2), None, BAD, "gone"),
    ],
)
def test_what_became_of_a_task(mode, people, now, values, status):
    measured = {1: {"annotators": [entry(1, values)]}}
    outcome = judge(a_round(mode, people), {} if now is None else {1: now}, measured)[1]
    assert outcome["status"] == status


ONLY_FIRST = task((1, 1, [BIG], False, "t1"))
NEW_OF_SECOND = task((1, 1, [BIG], False, "t1"), (5, 2, [BIG], False, "t2"))
SKIPPED = task((1, 1, [BIG], False, "t1"))
SKIPPED = replace(
    SKIPPED, annotations=(*SKIPPED.annotations, replace(OLD.annotations[1], was_cancelled=True))
)
EMPTY = replace(OLD, annotations=())


@pytest.mark.parametrize(
    ("mode", "people", "now", "deleted", "status"),
    [
        ("fix", (2,), ONLY_FIRST, [2], "deleted"),
        ("fix", (1, 2), ONLY_FIRST, [2], "waiting"),  # for the first
        ("fix", (2,), ONLY_FIRST, [], "waiting"),  # a filter hides it
        ("fix", (2,), SKIPPED, [], "deleted"),
        ("fix", (2,), NEW_OF_SECOND, [2], "below"),
        ("fix", (1, 2), EMPTY, [1, 2], "deleted"),
        ("fresh", (), ONLY_FIRST, [2], "waiting"),
        ("adjudicate", (), ONLY_FIRST, [2], "waiting"),
        ("adjudicate", (), EMPTY, [1, 2], "deleted"),
    ],
)
def test_a_round_does_not_wait_for_what_was_deleted(mode, people, now, deleted, status):
    outcome = judge(a_round(mode, people), {1: now}, {}, {1: deleted})[1]
    assert outcome["status"] == status
    assert outcome.get("deleted", []) == deleted
    assert outcome.get("skipped", []) == ([2] if now is SKIPPED else [])


def test_a_decision_says_how_far_each_drawing_was_from_it():
    outcome = judge(a_round("adjudicate"), {1: THIRD}, {})[1]
    assert outcome["decided_by"] == 3
    assert outcome["to_decision"] == {"1": 1.0, "2": pytest.approx(100 / 1200)}


def test_the_state_reads_back_and_belongs_to_its_server(tmp_path):
    path = tmp_path / "rework.json"
    assert read_state(path, "http://ls").rounds == ()
    closed = with_outcomes(a_round("fix"), {1: {"status": "passed"}})
    state = ReworkState("http://ls", {7: "A"}).with_round(closed)
    write_state(path, state)
    again = read_state(path, "http://ls")
    assert again.as_json() == state.as_json()
    assert again.latest.tasks[0].requirements == closed.tasks[0].requirements
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="belongs to http://ls"):
        read_state(path, "http://other")
    path.write_text('{"format": "segstudio-rework", "version": 1, "url": "http://ls"}')
    with pytest.raises(SourceError, match="lacks something"):
        read_state(path, "http://ls")


def test_an_undone_round_stays_in_the_history_and_is_not_the_latest():
    first, second = a_round("fix"), Round(2, "fix", "undone", ())
    state = ReworkState("u").with_round(second).with_round(first)
    assert ([one.number for one in state.rounds], state.latest) == ([1, 2], first)
