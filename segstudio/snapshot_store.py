"""The SQLite tables of snapshots, and what is read from them; `segstudio.snapshots` writes them."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from segstudio.errors import UsageError
from segstudio.masks import Mask

SCHEMA_VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE snapshot_schema (version INTEGER NOT NULL);
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    origin TEXT NOT NULL,
    first_read_at TEXT NOT NULL,
    last_read_at TEXT NOT NULL,
    tasks INTEGER NOT NULL,
    annotations INTEGER NOT NULL,
    new_revisions INTEGER NOT NULL,
    digest TEXT NOT NULL
);
CREATE TABLE snapshot_revisions (
    id INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    task_id INTEGER NOT NULL,
    annotation TEXT NOT NULL,
    hash TEXT NOT NULL,
    drawing_hash TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    round INTEGER NOT NULL,
    annotator_id INTEGER,
    changed_by INTEGER,
    copied_from INTEGER,
    created_at TEXT,
    updated_at TEXT,
    lead_time_s REAL,
    was_cancelled INTEGER NOT NULL,
    ground_truth INTEGER NOT NULL,
    regions INTEGER NOT NULL
);
CREATE INDEX snapshot_revisions_of ON snapshot_revisions (origin, task_id, annotation, id);
CREATE TABLE snapshot_drawings (
    hash TEXT PRIMARY KEY,
    height_px INTEGER NOT NULL,
    width_px INTEGER NOT NULL,
    area_px INTEGER NOT NULL,
    runs BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE snapshot_classes (
    revision_id INTEGER NOT NULL REFERENCES snapshot_revisions (id),
    label TEXT NOT NULL,
    page INTEGER NOT NULL,
    drawing TEXT NOT NULL REFERENCES snapshot_drawings (hash),
    PRIMARY KEY (revision_id, label, page)
) WITHOUT ROWID;
"""
# Came later, beside the tables of version 1: files without it get it when they are opened.
_DELETIONS: Final = """
CREATE TABLE IF NOT EXISTS snapshot_deletions (
    origin TEXT NOT NULL,
    task_id INTEGER NOT NULL,
    annotation TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (origin, task_id, annotation)
) WITHOUT ROWID
"""
COLUMNS: Final = (
    "task_id", "annotation", "hash", "drawing_hash", "seen_at", "round", "annotator_id",
    "changed_by", "copied_from", "created_at", "updated_at", "lead_time_s", "was_cancelled",
    "ground_truth", "regions",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SnapshotSummary:
    """One reading: how much was read, what was new, and the hash of all of it in its order.

    Attributes:
        id: the snapshot's number in its file.
        source: what was read.
        first_read_at: when these very annotations were first read so (UTC).
        last_read_at: when last.
        tasks: how many were read.
        annotations: how many they had.
        new_revisions: annotations that were not as they had been, or not there.
        digest: sha256 of task ids and annotation hashes, in the order in which they came.
    """

    id: int
    source: str
    first_read_at: str
    last_read_at: str
    tasks: int
    annotations: int
    new_revisions: int
    digest: str


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of one annotation, as a snapshot first found it; times are UTC.

    Attributes:
        task_id: the task.
        annotation: the annotation's id as text, or its place where it has none.
        hash: its `annotation_hash`.
        drawing_hash: its `drawing_hash`: the same when it was saved again without a change.
        seen_at: when a snapshot first found it.
        round: the rework round that the task was in, 0 before any.
        annotator_id: whose annotation it is.
        changed_by: who saved it last, where the source says so.
        copied_from: the annotation it began as.
        created_at: when it was made.
        updated_at: when it was saved.
        lead_time_s: time spent on it, all saves together.
        was_cancelled: it was skipped.
        ground_truth: it was marked as such.
        regions: how many it had.
        classes: the hash of what was drawn, by (label, page).
    """

    task_id: int
    annotation: str
    hash: str
    drawing_hash: str
    seen_at: str
    round: int
    annotator_id: int | None
    changed_by: int | None
    copied_from: int | None
    created_at: str | None
    updated_at: str | None
    lead_time_s: float | None
    was_cancelled: bool
    ground_truth: bool
    regions: int
    classes: dict[tuple[str, int], str]


def read_revisions(
    path: Path, *, task_id: int | None = None, origin: str | None = None
) -> Iterator[Revision]:
    """Yield the revisions, those of one annotation together and the oldest first.

    Args:
        path: the history file; one without snapshots has none.
        task_id: only this task's.
        origin: only of this server (its URL, "" for files).

    Raises:
        UsageError: the file is none of ours.
    """
    given = {"task_id": task_id, "origin": origin}
    wanted = {name: value for name, value in given.items() if value is not None}
    where = "WHERE " + " AND ".join(f"{name} = ?" for name in wanted) if wanted else ""
    with closing(open_store(path)) as store:
        rows = store.execute(
            f"SELECT id, {', '.join(COLUMNS)} FROM snapshot_revisions {where}"  # noqa: S608
            " ORDER BY origin, task_id, annotation, id",
            tuple(wanted.values()),
        )
        for revision_id, *fields in rows:
            classes = {
                (label, page): drawing
                for label, page, drawing in store.execute(
                    "SELECT label, page, drawing FROM snapshot_classes WHERE revision_id = ?",
                    (revision_id,),
                )
            }
            found = dict(zip(COLUMNS, fields, strict=True))
            for name in ("was_cancelled", "ground_truth"):
                found[name] = bool(found[name])
            yield Revision(**found, classes=classes)


def read_snapshots(path: Path) -> list[SnapshotSummary]:
    """Return the snapshots of a history file, the oldest first."""
    with closing(open_store(path)) as store:
        rows = store.execute(
            "SELECT id, source, first_read_at, last_read_at, tasks, annotations, new_revisions,"
            " digest FROM snapshots ORDER BY id"
        ).fetchall()
    return [SnapshotSummary(*row) for row in rows]


def read_drawing(store: sqlite3.Connection, drawing: str) -> Mask:
    """Return the mask of a drawing's hash, from an opened history (`open_store`).

    Raises:
        KeyError: the history has no such drawing.
    """
    row = store.execute(
        "SELECT height_px, width_px, runs FROM snapshot_drawings WHERE hash = ?", (drawing,)
    ).fetchone()
    if row is None:
        raise KeyError(drawing)
    return unpack_runs(row[0], row[1], row[2])


def pack_runs(mask: Mask) -> bytes:
    """Return a mask's runs in a few bytes each: their lengths and gaps, compressed."""
    steps = np.diff(mask.runs.reshape(-1), prepend=0).astype("<u4")
    return zlib.compress(steps.tobytes(), 6)


def unpack_runs(height_px: int, width_px: int, packed: bytes) -> Mask:
    """Return the mask that `pack_runs` packed."""
    steps = np.frombuffer(zlib.decompress(packed), dtype="<u4").astype(np.int64)
    return Mask.from_runs(height_px, width_px, np.cumsum(steps).reshape(-1, 2))


def open_store(path: Path) -> sqlite3.Connection:
    """Open a history file for snapshots, making its tables where they are missing.

    Raises:
        UsageError: the file is none of ours, of another version, or cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(path, timeout=30, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise UsageError(f"The history {path} cannot be opened: {error}.") from error
    try:
        _prepare(store, path)
    except sqlite3.Error as error:
        store.close()
        raise UsageError(
            f"{path} cannot be used as a history: {error}. Give --history a file of its own."
        ) from error
    except UsageError:
        store.close()
        raise
    return store


def _prepare(store: sqlite3.Connection, path: Path) -> None:
    _make_tables(store, path)
    known = "SELECT count(*) FROM sqlite_master WHERE name = 'snapshot_deletions'"
    if not store.execute(known).fetchone()[0]:
        store.execute(_DELETIONS)


def _make_tables(store: sqlite3.Connection, path: Path) -> None:
    if _is_ready(store, path):
        return
    with store:
        store.execute("BEGIN IMMEDIATE")  # two first runs at once make the tables once
        if _is_ready(store, path):
            return
        names = {row[0] for row in store.execute("SELECT name FROM sqlite_master")}
        if names and "batches" not in names:
            raise UsageError(
                f"{path} is a database of something else; give --history a file of its own."
            )
        for statement in _TABLES.split(";"):
            store.execute(statement)
        store.execute("INSERT INTO snapshot_schema VALUES (?)", (SCHEMA_VERSION,))


def _is_ready(store: sqlite3.Connection, path: Path) -> bool:
    """Whether the tables are there; those of another version are refused."""
    known = "SELECT count(*) FROM sqlite_master WHERE name = 'snapshot_schema'"
    if not store.execute(known).fetchone()[0]:
        return False
    (version,) = store.execute("SELECT version FROM snapshot_schema").fetchone()
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"The snapshots in {path} are of version {version}, and this program reads "
            f"{SCHEMA_VERSION}; give --history a file of its own."
        )
    return True
