"""Which tasks the labelling stream still offers: their `overlap` and whether they count as done.

Used through `segstudio.writeback`, the room that writes to Label Studio.

A task leaves everybody's stream when it counts as labelled. Raising its overlap alone does not
bring it back; `is_labeled: false` sent with it does. Nobody is offered a task that they have
annotated already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from segstudio.client import Client
from segstudio.errors import ServerError
from segstudio.tasks import Problem

_CHUNK_TASKS: Final = 50
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


def read_stream_places(
    client: Client, project_id: int, task_ids: Iterable[int]
) -> dict[int, StreamPlace]:
    """Return the places of the tasks that are there, by task id; a task that is not is left out."""
    places: dict[int, StreamPlace] = {}
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
            include="id,overlap,is_labeled",
            query=json.dumps({"filters": {"conjunction": "or", "items": items}}),
        )
        for row in page["tasks"]:
            places[int(row["id"])] = _place(row)
    return places


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
    problems = [
        Problem("missing-task", f"Project {project_id} at {client.url} has no task {one}.", one)
        for one in wanted
        if one not in there
    ]
    changed = [one for key, one in wanted.items() if key in there and there[key] != one]
    written = 0
    for one in changed:
        if dry_run:
            written += 1
            continue
        try:
            now = _write(client, one)
        except ServerError as error:
            if error.status not in _TASK_STATUSES:
                raise
            problems.append(Problem("not-written", str(error), one.task_id))
            continue
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


def _write(client: Client, place: StreamPlace) -> StreamPlace:
    path, what = f"/api/tasks/{place.task_id}/", f"task {place.task_id}"
    body = {"overlap": place.overlap, "is_labeled": place.is_labeled}
    answer = client.json_of(client.request("PATCH", path, what=what, json=body))
    return _place(answer)


def _place(row: dict[str, Any]) -> StreamPlace:
    return StreamPlace(int(row["id"]), int(row.get("overlap") or 1), bool(row.get("is_labeled")))


def _missing(problems: Sequence[Problem]) -> int:
    return sum(one.kind == "missing-task" for one in problems)


def _chunks(task_ids: Iterable[int]) -> Iterator[list[int]]:
    stream = iter(task_ids)
    while chunk := list(islice(stream, _CHUNK_TASKS)):
        yield chunk
