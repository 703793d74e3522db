"""The only room that writes to Label Studio: results, saved tabs, instructions, predictions' setup.

The server replaces `meta` and `data` as wholes, and an annotator who submits at the same moment
can undo a write. So each task is read, merged, written, read again and, where the record is not
there, written again. What is there already is not written: the same call twice writes once.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from segstudio.client import Client
from segstudio.errors import ServerError, UsageError
from segstudio.progress import ProgressLine
from segstudio.tasks import Problem
from segstudio.writeback_annotations import (
    StoredResult,
    import_tasks,
    make_annotation,
    read_annotation,
    read_result,
    remove_annotation,
    stored_results,
    stored_tasks,
    write_label_config,
    write_result,
)
from segstudio.writeback_predictions import PredictionSetup, configure_predictions
from segstudio.writeback_project import (
    ensure_tab,
    number_filter,
    remove_tab,
    write_instructions,
)
from segstudio.writeback_rows import task_rows
from segstudio.writeback_stored_predictions import (
    PredictionsSummary,
    TaskPrediction,
    remove_predictions,
    write_predictions,
)
from segstudio.writeback_stream import (
    OverlapSummary,
    StreamPlace,
    StreamSummary,
    read_stream_places,
    set_stream_places,
    write_overlaps,
)
from segstudio.writeback_webhooks import ensure_webhook, remove_webhooks

__all__ = [
    "META_KEY",
    "OverlapSummary",
    "PredictionSetup",
    "PredictionsSummary",
    "StoredResult",
    "StreamPlace",
    "StreamSummary",
    "TaskPrediction",
    "TaskRecord",
    "WriteSummary",
    "configure_predictions",
    "ensure_tab",
    "ensure_webhook",
    "import_tasks",
    "make_annotation",
    "merged_task",
    "number_filter",
    "read_annotation",
    "read_result",
    "read_stream_places",
    "remove_annotation",
    "remove_predictions",
    "remove_tab",
    "remove_webhooks",
    "set_stream_places",
    "stored_results",
    "stored_tasks",
    "task_rows",
    "write_instructions",
    "write_label_config",
    "write_overlaps",
    "write_predictions",
    "write_result",
    "write_results",
]

META_KEY: Final = "segstudio"
_DATA_KEY: Final = re.compile(r"qa_[A-Za-z0-9_]+")
_CHUNK_TASKS: Final = 50
_ROUNDS: Final = 4
# Refusals that concern one task; any other would meet all of them alike.
_TASK_STATUSES: Final = frozenset({400, 404, 409})


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What is to stand on one task.

    Attributes:
        task_id: the task.
        meta: keys to set below `meta.segstudio`; other keys there stay; None removes the key, and
            `segstudio` with its last one.
        data: flat columns for the Data Manager, named `qa_...`; None removes the column.
    """

    task_id: int
    meta: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WriteSummary:
    """What a write-back did, or in a dry run would have done.

    Attributes:
        written: tasks changed (dry run: that would be).
        unchanged: tasks that held their record already.
        retried: writes that were gone when read again and were repeated.
        problems: tasks that could not be written, with the reason.
        dry_run: nothing was sent.
    """

    written: int
    unchanged: int
    retried: int
    problems: tuple[Problem, ...]
    dry_run: bool = False

    def __str__(self) -> str:
        verb = "would be written" if self.dry_run else "written"
        text = f"{self.written} tasks {verb}, {self.unchanged} already up to date"
        if self.retried:
            text += f", {self.retried} written again after a concurrent change"
        return text + (f", {len(self.problems)} failed" if self.problems else "")


def write_results(
    client: Client,
    project_id: int,
    records: Iterable[TaskRecord],
    progress: ProgressLine | None = None,
    *,
    dry_run: bool = False,
) -> WriteSummary:
    """Merge each record into its task and verify that it stays there.

    Args:
        client: the server, as a user who may edit tasks.
        project_id: the project; tasks of another are refused.
        records: streamed; should hold no time of day, or every call writes anew.
        progress: advanced once a task.
        dry_run: read and compare, but write nothing.

    Raises:
        UsageError: a record has columns not named `qa_...`, or values that are not JSON numbers,
            texts or truth values.
        ServerError: the server refuses everything alike (token, rights, not reachable).
    """
    counts = {"written": 0, "unchanged": 0, "retried": 0}
    problems: list[Problem] = []
    stream = iter(records)
    while chunk := _merge_doubled(islice(stream, _CHUNK_TASKS)):
        failed = _write_chunk(client, project_id, chunk, counts, dry_run)
        problems += failed
        if progress is not None:
            bad = {one.task_id for one in failed}
            for task_id in chunk:
                progress.advance(failed=task_id in bad)
    return WriteSummary(**counts, problems=tuple(problems), dry_run=dry_run)


