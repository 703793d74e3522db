"""`segstudio pilot SOURCE`: some images in, one page out on what production will take."""

from __future__ import annotations

from pathlib import Path

import click

from segstudio.cli_options import (
    SourceOptions,
    compute_options,
    parse_key_values,
    source_options,
)
from segstudio.errors import UsageError

_CHECKS = ("agreement", "boundary", "polygons")


@click.command()
@source_options
@click.option(
    "--out", "out_dir", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="Folder for pilot.html and pilot.json.",
)  # fmt: skip
@click.option(
    "--production", "images", type=click.IntRange(1), metavar="N",
    help="Images in the production batch; by default those of SOURCE, or 1000.",
)  # fmt: skip
@click.option(
    "--half-width", type=click.FloatRange(0, 1, min_open=True), default=0.03, show_default=True,
    help="How well production is to know each class and annotator.",
)  # fmt: skip
@click.option(
    "--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, show_default=True,
    help="How sure that is to be.",
)  # fmt: skip
@click.option("--names", is_flag=True, help="Name people by their ids instead of letters.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE",
    help="An option of the checks, e.g. vertices=30 or seconds_per_vertex=1; may be repeated.",
)  # fmt: skip
@compute_options
def pilot(
    source: SourceOptions,
    out_dir: Path,
    images: int | None,
    half_width: float,
    confidence: float,
    names: bool,
    options: tuple[str, ...],
    workers: int | None,
    cluster: str | None,
) -> None:
    """Say on one page what a pilot of some images tells about production.

    Of SOURCE, the tasks that two people or more have drawn: agreement of each class with its
    interval, boundary or blunder, polygons or pixels, and how many images and double annotations
    the production batch needs. `segstudio plan SOURCE --pilot 25 --apply` chooses the images.
    """
    from batch.pilot import summarize_pilot
    from batch.pilot_page import pilot_json, pilot_page
    from batch.plan_model import Goal
    from batch.plan_tasks import read_plan_tasks
    from qa_plugins.command import choose_taxonomy
    from qa_plugins.report.json import to_json, write_atomically
    from qa_plugins.report.people import display_names
    from qa_plugins.runner import run_checks
    from segstudio.source import describe_selection

    opened = source.open()
    taxonomy = choose_taxonomy(opened, source.taxonomy)
    run = run_checks(
        _CHECKS, opened, taxonomy, options=parse_key_values(options), workers=workers,
        cluster=cluster, pictures=0, label="Checking the pilot",
    )  # fmt: skip
    tasks, _ = read_plan_tasks(opened, taxonomy, workers=workers, cluster=cluster, label="")
    if not tasks:
        raise UsageError(
            f"There are no tasks in {describe_selection(opened).text}, or none passes the filters."
        )
    compared = sum(bool(task.values) for task in tasks)
    wanted = images or (len(tasks) if len(tasks) > 2 * compared else 1000)
    found = summarize_pilot(run.result, tasks, Goal(half_width, confidence), wanted)
    selection = describe_selection(opened)
    people = display_names(found.annotators, reveal=names)
    sections = run.sections(lambda person: people.get(person) or f"user {person}")
    write_atomically(out_dir / "pilot.json", to_json(pilot_json(found, selection)))
    write_atomically(out_dir / "pilot.html", pilot_page(found, selection, sections))
    click.echo(
        f"{selection.text}: {found.compared} of {found.tasks} tasks drawn by two people or more, "
        f"{len(found.annotators)} annotators."
    )
    for one in found.classes:
        interval = "–" if one.interval is None else "{:.2f} to {:.2f}".format(*one.interval)
        mean = "–" if one.mean is None else f"{one.mean:.3f}"
        click.echo(
            f"  {one.name}: {mean} ({interval}) on {one.tasks} images; {one.matter}; {one.advice}"
        )
    for size in found.production:
        if size.images == found.images:
            click.echo(
                f"A batch of {size.images} images needs {size.double} drawn twice: "
                f"{size.first_hours:.1f} hours and {size.double_hours:.1f} more."
            )
    click.echo(f"Page: {out_dir / 'pilot.html'}")
