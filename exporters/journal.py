"""Which images of an export are finished, and where the work lies until all of it is.

`.segstudio/journal.jsonl` in the output folder holds one line an image, in task order: its key,
a digest of all that went into it, its files, and its record. A run writes its files below
`.segstudio/new/` and its own journal beside; only `commit` moves them to their places, when
everything is there. So a run that is killed, or meets a full disk, leaves the earlier export as it
was, and the next run takes over every image whose digest is the same and whose files are there.
Files of images that are gone are removed. Running the same export twice costs little more than
reading.

A killed run may have had other options, and may have written a file that it did not come to note.
So an image that is made again is named in `.segstudio/redone.jsonl` before its files are
overwritten: after a kill, what an earlier run noted of it no longer holds. Of the files that wait,
only those that a killed run noted are kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from exporters.files import WORK_FOLDER, atomic_writer, compact_json, lock_file, remove_halves
from segstudio.errors import SegstudioError

# The line that names the files of the whole data set: no image has an empty key.
_DATA_SET = ""
# A journal up to this size is read once.
_KEPT_BYTES = 4 << 20


class Journal:
    """The finished images of one output folder; a context manager that holds it open.

    Args:
        out_dir: the output folder; need not exist yet.
    """

    def __init__(self, out_dir: Path) -> None:
        self._out_dir = out_dir
        self.work_dir = out_dir / WORK_FOLDER / "new"
        self._finished = out_dir / WORK_FOLDER / "journal.jsonl"
        self._growing = out_dir / WORK_FOLDER / "journal.part.jsonl"
        self._redone = out_dir / WORK_FOLDER / "redone.jsonl"
        self._known: dict[str, tuple[str, int]] = {}
        self._reader: IO[bytes] | None = None
        self._writer: IO[bytes] | None = None
        self._marker: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._files_of_images: set[str] = set()
        self._collision = ""

    def __enter__(self) -> Journal:
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_file(self._finished.with_name("lock"), self._out_dir)
        remove_halves(self._finished.parent)
        if self._growing.exists():
            self._take_over_killed_run()
        waiting: dict[str, list[str]] = {}
        if self._finished.exists():
            self._reader = self._finished.open("rb")
            for offset, line in _lines(self._reader):
                entry = json.loads(line)
                self._known[entry["key"]] = (entry["digest"], offset)
                waiting[entry["key"]] = entry["files"] if _is_waiting(entry) else []
        noted = {name for names in waiting.values() for name in names}
        for name in _files_below(self.work_dir):
            if name not in noted:
                (self.work_dir / name).unlink()
        self._writer = self._growing.open("wb")
        self._marker = self._redone.open("wb")
        return self

    def __exit__(self, *_error: object) -> None:
        for file in (self._reader, self._writer, self._marker, self._lock):
            if file is not None:
                file.close()

    def find(self, key: str, digest: str) -> dict[str, Any] | None:
        """Return the record of a finished image, None when it must be done (again).

        Where None is returned of an image that an earlier run noted, its note no longer holds
        from here on, killed or not: its files are about to be overwritten.
        """
        if key not in self._known or self._reader is None or self._marker is None:
            return None
        known_digest, offset = self._known[key]
        if known_digest == digest:
            self._reader.seek(offset)
            entry = json.loads(self._reader.readline())
            # A file that waits belongs to whoever noted it while it did.
            lies = self.has if _is_waiting(entry) else self._lies_in_place
            if all(lies(name) for name in entry["files"]):
                return dict(entry["record"])
        self._marker.write(compact_json(key).encode("utf-8") + b"\n")
        self._marker.flush()
        return None

    def has(self, name: str) -> bool:
        """Say whether a file of the export is there, in its place or waiting to be moved there."""
        return (self.work_dir / name).is_file() or (self._out_dir / name).is_file()

    def _lies_in_place(self, name: str) -> bool:
        return (self._out_dir / name).is_file() and not (self.work_dir / name).exists()

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
        for name in dict.fromkeys(files) if key != _DATA_SET else ():
            if name in self._files_of_images and not self._collision:
                self._collision = f"{key} and another image are both written to {name}"
            self._files_of_images.add(name)
        entry = {"key": key, "digest": digest, "files": list(files), "record": record}
        self._writer.write(_encoded(entry))
        self._writer.flush()

    def records(self, folder: str) -> JournalRecords:
        """Return this run's records of one sub-folder ("" for all), readable many times."""
        return JournalRecords(self._growing, folder)

    def sweep(self) -> None:
        """Remove work of an earlier run that this one does not use; before `finish` writes."""
        for name in _files_below(self.work_dir):
            if name not in self._files_of_images:
                (self.work_dir / name).unlink()

    def commit(self) -> int:
        """Move all new files to their places; return how many stale files were removed.

        Images come first and the card last; a kill in between is made good by the next run.

        Raises:
            SegstudioError: two images have written one file; nothing has been moved.
        """
        # Not before: formats that know better how their files are named say so in `finish`.
        if self._collision:
            raise SegstudioError(
                f"{self._collision}, and one would be lost; give them names of their own, in the "
                "format's options or schema. What was there before is unchanged."
            )
        kept = self._files_of_images
        new = set(_files_below(self.work_dir))
        of_data_set = sorted(new - kept, key=_card_last)
        self.add(_DATA_SET, "", of_data_set, {})
        stale = self._files_of_earlier_runs() - kept - set(of_data_set)
        self._move((*sorted(kept.intersection(new)), *of_data_set))
        removed = sum(self._remove(name) for name in sorted(stale))
        for file in (self._writer, self._marker):
            if file is not None:
                file.close()
        self._growing.replace(self._finished)
        self._redone.unlink()
        _remove_empty_folders(self.work_dir)
        return removed

    def _move(self, names: Iterable[str]) -> None:
        """Move new files to their places."""
        made: set[Path] = set()
        for name in names:
            source, target = self.work_dir / name, self._out_dir / name
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            source.replace(target)
        # Where both were links to one file, replacing did nothing and left both.
        for name in _files_below(self.work_dir):
            (self.work_dir / name).unlink()

    def _files_of_earlier_runs(self) -> set[str]:
        if self._reader is None:
            return set()
        self._reader.seek(0)
        return {name for _, line in _lines(self._reader) for name in json.loads(line)["files"]}

    def _remove(self, name: str) -> bool:
        path = self._out_dir / name
        # The folder, not the file: an image may be a link to one that lies elsewhere.
        inside = path.parent.resolve().is_relative_to(self._out_dir.resolve())
        if not inside or not (path.is_file() or path.is_symlink()):
            return False
        path.unlink()
        return True

    def _take_over_killed_run(self) -> None:
        """Join what a killed run noted to what was known; what it began again no longer holds."""
        redone = {json.loads(line) for line in _whole_lines(self._redone)}
        with atomic_writer(self._finished) as merged:
            for line in _whole_lines(self._finished):
                entry = json.loads(line)
                if entry["key"] in redone:
                    line = _encoded({**entry, "digest": ""})
                merged.write(line)
            for line in _whole_lines(self._growing):
                merged.write(_encoded({**json.loads(line), "waiting": True}))
        self._growing.unlink()


