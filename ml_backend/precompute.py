"""Every image of a project encoded ahead of the annotators, into the folder that `serve` reads.

Embeddings are named by image content, so finding out whether one is there would mean fetching every
image again. A small marker file an image reference remembers what it led to: a second run, or one
that goes on after a kill, passes over finished images without a request. A marker is no more than
a hint; the server itself always goes by content.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

from ml_backend.embeddings import EmbeddingStore, dumps, embedding_key, write_atomically
from ml_backend.engines import Engine, EngineError
from ml_backend.engines.registry import load_engine
from ml_backend.images import ImageError, image_references, load_pixels
from segstudio import media
from segstudio.client import Client, connect
from segstudio.compute import available_workers, map_tasks
from segstudio.errors import SegstudioError
from segstudio.progress import ProgressLine
from segstudio.source import Source
from segstudio.tasks import Task

__all__ = [
    "Failure",
    "PrecomputePlan",
    "PrecomputeSummary",
    "encode_item",
    "precompute",
    "process_engine",
]

_MODELS_FOR_ONE_CORE = frozenset({"tiny", "classical"})
_KEPT_FAILURES = 1000
_TRIM_EVERY_BYTES_FRACTION = 16


@dataclass(frozen=True)
class PrecomputePlan:
    """What a worker must know, wherever it runs. Secrets are kept out of `repr`.

    `folder` is where workers write; None where they share no disk with the caller (a cluster) and
    hand the embeddings back. `cache_key` names the model that the caller expects.
    """

    model: str
    device: str
    cache_key: str
    threads: int | None = None
    folder: Path | None = None
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    insecure: bool = False
    local_roots: tuple[Path, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_image_bytes: int = 128 << 20
    max_image_pixels: int = 100_000_000


@dataclass(frozen=True, slots=True)
class PrecomputeItem:
    """One task with the images that are still to do."""

    task_id: int
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What became of one image: its key and size on disk, or an error.

    `content` is the file to write, from workers that have no folder to write it in.
    """

    reference: str
    key: str = ""
    size_bytes: int = 0
    was_there: bool = False
    content: bytes | None = field(default=None, repr=False)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An image, or a task, without embedding, and why."""

    task_id: int | None
    reference: str
    reason: str


@dataclass(slots=True)
class PrecomputeSummary:
    """Counts of images; `failures` keeps the first thousand, `failed` counts all.

    `is_full` says that the run ended early: its embeddings fill the folder's limit.
    """

    tasks: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    size_bytes: int = 0
    untrimmed_bytes: int = 0
    is_full: bool = False
    failures: list[Failure] = field(default_factory=list)

    def fail(self, failure: Failure) -> None:
        """Count one more failure."""
        self.failed += 1
        if len(self.failures) < _KEPT_FAILURES:
            self.failures.append(failure)


def precompute(
    source: Source,
    plan: PrecomputePlan,
    store: EmbeddingStore,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    label: str = "precompute",
    on_failure: Callable[[Failure], None] = lambda failure: None,
) -> PrecomputeSummary:
    """Encode the images of all tasks that have no embedding yet.

    Args:
        source: the tasks, streamed; memory does not grow with their number.
        plan: the model and where images may come from; its `folder` and `threads` are set here.
        store: where the embeddings go, and what tells which are there.
        workers: processes; None takes one a core for small models and one for large ones, which
            fill all cores by themselves.
        cluster: address of a Ray cluster, whose workers need not share a disk with this machine.
        label: of the progress bar; empty shows none.
        on_failure: called with each failure as it happens; nothing stops for it.

    Raises:
        SegstudioError: the source cannot be read, or no cluster answers.
    """
    assert store.folder is not None  # noqa: S101 - there is nothing to do without one
    summary = PrecomputeSummary()
    started_s = time.time() - 1  # file systems' clocks are coarse
    if workers is None and plan.model not in _MODELS_FOR_ONE_CORE:
        workers = 1
    if cluster is not None:
        plan = _changed(plan, folder=None, threads=plan.threads or 1)
    else:
        cores = available_workers()
        plan = _changed(
            plan, folder=store.folder, threads=plan.threads or max(1, cores // (workers or cores))
        )

    def fail(failure: Failure) -> None:
        summary.fail(failure)
        on_failure(failure)

    with ProgressLine(label, source.count()) as progress:

        def unfinished() -> Iterator[PrecomputeItem]:
            for task in source.tasks():
                if summary.is_full:
                    return
                summary.tasks += 1
                item = _unfinished(task, source, plan, store, summary, fail)
                if item is None:
                    progress.advance()
                else:
                    yield item

        results = map_tasks(
            partial(encode_item, plan), unfinished(), workers=workers, cluster=cluster
        )
        for result in results:
            failed_before = summary.failed
            if result.value is None:
                reason = result.error.message if result.error else "It was lost."
                fail(Failure(result.error.task_id if result.error else None, "", reason))
            else:
                task_id, outcomes = result.value
                for outcome in outcomes:
                    _take(task_id, outcome, plan, store, summary, fail)
            summary.is_full = _make_room(store, summary, started_s)
            progress.advance(failed=summary.failed > failed_before)
    for problem in source.problems:
        fail(Failure(problem.task_id, "", problem.message))
    store.trim()
    return summary


def encode_item(plan: PrecomputePlan, item: PrecomputeItem) -> tuple[int, tuple[ImageOutcome, ...]]:
    """Encode the images of one task in a worker; an image that fails is an outcome, no exception.

    Raises EngineError where the worker's model is not the one that the plan expects.
    """
    engine, client = _tools(plan)
    if engine.cache_key != plan.cache_key:
        raise EngineError(
            f"This worker's model is {engine.cache_key}, not {plan.cache_key} as expected: its "
            f"embeddings would not be found. Give all machines the same weights and a processor "
            f"with the same number formats (bfloat16)."
        )
    outcomes = tuple(_encode(plan, engine, client, item.task_id, one) for one in item.references)
    return item.task_id, outcomes


def _encode(
    plan: PrecomputePlan, engine: Engine, client: Client | None, task_id: int, reference: str
) -> ImageOutcome:
    try:
        content = media.image_bytes(
            reference,
            client,
            plan.local_roots,
            task_id=task_id,
            allowed_hosts=plan.allowed_hosts or None,
            max_bytes=plan.max_image_bytes,
        )
        key = embedding_key(hashlib.sha256(content).hexdigest(), engine.cache_key)
        store = None
        if plan.folder is not None:
            store = _worker_store(plan.folder)
            if (size_bytes := store.stored_bytes(key)) is not None:
                return ImageOutcome(reference, key, size_bytes, was_there=True)
        file = dumps(engine.encode(load_pixels(content, max_pixels=plan.max_image_pixels)))
        if store is None:
            return ImageOutcome(reference, key, len(file), content=file)
        store.put_file(key, file)
        return ImageOutcome(reference, key, len(file))
    except SegstudioError as error:
        return ImageOutcome(reference, error=str(error))
    except OSError as error:
        return ImageOutcome(reference, error=f"The embedding could not be written: {error}.")
    except Exception as error:  # whatever a photo does to a model must not cost its neighbours
        return ImageOutcome(reference, error=f"{type(error).__name__}: {error}")


def _make_room(store: EmbeddingStore, summary: PrecomputeSummary, started_s: float) -> bool:
    """Trim the folder now and then; say whether this run's own embeddings fill it."""
    limit_bytes = store.folder_limit_bytes
    if summary.size_bytes >= limit_bytes:
        # The sum counts a photo once for each task that shows it, the folder once.
        summary.size_bytes = store.bytes_used_since(started_s)
    if summary.size_bytes >= limit_bytes:
        return True
    if summary.untrimmed_bytes * _TRIM_EVERY_BYTES_FRACTION >= limit_bytes:
        summary.untrimmed_bytes = 0
        store.trim()  # what was used longest ago goes, which is nothing of this run
    return False


