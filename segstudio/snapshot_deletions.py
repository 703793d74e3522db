"""Annotations that a history holds and that are gone on the server.

`segstudio.snapshots` marks them. Marks lie in a table of their own beside the revisions, which
stay: a deleted annotation can still be read from the history.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from segstudio.snapshot_store import Revision, open_store, read_revisions


@dataclass(frozen=True, slots=True)
class Deletion:
    """An annotation that a snapshot held and that a later reading did not find on its task.

    Attributes:
        task_id: the task.
        annotation: the annotation's id as text.
        seen_at: when it was first found to be gone (UTC).
        last: its last revision.
    """

    task_id: int
    annotation: str
    seen_at: str
    last: Revision


@dataclass(frozen=True, slots=True)
class Moves:
    """Of one task, the annotations that are newly gone, and those that are there again."""

    task_id: int
    lost: frozenset[str]
    back: frozenset[str]

    def __bool__(self) -> bool:
        """Tell whether there is anything to mark."""
        return bool(self.lost or self.back)


def find_moves(
    store: sqlite3.Connection, origin: str, task_id: int, there: Collection[str]
) -> Moves:
    """Compare the annotations that are on a task now with what the history knows of it.

    Args:
        store: an opened history.
        origin: the server's URL.
        task_id: the task.
        there: the ids of all its annotations now.
    """
    known, marked = (
        frozenset(
            str(key)
            for (key,) in store.execute(
                f"SELECT DISTINCT annotation FROM {table}"  # noqa: S608
                " WHERE origin = ? AND task_id = ?",
                (origin, task_id),
            )
        )
        for table in ("snapshot_revisions", "snapshot_deletions")
    )
    return Moves(task_id, known - marked - frozenset(there), marked & frozenset(there))


def mark_moves(store: sqlite3.Connection, origin: str, moves: Moves, moment: str) -> None:
    """Write down what `find_moves` found, within the caller's transaction."""
    store.executemany(
        "INSERT OR IGNORE INTO snapshot_deletions VALUES (?, ?, ?, ?)",
        [(origin, moves.task_id, key, moment) for key in sorted(moves.lost)],
    )
    store.executemany(
        "DELETE FROM snapshot_deletions WHERE origin = ? AND task_id = ? AND annotation = ?",
        [(origin, moves.task_id, key) for key in sorted(moves.back)],
    )


def read_deletions(path: Path, *, origin: str | None = None) -> Iterator[Deletion]:
    """Yield the annotations that were deleted, by task and id.

    Args:
        path: the history file; one without snapshots has none.
        origin: only of this server (its URL).

    Raises:
        UsageError: the file is none of ours.
    """
    with closing(open_store(path)) as store:
        rows = store.execute(
            "SELECT origin, task_id, annotation, seen_at FROM snapshot_deletions"
        ).fetchall()
    gone = {(where, task, key): at for where, task, key, at in rows}
    for where, task in sorted({(where, task) for where, task, _ in gone}):
        if origin not in (None, where):
            continue
        # The oldest come first, so that of each annotation the last revision is kept.
        latest = {one.annotation: one for one in read_revisions(path, task_id=task, origin=where)}
        for key, last in latest.items():
            if (where, task, key) in gone:
                yield Deletion(task, key, gone[where, task, key], last)
