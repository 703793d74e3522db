"""`segstudio labels migrate`: labels renamed and merged in a whole project, with an undo file."""

from __future__ import annotations

import re
from pathlib import Path

import click

from segstudio.cli_options import server_options
from segstudio.errors import UsageError

_SHOWN = 10
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("project", metavar="project:ID")
@click.option(
    "--rename", "renames", multiple=True, metavar="OLD=NEW",
    help="Call a label otherwise; the new name must be new. May be repeated.",
)  # fmt: skip
@click.option(
    "--merge", "merges", multiple=True, metavar="A,B=C",
    help="Make one label of several; C may be one of them or new. May be repeated.",
)  # fmt: skip
@click.option(
    "--taxonomy", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The taxonomy (YAML) to migrate along; it says which classes must not be merged.",
)  # fmt: skip
@click.option("--taxonomy-out", type=_FILE, help="Where to write the migrated taxonomy.")
@click.option("--undo-file", type=_FILE, metavar="FILE", help="Where to keep all as it was.")
@click.option("--allow-overlaps", is_flag=True, help="Merge though drawings overlap.")
@click.option("--undo", type=_FILE, metavar="FILE", help="Take back what this file undoes.")
@click.option("--apply", is_flag=True, help="Do it; without this, only say what would be done.")
@server_options
def migrate(
    project: str,
    renames: tuple[str, ...],
    merges: tuple[str, ...],
    taxonomy: Path | None,
    taxonomy_out: Path | None,
    undo_file: Path | None,
    allow_overlaps: bool,
    undo: Path | None,
    apply: bool,
    url: str | None,
    api_key: str | None,
    ca_bundle: str | None,
    insecure: bool,
) -> None:
    """Rename and merge labels in annotations, predictions, drafts and the labelling interface.

    A dry run first. With --apply everything stands in the undo file before the first change; a
    killed call goes on when it is made again with the same undo file. Refused where drawings of
    merged labels share pixels, or classes are not alike.
    """
    from batch.label_mapping import parse_mapping
    from batch.label_migration import (
        apply_migration,
        plan_migration,
        require_same,
        undo_migration,
    )
    from batch.label_undo import read_undo
    from batch.taxonomy_drift import migrate_taxonomy
    from segstudio.client import connect
    from segstudio.taxonomy import dump_taxonomy, load_taxonomy

    named = re.fullmatch(r"project:(\d+)", project)
    if named is None:
        raise UsageError(f"Labels are migrated in a project on a server: project:3, not {project}.")
    with connect(url, api_key, ca_bundle=ca_bundle, insecure=insecure) as client:
        if undo is not None:
            head, before = read_undo(undo)
            if head.project_id != int(named[1]):
                raise UsageError(f"{undo} belongs to project {head.project_id}, not to {project}.")
            if not apply:
                click.echo(f"{len(before)} results and the interface would get their labels back.")
                _hint()
                return
            done = undo_migration(client, undo)
            click.echo(f"Undo: {done.written} results have their former labels.")
            if done.left:
                click.echo(
                    f"{done.left} results hold regions drawn since with a merged label; the "
                    "interface keeps old and new labels so that none is lost."
                )
            return
        mapping = parse_mapping(renames, merges)
        if (taxonomy is None) != (taxonomy_out is None):
            raise UsageError("--taxonomy and --taxonomy-out go together: the old file stays.")
        migrated = None if taxonomy is None else migrate_taxonomy(load_taxonomy(taxonomy), mapping)
        resuming = undo_file is not None and undo_file.exists()
        merged = None if resuming else {text.rpartition("=")[2].strip() for text in merges}
        plan = plan_migration(client, int(named[1]), mapping, merged)
        for line in plan.sentences():
            click.echo(line)
        if plan.collisions and not allow_overlaps:
            for collision in plan.collisions[:_SHOWN]:
                click.echo(f"  {collision}")
            raise UsageError(
                f"In {len(plan.collisions)} places drawings of merged labels overlap, and merged "
                "nothing would tell them apart. Correct them, or give --allow-overlaps."
            )
        if not apply:
            _hint()
            return
        if undo_file is None:
            raise UsageError("Name the file to undo it with, for example: --undo-file undo.jsonl.")
        # Of a call that goes on, the interfaces are those of the first one.
        head = require_same(undo_file, plan.head) if resuming else plan.head
        done = apply_migration(client, undo_file, head)
        if migrated is not None and taxonomy_out is not None:
            taxonomy_out.parent.mkdir(parents=True, exist_ok=True)
            taxonomy_out.write_text(dump_taxonomy(migrated), encoding="utf-8")
            click.echo(f"The migrated taxonomy is in {taxonomy_out}; old names are its aliases.")
        click.echo(
            f"{done.written} results were rewritten. Take it back with: segstudio labels migrate "
            f"{project} --undo {undo_file} --apply"
        )


def _hint() -> None:
    click.echo("Nothing was changed; add --apply to do it.")
