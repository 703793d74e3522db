"""Runs an export: reads, decides, writes in parallel, resumes, sums up."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from exporters.card import check_folder, write_cards
from exporters.contact_sheet import Sample, write_contact_sheet
from exporters.journal import Journal
from exporters.plan import Plan, SizeOf, WorkItem, make_plan
from exporters.problems import ProblemLog
from exporters.records import scene_of
from exporters.statistics import Statistics, count_scene
from segstudio.compute import map_tasks
from segstudio.consensus import consensus_regions
from segstudio.errors import SegstudioError, UsageError
from segstudio.plugins import ExportContext, Exporter, find_exporter
from segstudio.scene import OVERLAP_POLICIES
from segstudio.selection import parse_policy
from segstudio.source import Source
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy, derive_taxonomy, dump_taxonomy, load_taxonomy

_SAMPLES = 12
# Part of every digest: raise it when the bytes of a format change.
_DIGEST_VERSION = "1"


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What an export did, for the caller and for the last lines of the command."""

    format_name: str
    out_dir: Path
    images: int
    taken_over: int
    failed: int
    stale_files_removed: int
    dataset: Mapping[str, Any]
    next_step: str


@dataclass(frozen=True, slots=True)
class Job:
    """One image on its way to a worker: its pickled item, or what an earlier run made of it."""

    task_id: int
    key: str
    digest: str
    item: bytes | None
    outcome: dict[str, Any] | None = None


