"""Gates: what a batch must reach to be accepted, read from YAML.

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
        against: gold         # or consensus; default: annotators, against each other
        threshold: 0.84
      - metric: hd95_mm       # volume_dice, surface_dice, hd95_mm: of the check medical
        scope: class
        threshold: 5          # millimetres, and at most

Each reference is measured by a check of its own (`CHECK_OF`), which must run with the gates; how
a gate is judged says `qa_plugins.gate_verdicts`. `--gates` takes such a file or the name of a
preset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from segstudio.errors import UsageError

Scope = Literal["batch", "class", "annotator"]
Reference = Literal["annotators", "gold", "consensus"]

CHECK_OF: Final[Mapping[Reference, str]] = {
    "annotators": "agreement",
    "gold": "gold",
    "consensus": "consensus",
}
"""The check that measures each reference."""

MEDICAL_CHECK: Final = "medical"
MEDICAL_METRICS: Final = ("volume_dice", "surface_dice", "hd95_mm")
"""Metrics over the volumes of DICOM series; hd95_mm is better the smaller it is."""

PRESETS_DIR = Path(__file__).parent / "presets"
DEFAULT_MIN_TASKS = 5
_SCOPES = ("batch", "class", "annotator")
_METRICS = (
    "miou", "miou.accumulated", "miou.per_image", "iou", "iou.accumulated", "iou.per_image",
    "dice", "boundary_iou", "pq", "f1", *MEDICAL_METRICS,
)  # fmt: skip
METRIC_WORDS: Final = {
    "iou": "IoU",
    "dice": "Dice",
    "boundary_iou": "Boundary IoU",
    "pq": "Panoptic quality",
    "f1": "Object F1",
    "volume_dice": "Dice over volumes",
    "surface_dice": "Surface Dice",
    "hd95_mm": "HD95 in mm",
}
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
    def check(self) -> str:
        """The check that measures it."""
        return MEDICAL_CHECK if self.metric in MEDICAL_METRICS else CHECK_OF[self.against]

    @property
    def is_at_most(self) -> bool:
        """Whether the threshold is what a value must not exceed."""
        return self.metric == "hd95_mm"

    @property
    def averaging(self) -> str:
        """How IoU is averaged: accumulated (default) or per_image."""
        return self.metric.partition(".")[2] or "accumulated"


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
    if metric == "hd95_mm":
        if not 0 <= threshold < float("inf"):
            raise UsageError(f"{source}: the threshold {threshold:g} is no number of millimetres.")
    elif not 0 <= threshold <= 1:
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
    if against not in get_args(Reference):
        raise UsageError(
            f"{source}: 'against' is {', '.join(get_args(Reference))}, not {against!r}."
        )
    if against == "consensus" and (
        judge == "lower_bound" or metric.partition(".")[0] not in ("miou", "iou")
    ):
        raise UsageError(
            f"{source}: 'against: consensus' has miou and iou without an interval; it cannot judge "
            f"{metric} with 'judge: {judge}'."
        )
    if metric in MEDICAL_METRICS and (scope == "annotator" or against == "consensus"):
        raise UsageError(
            f"{source}: {metric} is of the batch or a class, against annotators or gold."
        )
    if metric in MEDICAL_METRICS and entry["where"]:
        raise UsageError(
            f"{source}: {metric} is measured over whole volumes and has no subsets; leave out "
            "'where', or narrow the run itself with --batch."
        )
    min_tasks = entry.get("min_tasks", DEFAULT_MIN_TASKS)
    if isinstance(min_tasks, bool) or not isinstance(min_tasks, int) or min_tasks < 1:
        raise UsageError(f"{source}: 'min_tasks' must be a whole number from 1, not {min_tasks!r}.")
    where = tuple(sorted((str(key), str(value)) for key, value in entry["where"].items()))
    class_name = None if entry.get("class") is None else str(entry["class"])
    name = entry.get("name") or _default_name(scope, class_name, metric, threshold, where)
    if against != "annotators" and "name" not in entry:
        name = f"{name}, against {against}"
    return Gate(
        str(name), metric, threshold, scope, class_name, min_tasks, judge, where, against
    )  # fmt: skip


def _default_name(
    scope: str,
    class_name: str | None,
    metric: str,
    threshold: float,
    where: tuple[tuple[str, str], ...],
) -> str:
    base, _, averaging = metric.partition(".")
    words = METRIC_WORDS["iou" if base == "miou" else base]
    words = f"Mean {words}" if scope != "class" else f"{words} of {class_name or 'every class'}"
    how = " per image" if averaging == "per_image" else ""
    limits = "".join(f", {key}={value}" for key, value in where)
    bound = "at most" if metric == "hd95_mm" else "at least"
    return f"{words}{how} {bound} {threshold:g}{limits}"


def _number(entry: Mapping[str, Any], key: str, source: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{source}: '{key}' must be a number, not {value!r}.")
    return float(value)


@cache
def _preset_files() -> tuple[Path, ...]:
    return tuple(sorted(PRESETS_DIR.glob("*.yaml")))
