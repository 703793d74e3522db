"""Reading a delivery, a folder or a zip file, and checking it against its manifest.

A delivery may come from anywhere: nothing of it is unpacked, no path in it is followed, and no
more bytes are read than its manifest promises.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from zipfile import BadZipFile, ZipFile

from batch.delivery import MANIFEST, SCHEMA, SIGNATURE
from batch.signature import is_signed_by, public_key_bytes
from segstudio.errors import SourceError, UsageError

_MAX_MANIFEST_BYTES: Final = 1 << 28
_CHUNK_BYTES: Final = 1 << 20
_HEX: Final = 64


@dataclass(frozen=True, slots=True)
class Verification:
    """What checking a delivery found.

    `problems` are sentences, none when it is whole. `public_key` is the key of a signature that
    fits, None where there is none; `is_trusted` says that it is the key that was asked for.
    """

    files: int
    problems: tuple[str, ...]
    public_key: str | None = None
    is_trusted: bool = False


class DeliveryFiles:
    """The files of a delivery; a context manager.

    Args:
        place: a folder or a zip file.

    Raises:
        UsageError: nothing is there, or it is neither.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._zip: ZipFile | None = None
        if place.is_dir():
            return
        if not place.exists():
            raise UsageError(f"There is no delivery at {place}.")
        try:
            self._zip = ZipFile(place)
        except (BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise UsageError(
                f"{place} is neither a folder nor a zip file that can be read: {error}."
            ) from error

    def __enter__(self) -> DeliveryFiles:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def names(self) -> list[str]:
        """Return the path of every file, sorted; one that is in a zip file twice is here twice."""
        if self._zip is not None:
            return sorted(one.filename for one in self._zip.infolist() if not one.is_dir())
        paths = (path for path in self.place.rglob("*") if path.is_symlink() or not path.is_dir())
        return sorted(path.relative_to(self.place).as_posix() for path in paths)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open one of `names`.

        Raises:
            SourceError: it cannot be read; a symbolic link is not followed.
        """
        try:
            if self._zip is not None:
                kind = stat.S_IFMT(self._zip.getinfo(name).external_attr >> 16)
                if kind not in (0, stat.S_IFREG):  # would be unpacked as a link, say
                    raise SourceError(f"{name} of {self.place} is no ordinary file.")
                with self._zip.open(name) as file:
                    yield file
                return
            path = self.place / name
            inside = path.parent.resolve().is_relative_to(self.place.resolve())
            if path.is_symlink() or not path.is_file() or not inside:
                raise SourceError(f"{name} of {self.place} is no ordinary file.")
            with path.open("rb") as plain:
                yield plain
        except (OSError, BadZipFile, KeyError, EOFError, zlib.error, NotImplementedError,
                RuntimeError) as error:  # fmt: skip
            raise SourceError(f"{name} of {self.place} cannot be read: {error}.") from error

    def read(self, name: str, max_bytes: int = _MAX_MANIFEST_BYTES) -> bytes:
        """Return a file's content.

        Raises:
            SourceError: it cannot be read, or has more bytes than that.
        """
        with self.open(name) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise SourceError(f"{name} of {self.place} has more than {max_bytes} bytes.")
        return content

    def manifest(self) -> dict[str, Any]:
        """Return the manifest.

        Raises:
            SourceError: there is none, or it is not one of a delivery.
        """
        return parse_manifest(self.read(MANIFEST), str(self.place))

    def sha256(self, name: str, size_bytes: int) -> str | None:
        """Return a file's SHA-256 in hex, or None when it has not this size."""
        hasher, left = hashlib.sha256(), size_bytes
        with self.open(name) as file:
            while chunk := file.read(min(_CHUNK_BYTES, left + 1)):
                left -= len(chunk)
                if left < 0:
                    return None
                hasher.update(chunk)
        return hasher.hexdigest() if left == 0 else None


def parse_manifest(content: bytes, place: str) -> dict[str, Any]:
    """Read a manifest's JSON and check that it has the parts that this module relies on.

    Raises:
        SourceError: it is not one.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"The {MANIFEST} of {place} is no JSON: {error}.") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        schema = found.get("schema") if isinstance(found, dict) else None
        raise SourceError(
            f"The {MANIFEST} of {place} is not one that this version reads (schema {schema!r}, "
            f"wanted {SCHEMA!r})."
        )
    entries = found.get("files")
    if not isinstance(entries, list) or not all(_is_file_entry(one) for one in entries):
        raise SourceError(f"The list of files in the {MANIFEST} of {place} is damaged.")
    for key, kind in (("formats", dict), ("classes", list), ("tasks", list)):
        if not isinstance(found.get(key), kind):
            raise SourceError(f"The part '{key}' of the {MANIFEST} of {place} is damaged.")
    return found


def _is_file_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("bytes"), int)
        and entry["bytes"] >= 0
        and isinstance(entry.get("sha256"), str)
        and len(entry["sha256"]) == _HEX
    )


def verify(files: DeliveryFiles, trusted_key: bytes | None = None) -> Verification:
    """Check every file against the manifest, and the manifest against its signature.

    Args:
        files: an opened delivery.
        trusted_key: the 32 bytes of the public key that must have signed it; None takes the one
            that the manifest names, which proves only that the two belong together.

    Raises:
        SourceError: there is no manifest that can be read.
    """
    content = files.read(MANIFEST)
    manifest = parse_manifest(content, str(files.place))
    problems = _file_problems(files, manifest)
    signature = manifest.get("signature")
    public_key, is_trusted = None, False
    if signature is None:
        if trusted_key is not None:
            problems.append("It is not signed, and a signature of the given key was asked for.")
        if SIGNATURE in files.names():
            problems.append(f"{SIGNATURE} is there, and the manifest says that it is not signed.")
    else:
        sentence = _signature_problem(files, signature, content, trusted_key)
        if sentence is None:
            public_key, is_trusted = str(signature["public_key"]), trusted_key is not None
        else:
            problems.append(sentence)
    return Verification(len(manifest["files"]), tuple(problems), public_key, is_trusted)


def _file_problems(files: DeliveryFiles, manifest: Mapping[str, Any]) -> list[str]:
    problems = []
    present = Counter(files.names())
    promised = Counter(entry["path"] for entry in manifest["files"])
    problems += [f"{name} is there twice." for name, times in present.items() if times > 1]
    problems += [f"The manifest names {name} twice." for name, n in promised.items() if n > 1]
    extra = sorted(set(present) - set(promised) - {MANIFEST, SIGNATURE})
    problems += [f"{name} is there and not in the manifest." for name in extra]
    for entry in manifest["files"]:
        name = entry["path"]
        if name not in present:
            problems.append(f"{name} is missing.")
            continue
        try:
            found = files.sha256(name, entry["bytes"])
        except SourceError as error:
            problems.append(str(error))
            continue
        if found != entry["sha256"]:
            problems.append(f"{name} is not as it was delivered.")
    return problems


def _signature_problem(
    files: DeliveryFiles, entry: Any, content: bytes, trusted_key: bytes | None
) -> str | None:
    if not isinstance(entry, dict) or entry.get("algorithm") != "Ed25519":
        return "The manifest names a signature of a kind that this version does not know."
    try:
        named = public_key_bytes(str(entry.get("public_key")))
    except ValueError as error:
        return f"The public key in the manifest is none: {error}."
    if trusted_key is not None and trusted_key != named:
        return "It is signed with another key than the given one."
    try:
        signature = files.read(SIGNATURE, 64)
    except SourceError as error:
        return str(error)
    if len(signature) != 64 or not is_signed_by(named, signature, content):
        return f"The signature does not fit: {MANIFEST} is not as it was signed."
    return None
