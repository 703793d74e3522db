"""How many people are to draw a task: raises `overlap` and brings the task back into the stream.

Used through `segstudio.writeback`, the room that writes to Label Studio. Raising `overlap` alone
does not reopen a task that counts as labelled (seen on 1.23.2); it needs `is_labeled` false too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from segstudio.client import Client
from segstudio.errors import ServerError
from segstudio.progress import ProgressLine
from segstudio.tasks import Problem

_CHUNK_TASKS: Final = 50
# Refusals that concern one task; any other would meet all of them alike.
_TASK_STATUSES: Final = frozenset({400, 404, 409})


@dataclass(frozen=True, slots=True)
class OverlapSummary:
    """What was raised, or in a dry run would have been.

    Attributes:
        raised: tasks whose overlap was raised or that were brought back.
        unchanged: tasks that ask for as many annotations already.
        problems: tasks that are not there or could not be written.
        dry_run: nothing was sent.
    """

    raised: int
    unchanged: int
    problems: tuple[Problem, ...]
    dry_run: bool = False

    def __str__(self) -> str:
        verb = "would be raised" if self.dry_run else "raised"
        text = f"overlap of {self.raised} tasks {verb}, {self.unchanged} asked for it already"
        return text + (f", {len(self.problems)} failed" if self.problems else "")


def write_overlaps(
    client: Client,
    project_id: int,
    wanted: Mapping[int, int],
    progress: ProgressLine | None = None,
    *,
    dry_run: bool = False,
) -> OverlapSummary:
    """Let each task be drawn by so many people; one that has fewer comes back into the stream.

    An overlap is never lowered, and a task with enough annotations is left alone: the same call
    twice writes once. Each task is read again until it is seen to be so.

    Args:
        client: the server, as a user who may edit tasks.
        project_id: the project; tasks of another are problems.
        wanted: how many annotations each task is to get, by task id.
        progress: advanced once a task.
        dry_run: read and compare, but write nothing.

    Raises:
        ServerError: the server refuses everything alike (token, rights, not reachable).
    """
    raised = unchanged = 0
    problems: list[Problem] = []
    ids = sorted(wanted)
    for first in range(0, len(ids), _CHUNK_TASKS):
        chunk = ids[first : first + _CHUNK_TASKS]
        there = _read(client, project_id, chunk)
        written: list[int] = []
        for task_id in chunk:
            failed = False
            row = there.get(task_id)
            if row is None:
                message = f"Project {project_id} at {client.url} has no task {task_id}."
                problems.append(Problem("missing-task", message, task_id=task_id))
                failed = True
            elif not (changes := overlap_changes(row, wanted[task_id])):
                unchanged += 1
            elif dry_run:
                raised += 1
            else:
                error = _write(client, task_id, changes)
                if error is None:
                    written.append(task_id)
                else:
                    problems.append(error)
                    failed = True
            if progress is not None:
                progress.advance(failed=failed)
        again = _read(client, project_id, written)
        for task_id in written:
            if task_id in again and not overlap_changes(again[task_id], wanted[task_id]):
                raised += 1
                continue
            message = (
                f"The overlap of task {task_id} was written and is not there when read again: "
                "another program may be changing the task. Run the command again."
            )
            problems.append(Problem("not-written", message, task_id=task_id))
    return OverlapSummary(raised, unchanged, tuple(problems), dry_run)


def overlap_changes(row: Mapping[str, Any], wanted: int) -> dict[str, Any]:
    """Return the fields to write so that a task is drawn by so many people; {} where it is.

    >>> overlap_changes({"overlap": 1, "is_labeled": True, "total_annotations": 1}, 2)
    {'overlap': 2, 'is_labeled': False}
    >>> overlap_changes({"overlap": 3, "is_labeled": False, "total_annotations": 1}, 2)
    {}
    """
    overlap = max(int(row.get("overlap") or 1), wanted)
    lacks = int(row.get("total_annotations") or 0) < wanted
    raised = overlap > int(row.get("overlap") or 1)
    if not raised and not (lacks and row.get("is_labeled")):
        return {}
    changes: dict[str, Any] = {"overlap": overlap}
    if lacks:
        changes["is_labeled"] = False
    return changes


def _write(client: Client, task_id: int, changes: Mapping[str, Any]) -> Problem | None:
    try:
        client.request(
            "PATCH", f"/api/tasks/{task_id}/", what=f"task {task_id}", json=dict(changes)
        )
    except ServerError as error:
        if error.status not in _TASK_STATUSES:
            raise
        return Problem("not-written", str(error), task_id=task_id)
    return None


def _read(client: Client, project_id: int, task_ids: list[int]) -> dict[int, dict[str, Any]]:
    if not task_ids:
        return {}
    items = [
        {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": one}
        for one in task_ids
    ]
    page = client.get_json(
        "/api/tasks/",
        what=f"project {project_id}",
        project=project_id,
        page_size=len(task_ids),
        resolve_uri="false",
        include="id,overlap,is_labeled,total_annotations",
        query=json.dumps({"filters": {"conjunction": "or", "items": items}}),
    )
    return {int(one["id"]): one for one in page["tasks"]}
