"""Which controls and labels stored annotations use, against what the interface still offers.

Label Studio lets a label be renamed or removed while annotations use it, and accepts unknown
labels on import; from then on those regions belong to no class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from segstudio.label_config import LabelConfig
from segstudio.tasks import Task

NO_LABEL = ""


@dataclass(slots=True)
class LabelUse:
    """Counts of what annotations use, by (control, label); a label of "" is a region without.

    Skipped annotations do not count.
    """

    regions: Counter[tuple[str, str]] = field(default_factory=Counter)
    annotations: Counter[tuple[str, str]] = field(default_factory=Counter)
    tasks: Counter[tuple[str, str]] = field(default_factory=Counter)
    total_tasks: int = 0
    total_annotations: int = 0

    def add(self, task: Task) -> None:
        """Count one task."""
        self.total_tasks += 1
        in_task: set[tuple[str, str]] = set()
        for annotation in task.annotations:
            if annotation.was_cancelled:
                continue
            self.total_annotations += 1
            keys = [
                (region.from_name, label)
                for region in annotation.regions
                for label in region.labels or (NO_LABEL,)
            ]
            self.regions.update(keys)
            self.annotations.update(set(keys))
            in_task.update(keys)
        self.tasks.update(in_task)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of the comparison; `finding` is empty where all is well."""

    control: str
    label: str
    regions: int
    annotations: int
    tasks: int
    finding: str = ""
    lost: bool = False


def count_labels(tasks: Iterable[Task]) -> LabelUse:
    """Count the controls and labels that the tasks' annotations use."""
    use = LabelUse()
    for task in tasks:
        use.add(task)
    return use


def compare(use: LabelUse, config: LabelConfig) -> list[LabelRow]:
    """Return a row for each control and label, in use or offered, sorted by name.

    `lost` marks what annotations use and the interface no longer has: a control, or a label of
    the control. Labels that come with each task (dynamic ones) cannot be judged and are not lost.
    """
    offered = {
        (control.name, label)
        for control in config.controls
        if control.kind in _DRAWN_KINDS
        for label in control.label_names
    }
    rows = []
    for control, label in sorted({*use.regions, *offered}):
        key = (control, label)
        finding, lost = _judge(key, use, config)
        counts = (use.regions[key], use.annotations[key], use.tasks[key])
        rows.append(LabelRow(control, label, *counts, finding=finding, lost=lost))
    return rows


def as_json(use: LabelUse, rows: list[LabelRow]) -> dict[str, Any]:
    """Return the comparison as JSON-able values."""
    return {
        "tasks": use.total_tasks,
        "annotations": use.total_annotations,
        "labels": [
            {
                "control": row.control,
                "label": row.label or None,
                "regions": row.regions,
                "annotations": row.annotations,
                "tasks": row.tasks,
                "lost": row.lost,
                "finding": row.finding,
            }
            for row in rows
        ],
    }


_DRAWN_KINDS = frozenset(
    {"brush", "bitmask", "polygon", "rectangle", "ellipse", "keypoint", "labels"}
)


def _judge(key: tuple[str, str], use: LabelUse, config: LabelConfig) -> tuple[str, bool]:
    control_name, label = key
    control = config.control(control_name)
    if control is None:
        return "the interface has no such control", True
    if use.regions[key] == 0:
        shared = control.kind == "labels" and any(one == label for _, one in use.regions)
        return ("" if shared else "not used"), False
    if label == NO_LABEL:
        return "regions without a label", False
    # A plain shape (Brush, Polygon) takes its labels from a Labels control.
    sources = [control, *config.controls_of("labels")]
    if any(one.dynamic for one in sources) or any(label in one.label_names for one in sources):
        return "", False
    elsewhere = [one.name for one in config.controls if label in one.label_names]
    if elsewhere:
        return f"only {', '.join(elsewhere)} still has this label", True
    return "the interface no longer has this label", True
