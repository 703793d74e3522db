"""`segstudio import FORMAT DIR --out tasks.json`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from segstudio.cli_options import compute_options

if TYPE_CHECKING:
    from exporters.importers.runner import ImportSummary

_PROBLEMS_SHOWN = 10


@click.command("import")
@click.argument("format_name", metavar="FORMAT")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The tasks, X.json; X.label-config.xml and X.taxonomy.yaml are written beside it.",
)
@click.option(
    "--as",
    "as_what",
    type=click.Choice(["annotations", "predictions"]),
    default="annotations",
    show_default=True,
    help="What the segments become; annotations are no ground truth.",
)
@click.option(
    "--image-root-url",
    default="",
    metavar="URL",
    help="What the pictures' names are put behind, e.g. https://example.org/coco, "
    "s3://bucket/coco or '/data/local-files/?d=coco'. Default: where the data set says they lie, "
    "else /data/local-files/?d=.",
)
@click.option(
    "--taxonomy",
    "taxonomy_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names, kinds and colours of the data set's class ids, instead of its own.",
)
@click.option("--strict", is_flag=True, help="Stop at the first thing that cannot be read.")
@compute_options
def import_(
    format_name: str,
    folder: Path,
    out: Path,
    as_what: Literal["annotations", "predictions"],
    image_root_url: str,
    taxonomy_path: Path | None,
    strict: bool,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Turn the data set in DIR into Label Studio tasks.

    FORMAT is coco-panoptic, coco-instances, semantic-png, cityscapes or pascal-voc (voc): as
    `segstudio export` writes it, in its official layout, or all files in one folder. Nothing
    outside of DIR is read.
    """
    from exporters.importers.runner import run_import
    from segstudio.taxonomy import load_taxonomy

    summary = run_import(
        format_name,
        folder,
        out,
        taxonomy=load_taxonomy(taxonomy_path) if taxonomy_path else None,
        as_what=as_what,
        image_root_url=image_root_url,
        strict=strict,
        workers=workers,
        cluster=cluster,
    )
    click.echo(summary_text(summary))


def summary_text(summary: ImportSummary) -> str:
    """Return what was read, what was wrong, where it is, and what to do next."""
    files = summary.files
    lines = [
        f"{summary.images} images, {summary.segments} segments of {len(summary.classes)} classes "
        f"from {summary.format_name} as {summary.as_what} in {files.tasks}"
    ]
    if summary.left_out:
        lines.append(f"  {summary.left_out} images could NOT be read and are not in it")
    lines += [f"  look at: {count} x {kind}" for kind, count in summary.problem_counts.items()]
    shown = summary.first_problems[:_PROBLEMS_SHOWN]
    lines += [f"    {problem.message}" for problem in shown]
    more = sum(summary.problem_counts.values()) - len(shown)
    if more > 0:
        lines.append(f"    and {more} more")
    lines.append(
        f"Make a project with {files.label_config} as its labelling interface, then import "
        f"{files.tasks} there. Commands that read the file take {files.taxonomy} with it."
    )
    return "\n".join(lines)
