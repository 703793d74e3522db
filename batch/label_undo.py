"""The undo file of a label migration: every result as it was, on disk before it is changed.

JSON lines: a head (what is migrated, and the labelling interfaces before, between and after),
then passes. A pass lists the results that hold old labels and ends with a line that counts them.
One that has no such end was cut off by a kill: nothing of it was changed, and it is dropped.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from segstudio.errors import SourceError, UsageError
from segstudio.writeback import StoredResult
from segstudio.writeback_annotations import ResultKind

FORMAT: Final = "segstudio-label-undo"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class MigrationHead:
    """What is migrated: labels and interfaces of a project."""

    url: str
    project_id: int
    mapping: Mapping[str, str]
    config_before: str
    config_between: str
    config_after: str

    def as_json(self) -> dict[str, Any]:
        """The first line of the file."""
        return {
            "format": FORMAT, "version": VERSION, "url": self.url, "project": self.project_id,
            "mapping": dict(self.mapping), "config_before": self.config_before,
            "config_between": self.config_between, "config_after": self.config_after,
        }  # fmt: skip


def start_undo(path: Path, head: MigrationHead) -> None:
    """Make the file with its head; one that is there is never overwritten.

    Raises:
        UsageError: there is a file already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".segstudio-", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            _line(file, head.as_json())
            _to_disk(file)
        path.hardlink_to(temporary)  # unlike a rename, this never takes another file's place
    except FileExistsError as error:
        raise UsageError(f"The undo file {path} is there already; name another.") from error
    finally:
        temporary.unlink()


def append_pass(path: Path, results: Iterable[StoredResult]) -> list[tuple[ResultKind, int]]:
    """Add a pass and have it on the disk; return kind and id of its results.

    What an earlier call left half-written is cut off first.
    """
    kept_bytes, _ = _read(path)
    listed: list[tuple[ResultKind, int]] = []
    with path.open("r+", encoding="utf-8") as file:
        file.truncate(kept_bytes)
        file.seek(0, os.SEEK_END)
        for one in results:
            entry = {"kind": one.kind, "id": one.id, "task": one.task_id, "before": one.result}
            _line(file, entry)
            listed.append((one.kind, one.id))
        _line(file, {"end": len(listed)})
        _to_disk(file)
    return listed


def read_undo(
    path: Path,
) -> tuple[MigrationHead, dict[tuple[ResultKind, int], list[list[Any]]]]:
    """Return the head, and by kind and id each result as it was, the oldest first.

    Raises:
        UsageError: there is no such file, or it is another one.
        SourceError: it cannot be read.
    """
    _, lines = _read(path)
    head = lines[0]
    before: dict[tuple[ResultKind, int], list[list[Any]]] = {}
    try:
        for one in lines[1:]:
            if "end" not in one:
                kind = get_args(ResultKind)[get_args(ResultKind).index(one["kind"])]
                before.setdefault((kind, int(one["id"])), []).append(one["before"])
        found = MigrationHead(
            str(head["url"]), int(head["project"]), head["mapping"], head["config_before"],
            head["config_between"], head["config_after"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"The undo file {path} is damaged: {error!r}.") from error
    return found, before


def _read(path: Path) -> tuple[int, list[dict[str, Any]]]:
    """The lines up to the end of the last whole pass, and how many bytes they are."""
    if not path.is_file():
        raise UsageError(f"There is no undo file {path}.")
    whole: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    kept_bytes = position = 0
    with path.open("rb") as file:
        for raw in file:
            position += len(raw)
            try:
                line = json.loads(raw)
            except ValueError:
                break
            if not isinstance(line, dict) or not raw.endswith(b"\n"):
                break
            waiting.append(line)
            if "end" in line or not whole:
                whole += waiting
                waiting, kept_bytes = [], position
    if not whole or whole[0].get("format") != FORMAT:
        raise UsageError(f"{path} is no undo file of `segstudio labels migrate`.")
    if whole[0].get("version") != VERSION:
        raise UsageError(f"The undo file {path} has version {whole[0].get('version')!r}.")
    return kept_bytes, whole


def _line(file: Any, value: Any) -> None:
    file.write(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
