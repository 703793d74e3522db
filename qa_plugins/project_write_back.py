"""What `--write-back` and `--undo` of `segstudio qa` do on a project, check by check.

The agreement leaves its record, columns and tab (`qa_plugins.write_back`). The consensus leaves
predictions, and only where both `--write-back` and `--option tasks=predictions` ask for them:
whoever annotates with a prediction in sight will agree with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qa_plugins.consensus import MODEL_VERSION
from qa_plugins.consensus_files import FOLDER, TASKS_FILE
from qa_plugins.runner import AGREEMENT, QaRun
from qa_plugins.write_back import (
    TAB_FILTERS,
    TAB_ORDERING,
    TAB_TITLE,
    tab_columns,
    task_records,
    undo_write_back,
)
from segstudio.errors import ServerError
from segstudio.progress import ProgressLine
from segstudio.writeback import (
    TaskPrediction,
    ensure_tab,
    remove_predictions,
    write_predictions,
    write_results,
)

if TYPE_CHECKING:
    from segstudio.client import Client

CONSENSUS: Final = "consensus"
UNDONE_CHECKS: Final = (AGREEMENT, CONSENSUS)
"""The checks that leave something on a project."""

_NOT_MEASURED: Final = frozenset({"task-failed", "worker-died", "bad-task"})


def write_to_project(run: QaRun, client: Client, project_id: int, *, dry_run: bool = False) -> str:
    """Put the result on the tasks and make the saved tab; return a sentence on what was done.

    Of a run over several projects, the tasks of this one are written.

    Raises:
        ServerError: the server refuses, or some tasks could not be written.
    """
    records = [
        record
        for record in task_records(run.result, run.earlier_records, run.digests)
        if _is_of_project(run, record.task_id, project_id)
    ]
    with ProgressLine("Writing back", len(records)) as progress:
        summary = write_results(client, project_id, records, progress, dry_run=dry_run)
    if summary.problems:
        raise ServerError(f"{summary}. First: {summary.problems[0].message}")
    done = f"Write-back: {summary}."
    if records and AGREEMENT in run.checks and not dry_run:
        columns = tab_columns(run.context.label_config)
        ensure_tab(client, project_id, TAB_TITLE, TAB_FILTERS, TAB_ORDERING, columns)
        done += f" The tab “{TAB_TITLE}” lists the worst first."
    found = run.result["checks"].get(CONSENSUS, {})
    if found.get("tasks_written_as") == "predictions":
        done += "\n" + _write_consensus(run, client, project_id, dry_run=dry_run)
    return done


def undo_on_project(
    checks: tuple[str, ...], client: Client, project_id: int, *, dry_run: bool = False
) -> str:
    """Take back what these checks left on a project; return a sentence for each.

    Raises:
        ServerError: the server refuses, or some tasks could not be cleared.
    """
    done = []
    if AGREEMENT in checks:
        done.append(undo_write_back(client, project_id, dry_run=dry_run))
    if CONSENSUS in checks:
        summary = remove_predictions(client, project_id, MODEL_VERSION, dry_run=dry_run)
        if summary.problems:
            raise ServerError(f"Undo: {summary}. First: {summary.problems[0].message}")
        would = "would be " if dry_run else ""
        what = "prediction" if summary.removed == 1 else "predictions"
        done.append(f"Undo: {summary.removed} {what} “{MODEL_VERSION}” {would}removed.")
    return "\n".join(done)


def _write_consensus(run: QaRun, client: Client, project_id: int, *, dry_run: bool) -> str:
    """Put the agreed objects on the tasks; a task on which nobody agrees (any more) has none."""
    failed = {one["task_id"] for one in run.result["errors"] if one["kind"] in _NOT_MEASURED}
    seen = {
        task_id
        for task_id in run.digests
        if task_id not in failed and _is_of_project(run, task_id, project_id)
    }
    predictions = (
        one for one in _agreed(run.context.out_dir) if _is_of_project(run, one.task_id, project_id)
    )
    with ProgressLine("Writing the consensus", len(seen)) as progress:
        summary = write_predictions(
            client, project_id, MODEL_VERSION, predictions,
            outdated=seen, progress=progress, dry_run=dry_run,
        )  # fmt: skip
    if summary.problems:
        raise ServerError(f"Consensus: {summary}. First: {summary.problems[0].message}")
    return f"Consensus: {summary}, as “{MODEL_VERSION}”."


def _agreed(out_dir: Path | None) -> Iterator[TaskPrediction]:
    """The predictions of the file that the check wrote a moment ago: one task a line."""
    if out_dir is None:
        return
    with (out_dir / FOLDER / TASKS_FILE).open(encoding="utf-8") as file:
        for line in file:
            text = line.strip().rstrip(",")
            if text not in ("", "[", "]"):
                task = json.loads(text)
                yield TaskPrediction(task["id"], task["predictions"][0]["result"])


def _is_of_project(run: QaRun, task_id: int, project_id: int) -> bool:
    return run.project_of.get(task_id, project_id) == project_id
