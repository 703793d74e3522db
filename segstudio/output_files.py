"""Writing files so that a killed run never leaves half of one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

PREFIX: Final = ".segstudio-"
SUFFIX: Final = ".part"
"""What the temporary files are called; a killed run may leave one."""


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place when the block ends well.

    Missing folders are made. If the block raises, the old file, if any, stays as it was.
    """
    temporary = path.with_name(f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}")
    try:
        handle = _create(temporary)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _create(temporary)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a whole file as `atomic_writer` does, with as few calls to the system as can be."""
    folder = str(path.parent)
    temporary = f"{folder}/{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    try:
        handle = _create(temporary)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _create(temporary)
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(handle, left) :]
        finally:
            os.close(handle)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json_array(path: Path, entries: Iterable[Any]) -> int:
    """Write a JSON array, an entry a line, none held in memory; return how many there were."""
    count = 0
    with atomic_writer(path) as file:
        file.write(b"[")
        for entry in entries:
            line = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
            file.write((",\n" if count else "\n").encode() + line.encode("utf-8"))
            count += 1
        file.write(b"\n]\n")
    return count


def _create(path: Path | str) -> int:
    """Open a new file for this process; others may read it as the umask says."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
