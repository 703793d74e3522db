"""Writing files so that a killed run never leaves half of one."""

from __future__ import annotations

import errno
import fcntl
import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

from segstudio.errors import UsageError
from segstudio.output_files import PREFIX, SUFFIX, atomic_writer, write_whole

__all__ = [
    "WORK_FOLDER",
    "atomic_writer",
    "compact_json",
    "export_files",
    "lock_file",
    "remove_halves",
    "write_bytes",
    "write_json",
    "write_json_lists",
    "write_text",
]

WORK_FOLDER: Final = ".segstudio"
"""The folder in every export that serves resuming only."""

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def remove_halves(folder: Path) -> None:
    """Remove the temporary files that a killed run left below a folder."""
    for path in folder.rglob(f"{PREFIX}*{SUFFIX}"):
        path.unlink(missing_ok=True)


def export_files(folder: Path) -> list[str]:
    """Return the names of an export's files, sorted, without those that serve resuming."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.startswith(WORK_FOLDER + "/"))


def lock_file(path: Path, purpose: Path) -> IO[bytes]:
    """Open a lock file and hold it until it is closed; a killed process holds nothing.

    Raises:
        UsageError: another process holds it.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UsageError(
            f"Another export is writing into {purpose}; wait for it, or choose another folder."
        ) from error
    except OSError as error:
        # Some network file systems have no locks; there one export at a time is up to the user.
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
            file.close()
            raise
    return file


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    write_whole(path, content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, atomically; keys stay in their order."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_json_lists(path: Path, head: dict[str, Any], lists: dict[str, Iterable[Any]]) -> None:
    """Write one JSON object whose lists are streamed: each entry a line, none held in memory.

    The plain values of `head` come first. The lists are read one after the other.
    """
    with atomic_writer(path) as file:
        file.write(b"{")
        separator = "\n"
        for key, value in head.items():
            file.write(f"{separator}{json.dumps(key)}: {compact_json(value)}".encode())
            separator = ",\n"
        for key, entries in lists.items():
            file.write(f"{separator}{json.dumps(key)}: [".encode())
            between = "\n"
            for entry in entries:
                file.write((between + compact_json(entry)).encode("utf-8"))
                between = ",\n"
            file.write(b"\n]")
            separator = ",\n"
        file.write(b"\n}\n")


def compact_json(value: Any) -> str:
    """Return a value as JSON on one line, unicode kept."""
    return _compact(value)
