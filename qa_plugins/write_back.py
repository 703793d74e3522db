"""What a QA result leaves on the tasks in Label Studio: a record, four columns and a saved tab.

Annotators can read a task's data and meta, so nothing here names a person or comes from gold.
`undo_write_back` takes all of it away again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from qa_plugins.freshness import DIGEST_KEY, RECORD_KEY
from segstudio.client import Client
from segstudio.errors import ServerError
from segstudio.label_config import LabelConfig
from segstudio.writeback import META_KEY, TaskRecord, remove_tab, task_rows, write_results

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
COLUMNS: Final = ("qa_miou", "qa_verdict", "qa_worst_class", "qa_stale")
"""The columns of a record; no others are ever written or removed."""


def tab_columns(config: LabelConfig) -> list[str]:
    """The columns that the tab shows: the task, who annotated it, its images, and ours.

    >>> from segstudio.label_config import parse_label_config
    >>> xml = '<View><Image name="i" value="$photo"/><Brush name="b" toName="i"/></View>'
    >>> tab_columns(parse_label_config(xml))[2:5]
    ['tasks:annotators', 'tasks:data.photo', 'tasks:data.qa_miou']
    """
    keys = [key for image in config.images for key in re.findall(r"\$(\w+)", image.value)]
    shown = ["tasks:id", "tasks:total_annotations", "tasks:annotators"]
    return shown + [f"tasks:data.{key}" for key in dict.fromkeys([*keys, *COLUMNS])]


def task_records(
    result: Mapping[str, Any],
    earlier_records: Mapping[int, str] | None = None,
    digests: Mapping[int, str] | None = None,
) -> Iterator[TaskRecord]:
    """One record a compared task; a task that has an earlier one and is compared no more loses it.

    A task with an earlier record that this result does not judge (it could not be measured, or
    agreement was not asked for) keeps it, marked stale where its annotations have changed. Holds no
    time of day, so that the same result writes nothing twice.

    Args:
        result: what `run_checks` found.
        earlier_records: tasks that carry a record, with the digest in it.
        digests: of the annotations as they were read for this result.
    """
    earlier_records, digests = earlier_records or {}, digests or {}
    judged: set[int] = set()
    for task in result["tasks"]:
        judged.add(task["id"])
        if task["miou"] is not None:
            yield _record(task, digests.get(task["id"]))
        elif task["id"] in earlier_records:
            nothing: dict[str, Any] = {"verdict": "n/a", "miou": None}
            nothing |= _digest_entry(digests.get(task["id"]))
            yield TaskRecord(task["id"], {RECORD_KEY: nothing}, dict.fromkeys(COLUMNS))
    for task_id, digest in earlier_records.items():
        now = digests.get(task_id)
        if task_id not in judged and now is not None:
            yield TaskRecord(task_id, {}, {"qa_stale": "no" if now == digest else "yes"})


def undo_write_back(client: Client, project_id: int, *, dry_run: bool = False) -> str:
    """Remove the records, their columns and the tab; return a sentence on what was removed.

    Only tasks that carry a record are touched: a column `qa_miou` that somebody imported stays.
    Each task is read again until the record is seen to be gone.

    Raises:
        ServerError: the server refuses, or some tasks could not be cleared.
    """
    rows = task_rows(client, project_id, ("meta",))
    records = (
        TaskRecord(int(row["id"]), {RECORD_KEY: None}, dict.fromkeys(COLUMNS))
        for row in rows
        if isinstance((row.get("meta") or {}).get(META_KEY), Mapping)
        and RECORD_KEY in row["meta"][META_KEY]
    )
    summary = write_results(client, project_id, records, dry_run=dry_run)
    if summary.problems:
        raise ServerError(
            f"{summary.written} tasks were cleared, {len(summary.problems)} were not; the tab "
            f"“{TAB_TITLE}” was left. First: {summary.problems[0].message}"
        )
    tabs = remove_tab(client, project_id, TAB_TITLE, TAB_FILTERS, dry_run=dry_run)
    would = "would be " if dry_run else ""
    tab = f"the tab “{TAB_TITLE}” {would}removed" if tabs else f"no tab “{TAB_TITLE}” to remove"
    return f"Undo: {summary.written} tasks {would}cleared of their agreement record, {tab}."


def _record(task: Mapping[str, Any], digest: str | None) -> TaskRecord:
    agreement = {
        "verdict": task["verdict"],
        "miou": task["miou"],
        "worst_class": task["worst_class"],
        "classes": task["classes"],
        "annotators": len(task["annotators"]),
        "pairs": task["pairs"],
        "conflicts": dict(sorted(Counter(one["type"] for one in task["conflicts"]).items())),
        **_digest_entry(digest),
    }
    columns = {
        "qa_miou": task["miou"],
        "qa_verdict": task["verdict"],
        "qa_worst_class": task["worst_class"],
        "qa_stale": "no",
    }
    return TaskRecord(task["id"], {RECORD_KEY: agreement}, columns)


def _digest_entry(digest: str | None) -> dict[str, str]:
    return {} if digest is None else {DIGEST_KEY: digest}
