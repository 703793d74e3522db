"""What rests on little: empty agreement, one clip, gold of unknown classes or of VOID."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qa_plugins.gate_verdicts import evaluate
from qa_plugins.gates import parse_gates
from qa_plugins.gold import GoldCheck
from qa_plugins.runner import run_checks
from segstudio.errors import UsageError
from segstudio.source import open_source
from segstudio.tasks import parse_task
from segstudio.taxonomy import SegmentClass, Taxonomy, derive_taxonomy
from tests.qa_plugins.qa_tasks import annotation, context, raw_task, write_export

FULL = np.ones((6, 6))
NOTHING_DRAWN: list[tuple[str, Any]] = []


def pair(
    task_id: int, drawn: list[tuple[str, Any]], gold: list[tuple[str, Any]] | None = None
) -> dict[str, Any]:
    made = [annotation(10 * task_id + person, person, drawn) for person in (1, 2)]
    if gold is not None:
        made.append(annotation(10 * task_id, 9, gold, ground_truth=True))
    return raw_task(task_id, made, clip="one")


def gold_of(tasks: list[dict[str, Any]], **options: str) -> dict[str, Any]:
    check, made = GoldCheck(), context(options)
    return check.summarize([check.measure(parse_task(raw), made) for raw in tasks], made)


@pytest.mark.parametrize("scope", ["batch", "annotator"])
@pytest.mark.parametrize(("against", "check"), [("annotators", "agreement"), ("consensus",) * 2])
def test_tasks_on_which_nobody_drew_anything_do_not_make_a_gate_pass(
    tmp_path: Path, scope: str, against: str, check: str
) -> None:
    tasks = [pair(1, [("car", FULL)]), *(pair(number, NOTHING_DRAWN) for number in range(2, 9))]
    source = open_source(str(write_export(tmp_path, tasks)))
    gates = parse_gates(
        f"gates: [{{metric: miou, threshold: 0.5, scope: {scope}, against: {against}}}]"
    )
    run = run_checks([check], source, derive_taxonomy(source.label_config), gates=gates, workers=1)
    outcomes = run.result["batch"]["gates"]
    assert {(one["verdict"], one["tasks"]) for one in outcomes} == {("n/a", 1)}
    if check == "agreement":
        assert run.result["batch"]["compared_tasks"] == 8
        assert run.result["batch"]["scored_tasks"] == 1


def test_a_gate_against_gold_counts_the_tasks_that_have_a_value() -> None:
    other = [("boat", FULL)]  # no class of the taxonomy
    tasks = [pair(1, [("car", FULL)], [("car", FULL)]), *(pair(n, other, other) for n in (2, 3))]
    gates = parse_gates("gates: [{metric: miou, threshold: 0.5, min_tasks: 2, against: gold}]")
    outcome = evaluate(gates, {"gold": gold_of(tasks)})[0]
    assert (outcome.verdict, outcome.tasks) == ("n/a", 1)


def test_nobody_is_ready_by_gold_without_a_known_class() -> None:
    other = [("boat", FULL)]
    found = gold_of([pair(number, other, other) for number in range(1, 7)])
    assert [one["readiness"]["verdict"] for one in found["annotators"]] == ["open", "open"]
    findings = GoldCheck().report(found, lambda person: f"user {person}").findings
    assert "no class" in findings[0].text


def test_a_label_of_the_gold_that_no_class_has_is_reported_once_a_task() -> None:
    found = gold_of([pair(1, [("car", FULL)], [("car", FULL), ("boat", FULL)])])
    (problem,) = found["problems"]
    assert problem["kind"] == "unknown-label"
    assert (problem["task_id"], problem["annotation_id"]) == (1, 10)


def test_intervals_against_gold_resample_clips_where_asked_for() -> None:
    tasks = [pair(number, [("car", FULL)], [("car", FULL)]) for number in range(1, 7)]
    by_task = gold_of(tasks)["annotators"][0]["classes"][0]["iou"]
    by_clip = gold_of(tasks, resample_by="clip")["annotators"][0]["classes"][0]["iou"]
    assert by_task["ci95"] == [1.0, 1.0]
    assert by_clip["ci95"] is None  # all frames are of one clip: one unit says nothing of others


@pytest.mark.parametrize("number", [".nan", ".inf", "2.5", "0", "-1"])
def test_a_minimum_of_tasks_is_a_whole_number(number: str) -> None:
    with pytest.raises(UsageError, match="min_tasks"):
        parse_gates(f"gates: [{{metric: miou, threshold: 0.5, min_tasks: {number}}}]")


def test_what_the_gold_leaves_as_void_is_not_judged(tmp_path: Path) -> None:
    left, middle = np.zeros((6, 8)), np.zeros((6, 8))
    left[:, :4], middle[:, 2:6] = 1, 1
    other = np.zeros((6, 8))
    other[4:, 6:] = 1
    gold = [("car", left), ("sky", middle), ("sky", other)]  # sky is void; two columns are car too
    tasks = [
        raw_task(
            1,
            [
                annotation(10, 9, gold, ground_truth=True),
                annotation(11, 1, [("car", np.maximum(left, middle))]),
                annotation(12, 2, [("car", left), ("road", other)]),
            ],
        )
    ]
    source = open_source(str(write_export(tmp_path, tasks)))
    taxonomy = Taxonomy(
        "streets", (SegmentClass(1, "car"), SegmentClass(2, "road")), void_labels=("sky",)
    )
    run = run_checks(["gold"], source, taxonomy, workers=1)
    of_people = run.result["checks"]["gold"]["annotators"]
    for person in of_people:  # beyond the car they drew in the void alone
        by_name = {one["name"]: one for one in person["classes"]}
        assert by_name["car"]["iou"]["accumulated"] == 1.0
        assert by_name["car"]["boundary_iou"] == 1.0
        assert by_name["car"]["pq"] == 1.0
        assert by_name["car"]["ap"]["at_50"] == pytest.approx(1.0)
        assert by_name["road"]["iou"]["accumulated"] is None
        assert by_name["road"]["pq"] is None
