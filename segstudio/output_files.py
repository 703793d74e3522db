"""Writing files so that a killed run never leaves half of one."""

from __future__ import annotations

import json
import os
import tempfile
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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=SUFFIX)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
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


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
