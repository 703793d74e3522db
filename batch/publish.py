"""Putting a finished folder or file into its place in one step, or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from segstudio.errors import SegstudioError

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def publish(new: Path, place: Path) -> None:
    """Move a finished folder or file to its place; what was there before is removed.

    Both must be on one file system. Whatever moment the process is killed at, the place holds all
    of the old content or all of the new.

    Raises:
        SegstudioError: a folder is to be replaced and the file system cannot do that in one step.
    """
    if not new.is_dir() or not place.is_dir():
        new.replace(place)
        return
    _exchange(new, place)
    shutil.rmtree(new)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change their names in one step (Linux, `renameat2`)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    number = errno.ENOSYS
    if rename is not None:
        failed = rename(
            _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
        )
        if not failed:
            return
        number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        raise SegstudioError(
            f"{other} cannot be replaced in one step on this file system. Deliver to a new name, "
            "or to a zip file."
        )
    raise SegstudioError(f"{other} could not be replaced: {os.strerror(number)}.")
