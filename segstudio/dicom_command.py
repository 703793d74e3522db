"""`segstudio dicom import PATH... --out DIR`, and `segstudio dicom files PATH...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from segstudio.dicom_import import ImportSummary

_REASONS_SHOWN = 8
_SERIES_SHOWN = 8
_PATHS = click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)


@click.group()
def dicom() -> None:
    """Turn DICOM series into Label Studio tasks, without patient data."""


@dicom.command("import")
@_PATHS
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder for tasks.json, the images, the de-identified DICOM files and the report.",
)
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="NAME|CENTER,WIDTH",
    help="Show grey values through abdomen, lung, bone, brain, liver, mediastinum (for CT), or "
    "CENTER,WIDTH. Given several times: an image each in every task.  [default: what the file "
    "says]",
)
@click.option(
    "--label-config",
    "label_config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The labelling interface, with --taxonomy.  [default: organs of the abdomen]",
)
@click.option(
    "--taxonomy",
    "taxonomy_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The taxonomy of the labelling interface.",
)
@click.option(
    "--uid-key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A secret by which UIDs are replaced alike in every run; made when missing.  "
    "[default: a random one for this run]",
)
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write here what leads back to the patients, readable by you only. Keep it apart.",
)
@click.option(
    "--burned-in",
    type=click.Choice(["warn", "mask", "drop"]),
    default="warn",
    show_default=True,
    help="Series that may have text in their pixels: warn, black out lines of text and what lies "
    "outside of ultrasound regions, or leave the series out.",
)
@click.option(
    "--mask-region",
    "mask_regions",
    multiple=True,
    metavar="X,Y,WIDTH,HEIGHT",
    help="Black out this box, in pixels, in every image. May be repeated.",
)
@click.option("--no-dicom", is_flag=True, help="Write no de-identified DICOM files.")
@click.option(
    "--image-root-url",
    default="",
    metavar="URL",
    help="What the images' names are put behind, e.g. s3://bucket/ct.  "
    "[default: /data/local-files/?d=]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    envvar="SEGSTUDIO_WORKERS",
    help="Processes to use; by default one per core.",
)
def import_(
    paths: tuple[Path, ...],
    out: Path,
    windows: tuple[str, ...],
    label_config_path: Path | None,
    taxonomy_path: Path | None,
    uid_key_file: Path | None,
    key: Path | None,
    burned_in: Literal["warn", "mask", "drop"],
    mask_regions: tuple[str, ...],
    no_dicom: bool,
    image_root_url: str,
    workers: int | None,
) -> None:
    """Turn DICOM files in folders or zip archives into images and tasks, one a slice.

    Patient data is removed by the basic profile of DICOM PS3.15; report.html says, file by file,
    what was removed and what could not be read. A killed run goes on when started again.
    """
    from segstudio.dicom_files import require_dicom_packages

    require_dicom_packages()
    from segstudio.dicom_burned_in import parse_box
    from segstudio.dicom_import import ImportOptions, run_import
    from segstudio.dicom_pixels import parse_window

    label_config, taxonomy = _interface(label_config_path, taxonomy_path)
    summary = run_import(
        ImportOptions(
            paths=paths,
            out=out,
            windows=tuple(parse_window(text) for text in windows),
            label_config=label_config,
            taxonomy=taxonomy,
            uid_key_file=uid_key_file,
            key=key,
            burned_in=burned_in,
            mask_regions=tuple(parse_box(text) for text in mask_regions),
            with_dicom=not no_dicom,
            image_root_url=image_root_url,
            workers=workers,
        )
    )
    click.echo(summary_text(summary))


@dicom.command()
@_PATHS
def files(paths: tuple[Path, ...]) -> None:
    """Show which number of a report is which file: for your own screen, it names files."""
    from segstudio.dicom_files import find_files

    for file in find_files(paths):
        click.echo(f"{file.name}  {file.original}")


def summary_text(summary: ImportSummary) -> str:
    """Return what was imported, what was not, what to look at, and what to do next."""
    kept = [one for one in summary.series if one.slices]
    lines = [
        f"{summary.tasks} tasks with {summary.images} images of {len(kept)} series from "
        f"{summary.imported} of {summary.files} files in {summary.out}"
    ]
    if summary.resumed:
        lines.append(f"  {summary.resumed} files were finished by the run before")
    if summary.left_out:
        lines.append(f"  left out: {sum(summary.left_out.values())}, for these reasons:")
        common = summary.left_out.most_common()
        lines += [f"    {count} x {reason}" for reason, count in common[:_REASONS_SHOWN]]
        if len(common) > _REASONS_SHOWN:
            lines.append(f"    and {len(common) - _REASONS_SHOWN} more reasons")
    to_look_at = [one for one in kept if one.needs_a_look]
    if to_look_at:
        lines.append(
            "  LOOK at the images of these series before you give them away; text may be burned "
            "in, which may name patients:"
        )
        for one in to_look_at[:_SERIES_SHOWN]:
            masked = f" ({len(one.masked_boxes)} boxes blacked out)" if one.masked_boxes else ""
            lines.append(f"    {one.name}: {'; '.join(one.text_reasons)}{masked}")
        if len(to_look_at) > _SERIES_SHOWN:
            lines.append(f"    and {len(to_look_at) - _SERIES_SHOWN} more series")
    if summary.key is not None:
        lines.append(f"  {summary.key} leads back to the patients: keep it apart from the images")
    lines += [
        f"What was removed, file by file: {summary.out / 'report.html'}",
        f"Next: make a project with {summary.out / 'tasks.label-config.xml'}, let Label Studio "
        f"serve {summary.out} (LOCAL_FILES_DOCUMENT_ROOT and a local-files storage, or "
        "--image-root-url), and import "
        f"{summary.out / 'tasks.json'}.",
    ]
    return "\n".join(lines)


def _interface(label_config_path: Path | None, taxonomy_path: Path | None) -> tuple[str, str]:
    """Return the labelling interface and the taxonomy; those for organs of the abdomen by default.

    A taxonomy that was not given is derived from the interface.
    """
    from label_configs import load_label_config
    from label_configs import taxonomy_path as ready_taxonomy
    from segstudio.label_config import parse_label_config
    from segstudio.taxonomy import derive_taxonomy, dump_taxonomy, load_taxonomy, require_fit

    if label_config_path is None:
        path = taxonomy_path or ready_taxonomy("medical")
        xml = load_label_config("medical")
        require_fit(load_taxonomy(path), parse_label_config(xml))
        return xml, path.read_text(encoding="utf-8")
    xml = label_config_path.read_text(encoding="utf-8")
    config = parse_label_config(xml)
    if taxonomy_path is None:
        return xml, dump_taxonomy(derive_taxonomy(config))
    require_fit(load_taxonomy(taxonomy_path), config)
    return xml, taxonomy_path.read_text(encoding="utf-8")
