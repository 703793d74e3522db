"""Predictions that we put on a project's tasks ourselves, under a model version of their own.

Used through `segstudio.writeback`, the room that writes to Label Studio. A task has one prediction
of the version: the same is not written again, another one takes its place. Predictions of other
versions, annotations, and the project's choice of what annotators see are never touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from segstudio.client import Client
from segstudio.errors import ServerError
from segstudio.progress import ProgressLine
from segstudio.tasks import Problem
from segstudio.writeback_rows import task_rows

# Refusals that concern one task; any other would meet all of them alike.
_TASK_STATUSES: Final = frozenset({400, 404, 409})


@dataclass(frozen=True, slots=True)
class TaskPrediction:
    """The `result` list that is to be predicted on one task; an empty one is no prediction.

    `score` is 0..1 and orders the queue under uncertainty sampling; None leaves it out.
    """

    task_id: int
    result: Sequence[Mapping[str, Any]]
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PredictionsSummary:
    """What was done, or in a dry run would have been.

    Attributes:
        written: tasks with a new prediction, or one that was replaced.
        unchanged: tasks that had it already.
        removed: tasks whose prediction was taken away.
        problems: tasks that could not be written, with the reason.
        dry_run: nothing was sent.
    """

    written: int
    unchanged: int
    removed: int
    problems: tuple[Problem, ...] = ()
    dry_run: bool = False

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        one_or_more = "prediction" if self.written == 1 else "predictions"
        text = f"{self.written} {one_or_more} {would}written, {self.unchanged} already there"
        if self.removed:
            text += f", {self.removed} {would}removed"
        return text + (f", {len(self.problems)} failed" if self.problems else "")


def write_predictions(
    client: Client,
    project_id: int,
    model_version: str,
    predictions: Iterable[TaskPrediction],
    *,
    outdated: Collection[int] = (),
    progress: ProgressLine | None = None,
    dry_run: bool = False,
) -> PredictionsSummary:
    """Give each task its prediction of a model version, and take it from those that are outdated.

    Args:
        client: the server, as a user who may write predictions.
        project_id: the project of the tasks.
        model_version: whose predictions these are; all of that version count as ours.
        predictions: streamed, one a task.
        outdated: tasks that are to have none (any more).
        progress: advanced once a prediction.
        dry_run: read and compare, but write nothing.

    Raises:
        ServerError: the server refuses everything alike (token, rights, not reachable).
    """
    counts = {"written": 0, "unchanged": 0, "removed": 0}
    problems: list[Problem] = []

    def settle(wanted: TaskPrediction) -> None:
        failed, task_id = False, wanted.task_id
        try:
            what = _settle(client, project_id, model_version, wanted, dry_run)
            if what is not None:
                counts[what] += 1
        except ServerError as error:
            if error.status not in _TASK_STATUSES:
                raise
            problems.append(Problem("not-written", str(error), task_id=task_id))
            failed = True
        if progress is not None:
            progress.advance(failed=failed)

    written: set[int] = set()
    for one in predictions:
        written.add(one.task_id)
        settle(one)
    for task_id in _predicted_tasks(client, project_id, model_version) if outdated else ():
        if task_id in outdated and task_id not in written:
            settle(TaskPrediction(task_id, ()))
    return PredictionsSummary(**counts, problems=tuple(problems), dry_run=dry_run)


def remove_predictions(
    client: Client, project_id: int, model_version: str, *, dry_run: bool = False
) -> PredictionsSummary:
    """Take away every prediction of a model version in a project.

    Raises:
        ServerError: the server refuses everything alike (token, rights, not reachable).
    """
    tasks = _predicted_tasks(client, project_id, model_version)
    nothing = (TaskPrediction(task_id, ()) for task_id in tasks)
    return write_predictions(client, project_id, model_version, nothing, dry_run=dry_run)


def _predicted_tasks(client: Client, project_id: int, model_version: str) -> list[int]:
    # Read to the end before anything is removed, since each removal takes a task off the list.
    rows = task_rows(client, project_id, (), predicted_by=model_version)
    return [int(row["id"]) for row in rows]


def _settle(
    client: Client,
    project_id: int,
    model_version: str,
    given: TaskPrediction,
    dry_run: bool,
) -> str | None:
    """Make the task's predictions of the version this one; say what was done, None for nothing."""
    task_id, score = given.task_id, given.score
    wanted = [dict(item) for item in given.result]
    what = f"the predictions of task {task_id}"
    listed: list[dict[str, Any]] = client.get_json("/api/predictions/", what=what, task=task_id)
    mine = [
        one
        for one in listed
        if one["model_version"] == model_version and one["project"] == project_id
    ]
    same = [one for one in mine if wanted and one["result"] == wanted and one.get("score") == score]
    kept = same[:1] or mine[:1]
    surplus = [one for one in mine if one not in kept] if wanted else mine
    if not dry_run:
        for one in surplus:
            client.request("DELETE", f"/api/predictions/{one['id']}/", what=what)
        if wanted and not same:
            body = {
                "task": task_id,
                "model_version": model_version,
                "score": score,
                "result": wanted,
            }
            method, path = "POST", "/api/predictions/"
            if kept:
                method, path = "PATCH", f"/api/predictions/{kept[0]['id']}/"
            stored = client.json_of(client.request(method, path, what=what, json=body))
            _expect_stored(stored, task_id, project_id, wanted)
    if not wanted:
        return "removed" if mine else None
    return "unchanged" if same and not surplus else "written"


def _expect_stored(
    stored: Mapping[str, Any], task_id: int, project_id: int, wanted: Sequence[Mapping[str, Any]]
) -> None:
    if stored.get("project") != project_id:
        raise ServerError(
            f"Task {task_id} is in project {stored.get('project')}, not in {project_id}.", 404
        )
    if stored.get("result") != wanted:
        raise ServerError(
            f"The prediction of task {task_id} reads back otherwise than it was written.", 409
        )