def merged_task(
    task: Mapping[str, Any], record: TaskRecord
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the `meta` and `data` that a task has once the record stands on it.

    >>> record = TaskRecord(1, {"agreement": {"miou": 0.5}}, {"qa_miou": 0.5, "qa_old": None})
    >>> merged_task({"meta": {"mine": 1}, "data": {"image": "a.jpg", "qa_old": 3}}, record)
    ({'mine': 1, 'segstudio': {'agreement': {'miou': 0.5}}}, {'image': 'a.jpg', 'qa_miou': 0.5})
    """
    meta, data = dict(task.get("meta") or {}), dict(task.get("data") or {})
    if record.meta:
        ours = meta.get(META_KEY)
        merged = {**(ours if isinstance(ours, Mapping) else {}), **record.meta}
        removed = {key for key, value in record.meta.items() if value is None}
        kept = {key: value for key, value in merged.items() if key not in removed}
        if kept:
            meta[META_KEY] = kept
        elif isinstance(ours, Mapping):
            del meta[META_KEY]
    for key, value in record.data.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
    return meta, data


def _write_chunk(
    client: Client,
    project_id: int,
    chunk: dict[int, TaskRecord],
    counts: dict[str, int],
    dry_run: bool,
) -> list[Problem]:
    problems: list[Problem] = []
    waiting = dict(chunk)
    written: set[int] = set()
    for _ in range(_ROUNDS):
        there = _read(client, project_id, list(waiting))
        for task_id in [one for one in waiting if one not in there]:
            message = f"Project {project_id} at {client.url} has no task {task_id}."
            problems.append(Problem("missing-task", message, task_id=task_id))
            del waiting[task_id]
            written.discard(task_id)
        settled = [one for one in waiting if not _changes(there[one], waiting[one])]
        for task_id in settled:
            del waiting[task_id]
            counts["unchanged"] += task_id not in written
        if dry_run or not waiting:
            counts["written"] += len(waiting) + len(written)
            return problems
        for task_id in list(waiting):
            counts["retried"] += task_id in written
            try:
                _write_one(client, project_id, waiting[task_id])
            except ServerError as error:
                if error.status not in _TASK_STATUSES:
                    raise
                problems.append(Problem("not-written", str(error), task_id=task_id))
                del waiting[task_id]
                written.discard(task_id)
            else:
                written.add(task_id)
    there = _read(client, project_id, list(waiting))
    for task_id, record in waiting.items():
        if task_id not in there or _changes(there[task_id], record):
            written.discard(task_id)
            message = (
                f"Task {task_id}'s results were written {_ROUNDS} times and were gone each time: "
                "another program keeps overwriting this task. Stop it, then run again."
            )
            problems.append(Problem("not-written", message, task_id=task_id))
    counts["written"] += len(written)
    return problems


def _write_one(client: Client, project_id: int, record: TaskRecord) -> None:
    # Read once more right before writing: the chunk's reading may be seconds old by now.
    task = _read(client, project_id, [record.task_id]).get(record.task_id)
    changes = _changes(task, record) if task is not None else {}
    if changes:
        path = f"/api/tasks/{record.task_id}/"
        client.request("PATCH", path, what=f"task {record.task_id}", json=changes)


def _changes(task: Mapping[str, Any], record: TaskRecord) -> dict[str, Any]:
    """Return those of `meta` and `data` that must be written, whole."""
    meta, data = merged_task(task, record)
    changes: dict[str, Any] = {}
    if meta != (task.get("meta") or {}):
        changes["meta"] = meta
    if data != (task.get("data") or {}):
        changes["data"] = data
    return changes


def _read(client: Client, project_id: int, task_ids: list[int]) -> dict[int, dict[str, Any]]:
    """Return id, data and meta of the tasks that are there, as stored (URIs not resolved)."""
    if not task_ids:
        return {}
    items = [number_filter("id", "equal", one) for one in task_ids]
    page = client.get_json(
        "/api/tasks/",
        what=f"project {project_id}",
        project=project_id,
        page_size=len(task_ids),
        resolve_uri="false",
        include="id,data,meta",
        query=json.dumps({"filters": {"conjunction": "or", "items": items}}),
    )
    return {int(one["id"]): one for one in page["tasks"]}


def _merge_doubled(records: Iterator[TaskRecord]) -> dict[int, TaskRecord]:
    merged: dict[int, TaskRecord] = {}
    for given in records:
        record = _checked(given)
        earlier = merged.get(record.task_id)
        if earlier is not None:
            record = TaskRecord(
                record.task_id,
                {**earlier.meta, **record.meta},
                {**earlier.data, **record.data},
            )
        merged[record.task_id] = record
    return merged


def _checked(record: TaskRecord) -> TaskRecord:
    """Return the record as JSON will bring it back, or say why it cannot be written."""
    where = f"The record of task {record.task_id}"
    for key, value in record.data.items():
        if not _DATA_KEY.fullmatch(key):
            raise UsageError(
                f"{where} has the column {key!r}; columns of ours are named qa_... so that no "
                "data of the project is ever overwritten."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{where} has {value} in '{key}'; give None where there is no value.")
        if not isinstance(value, float | int | str | bool | None):
            raise UsageError(f"{where} has a {type(value).__name__} in '{key}', not a number.")
    if META_KEY in record.meta:
        raise UsageError(f"{where} names '{META_KEY}' in meta; give only what goes below it.")
    try:
        meta = json.loads(json.dumps(dict(record.meta), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where} cannot be written as JSON: {error}.") from error
    return TaskRecord(record.task_id, meta, json.loads(json.dumps(dict(record.data))))
