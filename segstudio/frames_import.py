"""Turns videos and folders of frames into ordered tasks: pictures, tasks, interface, taxonomy.

Memory holds two frames at a time. A killed run goes on when it is started again with the same
sources and options: finished videos are passed over, pictures that are there are not made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from segstudio.errors import MediaError, SegstudioError, UsageError
from segstudio.frame_files import MAX_PICTURE_BYTES, FrameChoice, FrameSource, SourceFrame
from segstudio.key_frames import KeyFrameRule, KeyRule, thumbnail
from segstudio.media import image_size_px, load_image
from segstudio.output_files import atomic_writer, write_json_array
from segstudio.progress import ProgressLine
from segstudio.tasks import Problem

LOCAL_FILES: Final = "/data/local-files/?d="
TASKS: Final = "tasks.json"
LABEL_CONFIG: Final = "tasks.label-config.xml"
TAXONOMY: Final = "tasks.taxonomy.yaml"
IMAGES: Final = "images"
_WORK: Final = ".segstudio"
_OURS: Final = frozenset({TASKS, LABEL_CONFIG, TAXONOMY, IMAGES, _WORK})
_STATE: Final = "frames.json"
_MAX_KEPT: Final = 200
_NO_BROWSER: Final = frozenset({".tif", ".tiff"})

PictureFormat = Literal["jpg", "png"]


@dataclass(frozen=True, slots=True)
class FramesOptions:
    """What is imported and how. `source_fps` is a folder's rate, where it is known."""

    sources: tuple[FrameSource, ...]
    out: Path
    label_config: str
    taxonomy: str
    every: int = 1
    fps: float | None = None
    start_s: float = 0.0
    stop_s: float = float("inf")
    source_fps: float | None = None
    key_every: int = 10
    key_rule: KeyRule = "interval"
    picture_format: PictureFormat = "jpg"
    quality: int = 95
    image_root_url: str = ""
    keys_only: bool = False


@dataclass(slots=True)
class FramesSummary:
    """Counts of an import; `per_video` has each video's frames and key frames."""

    out: Path
    frames: int = 0
    key_frames: int = 0
    cuts: int = 0
    left_out: int = 0
    resumed: int = 0
    per_video: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def import_frames(options: FramesOptions, *, show_progress: bool = True) -> FramesSummary:
    """Write the pictures and tasks of all sources below `options.out`.

    Raises:
        UsageError: the folder holds something else, or an import of other options.
        MediaError: a video cannot be read.
        SegstudioError: there is no frame at all.
    """
    summary = FramesSummary(options.out)
    state = _open_folder(options)
    for source in options.sources:
        done = state / f"{source.name}.done"
        listed = state / f"{source.name}.jsonl"
        if done.exists():
            summary.resumed += 1
        else:
            total = source.count(options.source_fps)
            label = f"frames of {source.name}" if show_progress else ""
            with ProgressLine(label, total) as progress:
                _import_source(source, options, listed, summary, progress)
            done.touch()
        _count(listed, source.name, summary)
    if not summary.frames:
        first = f" The first reason: {summary.problems[0].message}" if summary.problems else ""
        raise SegstudioError(f"No frame was imported into {options.out}.{first}")
    with atomic_writer(options.out / LABEL_CONFIG) as file:
        file.write(options.label_config.encode("utf-8"))
    with atomic_writer(options.out / TAXONOMY) as file:
        file.write(options.taxonomy.encode("utf-8"))
    # The tasks take their place last: who sees them finds the others beside them.
    write_json_array(options.out / TASKS, _tasks(options, state))
    return summary


def _import_source(
    source: FrameSource,
    options: FramesOptions,
    listed: Path,
    summary: FramesSummary,
    progress: ProgressLine,
) -> None:
    """Write one source's pictures, and a line for each into `listed`, in one step at its end."""
    choice = FrameChoice(options.every, options.fps, options.start_s, options.stop_s)
    rule = KeyFrameRule(options.key_every, options.key_rule)
    with atomic_writer(listed) as file:

        def write(entry: dict[str, Any] | None) -> None:
            if entry is not None:
                line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
                file.write(line.encode("utf-8"))

        last: dict[str, Any] | None = None
        for frame in source.frames(options.source_fps, choice):
            try:
                entry, small = _write_picture(frame, source, options)
            except (SegstudioError, OSError) as error:
                summary.left_out += 1
                if len(summary.problems) < _MAX_KEPT:
                    message = f"Frame {frame.number} of {source.name} is left out: {error}"
                    summary.problems.append(Problem("frame-left-out", message))
                progress.advance(failed=True)
                continue
            cut, entry["key_frame"] = rule.add(small)
            if cut and last is not None:
                last["key_frame"] = last["cut_after"] = True
            write(last)
            last = entry
            progress.advance()
        if last is not None:
            last["key_frame"] = True
        write(last)


