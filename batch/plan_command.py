"""`segstudio plan SOURCE`: which tasks get a second or third annotator."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segstudio.cli_options import SourceOptions, compute_options, source_options
from segstudio.errors import ServerError, UsageError

if TYPE_CHECKING:
    from batch.plan import PlannedTask
    from segstudio.source import Source


@click.command()
@source_options
@click.option(
    "--half-width", type=click.FloatRange(0, 1, min_open=True), default=0.03, show_default=True,
    help="How far the mean of each class and annotator may be from the truth.",
)  # fmt: skip
@click.option(
    "--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, show_default=True,
    help="How sure that is to be.",
)  # fmt: skip
@click.option(
    "--prior-sd", type=click.FloatRange(0, 0.5, min_open=True), default=0.15, show_default=True,
    help="Spread of a class's IoU between tasks, assumed where too few are known.",
)  # fmt: skip
@click.option(
    "--first", "first_tasks", type=click.IntRange(2), default=8, show_default=True,
    help="Doubly annotated tasks that a class needs before its spread counts as known.",
)  # fmt: skip
@click.option(
    "--common-tasks", type=click.IntRange(0), default=3, show_default=True,
    help="Tasks that every annotator is to share with others.",
)  # fmt: skip
@click.option(
    "--beyond-batch", is_flag=True,
    help="The means are to hold for further tasks like these, not for this batch alone.",
)  # fmt: skip
@click.option("--at-once", is_flag=True, help="Plan all from --prior-sd, with no first look.")
@click.option(
    "--pilot", type=click.IntRange(1), metavar="N",
    help="Plan nothing else: the N most representative images get a second annotator.",
)  # fmt: skip
@click.option(
    "--images", "roots", multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --pilot: a folder with the images of an export file; may be repeated.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the lots drawn.")
@click.option(
    "--out", "out_path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.json",
    help="Write the plan there.",
)  # fmt: skip
@click.option("--apply", "apply_plan", is_flag=True, help="Write it to Label Studio (overlap).")
@compute_options
def plan(
    source: SourceOptions,
    half_width: float,
    confidence: float,
    prior_sd: float,
    first_tasks: int,
    common_tasks: int,
    beyond_batch: bool,
    at_once: bool,
    pilot: int | None,
    roots: tuple[Path, ...],
    seed: int,
    out_path: Path | None,
    apply_plan: bool,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Say which tasks of SOURCE need another annotator for a stated goal, at the least cost.

    A dry run unless --apply is given, which raises the tasks' overlap: Label Studio then serves
    them again. What is drawn twice or asked for already counts, so run it again after a round.
    """
    from batch.plan import make_plan
    from batch.plan_model import Goal
    from batch.plan_report import plan_json, plan_text
    from batch.plan_tasks import read_plan_tasks
    from qa_plugins.command import choose_taxonomy
    from qa_plugins.report.json import to_json, write_atomically
    from segstudio.source import describe_selection

    opened = source.open()
    if apply_plan and not opened.project_ids:
        raise UsageError("--apply needs a project on a server: give SOURCE as project:ID.")
    if opened.filters.selects_annotations:
        raise UsageError(
            "A plan counts who has drawn each task: --annotator, --since and --until leave single "
            "annotations out of it. Choose tasks with --batch, --tab or --task instead."
        )
    selection = describe_selection(opened)
    if pilot is not None:
        from batch.representatives import choose_representatives, representatives_json

        chosen = choose_representatives(
            opened, pilot, client=source.connect() if opened.project_ids else None, roots=roots
        )
        click.echo(chosen.text(selection.text))
        if out_path is not None:
            write_atomically(
                out_path, json.dumps(representatives_json(chosen, selection), indent=1)
            )
        if apply_plan:
            _apply(source, opened, chosen.planned())
        return
    goal = Goal(
        half_width, confidence, prior_sd, first_tasks, common_tasks, beyond_batch, at_once, seed
    )
    taxonomy = choose_taxonomy(opened, source.taxonomy)
    tasks, problems = read_plan_tasks(opened, taxonomy, workers=workers, cluster=cluster)
    if not tasks:
        raise UsageError(f"There are no tasks in {selection.text}, or none passes the filters.")
    made = make_plan(tasks, goal)
    for problem in problems[:5]:
        click.echo(f"Note: {problem.message}", err=True)
    if len(problems) > 5:
        click.echo(f"Note: {len(problems) - 5} more problems.", err=True)
    click.echo(plan_text(made, selection))
    if out_path is not None:
        write_atomically(out_path, to_json(plan_json(made, selection)))
    if apply_plan:
        _apply(source, opened, made.asked)
    elif made.asked:
        click.echo("A dry run: nothing was written. --apply raises the overlap of these tasks.")


def _apply(source: SourceOptions, opened: Source, asked: tuple[PlannedTask, ...]) -> None:
    """Raise the overlaps, project by project."""
    from segstudio.progress import ProgressLine
    from segstudio.writeback import write_overlaps

    of_project: dict[int, dict[int, int]] = defaultdict(dict)
    for one in asked:
        project = one.project_id if one.project_id is not None else opened.project_id
        if project is None:
            raise UsageError(f"Task {one.task_id} does not say which project it is of.")
        of_project[project][one.task_id] = one.overlap
    with source.connect() as client:
        for project, wanted in sorted(of_project.items()):
            with ProgressLine("Asking for annotators", len(wanted)) as progress:
                done = write_overlaps(client, project, wanted, progress)
            click.echo(f"Project {project}: {done}.")
            if done.problems:
                raise ServerError(f"{done}. First: {done.problems[0].message}")
    if not asked:
        click.echo("Nothing to write.")
