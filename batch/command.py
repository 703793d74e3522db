"""The commands of the batch loop."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from batch.label_use import LabelRow, as_json, compare, count_labels
from batch.migrate_command import migrate
from segstudio.cli_options import SourceOptions, server_options, source_options
from segstudio.errors import EXIT_GATE_FAILED, UsageError


@click.group()
def labels() -> None:
    """Compare the labels in use with the labelling interface, migrate them, publish their rules."""


labels.add_command(migrate)


@labels.command()
@source_options
@click.option("--strict", is_flag=True, help="Exit code 1 when a used label is lost.")
@click.option(
    "--against", "earlier", metavar="T.yaml|DIR|dataset.json",
    type=click.Path(exists=True, path_type=Path),
    help="An earlier batch's taxonomy, export or delivery: no id may have changed since.",
)  # fmt: skip
@click.option("--json", "as_json_text", is_flag=True, help="Print JSON in place of a table.")
def check(source: SourceOptions, strict: bool, earlier: Path | None, as_json_text: bool) -> None:
    """List the labels that annotations use and the interface no longer has, with counts.

    With a taxonomy (--taxonomy, or the one beside an export file) also check that interface and
    taxonomy have the same classes; one that either lacks is an error that names it. With --against
    a class that has another id, name or kind than in an earlier batch, or is gone, is one too.

    Exit code 0 whatever is lost, with --strict 1.
    """
    from batch.taxonomy_drift import require_no_drift
    from segstudio.taxonomy import derive_taxonomy, load_taxonomy, require_fit

    opened = source.open()
    config = opened.label_config
    use = count_labels(opened.tasks())
    rows = compare(use, config)
    lost = [row for row in rows if row.lost]
    for problem in opened.problems:
        click.echo(f"Note: {problem.message}", err=True)
    if as_json_text:
        click.echo(json.dumps(as_json(use, rows), indent=1, ensure_ascii=False))
    else:
        click.echo(_table(rows))
        click.echo(
            f"{use.total_annotations} annotations of {use.total_tasks} tasks in "
            f"{opened.description}: {_lost_sentence(lost)}"
        )
    taxonomy_path = source.taxonomy or opened.taxonomy_path
    if taxonomy_path is not None:
        require_fit(load_taxonomy(taxonomy_path), config)
    if earlier is not None:
        now = load_taxonomy(taxonomy_path) if taxonomy_path else derive_taxonomy(config)
        for sentence in require_no_drift(earlier, now):
            click.echo(sentence, err=as_json_text)
    if strict and lost:
        raise click.exceptions.Exit(EXIT_GATE_FAILED)


@labels.command()
@click.argument("project", metavar="project:ID")
@click.option(
    "--taxonomy",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The taxonomy (YAML) whose boundary rules to publish.",
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@server_options
def instructions(
    project: str,
    taxonomy: Path,
    dry_run: bool,
    url: str | None,
    api_key: str | None,
    ca_bundle: str | None,
    insecure: bool,
) -> None:
    """Put the taxonomy's boundary rules into the project's labelling instructions.

    What stands in the instructions otherwise stays; a second call replaces the rules in place.
    A class that the project's interface cannot draw, or a label without a class, is an error that
    names it.
    """
    from segstudio.boundary_rules import boundary_rules_html
    from segstudio.client import connect
    from segstudio.label_config import parse_label_config
    from segstudio.taxonomy import load_taxonomy, require_fit
    from segstudio.writeback import write_instructions

    named = re.fullmatch(r"project:(\d+)", project)
    if named is None:
        raise UsageError(f"Instructions belong to a project on a server: project:3, not {project}.")
    project_id = int(named[1])
    loaded = load_taxonomy(taxonomy)
    html = boundary_rules_html(loaded)
    with connect(url, api_key, ca_bundle=ca_bundle, insecure=insecure) as client:
        require_fit(loaded, parse_label_config(client.project(project_id)["label_config"]))
        changed = write_instructions(client, project_id, html, key="rules", dry_run=dry_run)
        where = f"the instructions of project {project_id} at {client.url}"
    if not changed:
        click.echo(f"The rules of {taxonomy} stand in {where} already.")
    elif dry_run:
        click.echo(f"The rules of {taxonomy} would be put into {where}.")
    else:
        click.echo(f"The rules of {taxonomy} stand in {where}.")


def _table(rows: list[LabelRow]) -> str:
    head = ("control", "label", "regions", "annotations", "tasks", "finding")
    body = [
        (
            row.control,
            row.label or "-",
            str(row.regions),
            str(row.annotations),
            str(row.tasks),
            f"LOST: {row.finding}" if row.lost else row.finding,
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = []
    for line in (head, *body):
        cells = [
            cell.rjust(width) if 2 <= column <= 4 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _lost_sentence(lost: list[LabelRow]) -> str:
    if not lost:
        return "every label in use is in the interface."
    regions = sum(row.regions for row in lost)
    return (
        f"{len(lost)} labels in use are lost to the interface, with {regions} regions. Put them "
        "back, or map them in the taxonomy (aliases)."
    )
