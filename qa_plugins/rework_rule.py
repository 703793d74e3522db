"""When a single task goes back to its annotators: the thresholds of the gates, task by task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qa_plugins.gates import GateSet

TaskVerdict = Literal["ok", "rework", "n/a"]

DEFAULT_REWORK_BELOW = 0.84
_TASK_METRICS = ("iou", "dice")


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