def _write_picture(
    frame: SourceFrame, source: FrameSource, options: FramesOptions
) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    """Bring one frame's picture to its place, if it is not there; return what its task says."""
    motion = options.key_rule == "motion"
    if frame.path is not None:
        if frame.path.stat().st_size > MAX_PICTURE_BYTES:
            raise MediaError(f"{frame.path.name!r} is larger than {MAX_PICTURE_BYTES >> 20} MB.")
        content = frame.path.read_bytes()
        height_px, width_px = image_size_px(content)
        pixels = load_image(content)  # a damaged picture is found now, not by an annotator
        ending = frame.path.suffix.lower()
        if ending in _NO_BROWSER:
            target = _target(options, source, frame.number, ".png")
            if not _is_there(target, None):
                _write(target, encode_picture(pixels, "png", options.quality))
        else:
            target = _target(options, source, frame.number, ending)
            if not _is_there(target, len(content)):
                _link_or_copy(frame.path, target)
    else:
        if frame.pixels is None:
            raise ValueError(f"Frame {frame.number} has neither pixels nor a path.")
        pixels = frame.pixels
        height_px, width_px = pixels.shape[:2]
        target = _target(options, source, frame.number, f".{options.picture_format}")
        if not _is_there(target, None):
            _write(target, encode_picture(pixels, options.picture_format, options.quality))
    entry: dict[str, Any] = {
        "file": target.relative_to(options.out).as_posix(),
        "frame": frame.number,
        "time_s": frame.time_s,
        "height_px": height_px,
        "width_px": width_px,
    }
    return entry, thumbnail(pixels) if motion else None


def encode_picture(pixels: NDArray[np.uint8], kind: PictureFormat, quality: int) -> bytes:
    """Return an RGB frame as a JPEG (no colour subsampling) or PNG file."""
    from PIL import Image

    content = BytesIO()
    image = Image.fromarray(pixels)
    if kind == "png":
        image.save(content, "PNG", compress_level=1)
    else:
        image.save(content, "JPEG", quality=quality, subsampling=0)
    return content.getvalue()


def _target(options: FramesOptions, source: FrameSource, number: int, ending: str) -> Path:
    return options.out / IMAGES / source.name / f"{number:06}{ending}"


def _write(target: Path, content: bytes) -> None:
    with atomic_writer(target) as file:
        file.write(content)


def _is_there(target: Path, size_bytes: int | None) -> bool:
    # Pictures take their names when they are whole, so a name is enough.
    return target.is_file() and (size_bytes is None or target.stat().st_size == size_bytes)


def _link_or_copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:
        with atomic_writer(target) as file, path.open("rb") as source:
            shutil.copyfileobj(source, file)


def _tasks(options: FramesOptions, state: Path) -> Iterator[dict[str, Any]]:
    for source in options.sources:
        for entry in _entries(state / f"{source.name}.jsonl"):
            if options.keys_only and not entry["key_frame"]:
                continue
            data: dict[str, Any] = {
                "image": _url(entry["file"], options),
                "video": source.name,
                "frame": entry["frame"],
            }
            if entry["time_s"] is not None:
                data["time_s"] = entry["time_s"]
            data["key_frame"] = entry["key_frame"]
            made = {
                "format": "frames",
                "file_name": entry["file"],
                "width_px": entry["width_px"],
                "height_px": entry["height_px"],
            }
            yield {"data": data, "meta": {"segstudio": {"import": made}}}


def _url(file_name: str, options: FramesOptions) -> str:
    root = options.image_root_url
    if not root:
        return LOCAL_FILES + quote(f"{options.out.resolve().name}/{file_name}")
    is_cloud = root.split(":", 1)[0] in ("s3", "gs", "azure-blob")
    between = "" if root.endswith(("/", "=")) else "/"
    return f"{root}{between}{file_name if is_cloud else quote(file_name)}"


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _count(listed: Path, name: str, summary: FramesSummary) -> None:
    frames = keys = 0
    for entry in _entries(listed):
        frames += 1
        keys += bool(entry["key_frame"])
        summary.cuts += bool(entry.get("cut_after"))
    summary.frames += frames
    summary.key_frames += keys
    summary.per_video[name] = frames, keys


def _open_folder(options: FramesOptions) -> Path:
    """Return the folder of what serves resuming; refuse a folder that is somebody else's."""
    out = options.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out is a folder.")
    state = out / _WORK / "frames"
    recorded = out / _WORK / _STATE
    digest = _digest(options)
    if out.is_dir() and any(out.iterdir()):
        strangers = sorted(one.name for one in out.iterdir() if one.name not in _OURS)
        if strangers or not recorded.is_file():
            raise UsageError(
                f"{out} holds things that no import of frames wrote, such as "
                f"{(strangers or sorted(one.name for one in out.iterdir()))[0]!r}; choose another "
                "folder for --out."
            )
        if json.loads(recorded.read_text(encoding="utf-8")).get("digest") != digest:
            raise UsageError(
                f"{out} holds frames of other sources or options. Give the same again to go on "
                "there, or choose another folder for --out."
            )
    state.mkdir(parents=True, exist_ok=True)
    with atomic_writer(recorded) as file:
        file.write(json.dumps({"digest": digest}).encode())
    return state


def _digest(options: FramesOptions) -> str:
    """What decides the pictures and their order; interface and addresses may change."""
    told = [
        [source.fingerprint() for source in options.sources],
        [options.every, options.fps, options.start_s, str(options.stop_s), options.source_fps],
        [options.key_every, options.key_rule, options.picture_format, options.quality],
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
