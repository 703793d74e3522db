"""The figures of earlier batches in one SQLite file, so that a report can show where they go.

One file a project. A row is a batch as it was measured: its source, its name, and a hash of what
was measured. Measured again without a change it stays one row; after rework it is a new row of the
same batch, and the trend shows the latest.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from segstudio.errors import UsageError

SCHEMA_VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    batch TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    measured_at TEXT NOT NULL,
    compared_tasks INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    threshold REAL,
    miou REAL, low REAL, high REAL,
    UNIQUE (source, batch, content_hash)
);
CREATE TABLE classes (
    batch_id INTEGER NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    iou REAL, low REAL, high REAL,
    PRIMARY KEY (batch_id, name)
);
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with its 95% interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch of the trend; ``threshold`` is the mIoU that its gates asked for."""

    source: str
    batch: str
    measured_at: str
    compared_tasks: int
    verdict: str
    threshold: float | None
    miou: Measured | None
    classes: Mapping[str, Measured]

    @property
    def label(self) -> str:
        """What to call the batch: its name, else where it came from."""
        return self.batch or self.source


def content_hash(result: Mapping[str, Any]) -> str:
    """A hash of what was measured, whatever the gates said of it."""
    measured = {
        "tasks": [
            {key: task[key] for key in ("id", "miou", "classes", "annotators")}
            for task in result["tasks"]
        ],
        "classes": [[one["name"], one["iou"]["accumulated"]] for one in result["classes"]],
        "pairs": result["batch"]["pairs"],
    }
    text = json.dumps(measured, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def record_batch(
    path: Path,
    result: Mapping[str, Any],
    batch: str = "",
    threshold: float | None = None,
    now: datetime | None = None,
) -> bool:
    """Put a result into the history; say whether it is new there.

    A batch that nobody could be compared on has no figure and is left out.

    Raises:
        UsageError: the file is no history of ours, or cannot be written.
    """
    measured = result["batch"]
    if not measured["compared_tasks"]:
        return False
    miou = measured["miou"]
    low, high = miou["ci95_accumulated"] or (None, None)
    moment = (now or datetime.now(UTC)).isoformat(timespec="microseconds")
    key = (str(result["source"]), batch, content_hash(result))
    with closing(_open(path)) as store, store:
        known = store.execute(
            "SELECT id FROM batches WHERE source = ? AND batch = ? AND content_hash = ?", key
        ).fetchone()
        if known:
            # The gates may be others today; when it was measured first stays as it is.
            store.execute(
                "UPDATE batches SET verdict = ?, threshold = ? WHERE id = ?",
                (measured["verdict"], threshold, known[0]),
            )
            return False
        added = store.execute(
            "INSERT INTO batches (source, batch, content_hash, measured_at, compared_tasks,"
            " verdict, threshold, miou, low, high) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, moment, measured["compared_tasks"], measured["verdict"], threshold,
             miou["accumulated"], low, high),
        )  # fmt: skip
        store.executemany(
            "INSERT INTO classes VALUES (?, ?, ?, ?, ?)",
            [
                (added.lastrowid, one["name"], one["iou"]["accumulated"],
                 *(one["iou"]["ci95_accumulated"] or (None, None)))
                for one in result["classes"]
                if one["iou"]["accumulated"] is not None
            ],
        )  # fmt: skip
    return True


def read_history(path: Path) -> list[BatchRecord]:
    """The latest state of each batch, in the order in which the batches were first measured.

    Raises:
        UsageError: the file is no history of ours.
    """
    with closing(_open(path)) as store:
        rows = store.execute(
            "SELECT id, source, batch, measured_at, compared_tasks, verdict, threshold, miou, low,"
            " high FROM batches ORDER BY measured_at, id"
        ).fetchall()
        classes: dict[int, dict[str, Measured]] = {}
        for batch_id, name, iou, low, high in store.execute("SELECT * FROM classes ORDER BY name"):
            classes.setdefault(batch_id, {})[name] = Measured(iou, low, high)
    latest: dict[tuple[str, str], BatchRecord] = {}
    for batch_id, source, batch, at, tasks, verdict, threshold, miou, low, high in rows:
        value = None if miou is None else Measured(miou, low, high)
        latest[source, batch] = BatchRecord(
            source, batch, at, tasks, verdict, threshold, value, classes.get(batch_id, {})
        )
    return list(latest.values())


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(path, timeout=30)
    except (OSError, sqlite3.Error) as error:
        raise UsageError(f"The history {path} cannot be opened: {error}.") from error
    try:
        _prepare(store, path)
    except sqlite3.Error as error:
        store.close()
        raise UsageError(
            f"{path} cannot be used as a QA history: {error}. Give --history a file of its own."
        ) from error
    except UsageError:
        store.close()
        raise
    return store


def _prepare(store: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file; refuse a file of somebody else."""
    store.execute("PRAGMA foreign_keys = ON")
    with store:
        store.execute("BEGIN IMMEDIATE")  # two first runs at once make the tables once
        (version,) = store.execute("PRAGMA user_version").fetchone()
        # Snapshots of annotations share the file, with tables and a version of their own.
        (tables,) = store.execute(
            "SELECT count(*) FROM sqlite_master WHERE tbl_name NOT LIKE 'snapshot%'"
        ).fetchone()
        if version == 0 and tables == 0:
            for statement in _TABLES.split(";"):
                store.execute(statement)
            store.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise UsageError(
                f"{path} is no QA history of this version (it says {version}, this is "
                f"{SCHEMA_VERSION}); give --history a file of its own."
            )
