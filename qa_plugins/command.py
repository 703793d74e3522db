"""`segstudio qa`: checks on a batch, a report, gates, and the result back on the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qa_plugins.report_files import ReportOptions, write_report
from segstudio.cli_commands import CommandWithOthers
from segstudio.cli_options import (
    SourceOptions,
    compute_options,
    parse_key_values,
    source_options,
)
from segstudio.errors import EXIT_GATE_FAILED, SegstudioError, UsageError
from segstudio.tasks import LOSS_KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from qa_plugins.runner import QaRun
    from segstudio.source import Source
    from segstudio.taxonomy import Taxonomy

_STRICT_KINDS = LOSS_KINDS | {"task-failed", "worker-died", "bad-task", "size-mismatch"}
_FINDINGS_PRINTED = 8


def _load_watch() -> click.Command:
    from qa_plugins.watch_command import watch

    return watch


@click.command(cls=CommandWithOthers)
@click.argument("checks", metavar="CHECK[,CHECK...]")
@source_options
@click.option(
    "--out", "out_dir", type=click.Path(file_okay=False, path_type=Path),
    help="Folder for qa.json, qa.html and tasks.csv.",
)  # fmt: skip
@click.option("--gates", metavar="FILE|PRESET", help="What the batch must reach; YAML or a preset.")
@click.option(
    "--write-back", is_flag=True,
    help="Put the result on the tasks (project:ID only); with --option tasks=predictions the "
    "consensus too, as predictions.",
)  # fmt: skip
@click.option(
    "--undo", is_flag=True,
    help="Measure nothing; remove what --write-back of these checks left on the project.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, help="With --write-back or --undo: say what would be changed."
)
@click.option("--names", is_flag=True, help="Name people in the report instead of letters.")
@click.option(
    "--images", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True,
    help="Folder with the photos of an export file, for pictures and optical flow; may be "
    "repeated.",
)  # fmt: skip
@click.option(
    "--pictures", type=click.IntRange(0, 50), default=6, show_default=True,
    help="How many of the worst tasks to show; each weak class adds one.",
)  # fmt: skip
@click.option(
    "--crops", type=click.IntRange(0, 30), default=10, show_default=True,
    help="How many disputed places to show for each class, to settle its rule on.",
)  # fmt: skip
@click.option(
    "--history", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.sqlite",
    help="Keep this batch's figures and annotations there; show the trend and what was revised.",
)  # fmt: skip
@click.option("--feedback", is_flag=True, help="Write a page for each annotator to feedback/.")
@click.option(
    "--resample-by", metavar="KEY",
    help="Key of task data whose values are resampled for intervals, e.g. the clip of a video.",
)  # fmt: skip
@click.option(
    "--rater", metavar="prediction[:VERSION]",
    help="Compare a model's predictions with the annotators, as one rater more.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the intervals.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE",
    help="An option of a check, e.g. min_px=20; may be repeated.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Fail when anything could not be read.")
@compute_options
def qa(
    checks: str,
    source: SourceOptions,
    out_dir: Path | None,
    gates: str | None,
    write_back: bool,
    undo: bool,
    dry_run: bool,
    names: bool,
    images: tuple[Path, ...],
    pictures: int,
    crops: int,
    history: Path | None,
    feedback: bool,
    resample_by: str | None,
    rater: str | None,
    seed: int,
    options: tuple[str, ...],
    strict: bool,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Check the annotations of SOURCE and report on them.

    CHECK is one or several of the installed checks, comma separated, e.g. agreement. In its place,
    `segstudio qa watch project:ID` keeps the agreement on the tasks current while people annotate.

    Ends with 1 when a gate fails and 0 else, also where a gate could not be judged: the verdict in
    qa.json is then n/a and not pass.
    """
    from qa_plugins.gates import load_gates
    from qa_plugins.runner import run_checks
    from segstudio.photos import PhotoSource

    wanted = [name.strip() for name in checks.split(",") if name.strip()]
    if not wanted:
        raise UsageError("Name at least one check, for example: segstudio qa agreement SOURCE.")
    gate_set = load_gates(gates)
    judged_on = dict.fromkeys(gate.check for gate in gate_set.gates)
    if judged_on and not {*judged_on} & {*wanted}:
        named = ", ".join(f"'{name}'" for name in judged_on)
        raise UsageError(
            f"The gates are judged on the check {named}, which was not asked for: name it too."
        )
    if undo:
        if write_back:
            raise UsageError("--undo takes back what --write-back wrote: give one of the two.")
        click.echo(_undo(wanted, source, dry_run=dry_run))
        return
    if (history or feedback) and "agreement" not in wanted:
        raise UsageError("--history and --feedback show the check 'agreement': name it too.")
    if dry_run and not write_back:
        raise UsageError(
            "--dry-run goes with --write-back or --undo; without them nothing is written anyway."
        )
    if out_dir is None:
        raise UsageError("Name the folder for the report, for example: --out qa.")
    opened = source.open(history)
    if write_back and not opened.project_ids:
        raise UsageError("--write-back needs a project on a server: give SOURCE as project:ID.")
    taxonomy = choose_taxonomy(opened, source.taxonomy)
    settings = {**parse_key_values(options), "seed": str(seed)}
    if resample_by:
        settings["resample_by"] = resample_by
    if rater:
        settings["rater"] = rater
    client = source.connect() if opened.project_ids else None
    run = run_checks(
        wanted, opened, taxonomy, gates=gate_set, options=settings, workers=workers,
        cluster=cluster, pictures=pictures, crops=crops, feedback=feedback, out_dir=out_dir,
        photos=PhotoSource(images, client),
    )  # fmt: skip
    report = ReportOptions(
        out_dir, names, images, pictures, crops, history, source.batch or "", feedback
    )
    write_report(run, report, client)
    _print_summary(run, out_dir)
    if write_back and client is not None:
        from qa_plugins.project_write_back import write_to_project

        for project_id in opened.project_ids:
            click.echo(write_to_project(run, client, project_id, dry_run=dry_run))
    if strict:
        _refuse_losses(run.result)
    if run.result["batch"]["verdict"] == "fail":
        raise SystemExit(EXIT_GATE_FAILED)


