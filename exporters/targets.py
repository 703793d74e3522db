"""Where an export goes: a folder, a zip file, or any fsspec URL.

A folder is written in place. A zip file and a URL are made in a folder of this machine first, the
staging folder, which a killed run leaves and the next one goes on with; only a whole export is
packed or sent.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from urllib.request import url2pathname
from zipfile import BadZipFile, ZipFile

from exporters.archive import write_zip
from exporters.card import CARD, MARKER
from exporters.upload import Remote, open_remote, upload_file, upload_folder
from segstudio.errors import SegstudioError, UsageError

_ZIP: Final = ".zip"


@dataclass(frozen=True, slots=True)
class Target:
    """One place to export to.

    `folder` is where the export is made, absolute. `zip_path` and `remote` say where it goes from
    there; `keep` whether `folder` stays afterwards.
    """

    shown: str
    folder: Path
    zip_path: Path | None = None
    remote: Remote | None = None
    keep: bool = True

    def check(self, format_name: str) -> None:
        """Refuse a place that something else lives in.

        Raises:
            UsageError: a file of that name, another format's export, or a dataset.json or zip
                file that is not of ours.
        """
        check_folder(self.folder, format_name)
        if self.remote is not None and self.zip_path is None:
            content = self.remote.read(CARD)
            if content is not None:
                _check_card(content, f"{self.shown}/{CARD}", self.shown, format_name)
        elif self.remote is None and self.zip_path is not None and self.zip_path.exists():
            _check_card(_card_in_zip(self.zip_path), self.shown, self.shown, format_name)

    def publish(self, *, show_progress: bool) -> None:
        """Pack or send the finished export; nothing to do for a folder.

        Raises:
            SegstudioError: sending stopped; running the export again goes on.
        """
        if self.zip_path is not None:
            write_zip(self.folder, self.zip_path)
        if self.remote is not None and self.zip_path is not None:
            upload_file(self.zip_path, self.remote)
            self.zip_path.unlink()
        elif self.remote is not None:
            upload_folder(self.folder, self.remote, show_progress=show_progress)
        if not self.keep:
            shutil.rmtree(self.folder)


def open_target(out: str | Path, staging: Path | None = None) -> Target:
    """Return the place that `--out` names.

    Args:
        out: a folder, a file name that ends in .zip, or a URL (`s3://bucket/set`,
            `memory://set.zip`). `file://` names a folder or zip file of this machine.
        staging: where to make what is packed or sent, and to keep it, so that a later export of
            the same sends only what changed. Default: beside the zip file, or in the user's cache
            folder, for the time of the export.

    Raises:
        UsageError: the URL's protocol is not known, a folder ends in .zip, or it is no name.
    """
    text = str(out)
    if not text.strip():
        raise UsageError("--out is empty; give a folder ('.' is the current one), zip file or URL.")
    if text.startswith("file://"):
        text = url2pathname(text.removeprefix("file://"))
    keep = staging is not None
    if "://" in text:
        remote = open_remote(text)
        folder = (staging or _cache_folder(text)).absolute()
        packed = text.lower().endswith(_ZIP)
        zip_path = folder.with_name(folder.name + _ZIP) if packed else None
        return Target(remote.shown, folder, zip_path, remote, keep)
    path = Path(text).absolute()
    try:
        is_folder = path.is_dir()
    except OSError as error:  # too long, say
        raise UsageError(f"--out {path} cannot be: {error.strerror}; give another.") from error
    if path.suffix.lower() != _ZIP or is_folder:
        if staging is not None:
            raise UsageError("--staging is for zip files and URLs; a folder is written in place.")
        return Target(str(out), path)
    folder = (staging or path.with_name(f".{path.name}.segstudio")).absolute()
    return Target(str(out), folder, path, None, keep)


def check_folder(out_dir: Path, format_name: str) -> None:
    """Refuse an output folder that something else lives in.

    Raises:
        UsageError: a file of that name, another format's export, or a dataset.json not of ours.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"{out_dir} is a file; give a folder with --out.")
    card = out_dir / CARD
    if card.exists():
        try:
            content = card.read_bytes()
        except OSError as error:
            raise SegstudioError(f"{card} cannot be read: {error}.") from error
        _check_card(content, str(card), str(out_dir), format_name)


def _check_card(content: bytes | None, card: str, place: str, format_name: str) -> None:
    try:
        found: Any = json.loads(content) if content is not None else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or MARKER not in found:
        raise UsageError(
            f"{card} is not of segstudio and would be overwritten; choose another place."
        )
    if found.get("format") != format_name:
        raise UsageError(
            f"{place} holds an export in the format {found.get('format')}; choose another "
            f"place for {format_name}, or remove that one first."
        )


def _card_in_zip(path: Path) -> bytes | None:
    try:
        with ZipFile(path) as archive:
            return archive.read(CARD)
    except (BadZipFile, KeyError, OSError, NotImplementedError, RuntimeError, ValueError):
        return None


def _cache_folder(url: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = blake2b(url.encode("utf-8"), digest_size=8).hexdigest()
    return base / "segstudio" / "exports" / name
