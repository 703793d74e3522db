"""The folder of a data set: nothing outside of it is ever read, whatever its files say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from exporters.importers.dataset import DamagedImageError, DatasetError

IMAGE_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_MAX_JSON_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """A data set's folder; paths in it are relative, with slashes."""

    root: Path

    def path(self, name: str) -> Path:
        """Return the path of a name that the data set gives.

        Raises:
            DamagedImageError: the name is absolute, climbs with '..', or is a link that leads out
                of the folder.
        """
        path = self._named(name)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DamagedImageError(
                f"{name[:200]!r} is a link that leads out of the data set's folder; it is not "
                "read. Put the file itself there."
            )
        return path

    def _named(self, name: str) -> Path:
        parts = PurePosixPath(name.replace("\\", "/"))
        if not name or "\0" in name or parts.is_absolute() or ".." in parts.parts or _drive(parts):
            raise DamagedImageError(
                f"The file name {name[:200]!r} leads out of the data set's folder; it is not read. "
                "Correct the name."
            )
        return self.root / parts

    def relative(self, path: Path) -> str:
        """Return the name, relative to the folder, of a path in it."""
        return path.relative_to(self.root).as_posix()

    def find(self, name: str, folders: Iterable[str] = ("",)) -> Path | None:
        """Return the first existing file of that name below one of the given folders.

        In each of them the whole name is looked for, then its last part alone.

        Raises:
            DamagedImageError: the name leads out of the folder.
        """
        self.path(name)
        last = PurePosixPath(name.replace("\\", "/")).name
        for folder in folders:
            for candidate in dict.fromkeys((name, last)):
                path = self.path(f"{folder}/{candidate}" if folder else candidate)
                if path.is_file():
                    return path
        return None

    def picture(self, name: str, folders: Iterable[str]) -> str:
        """Return the name, relative to the folder, under which a picture lies here, else `name`.

        Pictures are named, never opened, so they may be links to anywhere.

        Raises:
            DamagedImageError: the name leads out of the folder.
        """
        self._named(name)
        last = PurePosixPath(name.replace("\\", "/")).name
        for folder in folders:
            for candidate in dict.fromkeys((name.replace("\\", "/"), last)):
                found = f"{folder}/{candidate}" if folder else candidate
                if os.path.lexists(self._named(found)):
                    return found
        return name.replace("\\", "/")

    def picture_of(self, stem: str, folders: Iterable[str], *, besides: str = "") -> str:
        """Return the name of the picture with that stem, "" where there is none.

        A folder of "" or "." is the data set's own.
        """
        for folder in (one.removeprefix(".") for one in folders):
            for ending in IMAGE_ENDINGS:
                for spelled in (ending, ending.upper()):
                    name = f"{folder}/{stem}{spelled}" if folder else f"{stem}{spelled}"
                    if name != besides and os.path.lexists(self._named(name)):
                        return name
        return ""

    def files(self, ending: str, below: str = "") -> Iterator[Path]:
        """Yield the files with an ending, sorted folder by folder; hidden ones are skipped."""
        for where, folders, names in os.walk(self.path(below) if below else self.root):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            for name in sorted(names):
                if name.endswith(ending) and not name.startswith("."):
                    yield Path(where) / name

    def json(self, name: str) -> dict[str, Any] | None:
        """Return a small JSON object of the data set; None where the file does not exist.

        Raises:
            DatasetError: it is no JSON object, or larger than what is read whole.
        """
        path = self.path(name)
        if not path.is_file():
            return None
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise DatasetError(f"{path} is larger than {_MAX_JSON_BYTES >> 20} MB; it is not read.")
        try:
            found = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"{path} cannot be read as JSON: {error}.") from error
        if not isinstance(found, dict):
            raise DatasetError(f"{path} is no JSON object but {type(found).__name__}.")
        return found

    def text_lines(self, name: str) -> list[str] | None:
        """Return the lines of a text file, stripped, without empty ones; None without the file."""
        path = self.path(name)
        if not path.is_file():
            return None
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise DatasetError(f"{path} is larger than {_MAX_JSON_BYTES >> 20} MB; it is not read.")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{path} cannot be read: {error}.") from error
        return [line.strip() for line in text.splitlines() if line.strip()]


def _drive(parts: PurePosixPath) -> bool:
    return bool(parts.parts) and parts.parts[0][1:2] == ":"
