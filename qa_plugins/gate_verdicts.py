"""Judges gates on what the checks measured: pass, fail, or not applicable with the reason.

Between annotators the batch, each class and each annotator have a value. Against gold or consensus
too; there a class is judged by the annotator who is furthest from the reference, since a mean would
hide the one who draws it wrong. A task on which nobody drew anything has no value, so that it is
none of the tasks that a gate needs. A failed gate lists the tasks that made it fail, worst first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from qa_plugins.gates import MEDICAL_CHECK, METRIC_WORDS, Gate, GateSet

Verdict = Literal["pass", "fail", "n/a"]

_LISTED: Final = 100
_LOWEST: Final = 5
_NO_REFERENCE: Final = {
    "gold": "No annotator annotated a task that has gold.",
    "consensus": "No task was annotated by two people, so that there is no consensus.",
}


@dataclass(frozen=True, slots=True)
class GateResult:
    """What became of one gate for one subject (the batch, a class or an annotator).

    ``worst_tasks`` of a failed gate are tasks with their value and the class that it is of.
    """

    gate: Gate
    subject: str | int | None
    value: float | None
    tasks: int
    verdict: Verdict
    reason: str
    worst_tasks: tuple[Mapping[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The gate as ``qa.json`` lists it."""
        return {
            "name": self.gate.name,
            "scope": self.gate.scope,
            "subject": self.subject,
            "metric": self.gate.metric,
            "judge": self.gate.judge,
            "threshold": self.gate.threshold,
            "value": self.value,
            "tasks": self.tasks,
            "min_tasks": self.gate.min_tasks,
            "where": dict(self.gate.where),
            "against": self.gate.against,
            "verdict": self.verdict,
            "reason": self.reason,
            "worst_tasks": [dict(one) for one in self.worst_tasks],
        }


def evaluate(gate_set: GateSet, measured: Mapping[str, Mapping[str, Any]]) -> list[GateResult]:
    """Judge every gate on what its check found in the batch, or in the subset that it names.

    Args:
        gate_set: the gates.
        measured: summaries of the checks that ran, by name. A gate whose check did not run is not
            applicable.
    """
    outcomes: list[GateResult] = []
    for gate in gate_set.gates:
        summary = measured.get(gate.check)
        if summary is None:
            reason = f"The check {gate.check} did not run; name it with the others."
            outcomes.append(_open(gate, reason))
            continue
        if gate.check == MEDICAL_CHECK:
            outcomes += _judge_volumes(gate, summary)
            continue
        part = _subset(gate, summary) if gate.where else summary
        if part is None:
            outcomes.append(_open(gate, "No task is in this subset."))
        elif gate.against == "annotators":
            found = [_judge_batch(gate, part)] if gate.scope == "batch" else _members(gate, part)
            tasks = _tasks_of(summary, part)
            outcomes += [_with_worst_tasks(one, tasks) for one in found]
        else:
            outcomes += _judge_against_reference(gate, part)
    return outcomes


def overall_verdict(outcomes: Sequence[GateResult]) -> tuple[Verdict, str]:
    """The verdict of the batch with its reason: one fail fails, and n/a is never a pass."""
    if not outcomes:
        return "n/a", "No gates were given, so there is nothing to pass or fail."
    failed = [outcome for outcome in outcomes if outcome.verdict == "fail"]
    if failed:
        return "fail", _counted(failed, outcomes, "failed")
    open_gates = [outcome for outcome in outcomes if outcome.verdict == "n/a"]
    if open_gates:
        return "n/a", _counted(open_gates, outcomes, "could not be judged")
    return "pass", f"All {len(outcomes)} gates passed." if len(outcomes) > 1 else outcomes[0].reason


def _counted(some: Sequence[GateResult], outcomes: Sequence[GateResult], what: str) -> str:
    if len(outcomes) == 1:
        return some[0].reason
    return f"{len(some)} of {len(outcomes)} gates {what}. {some[0].reason}"


def _open(gate: Gate, reason: str) -> GateResult:
    return GateResult(gate, gate.class_name, None, 0, "n/a", reason)