def _unfinished(
    task: Task,
    source: Source,
    plan: PrecomputePlan,
    store: EmbeddingStore,
    summary: PrecomputeSummary,
    fail: Callable[[Failure], None],
) -> PrecomputeItem | None:
    """The images of a task that no earlier run has finished; None where there is nothing to do."""
    try:
        references = image_references(task.data, source.label_config)
    except ImageError as error:
        fail(Failure(task.id, "", str(error)))
        return None
    left = []
    for reference in references:
        size_bytes = _marked_bytes(_marker(store, plan, task.id, reference), store)
        if size_bytes is None:
            left.append(reference)
        else:
            summary.skipped += 1
            summary.size_bytes += size_bytes
    return PrecomputeItem(task.id, tuple(left)) if left else None


def _take(
    task_id: int,
    outcome: ImageOutcome,
    plan: PrecomputePlan,
    store: EmbeddingStore,
    summary: PrecomputeSummary,
    fail: Callable[[Failure], None],
) -> None:
    """Count an outcome, write what came from afar, and mark the image as finished."""
    if outcome.error is not None:
        fail(Failure(task_id, outcome.reference, outcome.error))
        return
    try:
        was_there = outcome.was_there
        if outcome.content is not None:
            was_there = store.stored_bytes(outcome.key) is not None
            if not was_there:
                store.put_file(outcome.key, outcome.content)
        marker = _marker(store, plan, task_id, outcome.reference)
        write_atomically(marker, outcome.key.encode())
    except OSError as error:
        fail(Failure(task_id, outcome.reference, f"It could not be written: {error}."))
        return
    summary.size_bytes += outcome.size_bytes
    if was_there:
        summary.skipped += 1
    else:
        summary.done += 1
        summary.untrimmed_bytes += outcome.size_bytes


