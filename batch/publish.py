"""The place of a delivery: what is there, and putting a finished one there in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from batch.delivery import MANIFEST, SIGNATURE
from batch.delivery_files import DeliveryFiles, verify
from segstudio.errors import SegstudioError, SourceError, UsageError

_ZIP: Final = ".zip"
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


def holds_delivery(place: Path) -> bool:
    """Tell whether an earlier delivery is there.

    Raises:
        UsageError: something else is.
    """
    if not place.exists():
        return False
    if place.is_dir() and place.name.lower().endswith(_ZIP):
        raise UsageError(f"{place} is a folder; name a zip file that can be written.")
    if place.is_dir() and not any(place.iterdir()):
        return False
    try:
        with DeliveryFiles(place) as files:
            files.manifest()
    except (SourceError, UsageError) as error:
        raise UsageError(
            f"{place} is there and is no delivery ({error}) Choose another place."
        ) from error
    return True


def is_same(finished: Path, place: Path) -> bool:
    """Tell whether the place holds this very delivery, whole."""
    with DeliveryFiles(finished) as new, DeliveryFiles(place) as old:
        same = all(_content(new, name) == _content(old, name) for name in (MANIFEST, SIGNATURE))
        return same and not verify(old).problems


def _content(files: DeliveryFiles, name: str) -> bytes | None:
    return files.read(name) if name in files.names() else None


def put(finished: Path, place: Path, *, may_replace: bool) -> None:
    """Put a finished delivery into its place.

    Raises:
        UsageError: another one is there and may not be replaced.
    """
    if place.exists() and not may_replace and (place.is_file() or any(place.iterdir())):
        raise UsageError(
            f"{place} holds another delivery. Deliver to a new name (`segstudio deliver diff` says "
            "what changed between the two), or give --replace."
        )
    publish(finished, place)