def run_export(
    format_name: str,
    source: Source,
    out_dir: Path,
    *,
    taxonomy: Taxonomy | None = None,
    annotations: str | None = None,
    strict: bool = False,
    options: Mapping[str, str] | None = None,
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
        out_dir: the output folder; an earlier export of the same format there is brought up to
            date, finished images of a killed one are taken over.
        taxonomy: by default the one beside the source, else derived from its interface.
        annotations: the policy, see `segstudio.selection`.
        strict: stop at the first thing that was annotated and does not reach the export.
        options: the format's own; `overlap` is the overlap policy of every format.
        workers: processes; the bytes do not depend on it.
        cluster: address of a Ray cluster.
        size_of: (task id, reference) -> (height_px, width_px), for images without regions.
        picture_of: (task id, reference) -> RGB array, for the contact sheet.
        qa: a qa.json, whose verdict goes on the card.
        show_progress: on stderr.

    Raises:
        UsageError: unknown format, policy or overlap policy; a folder with another format.
        SelectionError: the policy leaves a choice open; nothing has been written.
        SegstudioError: strict and something was lost, or nothing could be exported.
    """
    exporter = find_exporter(format_name)
    policy = parse_policy(annotations)
    options = dict(options or {})
    if options.setdefault("overlap", "draw-order") not in OVERLAP_POLICIES:
        raise UsageError(
            f"There is no overlap policy '{options['overlap']}'; choose one of "
            f"{', '.join(OVERLAP_POLICIES)}."
        )
    check_folder(out_dir, format_name)
    if taxonomy is None:
        taxonomy = choose_taxonomy(source)
    # A format that reads files of its own does so here: their content, not their name, counts.
    if hasattr(exporter, "prepare"):
        options = dict(exporter.prepare(options, taxonomy))
    problems = ProblemLog(strict=strict)
    context = ExportContext(out_dir, taxonomy, source.label_config, options)
    plan = make_plan(source, policy, problems, size_of, show_progress=show_progress)
    try:
        statistics = {folder: Statistics() for folder in plan.folders}
        with Journal(out_dir) as journal:
            label = f"export {format_name}" if show_progress else ""
            run = _Run(exporter, context, plan, journal, problems, statistics)
            run.write_images(workers, cluster, label)
            if plan.images and not run.written:
                raise SegstudioError(
                    f"None of {plan.images} images could be exported; the first reason: "
                    f"{problems.first[-1].message if problems.first else 'unknown'}"
                )
            for folder in sorted(plan.folders):
                records = _Records(journal, folder)
                exporter.finish(records, replace(context, out_dir=out_dir / folder))
            removed = journal.commit()
        dataset = write_cards(
            exporter, context, source, plan, statistics, problems, qa, failed=run.failed
        )
        write_contact_sheet(out_dir, run.samples, context, picture_of)
    finally:
        plan.close()
    return ExportSummary(
        format_name=format_name,
        out_dir=out_dir,
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
        journal: Journal,
        problems: ProblemLog,
        statistics: dict[str, Statistics],
    ) -> None:
        self._exporter = exporter
        self._context = context
        self._plan = plan
        self._journal = journal
        self._problems = problems
        self._statistics = statistics
        self._in_flight: list[Job] = []
        self._sampled = set(range(0, plan.images, max(1, -(-plan.images // _SAMPLES))))
        self.samples: list[Sample] = []
        self.written = self.taken_over = self.failed = 0

    def write_images(self, workers: int | None, cluster: str | None, label: str) -> None:
        work = partial(_export_image, self._exporter, self._context)
        results = map_tasks(
            work, self._jobs(), workers=workers, label=label, cluster=cluster,
            total=self._plan.images,
        )  # fmt: skip
        for result in results:
            job = self._in_flight.pop(0)
            if result.value is None:
                self.failed += 1
                self._problems.add([result.error] if result.error else [])
                continue
            self._take(job, result.value)

    def _jobs(self) -> Iterator[Job]:
        options = sorted(self._context.options.items())
        taxonomy = dump_taxonomy(self._context.taxonomy)
        seed = repr((_DIGEST_VERSION, self._exporter.name, taxonomy, options)).encode()
        for number, blob in enumerate(self._plan.items()):
            item = self._plan.named(pickle.loads(blob))  # noqa: S301 - our own spool
            stem = item.image.file_stem
            key = f"{item.folder}/{stem}" if item.folder else stem
            digest = blake2b(seed + stem.encode() + blob, digest_size=16).hexdigest()
            outcome = self._journal.find(key, digest)
            job = Job(item.image.task_id, key, digest, None if outcome else blob, outcome)
            if number in self._sampled:
                self.samples.append(Sample(item.image, item.drawn))
            self._in_flight.append(replace(job, item=None))
            yield job if outcome else replace(job, item=pickle.dumps(item, protocol=5))

    def _take(self, job: Job, outcome: dict[str, Any]) -> None:
        folder = outcome["folder"]
        files = [f"{folder}/{name}" if folder else name for name in outcome["record"]["files"]]
        self._journal.add(job.key, job.digest, files, outcome)
        self._statistics[folder].add(outcome["counts"])
        self._problems.add(Problem(**problem) for problem in outcome["problems"])
        self.written += 1
        self.taken_over += job.outcome is not None


class _Records:
    """The exporter's own records of one file set, in task order, as often as asked."""

    def __init__(self, journal: Journal, folder: str) -> None:
        self._lines: Iterable[dict[str, Any]] = journal.records(folder)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (line["record"] for line in self._lines)


def _export_image(exporter: Exporter, context: ExportContext, job: Job) -> dict[str, Any]:
    """Do one image in a worker; return its JSON-able outcome."""
    if job.outcome is not None:
        return job.outcome
    assert job.item is not None  # noqa: S101 - for mypy: a job has one or the other
    item: WorkItem = pickle.loads(job.item)  # noqa: S301 - our own parent's
    image, taxonomy = item.image, context.taxonomy
    losses: dict[str, int] = {}
    problems: tuple[Problem, ...] = ()
    if item.drawn:
        agreed = consensus_regions(item.drawn, taxonomy, image.height_px, image.width_px)
        image = replace(image, regions=agreed.regions)
        losses["objects_without_majority"] = agreed.objects_without_majority
        problems = tuple(replace(one, task_id=image.task_id) for one in agreed.problems)
    if item.folder:
        context = replace(context, out_dir=context.out_dir / item.folder)
    record = {"files": [], **exporter.write_image(image, context)}
    scene = scene_of(image, context)
    counts = count_scene(scene)
    counts["losses"] = {**counts["losses"], **losses, **record.get("losses", {})}
    return {
        "folder": item.folder,
        "record": record,
        "counts": counts,
        "problems": [asdict(problem) for problem in (*problems, *scene.problems)],
    }
