"""The command `segstudio propagate SOURCE`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ml_backend.command_options import image_access_options
from segstudio.cli_options import SourceOptions, source_options
from segstudio.errors import UsageError

if TYPE_CHECKING:
    from ml_backend.propagation_run import FramePrediction, Propagator
    from segstudio.source import Source
    from segstudio.writeback import TaskPrediction
    from segstudio.writeback_stored_predictions import PredictionsSummary

__all__ = ["propagate", "summary_text"]


@click.command()
@source_options
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the predictions to this JSON file: tasks that Label Studio imports.",
)
@click.option("--write-back", is_flag=True, help="Put the predictions on the project's tasks.")
@click.option("--undo", is_flag=True, help="Take away what --write-back put there.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option(
    "--annotations",
    "policy",
    metavar="POLICY",
    help="Whose annotations are the key frames: ground-truth, newest or user:ID. "
    "[the one ground truth, else the only annotator's]",
)
@click.option(
    "--keys",
    type=click.Choice(["annotated", "marked"]),
    default="annotated",
    show_default=True,
    help="Key frames: every annotated frame, or those of them whose data have a true `key_frame`.",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of these only frames whose number is a multiple of N; the others are predicted too.",
)
@click.option("--video", "video_key", default="video", show_default=True,
              help="The key of the tasks' data that names the video.")  # fmt: skip
@click.option("--frame", "frame_key", default="frame", show_default=True,
              help="The key of the tasks' data that orders the frames.")  # fmt: skip
@click.option(
    "--reach",
    default=50,
    show_default=True,
    type=click.IntRange(min=1),
    help="Frames a mask is carried at most between two key frames.",
)
@click.option(
    "--beyond",
    default=10,
    show_default=True,
    type=click.IntRange(min=0),
    help="Frames a mask is carried before the first and after the last key frame.",
)
@click.option("--with-keys", is_flag=True, help="Predict the key frames too, as they are.")
@click.option("--no-photos", is_flag=True, help="Open no photo: the masks' own motion only.")
@click.option("--no-refine", is_flag=True, help="Leave masks as they were carried.")
@click.option(
    "--model",
    default="tiny",
    show_default=True,
    help="The model that refines: tiny, classical, vit_b, vit_l, vit_h, or a path. A folder with "
    "SAM 2 for video carries the masks by its memory as well.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--embeddings-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that `serve` keeps embeddings in. [the user's cache folder]",
)
@image_access_options
def propagate(
    source: SourceOptions, out: Path | None, write_back: bool, undo: bool, dry_run: bool,
    policy: str | None, keys: str, every: int | None, video_key: str, frame_key: str, reach: int,
    beyond: int, with_keys: bool, no_photos: bool, no_refine: bool, model: str, device: str,
    embeddings_dir: Path | None, allowed_hosts: tuple[str, ...], local_roots: tuple[Path, ...],
) -> None:  # fmt: skip
    """Propose masks for the frames between annotated key frames.

    SOURCE is project:ID or an export file whose tasks name a video and a frame, as `segstudio
    frames import` writes them. Masks are carried by optical flow from the key frames on both
    sides, refined by the model where it agrees, and become predictions with a score; without
    photos they move by their shapes alone. Annotations are never touched.
    """
    from ml_backend.propagation_run import Propagator, Reach
    from ml_backend.sequence_index import index_sequences
    from ml_backend.sequence_photos import Photos
    from segstudio.selection import parse_policy

    opened = source.open()
    if (write_back or undo) and opened.project_id is None:
        raise UsageError(
            f"Predictions are put on the tasks of one project, and {opened.description} is none. "
            "Give project:ID, or leave --write-back out and use --out FILE.json."
        )
    if undo:
        click.echo(_undo(source, opened, dry_run=dry_run))
        return
    if out is None and not write_back and not dry_run:
        raise UsageError(
            "Say where the predictions are to go: --out FILE.json, or --write-back to put them on "
            "the project's tasks. --dry-run only says what there would be."
        )
    if out is not None and out.suffix != ".json":
        raise UsageError(f"--out is a file of tasks and ends in .json, not {out}.")
    if out is not None and Path(source.spec).resolve() == out.resolve():
        raise UsageError(f"{out} is the file that is read; choose another name for --out.")
    client = None
    if opened.project_ids and not no_photos:
        client = source.connect()
    photos = Photos(
        client, [root.resolve() for root in local_roots], allowed_hosts, wanted=not no_photos
    )
    index = index_sequences(
        opened,
        parse_policy(policy),
        video_key=video_key,
        frame_key=frame_key,
        every=every,
        marked_only=keys == "marked",
        label="read frames",
    )
    with index:
        propagator = Propagator(
            index,
            opened.label_config,
            photos,
            Reach(reach, beyond, with_keys),
            None if no_refine or no_photos else _embeddings(model, device, embeddings_dir, photos),
            None if no_refine or no_photos else _memory(model, device),
        )
        where = _deliver(propagator, source, opened, out, write_back=write_back, dry_run=dry_run)
        click.echo(summary_text(propagator, where))


def summary_text(propagator: Propagator, where: list[str]) -> str:
    """Return what was carried, how, what was left out and why, and what to do next."""
    summary, index, photos = propagator.summary, propagator.index, propagator.photos
    lines = [
        f"{summary.predicted} frames between {summary.key_frames} key frames of {summary.videos} "
        f"videos: {summary.regions} masks on {summary.tracks} tracks"
    ]
    if summary.predicted:
        lines.append(
            f"  moved by optical flow: {summary.by_flow} frames; by their shapes alone: "
            f"{summary.by_shapes}"
        )
        mean = summary.score_sum / summary.predicted
        lowest = ", ".join(f"{task_id} ({score:.2f})" for score, task_id in summary.lowest)
        lines.append(f"  mean score {mean:.2f}; look first at the tasks {lowest}")
    if summary.by_memory:
        lines.append(f"  with the model's own memory of the video: {summary.by_memory} frames")
    if summary.refined + summary.kept_as_carried:
        lines.append(
            f"  refined by the model: {summary.refined} masks; left as carried, because it "
            f"disagreed: {summary.kept_as_carried}"
        )
    told = [
        (photos.missing, f"photos could not be opened, e.g.: {photos.first_reason}"),
        (summary.one_sided, "masks come from one key frame only"),
        (summary.nothing_there, "frames hold nothing that a key frame has"),
        (summary.out_of_reach, "frames are too far from a key frame (--reach, --beyond)"),
        (summary.without_key, "frames are of videos without a key frame"),
        (index.without_frame, "tasks name no video or frame in their data"),
        (index.doubles, "tasks are a second one of their frame"),
    ]
    lines += [f"  {count} {what}" for count, what in told if count]
    lines += [f"  look at: {count} x {kind}" for kind, count in index.problem_counts.items()]
    return "\n".join([*lines, *where])


def _deliver(
    propagator: Propagator,
    source: SourceOptions,
    opened: Source,
    out: Path | None,
    *,
    write_back: bool,
    dry_run: bool,
) -> list[str]:
    """Run, and bring the predictions where they are to go; sentences on that."""
    from ml_backend.propagation_run import MODEL_VERSION
    from segstudio.output_files import atomic_writer, write_json_array
    from segstudio.progress import ProgressLine
    from segstudio.writeback import TaskPrediction

    where: list[str] = []
    with ProgressLine("propagate", len(propagator.index.frames)) as progress:

        def run() -> Iterator[FramePrediction]:
            for one in propagator.run():
                progress.advance()
                yield one

        if out is not None and not dry_run:
            write_json_array(out, (as_task(one, propagator) for one in run()))
            wanted = _predictions_of(out)
        else:
            wanted = (TaskPrediction(one.frame.task_id, one.result, one.score) for one in run())
        if write_back:
            seen = {frame.task_id for frame in propagator.index.frames}
            summary = _write_back(wanted, seen, source, opened, dry_run=dry_run)
            where.append(f"{summary}, as “{MODEL_VERSION}”.")
        elif dry_run:
            for _ in wanted:
                pass
            where.append("Nothing was written (--dry-run).")
    if out is not None and not dry_run:
        with atomic_writer(out.with_suffix(".label-config.xml")) as file:
            file.write(opened.label_config.xml.encode("utf-8"))
        where.append(
            f"They are in {out}. Judge them: segstudio qa temporal {out} --rater prediction"
        )
    if write_back and not dry_run:
        where.append(
            "Open a frame: its prediction becomes an annotation when it is submitted; a corrected "
            "frame is a key frame of the next run."
        )
    return where


def as_task(one: FramePrediction, propagator: Propagator) -> dict[str, Any]:
    """Return the task of a frame with its prediction, as Label Studio imports it."""
    from ml_backend.propagation_run import MODEL_VERSION

    prediction = {"model_version": MODEL_VERSION, "score": one.score, "result": one.result}
    return {
        "id": one.frame.task_id,
        "data": propagator.index.data(one.frame),
        "predictions": [prediction],
    }


def _predictions_of(path: Path) -> Iterator[TaskPrediction]:
    """The predictions of a file that was written a moment ago, one task a line."""
    from segstudio.writeback import TaskPrediction

    with path.open(encoding="utf-8") as file:
        for line in file:
            text = line.strip().rstrip(",")
            if text not in ("", "[", "]"):
                task = json.loads(text)
                (one,) = task["predictions"]
                yield TaskPrediction(task["id"], one["result"], one["score"])


def _write_back(
    predictions: Iterator[TaskPrediction],
    seen: set[int],
    source: SourceOptions,
    opened: Source,
    *,
    dry_run: bool,
) -> PredictionsSummary:
    """Give the tasks their predictions, and take them from frames that are to have none."""
    from ml_backend.propagation_run import MODEL_VERSION
    from segstudio.errors import ServerError
    from segstudio.writeback import write_predictions

    if opened.project_id is None:
        raise UsageError("Predictions are put on the tasks of one project; give project:ID.")
    with source.connect() as client:
        summary = write_predictions(
            client, opened.project_id, MODEL_VERSION, predictions, outdated=seen, dry_run=dry_run
        )
    if summary.problems:
        raise ServerError(f"{summary}. First: {summary.problems[0].message}")
    return summary


def _undo(source: SourceOptions, opened: Source, *, dry_run: bool) -> str:
    from ml_backend.propagation_run import MODEL_VERSION
    from segstudio.writeback import remove_predictions

    if opened.project_id is None:
        raise UsageError("Predictions are taken from the tasks of one project; give project:ID.")
    with source.connect() as client:
        summary = remove_predictions(client, opened.project_id, MODEL_VERSION, dry_run=dry_run)
    would = "would be " if dry_run else ""
    return f"{summary.removed} predictions “{MODEL_VERSION}” {would}removed."


def _embeddings(model: str, device: str, folder: Path | None, photos: Any) -> Any:
    from segstudio.errors import MissingExtraError

    try:
        from ml_backend.embeddings import EmbeddingStore
        from ml_backend.engines.registry import load_engine
        from ml_backend.sequence_photos import Embeddings
        from ml_backend.settings import default_cache_dir

        engine = load_engine(model, device)
    except ImportError as error:
        raise MissingExtraError("Refining masks", str(error.name), "sam") from error
    place = (folder or default_cache_dir() / "embeddings").resolve()
    return Embeddings(engine, EmbeddingStore(256 << 20, place), photos)


def _memory(model: str, device: str) -> Any:
    """The memory of a SAM 2 for video; None for every other model."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return None
    from ml_backend.engines.sam2_memory import has_memory, load_memory
    from ml_backend.engines.segment_anything import pick_device

    return load_memory(folder, pick_device(device)) if has_memory(folder) else None
