"""Snapshots of annotations in one SQLite file: who had drawn what, each time it was read.

A snapshot is one reading of a source. An annotation that is not as it was when it was read last
becomes a new revision; one that is costs nothing but a look-up. Masks are kept once for each
drawing, in a form of a few bytes a run, so that what a reviewer changed can be measured later.

    with SnapshotRecorder(Path("history.sqlite"), source) as recorder:
        for task in recorder.watch(source.tasks()):
            ...

The same file holds the trend of `segstudio qa --history`; each has its own tables and version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from segstudio.annotation_hashes import annotation_hash, drawing_hash, utc_text
from segstudio.masks import Mask, union_all
from segstudio.shapes import RegionShapeError, region_mask
from segstudio.snapshot_deletions import Deletion, Moves, find_moves, mark_moves, read_deletions
from segstudio.snapshot_store import (
    COLUMNS,
    Revision,
    SnapshotSummary,
    open_store,
    pack_runs,
    read_drawing,
    read_revisions,
    read_snapshots,
)
from segstudio.tasks import Annotation, Task

__all__ = [
    "Deletion",
    "Drawing",
    "Revision",
    "SnapshotRecorder",
    "SnapshotSummary",
    "annotation_hash",
    "drawing_hash",
    "open_store",
    "read_deletions",
    "read_drawing",
    "read_revisions",
    "read_snapshots",
    "record_snapshot",
]

ROUND_KEY: Final = "qa_round"
"""The task data field in which a rework round leaves its number."""

_CHUNK_TASKS: Final = 20


class _Described(Protocol):
    @property
    def description(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Drawing:
    """The union of one label's regions on one image."""

    hash: str
    mask: Mask


class SnapshotRecorder:
    """Records tasks as they stream by; memory is that of a few tasks.

    Leaving the block ends the snapshot; leaving it by an exception keeps the revisions seen so
    far (they are true) and records no snapshot.

    Args:
        path: the history file; made where it is not there.
        source: where the tasks come from, a text or something with a `description`.
        origin: whose ids the task ids are: the server's URL, "" for files.
        now: the time of reading, for tests.
        tells_deleted: the tasks come from a server with all their annotations, so that one that an
            earlier snapshot held and that is not there now was deleted. Filtered annotations and
            export files do not tell.
    """

    def __init__(
        self,
        path: Path,
        source: str | _Described,
        *,
        origin: str | None = None,
        now: datetime | None = None,
        tells_deleted: bool = False,
    ) -> None:
        self.path = path
        self.source = source if isinstance(source, str) else source.description
        self.summary: SnapshotSummary | None = None
        self._origin = origin if origin is not None else _origin_of(source)
        self._moment = utc_text((now or datetime.now(UTC)).isoformat()) or ""
        self._tells_deleted = tells_deleted
        self._hasher = hashlib.sha256()
        self._tasks = self._annotations = self._new = 0
        self._store = open_store(path)

    def __enter__(self) -> SnapshotRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.summary = self._finish()
        finally:
            self._store.close()

    def watch(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Hand the tasks through and record them, in pieces of a few tasks."""
        stream = iter(tasks)
        while chunk := list(islice(stream, _CHUNK_TASKS)):
            self._record(chunk)
            yield from chunk

    def add(self, tasks: Iterable[Task]) -> None:
        """Record tasks that nobody else needs."""
        for _ in self.watch(tasks):
            pass

    def _record(self, tasks: list[Task]) -> None:
        changed: list[tuple[Task, str, Annotation, str]] = []
        moved: list[Moves] = []
        for task in tasks:
            self._tasks += 1
            self._hasher.update(f"t{task.id}".encode())
            for place, annotation in enumerate(task.annotations):
                self._annotations += 1
                key, found = _key(annotation, place), annotation_hash(annotation)
                self._hasher.update(f"a{key}:{found}".encode())
                if self._latest(task.id, key) != found:
                    changed.append((task, key, annotation, found))
            if found_moves := self._moves(task):
                moved.append(found_moves)
        if not changed and not moved:
            return
        # Masks are made before the file is locked: others may want to write meanwhile.
        rows = [(*one, _drawings(one[2])) for one in changed]
        with self._store:
            self._store.execute("BEGIN IMMEDIATE")
            for task, key, annotation, found, drawings in rows:
                self._new += 1
                self._insert(task, key, annotation, found, drawings)
            for one_task in moved:
                mark_moves(self._store, self._origin, one_task, self._moment)

    def _moves(self, task: Task) -> Moves | None:
        """What came and went of a task's annotations; None where the source does not tell."""
        unreadable = any(one.kind == "unreadable-annotation" for one in task.problems)
        if not self._tells_deleted or unreadable:
            return None
        there = [_key(one, place) for place, one in enumerate(task.annotations)]
        return find_moves(self._store, self._origin, task.id, there)

    def _latest(self, task_id: int, key: str) -> str | None:
        row = self._store.execute(
            "SELECT hash FROM snapshot_revisions WHERE origin = ? AND task_id = ? AND"
            " annotation = ? ORDER BY id DESC LIMIT 1",
            (self._origin, task_id, key),
        ).fetchone()
        return None if row is None else str(row[0])

    def _insert(
        self,
        task: Task,
        key: str,
        annotation: Annotation,
        found: str,
        drawings: dict[tuple[str, int], Drawing],
    ) -> None:
        added = self._store.execute(
            f"INSERT INTO snapshot_revisions ({', '.join(COLUMNS)}, origin)"  # noqa: S608
            f" VALUES ({', '.join('?' * (len(COLUMNS) + 1))})",
            (task.id, key, found, drawing_hash(annotation), self._moment, _round(task),
             annotation.completed_by, annotation.updated_by, annotation.parent_annotation,
             utc_text(annotation.created_at), utc_text(annotation.updated_at),
             annotation.lead_time_s, annotation.was_cancelled, annotation.ground_truth,
             len(annotation.regions), self._origin),
        )  # fmt: skip
        for (label, page), drawing in drawings.items():
            mask = drawing.mask
            self._store.execute(
                "INSERT OR IGNORE INTO snapshot_drawings VALUES (?, ?, ?, ?, ?)",
                (drawing.hash, mask.height_px, mask.width_px, mask.area_px, pack_runs(mask)),
            )
            self._store.execute(
                "INSERT INTO snapshot_classes VALUES (?, ?, ?, ?)",
                (added.lastrowid, label, page, drawing.hash),
            )

    def _finish(self) -> SnapshotSummary:
        digest = self._hasher.hexdigest()
        with self._store:
            self._store.execute("BEGIN IMMEDIATE")
            latest = self._store.execute(
                "SELECT id, digest, first_read_at FROM snapshots WHERE source = ? AND origin = ?"
                " ORDER BY id DESC LIMIT 1",
                (self.source, self._origin),
            ).fetchone()
            first = self._moment
            if latest is not None and latest[1] == digest and not self._new:
                number, first = int(latest[0]), str(latest[2])
                self._store.execute(
                    "UPDATE snapshots SET last_read_at = ? WHERE id = ?", (self._moment, number)
                )
            else:
                added = self._store.execute(
                    "INSERT INTO snapshots (source, origin, first_read_at, last_read_at, tasks,"
                    " annotations, new_revisions, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (self.source, self._origin, self._moment, self._moment, self._tasks,
                     self._annotations, self._new, digest),
                )  # fmt: skip
                number = int(added.lastrowid or 0)
        return SnapshotSummary(
            number, self.source, first, self._moment, self._tasks, self._annotations, self._new,
            digest,
        )  # fmt: skip


