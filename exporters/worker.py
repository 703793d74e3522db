"""What a worker does with one image, and what comes back from it."""

from __future__ import annotations

import errno
import socket
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from exporters.records import image_record, scene_of
from exporters.statistics import count_scene
from exporters.work_items import WorkItem, unpack_item
from segstudio.consensus import consensus_regions
from segstudio.plugins import ExportContext, Exporter
from segstudio.tasks import Problem

RUN_FILE: Final = "run"
"""The file beside the work folder by which a worker elsewhere knows that it sees the same disk."""

# Errors of a disk, after which no further image can be written either.
_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, slots=True)
class Job:
    """One image on its way to a worker: its packed item, or what an earlier run made of it."""

    task_id: int
    key: str
    digest: str
    stem: str
    item: bytes | None
    outcome: dict[str, Any] | None = None


def export_image(
    exporter: Exporter, context: ExportContext, token: str | None, job: Job
) -> dict[str, Any]:
    """Do one image; return its JSON-able outcome.

    Args:
        exporter: the format.
        context: its `out_dir` is the work folder.
        token: what the token file beside the work folder holds, where the worker may be another
            machine.
        job: the image.

    Returns:
        "folder", "record", "counts" and "problems"; or "stop", a sentence, when nothing more can
        be written.
    """
    if job.outcome is not None:
        return job.outcome
    assert job.item is not None  # noqa: S101 - for mypy: a job has one or the other
    if token is not None and not _sees(context.out_dir.parent / RUN_FILE, token):
        return {"stop": _not_shared(context.out_dir)}
    try:
        return _export(exporter, context, unpack_item(job.item, job.stem))
    except OSError as error:
        if error.errno in _DISK:
            return {"stop": disk_sentence(error)}
        raise


def disk_sentence(error: OSError) -> str:
    """Say what a disk refused."""
    reason = {
        errno.ENOSPC: "The disk is full",
        errno.EDQUOT: "The disk quota is used up",
        errno.EROFS: "The disk is read-only",
        errno.EACCES: "Writing is not permitted",
    }.get(error.errno or 0, f"Writing failed ({error.strerror or error})")
    return f"{reason} (at {error.filename})" if error.filename else reason


def _export(exporter: Exporter, context: ExportContext, item: WorkItem) -> dict[str, Any]:
    image = item.image
    losses = dict(item.losses)
    problems: tuple[Problem, ...] = ()
    if item.drawn:
        agreed = consensus_regions(item.drawn, context.taxonomy, image.height_px, image.width_px)
        image = replace(image, regions=agreed.regions)
        losses["objects_without_majority"] = agreed.objects_without_majority
        problems = tuple(replace(one, task_id=image.task_id) for one in agreed.problems)
    if item.folder:
        context = replace(context, out_dir=context.out_dir / item.folder)
    context.out_dir.mkdir(parents=True, exist_ok=True)
    record = {**image_record(image, []), **exporter.write_image(image, context)}
    if context.options.get("images") == "none":
        record["reference"] = ""
    scene = scene_of(image, context)
    counts = count_scene(scene)
    counts["losses"] = {**counts["losses"], **losses, **record.get("losses", {})}
    return {
        "folder": item.folder,
        "record": record,
        "counts": counts,
        "problems": [asdict(problem) for problem in (*problems, *scene.problems)],
    }


@cache
def _sees(path: Path, token: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == token
    except OSError:
        return False


def _not_shared(folder: Path) -> str:
    return (
        f"The machine {socket.gethostname()} of the cluster does not see {folder}, where the "
        "export is written. Give --out (for a zip file or URL: --staging) a folder on storage that "
        "all machines share under the same path"
    )