def _marker(store: EmbeddingStore, plan: PrecomputePlan, task_id: int, reference: str) -> Path:
    """The file that remembers what an image reference led to under this model."""
    # The same path means another file on another server or below other folders, and a cloud URI
    # another object through another project's storage.
    scope = str(task_id) if "://" in reference else ""
    roots = "\n".join(str(root) for root in plan.local_roots)
    text = "\0".join([plan.cache_key, plan.url or "", roots, scope, reference])
    name = hashlib.sha256(text.encode()).hexdigest()
    assert store.folder is not None  # noqa: S101
    return store.folder / "references" / name[:2] / name


def _marked_bytes(marker: Path, store: EmbeddingStore) -> int | None:
    """Size of the embedding that a marker names, None where it or the embedding is missing."""
    try:
        key = marker.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    is_key = len(key) == 64 and set(key) <= set("0123456789abcdef")
    return store.stored_bytes(key) if is_key else None


@lru_cache(maxsize=1)
def process_engine(model: str, device: str) -> Engine:
    """Load a model once for this process."""
    return load_engine(model, device)


@lru_cache(maxsize=1)
def _tools(plan: PrecomputePlan) -> tuple[Engine, Client | None]:
    """This process's model and connection, made once."""
    engine = process_engine(plan.model, plan.device)
    if plan.threads is not None and "torch" in sys.modules:
        import torch

        torch.set_num_threads(plan.threads)
    client = None
    if plan.url and plan.api_key:
        client = connect(plan.url, plan.api_key, ca_bundle=plan.ca_bundle, insecure=plan.insecure)
    return engine, client


@lru_cache(maxsize=1)
def _worker_store(folder: Path) -> EmbeddingStore:
    return EmbeddingStore(0, folder)


def _changed(plan: PrecomputePlan, *, folder: Path | None, threads: int | None) -> PrecomputePlan:
    return replace(plan, folder=folder, threads=threads)
