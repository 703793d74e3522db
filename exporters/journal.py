"""Which images of an export are finished: the memory that lets a killed run go on.

`.segstudio/journal.jsonl` in the output folder holds one line an image, in task order: its key,
a digest of all that went into it, its files, and the record that the exporter returned. A later
run takes over every image whose digest is the same and whose files are still there, and removes
the files of images that are gone. Running the same export twice therefore costs little more than
reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from exporters.files import atomic_writer, compact_json, remove_halves

FOLDER = ".segstudio"


class Journal:
    """The finished images of one output folder; a context manager that holds it open.

    Args:
        out_dir: the output folder; need not exist yet.
    """

    def __init__(self, out_dir: Path) -> None:
        self._out_dir = out_dir
        self._finished = out_dir / FOLDER / "journal.jsonl"
        self._growing = out_dir / FOLDER / "journal.part.jsonl"
        self._known: dict[str, tuple[str, int]] = {}
        self._reader: IO[bytes] | None = None
        self._writer: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        self._finished.parent.mkdir(parents=True, exist_ok=True)
        if self._growing.exists():
            remove_halves(self._out_dir)
            self._take_over_killed_run()
        if self._finished.exists():
            self._reader = self._finished.open("rb")
            for offset, line in _lines(self._reader):
                entry = json.loads(line)
                self._known[entry["key"]] = (entry["digest"], offset)
        self._writer = self._growing.open("wb")
        return self

    def __exit__(self, *_error: object) -> None:
        for file in (self._reader, self._writer):
            if file is not None:
                file.close()

    def find(self, key: str, digest: str) -> dict[str, Any] | None:
        """Return the record of a finished image, None when it must be done (again)."""
        known_digest, offset = self._known.get(key, ("", 0))
        if known_digest != digest or self._reader is None:
            return None
        self._reader.seek(offset)
        entry = json.loads(self._reader.readline())
        complete = all((self._out_dir / name).is_file() for name in entry["files"])
        return dict(entry["record"]) if complete else None

    def add(self, key: str, digest: str, files: Sequence[str], record: Mapping[str, Any]) -> None:
        """Note a finished image; on disk at once, so that a kill loses nothing before it.

        Args:
            key: names the image, "folder/stem" or "stem".
            digest: of all that went into it.
            files: its own files, relative to the output folder.
            record: what the exporter returned.
        """
        if self._writer is None:
            raise RuntimeError("The journal is not open; use it as a context manager.")
        line = compact_json({"key": key, "digest": digest, "files": list(files), "record": record})
        self._writer.write(line.encode("utf-8") + b"\n")
        self._writer.flush()

    def records(self, folder: str) -> JournalRecords:
        """Return this run's records of one sub-folder ("" for all), readable many times."""
        return JournalRecords(self._growing, folder)

    def commit(self) -> int:
        """Make this run's journal the finished one; return how many stale files were removed."""
        kept: set[str] = set()
        with self._growing.open("rb") as file:
            for _, line in _lines(file):
                kept.update(json.loads(line)["files"])
        stale: set[str] = set()
        if self._reader is not None:
            self._reader.seek(0)
            for _, line in _lines(self._reader):
                stale.update(set(json.loads(line)["files"]) - kept)
        removed = sum(self._remove(name) for name in sorted(stale))
        if self._writer is not None:
            self._writer.close()
        self._growing.replace(self._finished)
        return removed

    def _remove(self, name: str) -> bool:
        path = self._out_dir / name
        inside = path.resolve().is_relative_to(self._out_dir.resolve())
        if not inside or not path.is_file():
            return False
        path.unlink()
        return True

    def _take_over_killed_run(self) -> None:
        with atomic_writer(self._finished) as merged:
            for path in (self._finished, self._growing):
                if path.exists():
                    with path.open("rb") as file:
                        for _, line in _lines(file):
                            merged.write(line)
        self._growing.unlink()


class JournalRecords:
    """The records of a journal, streamed from disk each time they are iterated."""

    def __init__(self, path: Path, folder: str) -> None:
        self._path = path
        self._prefix = f"{folder}/" if folder else ""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            for _, line in _lines(file):
                entry = json.loads(line)
                if entry["key"].startswith(self._prefix):
                    yield entry["record"]


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line) of the whole lines; a line torn by a kill is dropped."""
    offset = 0
    for line in file:
        if line.endswith(b"\n"):
            yield offset, line
        offset += len(line)
