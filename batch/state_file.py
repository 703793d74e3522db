"""Small JSON files that outlive a crash: the old content or the new one, never half of either."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from segstudio.errors import SourceError, UsageError


def canonical_digest(value: Any) -> str:
    """The sha256 in hex of a JSON value, whatever the order of its keys.

    >>> canonical_digest({"a": 1, "b": 2}) == canonical_digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Replace a file by this JSON in one step, on the disk before this returns.

    Only the user may read it: such files hold what annotators must not see.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".segstudio-", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path, file_format: str, version: int, what: str) -> dict[str, Any]:
    """Return a JSON object whose `format` and `version` are these.

    Args:
        path: the file.
        file_format: what `format` must be.
        version: the newest version that can be read.
        what: names the file in errors, e.g. "gold file".

    Raises:
        UsageError: there is no such file, or it is of another kind or newer.
        SourceError: it cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"There is no {what} {path}.") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"The {what} {path} cannot be read: {error}.") from error
    if not isinstance(value, dict) or value.get("format") != file_format:
        raise UsageError(f"{path} is no {what} of segstudio; name another file.")
    found = value.get("version")
    if not isinstance(found, int) or found > version:
        raise UsageError(
            f"The {what} {path} has version {found!r}; this segstudio reads up to {version}."
        )
    return value
