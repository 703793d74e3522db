"""Gates: what a batch must reach to be accepted, read from YAML and judged on a QA result.

    gates:
      - metric: miou          # miou, dice, boundary_iou, pq, f1; ".per_image" where both are kept
        threshold: 0.84
        min_tasks: 5          # fewer compared tasks: not applicable, never a pass (default 5)
        children:             # a child inherits everything and narrows the tasks
          - where: {split: val}
            threshold: 0.90
      - metric: iou
        scope: class          # batch (default), class, annotator
        class: car            # left out: every class that somebody drew
        threshold: 0.70
        judge: lower_bound    # the lower end of the 95% interval; default: estimate
      - metric: miou
        scope: annotator
        against: gold         # of the check gold; default: annotators, against each other
        threshold: 0.84

Against gold an annotator's own mean counts, and for a class the annotator who is furthest from it.

`--gates` takes such a file or the name of a preset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from segstudio.errors import UsageError

Verdict = Literal["pass", "fail", "n/a"]
Scope = Literal["batch", "class", "annotator"]
Reference = Literal["annotators", "gold"]
TaskVerdict = Literal["ok", "rework", "n/a"]

PRESETS_DIR = Path(__file__).parent / "presets"
DEFAULT_MIN_TASKS = 5
DEFAULT_REWORK_BELOW = 0.84
_SCOPES = ("batch", "class", "annotator")
_METRICS = (
    "miou", "miou.accumulated", "miou.per_image", "iou", "iou.accumulated", "iou.per_image",
    "dice", "boundary_iou", "pq", "f1",
)  # fmt: skip
_WORDS = {
    "iou": "IoU",
    "dice": "Dice",
    "boundary_iou": "Boundary IoU",
    "pq": "Panoptic quality",
    "f1": "Object F1",
}
_TASK_METRICS = ("iou", "dice")
_KEYS = frozenset(
    {"name", "metric", "threshold", "scope", "class", "min_tasks", "judge", "where", "against",
     "children"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gate:
    """One requirement. ``where`` holds the values of task data that it is limited to."""

    name: str
    metric: str
    threshold: float
    scope: Scope = "batch"
    class_name: str | None = None
    min_tasks: int = DEFAULT_MIN_TASKS
    judge: Literal["estimate", "lower_bound"] = "estimate"
    where: tuple[tuple[str, str], ...] = ()
    against: Reference = "annotators"

    @property
    def family(self) -> str:
        """The metric without its averaging: iou, dice, boundary_iou, pq or f1."""
        base = self.metric.partition(".")[0]
        return "iou" if base == "miou" else base

    @property
    def averaging(self) -> str:
        """How IoU is averaged: accumulated (default) or per_image."""
        return self.metric.partition(".")[2] or "accumulated"


@dataclass(frozen=True, slots=True)
class GateResult:
    """What became of one gate for one subject (the batch, a class or an annotator)."""

    gate: Gate
    subject: str | int | None
    value: float | None
    tasks: int
    verdict: Verdict
    reason: str

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
        }


@dataclass(frozen=True, slots=True)
class GateSet:
    """All gates of one run, in the order of the file."""

    gates: tuple[Gate, ...] = ()
    source: str = ""

    @property
    def subsets(self) -> list[dict[str, str]]:
        """The distinct subsets of tasks that the gates need, the whole batch left out."""
        return [dict(one) for one in dict.fromkeys(gate.where for gate in self.gates if gate.where)]


def preset_names() -> list[str]:
    """Names that ``load_gates`` knows beside files."""
    return [path.stem for path in _preset_files()]


def load_gates(spec: str | None) -> GateSet:
    """Read gates from a file or a preset; None gives no gates.

    Raises:
        UsageError: no such file or preset, or a key, metric or number that makes no sense.
    """
    if spec is None:
        return GateSet()
    preset = next((path for path in _preset_files() if path.stem == spec), None)
    path = preset or Path(spec)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The gates '{spec}' are neither a file that can be read nor a preset "
            f"({', '.join(preset_names())})."
        ) from error
    return parse_gates(text, source=spec)


def parse_gates(text: str, *, source: str = "gates") -> GateSet:
    """Read gates from YAML.

    >>> parse_gates("gates: [{metric: miou, threshold: 0.9}]").gates[0].name
    'Mean IoU at least 0.9'
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    entries = document.get("gates") if isinstance(document, dict) else document
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{source} must have a list 'gates' with at least one requirement.")
    gates = tuple(_flatten(entries, {}, source))
    return GateSet(gates, source)


def evaluate(
    gate_set: GateSet, result: Mapping[str, Any], gold: Mapping[str, Any] | None = None
) -> list[GateResult]:
    """Judge every gate on the agreement of the batch, or of the subset that the gate names.

    Gates against gold are judged on ``gold``, the result of that check; None where it did not run.
    """
    subset_results = {
        tuple(sorted(subset["where"].items())): subset for subset in result.get("subsets", [])
    }
    outcomes: list[GateResult] = []
    for gate in gate_set.gates:
        measured = subset_results.get(gate.where) if gate.where else result
        if gate.against == "gold":
            outcomes.extend(_judge_against_gold(gate, gold))
        elif measured is None:
            outcomes.append(GateResult(gate, None, None, 0, "n/a", "No task is in this subset."))
        elif gate.scope == "batch":
            outcomes.append(_judge_batch(gate, measured))
        else:
            outcomes.extend(_judge_members(gate, measured))
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


