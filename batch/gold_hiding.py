"""Gold that leaves the project for its file and comes back, one annotation after the other.

A call can be killed between any two of them. The file says `hidden` before the server is asked to
remove an annotation, so that one may say so of gold that still lies in the project: what the next
call finds unchanged it removes, and what somebody changed meanwhile it leaves and names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from batch.gold_check import change_of
from batch.gold_file import (
    GoldFile,
    GoldTask,
    hash_of,
    is_gold_itself,
    require_untouched,
    user_of,
    write_gold,
)
from segstudio.client import Client
from segstudio.writeback import make_annotation, read_annotation, remove_annotation


def hide_gold(
    client: Client, path: Path, gold: GoldFile, *, dry_run: bool = False
) -> tuple[GoldFile, dict[int, str]]:
    """Take the gold annotations from the project; what was changed there stays and is named.

    Args:
        client: the server.
        path: the sidecar, which holds all of `gold` already (in a dry run it need not exist).
        gold: what to hide.
        dry_run: only tell what would stay.

    Returns:
        the sidecar as it is now, and a sentence for each task whose gold stays in the project.

    Raises:
        SourceError: the file was changed since it was written.
    """
    if not dry_run:
        # What is taken away is read back from the disk first: from there it can be restored.
        require_untouched(path)
    left: dict[int, str] = {}
    for one in gold.tasks:
        there = None if one.on_server is None else read_annotation(client, one.on_server)
        if one.on_server is None or there is None or there["task"] != one.task_id:
            continue
        if not is_gold_itself(one, there):
            continue
        if not _is_as_it_was(one, there):
            left[one.task_id] = f"{change_of(one, there)} It stays in the project."
            continue
        if not dry_run:
            gold = gold.with_tasks([replace(one, hidden=True)])
            write_gold(path, gold)
            remove_annotation(client, one.on_server)
    return gold, left


def restore_gold(client: Client, one: GoldTask, raw: Mapping[str, Any]) -> int:
    """Make a hidden annotation again, unless it is there already; return its id.

    Args:
        client: the server.
        one: the gold.
        raw: its task's JSON as it is now.
    """
    for there in raw.get("annotations") or []:
        if _is_as_it_was(one, there):
            return int(there["id"])
    keys = ("result", "completed_by", "ground_truth", "was_cancelled", "lead_time")
    body = {key: one.annotation[key] for key in keys if one.annotation.get(key) is not None}
    return make_annotation(client, one.task_id, body)


def gold_on_server(client: Client, annotation: Mapping[str, Any], task_id: int) -> int | None:
    """The id of the gold on this very task; the same id on another server means nothing."""
    origin = annotation.get("id")
    if not isinstance(origin, int):
        return None
    there = read_annotation(client, origin)
    if there is None:
        return None
    known = (task_id, annotation.get("completed_by"), hash_of(annotation))
    return origin if (there["task"], user_of(there), hash_of(there)) == known else None


def _is_as_it_was(one: GoldTask, there: Mapping[str, Any]) -> bool:
    known = (one.annotation.get("completed_by"), one.drawing_hash)
    return (user_of(there), hash_of(there)) == known
