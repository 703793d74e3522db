"""A round of rework on the server: opened, closed, undone; each call can be cut short.

What is written on tasks are the columns `qa_round` and `qa_look_at`; the tabs filter by them.
Annotations are never touched. Undoing takes back only what still is as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from batch.rework import FailedTask, look_at, tags_of
from batch.rework_judge import drawings_of
from batch.rework_state import ReworkState, Round, RoundTask, utc_now, with_outcomes, write_state
from segstudio.client import Client
from segstudio.errors import ServerError
from segstudio.label_config import parse_label_config
from segstudio.tasks import Problem, Task
from segstudio.writeback import (
    StreamPlace,
    TaskRecord,
    ensure_tab,
    read_annotation,
    read_stream_places,
    remove_tab,
    set_stream_places,
    task_rows,
    write_overlaps,
    write_results,
)

ROUND_COLUMN: Final = "qa_round"
LOOK_AT_COLUMN: Final = "qa_look_at"
_ADJUDICATOR: Final = "decide"


def plan_round(
    client: Client,
    state: ReworkState,
    failed: Sequence[FailedTask],
    tasks: Mapping[int, Task],
    mode: str,
    verdict: str,
) -> Round:
    """Say what a new round would do, with everything as it is now, for undoing.

    Args:
        client: the server.
        state: the earlier rounds, with a code for everybody.
        failed: the tasks to send back, in their order.
        tasks: the same tasks as they are on the server, with their projects.
        mode: fix, fresh or adjudicate.
        verdict: of the QA result, as a sentence.
    """
    by_project: dict[int, list[int]] = {}
    for one in failed:
        by_project.setdefault(_project(tasks[one.task_id]), []).append(one.task_id)
    places: dict[int, StreamPlace] = {}
    columns: dict[int, Mapping[str, Any]] = {}
    for project_id, ids in by_project.items():
        places |= read_stream_places(client, project_id, ids)
        columns |= {task_id: tasks[task_id].data for task_id in ids}
    planned = []
    for one in failed:
        task, place = tasks[one.task_id], places[one.task_id]
        before = {
            ROUND_COLUMN: columns[one.task_id].get(ROUND_COLUMN),
            LOOK_AT_COLUMN: columns[one.task_id].get(LOOK_AT_COLUMN),
            "overlap": place.overlap,
            "is_labeled": place.is_labeled,
        }
        submitted = sum(not each.was_cancelled for each in task.annotations)
        # In the mode fresh nothing is written to look at: it would lead the eye of who is to draw.
        text = "" if mode == "fresh" else look_at(one, tags_of(one, mode, state.codes))
        planned.append(
            RoundTask(
                one.task_id, _project(task), one.class_name, one.value, one.requirements,
                one.people, one.drawn_by, text, before,
                max(place.overlap, submitted) + 1 if mode == "fresh" else None,
                drawings_of(task),
            )
        )  # fmt: skip
    return Round(len(state.rounds) + 1, mode, "opening", tuple(planned), verdict, utc_now())


def apply_open(client: Client, path: Path, state: ReworkState, one: Round) -> ReworkState:
    """Send the round's tasks back; the state is written before the server is.

    Raises:
        ServerError: some tasks could not be written; the same call goes on from there.
    """
    state = state.with_round(one)
    write_state(path, state)
    for project_id in one.project_ids:
        mine = one.of_project(project_id)
        _write(client, project_id, [_record(task, one.number) for task in mine])
        wanted = {task.task_id: task.overlap for task in mine if task.overlap is not None}
        if wanted:
            _require(write_overlaps(client, project_id, wanted).problems)
        for tag in _tags(one, state):
            title, filters = _tab(one, tag)
            columns = _tab_columns(client, project_id)
            ensure_tab(client, project_id, title, filters, _ordering(client, project_id), columns)
    state = state.with_round(replace(one, status="open"))
    write_state(path, state)
    return state


def apply_close(
    client: Client,
    path: Path,
    state: ReworkState,
    one: Round,
    outcomes: Mapping[int, Mapping[str, Any]],
) -> ReworkState:
    """Close a round: what was to look at and the tabs go, the round's number stays on the tasks."""
    one = replace(with_outcomes(one, outcomes), status="closing")
    state = state.with_round(one)
    write_state(path, state)
    for project_id in one.project_ids:
        rows = _rows(client, project_id, one)
        records = [
            TaskRecord(task.task_id, {}, {LOOK_AT_COLUMN: None})
            for task in one.of_project(project_id)
            if task.look_at and rows.get(task.task_id, {}).get(LOOK_AT_COLUMN) == task.look_at
        ]
        _write(client, project_id, records)
        _remove_tabs(client, project_id, one, state)
    state = state.with_round(replace(one, status="closed", closed_at=utc_now()))
    write_state(path, state)
    return state


