from __future__ import annotations

from typing import Any

import pytest

from qa_plugins.gates import (
    evaluate,
    load_gates,
    overall_verdict,
    parse_gates,
    preset_names,
    rework_rule,
)
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
    outcomes = evaluate(parse_gates(text), measured)
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
    outcomes = evaluate(load_gates("miou-0.84"), result(miou, tasks))
    assert overall_verdict(outcomes)[0] == verdict
    assert outcomes[0].reason.endswith(".")


def test_the_organ_preset_judges_each_class_that_was_drawn() -> None:
    gates = load_gates("organs-dice-0.88")
    measured = result(0.9, 9, liver=(0.95, 9), spleen=(0.87, 9), kidney=(None, 0))
    outcomes = evaluate(gates, measured)
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
    outcomes = evaluate(parse_gates(text), result(0.9, 9))
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
    assert evaluate(gates, measured)[0].verdict == "fail"


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
        ("gates: [{metric: miou, threshold: 0.5, against: gold}]", "gold"),
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


def gold(*people: tuple[int, float, dict[str, tuple[float | None, int]]]) -> dict[str, Any]:
    """The result of the check gold: (annotator, mean IoU, {class: (IoU, tasks)})."""
    return {
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
            }
            for person, miou, classes in people
        ]
    }  # fmt: skip


MEASURED_GOLD = gold(
    (1, 0.9, {"car": (0.95, 6), "sky": (None, 0)}), (2, 0.7, {"car": (0.8, 6), "sky": (0.9, 3)})
)


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("{metric: miou, scope: annotator", [(1, "pass", 0.9), (2, "fail", 0.7)]),
        # The annotator furthest from gold decides on a class; three tasks are too few.
        ("{metric: iou, scope: class", [("car", "fail", 0.8), ("sky", "n/a", 0.9)]),
        ("{metric: dice, class: car", [("car", "fail", 0.8)]),
        ("{metric: iou, class: tram", [("tram", "n/a", None)]),
    ],
)
def test_gates_against_gold_are_judged_on_what_gold_gave(
    gate: str, expected: list[tuple[Any, str, float | None]]
) -> None:
    gates = parse_gates(f"gates: [{gate}, threshold: 0.84, against: gold}}]")
    outcomes = evaluate(gates, result(0.99, 9), MEASURED_GOLD)
    assert [(one.subject, one.verdict, one.value) for one in outcomes] == expected
    assert all(one.as_json()["against"] == "gold" for one in outcomes)


@pytest.mark.parametrize("measured", [None, gold()])
def test_without_gold_a_gate_against_it_is_never_a_pass(measured: dict[str, Any] | None) -> None:
    gates = parse_gates("gates: [{metric: miou, scope: annotator, threshold: 0.1, against: gold}]")
    assert [one.verdict for one in evaluate(gates, result(0.9, 9), measured)] == ["n/a"]
    assert rework_rule(gates).mean_below == (("iou", 0.84),)


@pytest.mark.parametrize(
    "text",
    [
        "{metric: miou, threshold: 0.9, against: gold}",
        "{metric: iou, scope: class, threshold: 0.9, against: gold, where: {split: val}}",
        "{metric: miou, threshold: 0.9, against: consensus}",
    ],
)
def test_a_reference_that_gives_no_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="against"):
        parse_gates(f"gates: [{text}]")
