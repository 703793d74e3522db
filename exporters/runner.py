"""Runs an export: reads, decides, writes in parallel, resumes, sums up, delivers."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from exporters.card import write_cards
from exporters.contact_sheet import Sample, write_contact_sheet
from exporters.files import write_text
from exporters.image_files import ImageFiles, Placed, parse_mode
from exporters.index import write_index
from exporters.journal import Journal
from exporters.plan import Plan, Planned, SizeOf, make_plan
from exporters.problems import ProblemLog
from exporters.statistics import Statistics
from exporters.targets import Target, open_target
from exporters.worker import RUN_FILE, Job, disk_sentence, export_image
from segstudio.compute import map_tasks
from segstudio.errors import SegstudioError, UsageError
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext, Exporter, find_exporter
from segstudio.scene import OVERLAP_POLICIES
from segstudio.selection import parse_policy
from segstudio.source import Source
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy, derive_taxonomy, dump_taxonomy, load_taxonomy

_SAMPLES = 12
# Part of every digest: raise it when the bytes of a format change.
_DIGEST_VERSION = "2"
_IMAGES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What an export did, for the caller and for the last lines of the command.

    `place` is where it went, as it was named; `dataset` what its dataset.json says.
    """

    format_name: str
    place: str
    images: int
    taken_over: int
    failed: int
    stale_files_removed: int
    dataset: Mapping[str, Any]
    next_step: str


def run_export(
    format_name: str,
    source: Source,
    out_dir: Path | str,
    *,
    taxonomy: Taxonomy | None = None,
    annotations: str | None = None,
    strict: bool = False,
    options: Mapping[str, str] | None = None,
    images: str = "reference",
    roots: tuple[Path, ...] = (),
    staging: Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    size_of: SizeOf | None = None,
    picture_of: Callable[[int, str], Any] | None = None,
    qa: Mapping[str, Any] | None = None,
    show_progress: bool = True,
) -> ExportSummary:
    """Export a source in one format.

    Args:
        format_name: as `segstudio.plugins.list_exporters` names it.
        source: where the tasks come from; read once.
        out_dir: a folder, a name that ends in .zip, or an fsspec URL. An earlier export of the
            same format there is brought up to date; finished images of a killed one are taken
            over; until the new one is whole, the old one stays as it is.
        taxonomy: by default the one beside the source, else derived from its interface.
        annotations: the policy, see `segstudio.selection`.
        strict: stop at the first thing that was annotated and does not reach the export.
        options: the format's own; `overlap` is the overlap policy of every format.
        images: "copy" or "link" the images into the export, "reference" them, or "none".
        roots: folders of this machine where images may be read.
        staging: see `exporters.targets.open_target`.
        workers: processes; the bytes do not depend on it.
        cluster: address of a Ray cluster; its machines must see the output folder.
        size_of: (task id, reference) -> (height_px, width_px), for images without regions; by
            default the image is opened through `segstudio.media`.
        picture_of: (task id, reference) -> RGB array, for the contact sheet; as `size_of`.
        qa: a qa.json, whose verdict goes on the card.
        show_progress: on stderr.

    Raises:
        UsageError: unknown format, policy, overlap policy or place; a place with another format.
        SelectionError: the policy leaves a choice open; nothing has been written.
        SegstudioError: strict and something was lost, nothing could be exported, or the disk is
            full; an earlier export is still there.
    """
    exporter = find_exporter(format_name)
    policy = parse_policy(annotations)
    options = dict(options or {})
    if options.setdefault("overlap", "draw-order") not in OVERLAP_POLICIES:
        raise UsageError(
            f"There is no overlap policy '{options['overlap']}'; choose one of "
            f"{', '.join(OVERLAP_POLICIES)}."
        )
    options["images"] = parse_mode(images)
    files = ImageFiles(getattr(source, "client", None), tuple(root.resolve() for root in roots))
    target = open_target(out_dir, staging)
    target.check(format_name)
    if taxonomy is None:
        taxonomy = choose_taxonomy(source)
    # A format that reads files of its own does so here: their content, not their name, counts.
    if hasattr(exporter, "prepare"):
        options = dict(exporter.prepare(options, taxonomy))
    problems = ProblemLog(strict=strict)
    context = ExportContext(target.folder, taxonomy, source.label_config, options)
    try:
        plan = make_plan(
            source, policy, problems, size_of or files.size_px, show_progress=show_progress
        )
        with plan:
            run = _Run(exporter, context, plan, problems, files)
            label = f"export {format_name}" if show_progress else ""
            dataset, removed = run.all(
                target, workers, cluster, label, source, qa, picture_of or files.picture
            )
        target.publish(show_progress=show_progress)
    except OSError as error:
        raise _write_error(target, disk_sentence(error)) from error
    return ExportSummary(
        format_name=format_name,
        place=target.shown,
        images=run.written,
        taken_over=run.taken_over,
        failed=run.failed,
        stale_files_removed=removed,
        dataset=dataset,
        next_step=str(getattr(exporter, "next_step", "")),
    )


