"""`segstudio export FORMAT SOURCE --out DIR`."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final

import click

from segstudio.cli_options import (
    SourceOptions,
    compute_options,
    parse_key_values,
    source_options,
)
from segstudio.errors import UsageError

if TYPE_CHECKING:
    from exporters.runner import ExportSummary

_MAX_EXAMPLE_CHARS: Final = 300


@click.command()
@click.argument("format_name", metavar="FORMAT")
@source_options
@click.option(
    "--out",
    "place",
    required=True,
    metavar="DIR|X.zip|URL",
    help="A folder, a zip file, or an fsspec URL such as s3://bucket/set. An earlier export of the "
    "format there is brought up to date, and stays as it is until the new one is whole.",
)
@click.option(
    "--annotations",
    metavar="POLICY",
    help="Whose annotation of a task: ground-truth, consensus, newest, user:ID, all (a folder an "
    "annotator) or predictions[:MODEL_VERSION]. Default: the one ground truth, "
    "else the only annotator's.",
)
@click.option(
    "--overlap",
    type=click.Choice(["draw-order", "class-priority", "smaller-on-top", "error"]),
    default="draw-order",
    show_default=True,
    help="Which region is on top where two overlap.",
)
@click.option("--strict", is_flag=True, help="Stop at the first region that would be lost.")
@click.option(
    "--history",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.sqlite",
    help="Keep a snapshot there of every annotation that is read, for its revisions.",
)
@click.option(
    "--qa",
    "qa_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A qa.json whose verdict goes on the card.",
)
@click.option(
    "--images-root",
    "roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of this machine with the images, for a file source.",
)
@click.option(
    "--images",
    type=click.Choice(["copy", "link", "reference", "none"]),
    default="reference",
    show_default=True,
    help="Copy or link the images into the export, name where they are, or neither. A link is a "
    "hard link, else a symbolic one, else (an image on a server) a copy.",
)
@click.option(
    "--staging",
    type=click.Path(file_okay=False, path_type=Path),
    help="For a zip file or URL: make the export in this folder and keep it, so that the next "
    "one sends only what changed.",
)
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the format."
)
@compute_options
def export(
    format_name: str,
    source: SourceOptions,
    place: str,
    annotations: str | None,
    overlap: str,
    strict: bool,
    history: Path | None,
    qa_path: Path | None,
    roots: tuple[Path, ...],
    images: str,
    staging: Path | None,
    options: tuple[str, ...],
    workers: int | None,
    cluster: str | None,
) -> None:
    """Write the annotations of SOURCE as a data set in FORMAT.

    FORMAT is one of coco-panoptic, coco-instances, semantic-png, cityscapes, pascal-voc, yolo-seg,
    nnunet, kitti-step, dicom-seg, nifti, custom (your own YAML schema), or any that a package adds
    (`segstudio doctor` lists them). SOURCE is an export file or project:ID.
    """
    from exporters.runner import run_export
    from segstudio.plugins import find_exporter
    from segstudio.selection import parse_policy
    from segstudio.taxonomy import load_taxonomy

    exporter = find_exporter(format_name)
    parse_policy(annotations)
    opened = source.open(history)
    given = parse_key_values(options)
    # A format that reads files which the tasks name relative to their own file is told where it is.
    beside = getattr(exporter, "beside_option", None)
    if beside is not None and Path(source.spec).is_file():
        given.setdefault(beside, str(Path(source.spec).parent))
    summary = run_export(
        format_name,
        opened,
        place,
        taxonomy=load_taxonomy(source.taxonomy) if source.taxonomy else None,
        annotations=annotations,
        strict=strict,
        options={**given, "overlap": overlap},
        workers=workers,
        cluster=cluster,
        images=images,
        roots=roots,
        staging=staging,
        qa=_read_qa(qa_path or _qa_beside(source.spec)),
    )
    click.echo(summary_text(summary))


def summary_text(summary: ExportSummary) -> str:
    """Return what happened, where it is, and what to do next."""
    from exporters.card import LOSS_SENTENCES
    from exporters.problems import place
    from segstudio.tasks import Problem

    card = summary.dataset
    segments = sum(one["segments"] for one in card["classes"])
    taken = card["annotations"]
    lines = [
        f"{summary.images} images, {segments} segments as {summary.format_name} in {summary.place}",
        f"  annotations: {taken['takes']}; {taken['tasks_taken']} of {taken['tasks_read']} tasks"
        + "".join(f", {count} {why}" for why, count in taken["tasks_left_out"].items()),
    ]
    if summary.taken_over:
        lines.append(f"  {summary.taken_over} images were finished already and not redone")
    if summary.stale_files_removed:
        lines.append(f"  {summary.stale_files_removed} files of an earlier export were removed")
    if summary.failed:
        lines.append(f"  {summary.failed} images FAILED and are not in the export")
    lines += [
        f"  lost: {count} {LOSS_SENTENCES.get(kind, kind)}"
        for kind, count in card["losses"].items()
        if count
    ]
    examples = {one["kind"]: Problem(**one) for one in reversed(card["problems"]["first"])}
    for kind, count in card["problems"]["counts"].items():
        line = f"  look at: {count} x {kind}"
        if kind in examples:
            example = place(examples[kind]) + " ".join(examples[kind].message.split())
            line += f", first: {shorten(example, _MAX_EXAMPLE_CHARS, placeholder=' ...')}"
        lines.append(line)
    report = f"{summary.place.rstrip('/')}/README.md"
    lines.append(f"Read {report} for the whole report. {summary.next_step}")
    return "\n".join(lines).rstrip()


def _read_qa(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}.") from error
    if not isinstance(found, dict) or not isinstance(found.get("batch"), dict):
        raise UsageError(f"{path} is no qa.json: it has no 'batch' object.")
    return found


def _qa_beside(spec: str) -> Path | None:
    """Return the qa.json of an export file: `X.qa.json` beside `X.json`, or None."""
    from segstudio.export_file import sidecar

    return None if spec.startswith("project:") else sidecar(spec, "qa.json")