def _subset(gate: Gate, summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The part of a summary that was measured on the gate's tasks alone."""
    wanted = dict(gate.where)
    found: Iterable[Mapping[str, Any]] = summary.get("subsets", [])
    return next((subset for subset in found if subset["where"] == wanted), None)


def _judge_batch(gate: Gate, result: Mapping[str, Any]) -> GateResult:
    batch = result["batch"]
    tasks = int(batch.get("scored_tasks", batch["compared_tasks"]))
    if gate.family == "iou":
        value = _estimate_or_bound(gate, batch["miou"])
    else:
        value = batch.get(gate.family)
    return _judge(gate, None, f"Mean {METRIC_WORDS[gate.family]} of the batch", value, tasks)


def _members(gate: Gate, result: Mapping[str, Any]) -> list[GateResult]:
    """Judge each class or annotator of a result."""
    members = result["classes"] if gate.scope == "class" else result["annotators"]
    outcomes = []
    for member in members:
        subject = member["name"] if gate.scope == "class" else member["id"]
        if gate.class_name is not None and subject != gate.class_name:
            continue
        tasks = int(member.get("scored_tasks", member["tasks"]))
        if tasks == 0 and gate.class_name is None:
            continue  # a class that nobody drew has nothing to reach
        if gate.family == "iou":
            value = _estimate_or_bound(gate, member["iou" if gate.scope == "class" else "miou"])
        else:
            value = member.get(gate.family)
        owner = f"“{subject}”" if gate.scope == "class" else "an annotator"
        what = f"{METRIC_WORDS[gate.family]} of {owner}"
        outcomes.append(_judge(gate, subject, what, value, tasks))
    if not outcomes:
        wanted = f"the class {gate.class_name!r}" if gate.class_name else f"any {gate.scope}"
        outcomes.append(_open(gate, f"Nothing was compared for {wanted}."))
    return outcomes


def _judge_volumes(gate: Gate, summary: Mapping[str, Any]) -> list[GateResult]:
    """Judge the batch or each class on the figures of the check medical."""
    if summary["against"] != gate.against:
        reason = (
            f"The check medical compared with {summary['against']}, this gate is against "
            f"{gate.against}; run it with --option against={gate.against}."
        )
        return [_open(gate, reason)]
    key = "dice" if gate.metric == "volume_dice" else gate.metric
    if gate.scope == "batch":
        batch = summary["batch"]
        what = f"Mean {METRIC_WORDS[gate.metric]} of the batch"
        outcomes = [_judge(gate, None, what, batch[key], int(batch["compared_tasks"]))]
    else:
        outcomes = [
            _with_lone_drawings(
                _judge(
                    gate,
                    one["name"],
                    f"{METRIC_WORDS[gate.metric]} of “{one['name']}”",
                    one[key],
                    int(one["tasks"]),
                ),
                0 if key == "dice" else one["only_one_drew"],
            )
            for one in summary["classes"]
            if gate.class_name in (None, one["name"])
        ]
    if not outcomes:
        wanted = f"the class {gate.class_name!r}" if gate.class_name else "any class"
        return [_open(gate, f"Nothing was compared for {wanted}.")]
    return [_with_worst_slices(one, summary["worst_slices"]) for one in outcomes]


def _with_lone_drawings(outcome: GateResult, comparisons: int) -> GateResult:
    """Say in how many comparisons no distance exists, because one of the two drew nothing."""
    if not comparisons:
        return outcome
    many = "comparison" if comparisons == 1 else "comparisons"
    lone = f" {comparisons} {many} in which only one drew it left out: no distance is defined."
    return replace(outcome, reason=outcome.reason + lone)


def _with_worst_slices(outcome: GateResult, slices: Iterable[Mapping[str, Any]]) -> GateResult:
    """Add to a failed gate of volumes the tasks of the slices with the lowest Dice, worst first."""
    if outcome.verdict != "fail":
        return outcome
    worst: dict[int, dict[str, Any]] = {}
    for one in slices:
        if outcome.subject in (None, one["class"]):
            entry = {"task": one["task"], "value": one["dice"], "class": one["class"]}
            worst.setdefault(one["task"], entry)
    return replace(outcome, worst_tasks=tuple(worst.values())[:_LISTED])


def _judge_against_reference(gate: Gate, result: Mapping[str, Any]) -> list[GateResult]:
    people: Sequence[Mapping[str, Any]] = result["annotators"]
    if not people:
        return [_open(gate, _NO_REFERENCE[gate.against])]
    everybody = [entry for person in people for entry in person["compared"]]
    if gate.scope == "batch":
        outcomes = [_with_worst_tasks(_judge_batch(gate, result), everybody)]
    elif gate.scope == "annotator":
        compared = {person["id"]: person["compared"] for person in people}
        outcomes = [
            _with_worst_tasks(one, compared.get(one.subject, ())) for one in _members(gate, result)
        ]
    else:
        outcomes = [_with_worst_tasks(one, everybody) for one in _furthest(gate, people)]
    return [
        replace(one, reason=f"{one.reason[:-1]}, against {gate.against}.") if one.tasks else one
        for one in outcomes
    ]


def _furthest(gate: Gate, people: Sequence[Mapping[str, Any]]) -> list[GateResult]:
    """Judge each class by the annotator who fails it, else is open, else is the lowest."""
    outcomes = []
    for name in dict.fromkeys(one["name"] for person in people for one in person["classes"]):
        of_people = [
            outcome
            for person in people
            for outcome in _members(
                gate, {"classes": [one for one in person["classes"] if one["name"] == name]}
            )
            if outcome.subject == name and outcome.tasks
        ]
        if of_people:
            outcomes.append(min(of_people, key=_gravity))
    if not outcomes:
        wanted = f"the class {gate.class_name!r}" if gate.class_name else "any class"
        return [_open(gate, f"Nothing was compared with {gate.against} for {wanted}.")]
    return outcomes


def _gravity(outcome: GateResult) -> tuple[int, float]:
    return ("fail", "n/a", "pass").index(outcome.verdict), outcome.value or 0.0


def _estimate_or_bound(gate: Gate, values: Mapping[str, Any]) -> float | None:
    if gate.judge == "lower_bound":
        interval = values.get(
            "ci95" if gate.averaging == "per_image" else "ci95_accumulated", values.get("ci95")
        )
        return None if interval is None else float(interval[0])
    value = values.get(gate.averaging)
    return None if value is None else float(value)


def _judge(
    gate: Gate, subject: str | int | None, what: str, value: float | None, tasks: int
) -> GateResult:
    if tasks < gate.min_tasks:
        reason = (
            f"{what} rests on {tasks} compared task{'' if tasks == 1 else 's'}; "
            f"{gate.min_tasks} are needed to judge it."
        )
        return GateResult(gate, subject, value, tasks, "n/a", reason)
    if value is None:
        return GateResult(gate, subject, None, tasks, "n/a", f"{what} has no value.")
    bound = " (lower end of the 95% interval)" if gate.judge == "lower_bound" else ""
    passed = value <= gate.threshold if gate.is_at_most else value >= gate.threshold
    sides = ("at or below", "above") if gate.is_at_most else ("at or above", "below")
    reason = (
        f"{what} is {_readable(value, gate.threshold)}{bound}, "
        f"{sides[0] if passed else sides[1]} the {'allowed' if gate.is_at_most else 'required'} "
        f"{gate.threshold:g}."
    )
    return GateResult(gate, subject, value, tasks, "pass" if passed else "fail", reason)


def _readable(value: float, threshold: float) -> str:
    """Three digits, or as many as it takes to see on which side of the threshold a value is."""
    for digits in range(3, 16):
        text = f"{value:.{digits}f}"
        if float(text) == value or (float(text) >= threshold) == (value >= threshold):
            return text
    return repr(value)


def _tasks_of(summary: Mapping[str, Any], part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tasks: list[Mapping[str, Any]] = summary.get("tasks", [])
    if part is summary:
        return tasks
    members = set(part.get("task_ids", ()))
    return [one for one in tasks if one["id"] in members]


def _with_worst_tasks(outcome: GateResult, tasks: Iterable[Mapping[str, Any]]) -> GateResult:
    """Add to a failed gate its tasks below the threshold, else (all are above) the lowest.

    Objects and outlines (pq, f1, boundary_iou) have no value of a single task: IoU orders there.
    """
    if outcome.verdict != "fail":
        return outcome
    gate = outcome.gate
    of_class = str(outcome.subject) if gate.scope == "class" else None
    dice = gate.family == "dice"
    lowest: dict[int, tuple[float, str | None]] = {}
    for task in tasks:
        if gate.scope == "annotator" and outcome.subject not in task.get("annotators", ()):
            continue
        if of_class is None:
            value, name = task.get("mdice" if dice else "miou"), task.get("worst_class")
        else:
            value, name = task["classes_dice" if dice else "classes"].get(of_class), of_class
        known = lowest.get(task["id"])
        if value is not None and (known is None or value < known[0]):
            lowest[task["id"]] = float(value), name
    ordered = sorted(lowest.items(), key=lambda item: (item[1][0], item[0]))
    below = [item for item in ordered if item[1][0] < gate.threshold]
    worst = tuple(
        {"task": task_id, "value": value, "class": name}
        for task_id, (value, name) in (below or ordered[:_LOWEST])[:_LISTED]
    )
    return replace(outcome, worst_tasks=worst)
