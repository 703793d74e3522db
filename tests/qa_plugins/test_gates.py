from __future__ import annotations

from typing import Any

import pytest

from qa_plugins.gate_verdicts import evaluate, overall_verdict
from qa_plugins.gates import load_gates, parse_gates, preset_names
from qa_plugins.rework_rule import rework_rule
from segstudio.errors import UsageError


def result(miou: float | None, tasks: int, **classes: tuple[float | None, int]) -> dict[str, Any]:
    values = {"accumulated": miou, "per_image": miou, "ci95": None, "ci95_accumulated": [0.1, 0.9]}
    return {
        "batch": {"compared_tasks": tasks, "miou": values, "dice": miou, "pq": None},
        "classes": [
            {"name": name, "iou": {**values, "accumulated": value}, "dice": value, "tasks": count}
            for name, (value, count) in classes.items()
        ],
        "annotators": [{"id": 1, "tasks": tasks, "miou": {"accumulated": miou}}],
    }


def verdicts(text: str, measured: dict[str, Any]) -> tuple[str, list[str]]:
    outcomes = evaluate(parse_gates(text), {"agreement": measured})
    return overall_verdict(outcomes)[0], [outcome.verdict for outcome in outcomes]


@pytest.mark.parametrize(
    ("miou", "tasks", "verdict"),
    [
        (0.84, 5, "pass"),
        (0.8399999, 5, "fail"),
        (0.99, 4, "n/a"),
        (0.10, 4, "n/a"),
        (None, 9, "n/a"),
        (None, 0, "n/a"),
    ],
)
def test_the_batch_preset(miou: float | None, tasks: int, verdict: str) -> None:
    outcomes = evaluate(load_gates("miou-0.84"), {"agreement": result(miou, tasks)})
    assert overall_verdict(outcomes)[0] == verdict
    assert outcomes[0].reason.endswith(".")


def test_the_organ_preset_judges_each_class_that_was_drawn() -> None:
    gates = load_gates("organs-dice-0.88")
    measured = result(0.9, 9, liver=(0.95, 9), spleen=(0.87, 9), kidney=(None, 0))
    outcomes = evaluate(gates, {"agreement": measured})
    assert [(one.subject, one.verdict) for one in outcomes] == [
        ("liver", "pass"),
        ("spleen", "fail"),
    ]
    assert overall_verdict(outcomes)[0] == "fail"


def test_a_class_with_too_few_tasks_is_never_a_pass() -> None:
    text = "gates: [{metric: iou, scope: class, threshold: 0.5, min_tasks: 3}]"
    assert verdicts(text, result(0.9, 9, car=(0.9, 9), sky=(0.9, 2))) == ("n/a", ["pass", "n/a"])


def test_a_named_class_that_nobody_drew_cannot_be_judged() -> None:
    text = "gates: [{metric: iou, class: boat, threshold: 0.5}]"
    assert verdicts(text, result(0.9, 9, car=(0.9, 9))) == ("n/a", ["n/a"])


def test_no_gates_are_no_verdict() -> None:
    assert overall_verdict([])[0] == "n/a"


def test_a_fail_outweighs_what_cannot_be_judged() -> None:
    text = "gates: [{metric: miou, threshold: 0.95}, {metric: pq, threshold: 0.5}]"
    assert verdicts(text, result(0.9, 9)) == ("fail", ["fail", "n/a"])


def test_the_lower_bound_is_the_interval_of_the_same_averaging() -> None:
    text = "gates: [{metric: miou, threshold: 0.5, judge: lower_bound}]"
    outcomes = evaluate(parse_gates(text), {"agreement": result(0.9, 9)})
    assert (outcomes[0].value, outcomes[0].verdict) == (0.1, "fail")


def test_children_inherit_and_narrow() -> None:
    gates = parse_gates(
        "gates: [{metric: miou, threshold: 0.8, where: {site: a},"
        " children: [{where: {split: val}, threshold: 0.9}]}]"
    ).gates
    assert [(one.threshold, dict(one.where)) for one in gates] == [
        (0.8, {"site": "a"}),
        (0.9, {"site": "a", "split": "val"}),
    ]