def choose_taxonomy(source: Source) -> Taxonomy:
    """Return the taxonomy beside the source, else one derived from its labelling interface."""
    if source.taxonomy_path is not None:
        return load_taxonomy(source.taxonomy_path)
    return derive_taxonomy(source.label_config)


class _Run:
    """The second pass: every image through a worker or taken over, in task order."""

    def __init__(
        self,
        exporter: Exporter,
        context: ExportContext,
        plan: Plan,
        problems: ProblemLog,
        files: ImageFiles,
    ) -> None:
        self._exporter = exporter
        self._context = context
        self._plan = plan
        self._problems = problems
        self._files = files
        self._statistics = {folder: Statistics() for folder in plan.folders}
        self._in_flight: deque[tuple[Job, AnnotatedImage]] = deque()
        self._sampled = set(range(0, plan.images, max(1, -(-plan.images // _SAMPLES))))
        self._samples: list[Sample] = []
        self.written = self.taken_over = self.failed = 0

    def all(
        self,
        target: Target,
        workers: int | None,
        cluster: str | None,
        label: str,
        source: Source,
        qa: Mapping[str, Any] | None,
        picture_of: Callable[[int, str], Any],
    ) -> tuple[dict[str, Any], int]:
        """Write everything; return the card and how many stale files were removed."""
        with Journal(target.folder) as journal:
            work = replace(self._context, out_dir=journal.work_dir)
            token = _leave_token(journal) if cluster is not None else None
            results = map_tasks(
                partial(export_image, self._exporter, work, token), self._jobs(journal),
                workers=workers, label=label, cluster=cluster, total=self._plan.images,
            )  # fmt: skip
            for job, outcome, placed in self._with_images(results, work, target):
                self._take(journal, job, outcome, placed, on_cluster=cluster is not None)
            if self._plan.images and not self.written:
                first = self._problems.first
                raise SegstudioError(
                    f"None of {self._plan.images} images could be exported; the first reason: "
                    f"{first[-1].message if first else 'unknown'}"
                )
            journal.sweep()
            for folder in sorted(self._plan.folders):
                records = _Records(journal, folder)
                place = work.out_dir / folder
                place.mkdir(parents=True, exist_ok=True)
                self._exporter.finish(records, replace(work, out_dir=place))
                write_index(place, records)
            dataset = write_cards(
                self._exporter, work, source, self._plan, self._statistics, self._problems, qa,
                failed=self.failed,
            )  # fmt: skip
            write_contact_sheet(work.out_dir, self._samples, work, picture_of)
            # All workers are done; a finished export is the same wherever it was made.
            (journal.work_dir.parent / RUN_FILE).unlink(missing_ok=True)
            return dataset, journal.commit()

    def _jobs(self, journal: Journal) -> Iterator[Job]:
        options = sorted(self._context.options.items())
        taxonomy = dump_taxonomy(self._context.taxonomy)
        seed = repr((_DIGEST_VERSION, self._exporter.name, taxonomy, options)).encode()
        for number, planned in enumerate(self._plan.items()):
            stem = planned.image.file_stem
            key = f"{planned.folder}/{stem}" if planned.folder else stem
            digest = blake2b(seed + stem.encode() + planned.packed, digest_size=16).hexdigest()
            outcome = journal.find(key, digest)
            if outcome is not None and outcome.get("image_missing"):
                outcome = None
            item = None if outcome else planned.packed
            job = Job(planned.image.task_id, key, digest, stem, item, outcome)
            if number in self._sampled:
                self._samples.append(_sample(planned))
            self._in_flight.append((replace(job, item=None), planned.image))
            yield job

    def _with_images(
        self, results: Iterable[Any], work: ExportContext, target: Target
    ) -> Iterator[tuple[Job, dict[str, Any], Placed | None]]:
        """Pair each outcome with its placed image, a few images being fetched at a time."""
        waiting: deque[tuple[Job, dict[str, Any], Future[Placed] | None]] = deque()
        with ThreadPoolExecutor(_IMAGES_AT_ONCE) as pool:
            for result in results:
                job, image = self._in_flight.popleft()
                if result.value is None:
                    self.failed += 1
                    self._problems.add([result.error] if result.error else [])
                    continue
                if "stop" in result.value:
                    raise _write_error(target, result.value["stop"])
                placing = None
                if job.outcome is None and work.options["images"] in ("copy", "link"):
                    placing = pool.submit(self._place, work, result.value, image)
                waiting.append((job, result.value, placing))
                while len(waiting) > 2 * _IMAGES_AT_ONCE or (waiting and waiting[0][2] is None):
                    yield _settled(waiting.popleft())
            while waiting:
                yield _settled(waiting.popleft())

    def _place(self, work: ExportContext, outcome: dict[str, Any], image: AnnotatedImage) -> Placed:
        record = outcome["record"]
        return self._files.place(
            parse_mode(work.options["images"]),
            image.task_id,
            image.reference,
            work.out_dir / outcome["folder"],
            record.get("image_file") or f"images/{record['file_name']}",
            (image.height_px, image.width_px),
            record.get("image_as_png", ""),
        )

    def _take(
        self, journal: Journal, job: Job, outcome: dict[str, Any], placed: Placed | None, *,
        on_cluster: bool,
    ) -> None:  # fmt: skip
        folder, record = outcome["folder"], outcome["record"]
        if placed is not None:
            outcome = _with_placed(outcome, placed)
            record = outcome["record"]
        elif job.outcome is None:
            record.pop("image_file", None)
        files = [f"{folder}/{name}" if folder else name for name in record["files"]]
        if on_cluster and not all(journal.has(name) for name in files):
            raise SegstudioError(
                f"The cluster wrote {', '.join(files)} to a disk that this machine does not see. "
                "Give --out (for a zip file or URL: --staging) a folder on storage that all "
                "machines share under the same path."
            )
        journal.add(job.key, job.digest, files, outcome)
        self._statistics[folder].add(outcome["counts"], record.get("answers", {}))
        self._problems.add(Problem(**problem) for problem in outcome["problems"])
        self.written += 1
        self.taken_over += job.outcome is not None


class _Records:
    """The exporter's own records of one file set, in task order, as often as asked."""

    def __init__(self, journal: Journal, folder: str) -> None:
        self._lines: Iterable[dict[str, Any]] = journal.records(folder)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (line["record"] for line in self._lines)


def _sample(planned: Planned) -> Sample:
    item = planned.item()
    return Sample(item.image, item.drawn)


def _settled(
    one: tuple[Job, dict[str, Any], Future[Placed] | None],
) -> tuple[Job, dict[str, Any], Placed | None]:
    job, outcome, placing = one
    return job, outcome, placing.result() if placing is not None else None


def _with_placed(outcome: dict[str, Any], placed: Placed) -> dict[str, Any]:
    """Return the outcome with the image that lies beside the annotations, or why it does not."""
    record = {**outcome["record"], "image_file": placed.file}
    outcome = {**outcome, "record": record}
    outcome["problems"] = [*outcome["problems"], *map(asdict, placed.problems)]
    if placed.file:
        record["files"] = [*record["files"], placed.file]
        # The image's kind is known now, where its address did not tell.
        if "." not in record["file_name"]:
            record["file_name"] += Path(placed.file).suffix
    else:
        counts = outcome["counts"]
        losses = {**counts["losses"], "images_not_copied": 1}
        outcome |= {"counts": {**counts, "losses": losses}, "image_missing": True}
    return outcome


def _leave_token(journal: Journal) -> str:
    """Write what workers on other machines look for, to know that they see this folder."""
    token = secrets.token_hex(16)
    write_text(journal.work_dir.parent / RUN_FILE, token)
    return token


def _write_error(target: Target, reason: str) -> SegstudioError:
    return SegstudioError(
        f"The export to {target.shown} stopped: {reason}. What was there before is unchanged; the "
        "images done so far are kept, and the same command goes on with them."
    )
