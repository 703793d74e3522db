"""A folder as one zip file: the same files give the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from exporters.files import atomic_writer, export_files

_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows
_UNIX: Final = 3
_READABLE: Final = 0o100644 << 16
_ZIP64_BYTES: Final = 1 << 31
# Packed already: packing again costs time and gains nothing.
_STORED: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".gz", ".zip", ".jp2", ".mp4", ".zst"}
)


def write_zip(folder: Path, path: Path) -> None:
    """Write every file of an export into a zip file, atomically.

    Names are sorted, times and rights fixed; what only serves resuming stays out.
    """
    with atomic_writer(path) as file, ZipFile(file, "w") as archive:
        for name in export_files(folder):
            source = folder / name
            info = ZipInfo(name, _TIME)
            info.create_system = _UNIX
            info.external_attr = _READABLE
            stored = source.suffix.lower() in _STORED
            info.compress_type = ZIP_STORED if stored else ZIP_DEFLATED
            large = source.stat().st_size >= _ZIP64_BYTES
            with source.open("rb") as content, archive.open(info, "w", force_zip64=large) as entry:
                shutil.copyfileobj(content, entry, 1 << 20)