def test_a_subset_is_judged_on_its_own_tasks() -> None:
    gates = parse_gates("gates: [{metric: miou, threshold: 0.8, where: {split: val}}]")
    assert gates.subsets == [{"split": "val"}]
    measured = {**result(0.9, 9), "subsets": [{"where": {"split": "val"}, **result(0.7, 6)}]}
    assert evaluate(gates, {"agreement": measured})[0].verdict == "fail"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gates: []", "at least one"),
        ("gates: [{metric: miou}]", "threshold"),
        ("gates: [{metric: nonsense, threshold: 0.5}]", "nonsense"),
        ("gates: [{metric: miou, threshold: 84}]", "between 0 and 1"),
        ("gates: [{metric: miou, threshold: true}]", "number"),
        ("gates: [{metric: miou, threshold: 0.5, treshold: 1}]", "treshold"),
        ("gates: [{metric: miou, threshold: 0.5, scope: galaxy}]", "galaxy"),
        ("gates: [{metric: dice, threshold: 0.5, judge: lower_bound}]", "interval"),
        ("gates: [{metric: miou, threshold: 0.5, against: silver}]", "silver"),
        (
            "gates: [{metric: miou, threshold: 0.5, where: {a: 1}, children: [{where: {a: 2}}]}]",
            "narrow",
        ),
        ("gates: [3]", "mapping"),
        ("gates: {", "YAML"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_gates(text)
    assert caught.value.exit_code == 2


def test_an_unknown_file_names_the_presets() -> None:
    with pytest.raises(UsageError, match=r"miou-0\.84"):
        load_gates("no-such-file.yaml")
    assert preset_names() == ["miou-0.84", "organs-dice-0.88"]


@pytest.mark.parametrize(
    ("gates", "task", "verdict"),
    [
        (None, {"miou": 0.83, "classes": {}}, "rework"),
        (None, {"miou": 0.84, "classes": {}}, "ok"),
        (None, {"miou": None, "classes": {}}, "n/a"),
        ("gates: [{metric: miou, threshold: 0.5}]", {"miou": 0.6, "classes": {}}, "ok"),
        (
            "gates: [{metric: iou, class: car, threshold: 0.7}]",
            {"miou": 0.9, "classes": {"car": 0.6, "sky": 1.0}},
            "rework",
        ),
        (
            "gates: [{metric: dice, scope: class, threshold: 0.7}]",
            {"miou": 0.2, "classes": {"car": 0.2}, "classes_dice": {"car": 0.75}},
            "ok",
        ),
    ],
)
def test_a_task_goes_back_by_the_thresholds_of_the_gates(
    gates: str | None, task: dict[str, Any], verdict: str
) -> None:
    rule = rework_rule(parse_gates(gates) if gates else load_gates(None))
    assert rule.verdict(task) == verdict


def entry(task_id: int, miou: float, *people: int, **classes: float) -> dict[str, Any]:
    return {
        "id": task_id,
        "miou": miou,
        "mdice": miou,
        "worst_class": min(classes, key=classes.__getitem__) if classes else None,
        "classes": classes,
        "classes_dice": classes,
        "annotators": list(people),
    }


def test_a_failed_gate_names_the_tasks_that_made_it_fail_worst_first() -> None:
    measured = {
        **result(0.7, 9, car=(0.6, 9), sky=(0.95, 9)),
        "tasks": [
            entry(1, 0.9, 1, 2, car=0.85, sky=0.95),
            entry(2, 0.5, 1, 2, car=0.1, sky=0.9),
            entry(3, 0.7, 2, 3, car=0.5, sky=0.9),
            entry(4, 0.2, 2, 3, car=0.2),
        ],
    }
    measured["subsets"] = [{"where": {"split": "val"}, "task_ids": [1, 3], **result(0.7, 6)}]
    text = """gates:
      - {metric: miou, threshold: 0.8}
      - {metric: iou, scope: class, threshold: 0.8}
      - {metric: miou, threshold: 0.8, where: {split: val}}
      - {metric: miou, scope: annotator, threshold: 0.8}
      - {metric: miou, threshold: 0.3}"""
    outcomes = evaluate(parse_gates(text), {"agreement": measured})
    worst = [[one["task"] for one in outcome.worst_tasks] for outcome in outcomes]
    #  the batch, car, sky, the subset, annotator 1 (not on tasks 3 and 4), a gate that passes
    assert worst == [[4, 2, 3], [2, 4, 3], [], [3], [2], []]
    assert outcomes[1].as_json()["worst_tasks"][0] == {"task": 2, "value": 0.1, "class": "car"}


def gold(*people: tuple[int, float, dict[str, tuple[float | None, int]]]) -> dict[str, Any]:
    """The result of the check gold: (annotator, mean IoU, {class: (IoU, tasks)})."""
    mious = [miou for _, miou, _ in people]
    mean = {"accumulated": sum(mious) / len(mious)} if mious else {"accumulated": None}
    return {
        "batch": {"compared_tasks": 6, "miou": {**mean, "ci95_accumulated": [0.6, 0.9]}},
        "annotators": [
            {
                "id": person,
                "tasks": 6,
                "miou": {"accumulated": miou, "per_image": miou},
                "classes": [
                    {"name": name, "iou": {"accumulated": value, "per_image": value},
                     "dice": value, "tasks": tasks}
                    for name, (value, tasks) in classes.items()
                ],
                "compared": [entry(10 + person, miou, person, car=miou)],
            }
            for person, miou, classes in people
        ],
    }  # fmt: skip


PEOPLE = (
    (1, 0.9, {"car": (0.95, 6), "sky": (None, 0)}),
    (2, 0.7, {"car": (0.8, 6), "sky": (0.9, 3)}),
)
VALIDATION = {"where": {"split": "val"}, **gold((2, 0.5, {"car": (0.5, 6)}))}
REFERENCE = {**gold(*PEOPLE), "subsets": [VALIDATION]}


@pytest.mark.parametrize("against", ["gold", "consensus"])
@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("{metric: miou", [(None, "fail", 0.8)]),
        ("{metric: miou, scope: annotator", [(1, "pass", 0.9), (2, "fail", 0.7)]),
        # The annotator furthest from the reference decides on a class; three tasks are too few.
        ("{metric: iou, scope: class", [("car", "fail", 0.8), ("sky", "n/a", 0.9)]),
        ("{metric: iou, class: tram", [("tram", "n/a", None)]),
        ("{metric: iou, class: car, where: {split: val}", [("car", "fail", 0.5)]),
        ("{metric: miou, where: {split: val}", [(None, "fail", 0.5)]),
        ("{metric: miou, where: {split: train}", [(None, "n/a", None)]),
    ],
)
def test_gates_against_a_reference_are_judged_on_what_its_check_gave(
    gate: str, expected: list[tuple[Any, str, float | None]], against: str
) -> None:
    gates = parse_gates(f"gates: [{gate}, threshold: 0.84, against: {against}}}]")
    outcomes = evaluate(gates, {"agreement": result(0.99, 9), against: REFERENCE})
    found = [(one.subject, one.verdict, one.value) for one in outcomes]
    assert found == [(who, verdict, pytest.approx(value)) for who, verdict, value in expected]
    assert all(one.as_json()["against"] == against for one in outcomes)
    failed = [one for one in outcomes if one.verdict == "fail"]
    assert all(one.reason.endswith(f", against {against}.") for one in failed)
    assert all(one.worst_tasks[0]["task"] == 12 for one in failed)