class JournalRecords:
    """The records of a finished journal, as often as asked: small ones kept, others streamed."""

    def __init__(self, path: Path, folder: str) -> None:
        self._path = path
        self._prefix = f"{folder}/" if folder else ""
        self._kept: list[dict[str, Any]] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._kept is not None:
            return map(dict, self._kept)
        if self._path.stat().st_size > _KEPT_BYTES:
            return self._read()
        self._kept = list(self._read())
        return map(dict, self._kept)

    def _read(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            for _, line in _lines(file):
                entry = json.loads(line)
                if entry["key"].startswith(self._prefix) and entry["key"] != _DATA_SET:
                    yield entry["record"]


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line) of the whole lines; a line torn by a kill is dropped."""
    offset = 0
    for line in file:
        if line.endswith(b"\n"):
            yield offset, line
        offset += len(line)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file that need not exist."""
    if path.exists():
        with path.open("rb") as file:
            yield from (line for _, line in _lines(file))


def _encoded(entry: Mapping[str, Any]) -> bytes:
    return compact_json(entry).encode("utf-8") + b"\n"


def _is_waiting(entry: Mapping[str, Any]) -> bool:
    """Say whether a killed run noted an image, so that its files may wait to be moved."""
    return bool(entry["digest"]) and bool(entry.get("waiting"))


def _files_below(folder: Path) -> Iterator[str]:
    """Yield the names of all files and links below a folder, relative to it."""
    start = len(str(folder)) + 1
    for place, folders, files in os.walk(folder):
        links = [one for one in folders if Path(place, one).is_symlink()]
        yield from (f"{place}/{name}"[start:] for name in (*files, *links))


def _card_last(name: str) -> tuple[bool, str]:
    return name.rpartition("/")[2] == "dataset.json", name


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted((one for one in folder.rglob("*") if one.is_dir()), reverse=True):
        path.rmdir()
    folder.rmdir()
