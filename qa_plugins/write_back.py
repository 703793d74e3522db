"""What a QA result leaves on the tasks in Label Studio: a record, three columns and a saved tab.

Annotators can read a task's data and meta, so nothing here names a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from segstudio.writeback import TaskRecord

TAB_TITLE = "QA: needs rework"
TAB_FILTERS = (
    {
        "filter": "filter:tasks:data.qa_verdict",
        "operator": "equal",
        "type": "String",
        "value": "rework",
    },
)
TAB_ORDERING = ("tasks:data.qa_miou",)


def task_records(
    result: Mapping[str, Any], earlier_records: Collection[int] = ()
) -> Iterator[TaskRecord]:
    """One record a compared task; a task that has an earlier one and is compared no more loses it.

    Holds no time of day, so that the same result writes nothing twice.
    """
    for task in result["tasks"]:
        if task["miou"] is not None:
            yield _record(task)
        elif task["id"] in earlier_records:
            nothing = {"verdict": "n/a", "miou": None}
            columns = {"qa_miou": None, "qa_verdict": None, "qa_worst_class": None}
            yield TaskRecord(task["id"], {"agreement": nothing}, columns)


def _record(task: Mapping[str, Any]) -> TaskRecord:
    agreement = {
        "verdict": task["verdict"],
        "miou": task["miou"],
        "worst_class": task["worst_class"],
        "classes": task["classes"],
        "annotators": len(task["annotators"]),
        "pairs": task["pairs"],
        "conflicts": dict(sorted(Counter(one["type"] for one in task["conflicts"]).items())),
    }
    columns = {
        "qa_miou": task["miou"],
        "qa_verdict": task["verdict"],
        "qa_worst_class": task["worst_class"],
    }
    return TaskRecord(task["id"], {"agreement": agreement}, columns)
