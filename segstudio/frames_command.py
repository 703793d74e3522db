"""`segstudio frames import VIDEO_OR_FOLDER... --out DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from segstudio.errors import UsageError

if TYPE_CHECKING:
    from segstudio.frames_import import FramesSummary

_VIDEOS_SHOWN = 8
_PROBLEMS_SHOWN = 5


@click.group()
def frames() -> None:
    """Turn videos and folders of frames into ordered Label Studio tasks."""


@frames.command("import")
@click.argument(
    "paths", metavar="VIDEO_OR_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder for the pictures and tasks.json; what a killed run left there is gone on with.",
)
@click.option("--every", type=click.IntRange(min=1), default=1, metavar="N",
              help="Take every N-th frame. [all]")  # fmt: skip
@click.option("--fps", type=click.FloatRange(min=0, min_open=True),
              help="Take so many frames a second instead.")  # fmt: skip
@click.option("--start", "start_s", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS",
              help="Begin here.")  # fmt: skip
@click.option("--stop", "stop_s", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="End before this.")  # fmt: skip
@click.option(
    "--source-fps",
    type=click.FloatRange(min=0, min_open=True),
    help="Frames a second of folders, so that their tasks have a time. Videos know their own.",
)
@click.option(
    "--key-every",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Mark every N-th of the frames taken as a key frame, and the last one.",
)
@click.option(
    "--key-rule",
    type=click.Choice(["interval", "motion"]),
    default="interval",
    show_default=True,
    help="motion: key frames also where the picture has moved by 6 % of its diagonal since the "
    "last one, and on both sides of a cut.",
)
@click.option("--keys-only", is_flag=True, help="Write tasks for the key frames only.")
@click.option("--format", "picture_format", type=click.Choice(["jpg", "png"]), default="jpg",
              show_default=True,
              help="Of a video's frames; those of a folder stay as they are.")  # fmt: skip
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True,
              help="Of JPEG.")  # fmt: skip
@click.option(
    "--label-config",
    "label_config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The labelling interface.  [default: the ready one for sequences, with track ids]",
)
@click.option(
    "--taxonomy",
    "taxonomy_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The taxonomy of the labelling interface.",
)
@click.option(
    "--image-root-url",
    default="",
    metavar="URL",
    help="What the pictures' names below DIR are put behind, e.g. s3://bucket/set.  "
    "[default: /data/local-files/?d=DIR]",
)
def import_(
    paths: tuple[Path, ...], out: Path, every: int, fps: float | None, start_s: float,
    stop_s: float | None, source_fps: float | None, key_every: int,
    key_rule: Literal["interval", "motion"], keys_only: bool,
    picture_format: Literal["jpg", "png"], quality: int, label_config_path: Path | None,
    taxonomy_path: Path | None, image_root_url: str,
) -> None:  # fmt: skip
    """Turn video files and folders of frames into tasks with `video`, `frame` and `time_s`.

    Frames of a folder come in natural order (frame10 after frame9). A folder without pictures
    stands for the videos and folders of frames in it.
    """
    from segstudio.frame_files import find_sources
    from segstudio.frames_import import FramesOptions, import_frames

    if fps is not None and every != 1:
        raise UsageError("Give --every or --fps, not both.")
    if stop_s is not None and stop_s <= start_s:
        raise UsageError(f"--stop ({stop_s:g} s) must come after --start ({start_s:g} s).")
    sources = tuple(find_sources(paths))
    timed = fps is not None or start_s > 0 or stop_s is not None
    if timed and source_fps is None and any(one.is_folder for one in sources):
        raise UsageError(
            "Frames of a folder have no time of their own; say how many there are a second with "
            "--source-fps, or use --every."
        )
    label_config, taxonomy = _interface(label_config_path, taxonomy_path)
    summary = import_frames(
        FramesOptions(
            sources=sources,
            out=out,
            label_config=label_config,
            taxonomy=taxonomy,
            every=every,
            fps=fps,
            start_s=start_s,
            stop_s=float("inf") if stop_s is None else stop_s,
            source_fps=source_fps,
            key_every=key_every,
            key_rule=key_rule,
            picture_format=picture_format,
            quality=quality,
            image_root_url=image_root_url,
            keys_only=keys_only,
        )
    )
    click.echo(summary_text(summary))


def summary_text(summary: FramesSummary) -> str:
    """Return what was taken, what was wrong, where it is, and what to do next."""
    out = summary.out
    lines = [
        f"{summary.frames} frames of {len(summary.per_video)} videos in {out}, "
        f"{summary.key_frames} of them key frames"
    ]
    shown = list(summary.per_video.items())
    lines += [
        f"  {name}: {count} frames, {keys} key frames"
        for name, (count, keys) in shown[:_VIDEOS_SHOWN]
    ]
    if len(shown) > _VIDEOS_SHOWN:
        lines.append(f"  and {len(shown) - _VIDEOS_SHOWN} more")
    if summary.cuts:
        lines.append(f"  {summary.cuts} cuts; the frames on both sides of each are key frames")
    if summary.resumed:
        lines.append(f"  {summary.resumed} videos were there already")
    if summary.left_out:
        lines.append(f"  {summary.left_out} frames could NOT be read and are left out")
        lines += [f"    {one.message}" for one in summary.problems[:_PROBLEMS_SHOWN]]
    lines.append(
        f"Make a project with {out / 'tasks.label-config.xml'} as its labelling interface, connect "
        f"{out} as local files (or upload it), import {out / 'tasks.json'}, annotate the key "
        "frames (the Data Manager filters by key_frame), then: segstudio propagate project:ID "
        "--write-back"
    )
    return "\n".join(lines)


def _interface(label_config_path: Path | None, taxonomy_path: Path | None) -> tuple[str, str]:
    """Return the labelling interface and the taxonomy; a taxonomy not given is derived."""
    from label_configs import load_label_config
    from label_configs import taxonomy_path as ready_taxonomy
    from segstudio.label_config import parse_label_config
    from segstudio.taxonomy import derive_taxonomy, dump_taxonomy, load_taxonomy, require_fit

    path = taxonomy_path
    if label_config_path is None:
        xml = load_label_config("sequences")
        path = path or ready_taxonomy("sequences")
    else:
        xml = label_config_path.read_text(encoding="utf-8-sig")
    config = parse_label_config(xml)
    if not config.images or config.images[0].value != "$image":
        raise UsageError("The labelling interface needs an Image tag with the value $image.")
    if path is None:
        return xml, dump_taxonomy(derive_taxonomy(config))
    taxonomy = load_taxonomy(path)
    require_fit(taxonomy, config)
    return xml, dump_taxonomy(taxonomy)
