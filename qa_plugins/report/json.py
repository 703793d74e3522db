"""The QA result as ``qa.json``: unrounded, the same bytes for the same input, written at once."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, Final


def _float_text(value: float) -> str:
    return repr(value) if math.isfinite(value) else "null"


_PLAIN: Final[Mapping[type, Callable[[Any], str]]] = {
    str: encode_basestring,
    int: repr,
    float: _float_text,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}
"""How values that hold no others are written."""


def to_json(result: Mapping[str, Any]) -> str:
    """The result as JSON text; numbers that are no numbers become null."""
    parts: list[str] = []
    _write(result, "\n", parts)
    return "".join((*parts, "\n"))


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or leave the old one as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write(value: Any, line: str, parts: list[str]) -> None:
    """Write as `json.dumps(..., indent=1)` does, several times as fast; `line` begins a line."""
    plain = _PLAIN.get(type(value))
    if plain is not None:
        parts.append(plain(value))
    elif isinstance(value, dict) and {*map(type, value)} <= {str}:
        _write_members(value, line, parts)
    elif isinstance(value, Mapping):
        # A key that two entries have as text counts once, as in a dict: the later value.
        _write_members({str(key): item for key, item in value.items()}, line, parts)
    elif isinstance(value, list | tuple):
        _write_entries(value, line, parts)
    elif hasattr(value, "item"):  # a numpy scalar
        _write(value.item(), line, parts)
    else:  # e.g. an enumeration, or what is no JSON
        parts.append(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _write_members(members: Mapping[str, Any], line: str, parts: list[str]) -> None:
    inner = line + " "
    before = "{" + inner
    for key, item in members.items():
        plain = _PLAIN.get(type(item))
        if plain is not None:
            parts.append(f"{before}{encode_basestring(key)}: {plain(item)}")
        else:
            parts.append(f"{before}{encode_basestring(key)}: ")
            _write(item, inner, parts)
        before = "," + inner
    parts.append(line + "}" if members else "{}")


def _write_entries(entries: Sequence[Any], line: str, parts: list[str]) -> None:
    inner = line + " "
    before = "[" + inner
    for item in entries:
        plain = _PLAIN.get(type(item))
        if plain is not None:
            parts.append(before + plain(item))
        else:
            parts.append(before)
            _write(item, inner, parts)
        before = "," + inner
    parts.append(line + "]" if entries else "[]")