@dataclass(frozen=True, slots=True)
class ReworkRule:
    """When a single task goes back: the thresholds of the gates, applied to the task itself."""

    mean_below: tuple[tuple[str, float], ...]
    class_below: tuple[tuple[str, str | None, float], ...]

    def verdict(self, task: Mapping[str, Any]) -> TaskVerdict:
        """Judge one entry of ``tasks`` of the QA result; "n/a" where nothing was compared."""
        if task.get("miou") is None:
            return "n/a"
        for metric, threshold in self.mean_below:
            value = task.get("miou" if metric == "iou" else f"m{metric}")
            if value is not None and value < threshold:
                return "rework"
        for metric, class_name, threshold in self.class_below:
            values = task.get("classes" if metric == "iou" else f"classes_{metric}") or {}
            for name, value in values.items():
                if class_name in (None, name) and value is not None and value < threshold:
                    return "rework"
        return "ok"

    def as_json(self) -> dict[str, Any]:
        """The rule as ``qa.json`` states it."""
        return {
            "mean_below": [{"metric": m, "threshold": t} for m, t in self.mean_below],
            "class_below": [
                {"metric": m, "class": c, "threshold": t} for m, c, t in self.class_below
            ],
        }


def rework_rule(gate_set: GateSet) -> ReworkRule:
    """The gates' thresholds as a rule for one task; mIoU 0.84 where no gate gives one."""
    whole = [
        gate
        for gate in gate_set.gates
        if not gate.where and gate.against == "annotators" and gate.family in _TASK_METRICS
    ]
    means = tuple((gate.family, gate.threshold) for gate in whole if gate.scope == "batch")
    classes = tuple(
        (gate.family, gate.class_name, gate.threshold) for gate in whole if gate.scope == "class"
    )
    if not means and not classes:
        means = (("iou", DEFAULT_REWORK_BELOW),)
    return ReworkRule(means, classes)


def _judge_batch(gate: Gate, result: Mapping[str, Any]) -> GateResult:
    batch = result["batch"]
    tasks = int(batch["compared_tasks"])
    if gate.family == "iou":
        value = _estimate_or_bound(gate, batch["miou"])
    else:
        value = batch.get(gate.family)
    return _judge(gate, None, f"Mean {_WORDS[gate.family]} of the batch", value, tasks)


def _judge_members(gate: Gate, result: Mapping[str, Any]) -> list[GateResult]:
    members = result["classes"] if gate.scope == "class" else result["annotators"]
    outcomes = []
    for member in members:
        subject = member["name"] if gate.scope == "class" else member["id"]
        if gate.class_name is not None and subject != gate.class_name:
            continue
        tasks = int(member["tasks"])
        if tasks == 0 and gate.class_name is None:
            continue  # a class that nobody drew has nothing to reach
        if gate.family == "iou":
            value = _estimate_or_bound(gate, member["iou" if gate.scope == "class" else "miou"])
        else:
            value = member.get(gate.family)
        owner = f"“{subject}”" if gate.scope == "class" else "an annotator"
        outcomes.append(_judge(gate, subject, f"{_WORDS[gate.family]} of {owner}", value, tasks))
    if not outcomes:
        wanted = f"the class {gate.class_name!r}" if gate.class_name else f"any {gate.scope}"
        reason = f"Nothing was compared for {wanted}."
        outcomes.append(GateResult(gate, gate.class_name, None, 0, "n/a", reason))
    return outcomes


def _judge_against_gold(gate: Gate, gold: Mapping[str, Any] | None) -> list[GateResult]:
    if gold is None or not gold["annotators"]:
        reason = (
            "The check gold did not run; name it beside agreement."
            if gold is None
            else "No annotator annotated a task that has gold."
        )
        return [GateResult(gate, gate.class_name, None, 0, "n/a", reason)]
    people = gold["annotators"]
    if gate.scope == "annotator":
        outcomes = _judge_members(gate, {"annotators": people})
    else:
        outcomes = []
        for name in dict.fromkeys(one["name"] for person in people for one in person["classes"]):
            # One outcome an annotator; the one to show is the first that fails, is open, is lowest.
            of_people = [
                outcome
                for person in people
                for outcome in _judge_members(
                    gate, {"classes": [one for one in person["classes"] if one["name"] == name]}
                )
                if outcome.subject == name and outcome.tasks
            ]
            if of_people:
                outcomes.append(min(of_people, key=_gravity))
        if not outcomes:
            wanted = f"the class {gate.class_name!r}" if gate.class_name else "any class"
            reason = f"Nothing was compared with gold for {wanted}."
            outcomes = [GateResult(gate, gate.class_name, None, 0, "n/a", reason)]
    return [
        replace(one, reason=f"{one.reason[:-1]}, against gold.") if one.tasks else one
        for one in outcomes
    ]


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
    passed = value >= gate.threshold
    reason = (
        f"{what} is {_readable(value, gate.threshold)}{bound}, "
        f"{'at or above' if passed else 'below'} the required {gate.threshold:g}."
    )
    return GateResult(gate, subject, value, tasks, "pass" if passed else "fail", reason)