def test_gold_of_a_batch_has_an_interval_and_other_metrics() -> None:
    text = "gates: [{metric: miou, judge: lower_bound, threshold: 0.7, against: gold}]"
    (outcome,) = evaluate(parse_gates(text), {"gold": REFERENCE})
    assert (outcome.verdict, outcome.value) == ("fail", 0.6)
    text = "gates: [{metric: dice, class: car, threshold: 0.7, against: gold}]"
    assert [one.verdict for one in evaluate(parse_gates(text), {"gold": REFERENCE})] == ["pass"]


@pytest.mark.parametrize("measured", [{}, {"gold": gold()}])
def test_without_gold_a_gate_against_it_is_never_a_pass(measured: dict[str, Any]) -> None:
    gates = parse_gates("gates: [{metric: miou, scope: annotator, threshold: 0.1, against: gold}]")
    outcomes = evaluate(gates, {"agreement": result(0.9, 9), **measured})
    assert [one.verdict for one in outcomes] == ["n/a"]
    assert rework_rule(gates).mean_below == (("iou", 0.84),)


def test_a_gate_whose_check_did_not_run_says_which_one() -> None:
    (outcome,) = evaluate(load_gates("miou-0.84"), {"gold": REFERENCE})
    assert outcome.verdict == "n/a" and "The check agreement did not run" in outcome.reason


@pytest.mark.parametrize(
    "text",
    [
        "{metric: dice, scope: class, threshold: 0.9, against: consensus}",
        "{metric: miou, threshold: 0.9, judge: lower_bound, against: consensus}",
    ],
)
def test_what_a_consensus_has_no_value_of_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="against"):
        parse_gates(f"gates: [{text}]")