def apply_undo(
    client: Client, path: Path, state: ReworkState, one: Round
) -> tuple[ReworkState, list[str]]:
    """Take a round back; return the state and a sentence for each task that was left.

    A task that somebody has put into another round or given another overlap since is left.
    """
    one = replace(one, status="undoing")
    state = state.with_round(one)
    write_state(path, state)
    left: list[str] = []
    for project_id in one.project_ids:
        rows = _rows(client, project_id, one)
        mine = one.of_project(project_id)
        places = read_stream_places(client, project_id, [task.task_id for task in mine])
        records, back = [], []
        for task in mine:
            columns, place = rows.get(task.task_id), places.get(task.task_id)
            if columns is None or place is None:
                left.append(f"Task {task.task_id} is no longer there.")
                continue
            if columns.get(ROUND_COLUMN) == one.number:
                restored = {key: task.before[key] for key in (ROUND_COLUMN, LOOK_AT_COLUMN)}
                if columns.get(LOOK_AT_COLUMN) not in (task.look_at or None, None):
                    del restored[LOOK_AT_COLUMN]
                    left.append(f"Task {task.task_id}: somebody rewrote {LOOK_AT_COLUMN}.")
                records.append(TaskRecord(task.task_id, {}, restored))
            elif columns.get(ROUND_COLUMN) != task.before[ROUND_COLUMN]:
                left.append(f"Task {task.task_id} is in another round by now.")
            former = StreamPlace(task.task_id, task.before["overlap"], task.before["is_labeled"])
            if task.overlap is not None and place.overlap == task.overlap:
                back.append(former)
            elif task.overlap is not None and place != former:
                left.append(f"Task {task.task_id} has another overlap by now, {place.overlap}.")
        _write(client, project_id, records)
        _require(set_stream_places(client, project_id, back).problems)
        _remove_tabs(client, project_id, one, state)
    state = state.with_round(replace(one, status="undone", closed_at=utc_now()))
    write_state(path, state)
    return state, left


def deleted_drawings(client: Client, rounds: Iterable[Round]) -> dict[int, dict[int, list[int]]]:
    """The drawings that were deleted since a round was opened, by round and task.

    Tasks that were deleted themselves are left out. Read without the filters of a source, which
    leave out annotations that are there.
    """
    rows: dict[int, dict[int, set[str]]] = {}
    deleted: dict[int, dict[int, list[int]]] = {}
    for one in rounds:
        for task in one.tasks:
            if task.project_id not in rows:
                rows[task.project_id] = _annotation_ids(client, task.project_id)
            listed = rows[task.project_id].get(task.task_id)
            if listed is None:
                continue
            lost = [
                int(key)
                for key, drawn in task.drawings.items()
                if key not in listed and not _is_there(client, task.task_id, int(key), drawn["by"])
            ]
            if lost:
                deleted.setdefault(one.number, {})[task.task_id] = sorted(lost)
    return deleted


def tab_titles(one: Round, state: ReworkState) -> list[str]:
    """The names of the round's tabs."""
    return [_tab(one, tag)[0] for tag in _tags(one, state)]


def _annotation_ids(client: Client, project_id: int) -> dict[int, set[str]]:
    """The ids of each task's annotations; the server cuts long lists, so one may be missing."""
    rows = task_rows(client, project_id, ("annotations_ids",))
    return {
        int(row["id"]): set(re.findall(r"\d+", str(row.get("annotations_ids") or "")))
        for row in rows
    }


def _is_there(client: Client, task_id: int, annotation_id: int, by: int | None) -> bool:
    there = read_annotation(client, annotation_id)
    if there is None or there["task"] != task_id:
        return False
    author = there.get("completed_by")
    return (author.get("id") if isinstance(author, Mapping) else author) == by


def _tags(one: Round, state: ReworkState) -> list[str]:
    if one.mode == "fix":
        return sorted({state.codes[person] for task in one.tasks for person in task.people})
    return [_ADJUDICATOR] if one.mode == "adjudicate" else []


def _tab(one: Round, tag: str) -> tuple[str, list[dict[str, Any]]]:
    def item(column: str, operator: str, kind: str, value: float | str) -> dict[str, Any]:
        name = f"filter:tasks:data.{column}"
        return {"filter": name, "operator": operator, "type": kind, "value": value}

    filters = [
        item(ROUND_COLUMN, "equal", "Number", one.number),
        item(LOOK_AT_COLUMN, "contains", "String", f"[{tag}]"),
    ]
    return f"Rework {one.number}: {tag}", filters


def _tab_columns(client: Client, project_id: int) -> list[str]:
    config = parse_label_config(client.project(project_id)["label_config"])
    keys = sorted({one.value_key for one in config.images if one.value_key})
    data = [*keys, LOOK_AT_COLUMN, ROUND_COLUMN]
    return ["tasks:id", *(f"tasks:data.{key}" for key in data), "tasks:total_annotations"]


def _ordering(client: Client, project_id: int) -> list[str]:
    """The worst first where `segstudio qa --write-back` has left the tasks' values."""
    first = next(task_rows(client, project_id, ("data",)), None)
    has_values = first is not None and "qa_miou" in first["data"]
    return ["tasks:data.qa_miou"] if has_values else []


def _remove_tabs(client: Client, project_id: int, one: Round, state: ReworkState) -> None:
    for tag in _tags(one, state):
        title, filters = _tab(one, tag)
        remove_tab(client, project_id, title, filters)


def _record(task: RoundTask, number: int) -> TaskRecord:
    return TaskRecord(
        task.task_id, {}, {ROUND_COLUMN: number, LOOK_AT_COLUMN: task.look_at or None}
    )


def _rows(client: Client, project_id: int, one: Round) -> dict[int, Mapping[str, Any]]:
    """The data of the round's tasks in a project."""
    wanted = {task.task_id for task in one.of_project(project_id)}
    rows = task_rows(client, project_id, ("data",))
    return {int(row["id"]): row["data"] for row in rows if int(row["id"]) in wanted}


def _write(client: Client, project_id: int, records: Sequence[TaskRecord]) -> None:
    _require(write_results(client, project_id, records).problems)


def _require(problems: Iterable[Problem]) -> None:
    """Refuse to go on where a task could not be written; one that was deleted is no trouble."""
    bad = [one for one in problems if one.kind != "missing-task"]
    if bad:
        raise ServerError(
            f"{len(bad)} tasks could not be written; the same call goes on from there. "
            f"First: {bad[0].message}"
        )


def _project(task: Task) -> int:
    if task.project_id is None:
        raise ServerError(f"Task {task.id} came without its project.")
    return task.project_id