def _readable(value: float, threshold: float) -> str:
    """Three digits, or as many as it takes to see on which side of the threshold a value is."""
    for digits in range(3, 16):
        text = f"{value:.{digits}f}"
        if float(text) == value or (float(text) >= threshold) == (value >= threshold):
            return text
    return repr(value)


def _flatten(entries: Iterable[Any], inherited: dict[str, Any], source: str) -> Iterable[Gate]:
    for entry in entries:
        if not isinstance(entry, dict):
            raise UsageError(f"{source}: a gate must be a mapping, not {entry!r}.")
        unknown = sorted(set(entry) - _KEYS)
        if unknown:
            raise UsageError(
                f"{source}: a gate has no key '{unknown[0]}'; known are {', '.join(sorted(_KEYS))}."
            )
        own = {key: value for key, value in entry.items() if key != "children"}
        where = dict(inherited.get("where") or {})
        narrowed = own.get("where") or {}
        if not isinstance(narrowed, dict):
            raise UsageError(f"{source}: 'where' must map a key of task data to a value.")
        clash = [key for key in narrowed if key in where and where[key] != narrowed[key]]
        if clash:
            raise UsageError(
                f"{source}: a child gate can only narrow its parent's 'where', "
                f"but changes '{clash[0]}'."
            )
        merged = {**inherited, **own, "where": {**where, **narrowed}}
        if inherited and "name" not in own:
            merged.pop("name", None)
        yield _gate(merged, source)
        children = entry.get("children") or []
        if not isinstance(children, list):
            raise UsageError(f"{source}: 'children' must be a list of gates.")
        yield from _flatten(children, merged, source)


def _gate(entry: Mapping[str, Any], source: str) -> Gate:
    metric = entry.get("metric")
    if metric not in _METRICS:
        raise UsageError(
            f"{source}: the metric {metric!r} is not known; choose one of {', '.join(_METRICS)}."
        )
    threshold = _number(entry, "threshold", source)
    if not 0 <= threshold <= 1:
        raise UsageError(f"{source}: the threshold {threshold:g} is not between 0 and 1.")
    scope = entry.get("scope", "class" if "class" in entry else "batch")
    if scope not in _SCOPES:
        raise UsageError(f"{source}: the scope {scope!r} is not one of {', '.join(_SCOPES)}.")
    if "class" in entry and scope != "class":
        raise UsageError(f"{source}: 'class' goes with the scope class, not {scope}.")
    judge = entry.get("judge", "estimate")
    if judge not in ("estimate", "lower_bound"):
        raise UsageError(f"{source}: 'judge' is estimate or lower_bound, not {judge!r}.")
    if judge == "lower_bound" and (scope == "annotator" or not metric.startswith(("miou", "iou"))):
        raise UsageError(
            f"{source}: 'judge: lower_bound' needs an interval, which {scope} {metric} has not; "
            "use miou of the batch or iou of a class."
        )
    if scope == "annotator" and metric.partition(".")[0] not in ("miou", "iou"):
        raise UsageError(f"{source}: an annotator is judged by miou, not by {metric}.")
    against = entry.get("against", "annotators")
    if against not in ("annotators", "gold"):
        raise UsageError(f"{source}: 'against' is annotators or gold, not {against!r}.")
    if against == "gold" and (scope == "batch" or entry["where"]):
        raise UsageError(
            f"{source}: 'against: gold' goes with the scope annotator or class and without "
            "'where', since gold is measured for each annotator over all tasks that have it."
        )
    min_tasks = int(_number({"min_tasks": DEFAULT_MIN_TASKS, **entry}, "min_tasks", source))
    where = tuple(sorted((str(key), str(value)) for key, value in entry["where"].items()))
    class_name = None if entry.get("class") is None else str(entry["class"])
    name = entry.get("name") or _default_name(scope, class_name, metric, threshold, where)
    if against == "gold" and "name" not in entry:
        name = f"{name}, against gold"
    return Gate(
        str(name), metric, threshold, scope, class_name, max(1, min_tasks), judge, where, against
    )  # fmt: skip


def _default_name(
    scope: str,
    class_name: str | None,
    metric: str,
    threshold: float,
    where: tuple[tuple[str, str], ...],
) -> str:
    base, _, averaging = metric.partition(".")
    words = _WORDS["iou" if base == "miou" else base]
    words = f"Mean {words}" if scope != "class" else f"{words} of {class_name or 'every class'}"
    how = " per image" if averaging == "per_image" else ""
    limits = "".join(f", {key}={value}" for key, value in where)
    return f"{words}{how} at least {threshold:g}{limits}"


def _number(entry: Mapping[str, Any], key: str, source: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{source}: '{key}' must be a number, not {value!r}.")
    return float(value)


@cache
def _preset_files() -> tuple[Path, ...]:
    return tuple(sorted(PRESETS_DIR.glob("*.yaml")))