def _undo(checks: Sequence[str], source: SourceOptions, *, dry_run: bool) -> str:
    from qa_plugins.project_write_back import UNDONE_CHECKS, undo_on_project

    if not set(checks) <= {*UNDONE_CHECKS}:
        raise UsageError(
            f"--undo goes with {' and '.join(UNDONE_CHECKS)}, not with '{','.join(checks)}': no "
            "other check writes to the tasks."
        )
    server = SourceOptions(
        source.spec, source.url, source.api_key, source.ca_bundle, source.insecure
    )
    project_ids = server.open().project_ids
    if not project_ids:
        raise UsageError("--undo needs a project on a server: give SOURCE as project:ID.")
    if source != server:
        raise UsageError(
            "--undo clears the whole project and takes no filter, taxonomy or labelling interface: "
            "leave out everything but the server's options and --dry-run."
        )
    with source.connect() as client:
        return "\n".join(
            undo_on_project(tuple(checks), client, one, dry_run=dry_run) for one in project_ids
        )


def choose_taxonomy(source: Source, path: Path | None) -> Taxonomy:
    """The taxonomy given, else the one beside the source, else one derived from its interface."""
    from segstudio.taxonomy import TaxonomyError, derive_taxonomy, load_taxonomy

    path = path or source.taxonomy_path
    if path is None:
        return derive_taxonomy(source.label_config)
    try:
        return load_taxonomy(path)
    except TaxonomyError as error:
        raise UsageError(str(error)) from error


def _refuse_losses(result: Mapping[str, Any]) -> None:
    losses = [error for error in result["errors"] if error["kind"] in _STRICT_KINDS]
    if losses:
        raise SegstudioError(
            f"{len(losses)} things could not be read (--strict). First: {losses[0]['message']}"
        )


def _print_summary(run: QaRun, out_dir: Path) -> None:
    from rich.console import Console
    from rich.markup import escape

    from qa_plugins.runner import AGREEMENT

    result = run.result
    console = Console(highlight=False)
    if AGREEMENT in run.checks or result["batch"]["gates"]:
        _print_verdict(result, console)
    if AGREEMENT in run.checks:
        _print_agreement(result, console)
    for section in run.sections(lambda person: f"user {person}"):
        console.print(f"[bold]{escape(section.title)}[/]. {escape(section.lead)}")
        for finding in section.findings[:_FINDINGS_PRINTED]:
            mark = {"error": "[red]✕[/]", "warning": "[yellow]![/]"}.get(finding.severity, "·")
            console.print(f"  {mark} {escape(finding.text)} [dim]{escape(finding.evidence)}[/]")
        if len(section.findings) > _FINDINGS_PRINTED:
            console.print(f"  {len(section.findings) - _FINDINGS_PRINTED} more in the report.")
    if result["errors"]:
        count = len(result["errors"])
        listed = "1 problem is" if count == 1 else f"{count} problems are"
        console.print(f"{listed} listed in the report.")
    console.print(f"Report: {escape(str(out_dir / 'qa.html'))}", soft_wrap=True)


def _print_verdict(result: Mapping[str, Any], console: Console) -> None:
    from rich.markup import escape

    batch = result["batch"]
    color = {"pass": "green", "fail": "red"}.get(batch["verdict"], "yellow")
    console.print(f"[bold {color}]{batch['verdict'].upper()}[/]  {escape(batch['verdict_reason'])}")


def _print_agreement(result: Mapping[str, Any], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    def score(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    batch = result["batch"]
    console.print(
        f"{batch['compared_tasks']} of {batch['tasks']} tasks compared, {batch['pairs']} pairs, "
        f"mIoU {score(batch['miou']['accumulated'])} accumulated, "
        f"{score(batch['miou']['per_image'])} per image."
    )
    table = Table("Class", "IoU", "per image", "95% (per image)", "Dice", "Tasks")
    for entry in result["classes"]:
        iou = entry["iou"]
        interval = "–" if iou["ci95"] is None else "{:.3f} – {:.3f}".format(*iou["ci95"])
        table.add_row(
            escape(entry["name"]), score(iou["accumulated"]), score(iou["per_image"]), interval,
            score(entry["dice"]), str(entry["tasks"]),
        )  # fmt: skip
    if result["classes"]:
        console.print(table)


qa.add_other("watch", _load_watch)
