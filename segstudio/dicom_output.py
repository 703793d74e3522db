"""The output folder of a DICOM import: built beside its place, resumable, put there in one step."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from segstudio.errors import SegstudioError, UsageError

MADE_BY: Final = "segstudio dicom import"
TASKS: Final = "tasks.json"
LABEL_CONFIG: Final = "tasks.label-config.xml"
TAXONOMY: Final = "tasks.taxonomy.yaml"
REPORT: Final = "report.json"
REPORT_PAGE: Final = "report.html"
_OURS: Final = frozenset((TASKS, LABEL_CONFIG, TAXONOMY, REPORT, REPORT_PAGE, "images", "dicom"))
_STATE: Final = ".state.json"
_JOURNAL: Final = ".journal.jsonl"


class OutputFolder:
    """Where an import writes; `folder` takes the place of `out` when `finish` is called.

    A killed run leaves `out` as it was and the half-made folder beside it; the next run with the
    same `digest` (files and options) goes on there, another one starts anew.
    """

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        self.folder = self.out.parent / f".{self.out.name}.segstudio-part"
        self._lock: IO[bytes] | None = None

    @contextmanager
    def opened(self, digest: str, new_secret: bytes) -> Iterator[bytes]:
        """Give the run's secret; `entries` has what an earlier, killed run has finished.

        Holds a lock.

        Raises:
            UsageError: `out` holds something else than an import, or another run is at work.
        """
        check_place(self.out)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        lock_path = self.out.parent / f".{self.out.name}.segstudio-lock"
        with lock_path.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"Another import is writing into {self.out}; wait for it, or choose another "
                    "folder."
                ) from error
            try:
                yield self._begin(digest, new_secret)
            finally:
                lock_path.unlink(missing_ok=True)

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add one finished file to the journal."""
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
        with (self.folder / _JOURNAL).open("ab") as journal:
            journal.write(line.encode("utf-8"))

    def entries(self) -> Iterator[dict[str, Any]]:
        """Read the journal; a last line that was cut off is dropped."""
        path = self.folder / _JOURNAL
        if not path.exists():
            return
        with path.open("rb") as journal:
            for line in journal:
                if not line.endswith(b"\n"):
                    return
                yield json.loads(line)

    def finish(self) -> None:
        """Put the folder in its place; an older import there goes away."""
        for name in (_STATE, _JOURNAL):
            (self.folder / name).unlink(missing_ok=True)
        old = self.out.parent / f".{self.out.name}.segstudio-old"
        shutil.rmtree(old, ignore_errors=True)
        if self.out.exists():
            self.out.rename(old)
        self.folder.rename(self.out)
        shutil.rmtree(old, ignore_errors=True)

    def _begin(self, digest: str, new_secret: bytes) -> bytes:
        state = self.folder / _STATE
        try:
            known = json.loads(state.read_text(encoding="utf-8"))
            if known["digest"] == digest:
                self._drop_cut_line()
                return bytes.fromhex(known["secret"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing there, or nothing of use
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        write_private(state, json.dumps({"digest": digest, "secret": new_secret.hex()}).encode())
        return new_secret

    def _drop_cut_line(self) -> None:
        path = self.folder / _JOURNAL
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) != len(content):
                path.write_bytes(whole)


def check_place(out: Path) -> None:
    """Raise a UsageError where an import must not write.

    A folder may be there if it is empty or an import wrote all that is in it.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file; --out is a folder.")
    strangers = sorted(path.name for path in out.iterdir() if path.name not in _OURS)
    if strangers:
        raise UsageError(
            f"{out} holds {len(strangers)} things that no import wrote, such as '{strangers[0]}'. "
            "Choose another folder, or move them away."
        )
    if any(out.iterdir()) and not _is_import(out / REPORT):
        raise UsageError(f"{out} was not written by '{MADE_BY}'; choose another folder for --out.")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".segstudio-", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:  # mkstemp makes it with mode 0600
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_tasks(path: Path, lists: Iterable[Iterable[Mapping[str, Any]]]) -> int:
    """Write tasks as Label Studio imports them, a line each; return how many."""
    count = 0
    with path.open("wb") as file:
        file.write(b"[")
        for tasks in lists:
            for task in tasks:
                text = json.dumps(task, ensure_ascii=False, separators=(",", ":"))
                file.write((",\n" if count else "\n").encode() + text.encode("utf-8"))
                count += 1
        file.write(b"\n]\n")
    if not count:
        raise SegstudioError("There is no task to write.")
    return count


def _is_import(report: Path) -> bool:
    try:
        with report.open("rb") as file:
            return f'"made_by": "{MADE_BY}"'.encode() in file.read(4096)
    except OSError:
        return False
