"""Which tasks the labelling stream still offers: their `overlap` and whether they count as done.

Used through `segstudio.writeback`, the room that writes to Label Studio. `write_overlaps` raises
how many people are to draw a task; `set_stream_places` sets exactly what is given, as undoing does.

A task leaves everybody's stream when it counts as labelled. Raising its overlap alone does not
bring it back (seen on 1.23.2); `is_labeled: false` sent with it does. Nobody is offered a task that
they have annotated already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from segstudio.client import Client
from segstudio.errors import ServerError
from segstudio.progress import ProgressLine
from segstudio.tasks import Problem

_CHUNK_TASKS: Final = 50
# Refusals that concern one task; any other would meet all of them alike.
_TASK_STATUSES: Final = frozenset({400, 404, 409})


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """How many annotations a task is to get, and whether it counts as labelled."""

    task_id: int
    overlap: int
    is_labeled: bool


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What `set_stream_places` did, or in a dry run would have done."""

    written: int
    unchanged: int
    problems: tuple[Problem, ...] = ()


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


def read_stream_places(
    client: Client, project_id: int, task_ids: Iterable[int]
) -> dict[int, StreamPlace]:
    """Return the places of the tasks that are there, by task id; a task that is not is left out."""
    rows = _rows(client, project_id, task_ids, ("overlap", "is_labeled"))
    return {task_id: _place(row) for task_id, row in rows}


def set_stream_places(
    client: Client, project_id: int, places: Sequence[StreamPlace], *, dry_run: bool = False
) -> StreamSummary:
    """Give tasks their overlap and put them into the stream, or take them out of it.

    Each is read back. What is so already is not written, so that a call that was cut short is
    finished by calling it again. Of a task named twice the last counts.

    Args:
        client: the server, as a user who may edit tasks.
        project_id: the project; tasks of another are refused.
        places: as they are to be. `is_labeled` false brings the task back into the stream.
        dry_run: read and compare only.

    Raises:
        ServerError: the server refuses everything alike (token, rights, not reachable).
    """
    wanted = {one.task_id: one for one in places}
    there = read_stream_places(client, project_id, wanted)
    problems = [_missing_task(client, project_id, one) for one in wanted if one not in there]
    changed = [one for key, one in wanted.items() if key in there and there[key] != one]
    written = 0
    for one in changed:
        if dry_run:
            written += 1
            continue
        answer = _patch(client, one.task_id, {"overlap": one.overlap, "is_labeled": one.is_labeled})
        if isinstance(answer, Problem):
            problems.append(answer)
            continue
        now = _place(answer)
        if now == one:
            written += 1
        else:
            message = (
                f"Task {one.task_id} was to have overlap {one.overlap} and is_labeled "
                f"{one.is_labeled}, and reads back as {now.overlap} and {now.is_labeled}. "
                "Somebody may have annotated it at this moment; run again."
            )
            problems.append(Problem("not-written", message, one.task_id))
    return StreamSummary(written, len(wanted) - len(changed) - _missing(problems), tuple(problems))


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
    fields = ("overlap", "is_labeled", "total_annotations")
    for chunk in _chunks(sorted(wanted)):
        there = dict(_rows(client, project_id, chunk, fields))
        written: list[int] = []
        for task_id in chunk:
            failed = False
            row = there.get(task_id)
            if row is None:
                problems.append(_missing_task(client, project_id, task_id))
                failed = True
            elif not (changes := overlap_changes(row, wanted[task_id])):
                unchanged += 1
            elif dry_run:
                raised += 1
            else:
                answer = _patch(client, task_id, changes)
                if isinstance(answer, Problem):
                    problems.append(answer)
                    failed = True
                else:
                    written.append(task_id)
            if progress is not None:
                progress.advance(failed=failed)
        again = dict(_rows(client, project_id, written, fields))
        for task_id in written:
            if task_id in again and not overlap_changes(again[task_id], wanted[task_id]):
                raised += 1
                continue
            message = (
                f"The overlap of task {task_id} was written and is not there when read again: "
                "another program may be changing the task. Run the command again."
            )
            problems.append(Problem("not-written", message, task_id))
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


def _patch(client: Client, task_id: int, fields: Mapping[str, Any]) -> dict[str, Any] | Problem:
    path, what = f"/api/tasks/{task_id}/", f"task {task_id}"
    try:
        answer: dict[str, Any] = client.json_of(
            client.request("PATCH", path, what=what, json=dict(fields))
        )
    except ServerError as error:
        if error.status not in _TASK_STATUSES:
            raise
        return Problem("not-written", str(error), task_id)
    return answer


def _rows(
    client: Client, project_id: int, task_ids: Iterable[int], fields: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the id and the fields of those of these tasks that are there."""
    for chunk in _chunks(task_ids):
        items = [
            {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": one}
            for one in chunk
        ]
        page = client.get_json(
            "/api/tasks/",
            what=f"project {project_id}",
            project=project_id,
            page_size=len(chunk),
            resolve_uri="false",
            include=",".join(["id", *fields]),
            query=json.dumps({"filters": {"conjunction": "or", "items": items}}),
        )
        yield from ((int(row["id"]), row) for row in page["tasks"])


def _missing_task(client: Client, project_id: int, task_id: int) -> Problem:
    message = f"Project {project_id} at {client.url} has no task {task_id}."
    return Problem("missing-task", message, task_id)


def _place(row: dict[str, Any]) -> StreamPlace:
    return StreamPlace(int(row["id"]), int(row.get("overlap") or 1), bool(row.get("is_labeled")))


def _missing(problems: Sequence[Problem]) -> int:
    return sum(one.kind == "missing-task" for one in problems)


def _chunks(task_ids: Iterable[int]) -> Iterator[list[int]]:
    stream = iter(task_ids)
    while chunk := list(islice(stream, _CHUNK_TASKS)):
        yield chunk
