"""One row a task, worst first, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_CONFLICTS = (
    "missing", "extra", "mismatching_label", "low_overlap", "covered", "split", "merged",
)  # fmt: skip


def tasks_csv(result: Mapping[str, Any]) -> str:
    """The tasks of a QA result as CSV; a class that nobody drew in a task is an empty cell."""
    classes = [entry["name"] for entry in result.get("classes", [])]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["task_id", "image", "verdict", "miou", "mdice", "worst_class", "annotators", "pairs",
         *_CONFLICTS, *(f"iou {name}" for name in classes)]
    )  # fmt: skip
    for task in worst_first(result.get("tasks", [])):
        kinds = Counter(conflict["type"] for conflict in task["conflicts"])
        values = [
            task["id"], task.get("image"), task.get("verdict"), task["miou"], task.get("mdice"),
            task.get("worst_class"), len(task.get("annotators", ())), task.get("pairs", 0),
            *(kinds[kind] for kind in _CONFLICTS),
            *(task["classes"].get(name) for name in classes),
        ]  # fmt: skip
        writer.writerow([_cell(value) for value in values])
    return stream.getvalue()


def worst_first(tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Tasks by mIoU, the lowest first; those without a value last."""
    return sorted(tasks, key=lambda task: (task["miou"] is None, task["miou"] or 0.0, task["id"]))


def _cell(value: Any) -> Any:
    """A cell that a spreadsheet will not run as a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value