def record_snapshot(
    path: Path,
    source: str | _Described,
    tasks: Iterable[Task],
    *,
    origin: str | None = None,
    now: datetime | None = None,
    tells_deleted: bool = False,
) -> SnapshotSummary:
    """Record all tasks of a stream as one snapshot; see `SnapshotRecorder`.

    Raises:
        UsageError: the file is none of ours, or cannot be written.
    """
    with SnapshotRecorder(
        path, source, origin=origin, now=now, tells_deleted=tells_deleted
    ) as recorder:
        recorder.add(tasks)
    if recorder.summary is None:  # pragma: no cover - leaving the block sets it
        raise RuntimeError("The snapshot was not finished.")
    return recorder.summary


def _drawings(annotation: Annotation) -> dict[tuple[str, int], Drawing]:
    """The union of each label's regions, by (label, page); what cannot be read is left out."""
    masks: dict[tuple[str, int], list[Mask]] = {}
    for region in annotation.regions:
        if region.kind == "keypoint":
            continue
        try:
            mask = region_mask(region)
        except RegionShapeError:
            continue
        for label in region.labels or ("",):
            masks.setdefault((label, region.item_index), []).append(mask)
    drawings = {}
    for key, parts in sorted(masks.items()):
        height_px, width_px = parts[0].height_px, parts[0].width_px
        same = [one for one in parts if (one.height_px, one.width_px) == (height_px, width_px)]
        whole = union_all(same, height_px, width_px)
        size = f"{height_px}x{width_px}".encode()
        digest = hashlib.sha256(size + whole.runs.astype("<i8").tobytes()).hexdigest()
        drawings[key] = Drawing(digest, whole)
    return drawings


def _key(annotation: Annotation, place: int) -> str:
    if annotation.id is not None:
        return str(annotation.id)
    return annotation.unique_id or f"{annotation.completed_by}@{place}"


def _round(task: Task) -> int:
    found = task.data.get(ROUND_KEY)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _origin_of(source: object) -> str:
    client = getattr(source, "client", None)
    return str(getattr(client, "url", ""))
