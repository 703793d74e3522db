"""Finds files in folders and zip archives and reads the DICOM headers among them.

Nothing of a path, a zip member's name or a library's message ends up in a reason: they may name
patients. Zip members are never written under their own names, and sizes are bounded before and
while they are unpacked.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from segstudio.errors import MissingExtraError, SegstudioError, UsageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_MEMBERS: Final = 1_000_000
MAX_MEMBER_BYTES: Final = 8 << 30
MAX_ARCHIVE_BYTES: Final = 512 << 30
MAX_INFLATED_BYTES: Final = 1 << 30
"""A data set of the deflated transfer syntax is unpacked in memory, at most to this size."""

_MAX_RATIO: Final = 200  # DICOM compresses about 2:1, empty images some 100:1
_SMALL_BYTES: Final = 64 << 20  # below this a high ratio harms nobody
_CHUNK_BYTES: Final = 1 << 20
_WORD_BYTES: Final = {"OW": 2, "OL": 4, "OF": 4, "OV": 8, "OD": 8}
_DIGITS: Final = re.compile(r"(\d+)")


class DicomFileError(SegstudioError):
    """A file that cannot be imported; the sentence holds nothing of the file's content or name."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file: a path, or a member of the zip archive at that path; numbered from 1.

    `refused` says why it is not to be opened at all; empty when it may be.
    """

    number: int
    path: Path
    member: str = ""
    refused: str = ""

    @property
    def name(self) -> str:
        """The name under which reports speak of the file."""
        return f"file-{self.number:06}"

    @property
    def original(self) -> str:
        """Where the file was: for the key file and for the operator's own screen only."""
        return f"{self.path}!{self.member}" if self.member else str(self.path)

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Give a path to read the file from; that of a zip member goes away at the end.

        Raises:
            DicomFileError: refused, or the member is damaged or larger than it says.
        """
        if self.refused:
            raise DicomFileError(self.refused)
        if not self.member:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="segstudio-dicom-") as folder:
            unpacked = Path(folder) / "member"
            _unpack(self.path, self.member, unpacked)
            yield unpacked


def require_dicom_packages() -> None:
    """Raise MissingExtraError when a package of the extra `dicom` is not installed."""
    from importlib.util import find_spec

    for module, package in (("pydicom", "pydicom"), ("dicomanonymizer", "dicom-anonymizer")):
        if find_spec(module) is None:
            raise MissingExtraError("Reading DICOM", package, "dicom")


def find_files(paths: Sequence[Path]) -> Iterator[FoundFile]:
    """Yield every file of the given folders, files and zip archives, in a natural order.

    Folders are searched below; links that lead out of them are refused. Archives in archives are
    not opened. The numbers depend on names alone, so the same call numbers the same files alike.

    Raises:
        UsageError: a path does not exist.
    """
    number = 0
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist; give folders, DICOM files or zip archives.")
        for file, refused in _walk(path):
            if not refused and zipfile.is_zipfile(file):
                for member, why in _members(file):
                    number += 1
                    yield FoundFile(number, file, member, why)
            else:
                number += 1
                yield FoundFile(number, file, "", refused)


def read_header(path: Path) -> Dataset:
    """Read a DICOM file up to its pixels.

    Files without preamble or file meta information are read where they begin like a data set; the
    transfer syntax is then taken from how they are encoded.

    Raises:
        DicomFileError: it is no DICOM file, or damaged.
    """
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
    from pydicom.uid import ExplicitVRLittleEndian as ExplicitLittle
    from pydicom.uid import ImplicitVRLittleEndian as ImplicitLittle

    has_preamble = _looks_like_dicom(path)
    with quiet_pydicom():
        try:
            _check_deflated(path, has_preamble, DeflatedExplicitVRLittleEndian)
            dataset = dcmread(path, stop_before_pixels=True, force=not has_preamble)
            if not getattr(dataset, "file_meta", None):
                dataset.file_meta = FileMetaDataset()
            if "TransferSyntaxUID" not in dataset.file_meta:
                is_implicit, is_little = dataset.original_encoding
                guessed = ImplicitLittle if is_implicit else ExplicitLittle
                dataset.file_meta.TransferSyntaxUID = guessed if is_little else ExplicitVRBigEndian
            if dataset.original_encoding[1] is False:
                _swap_words(dataset)
        except DicomFileError:
            raise
        except Exception as error:  # a foreign file may fail anywhere in the library
            raise DicomFileError(
                f"pydicom cannot read it ({type(error).__name__}): it is damaged or no DICOM file."
            ) from error
    if not len(dataset):
        raise DicomFileError("It begins like a DICOM file but holds no attribute.")
    return dataset


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings and log lines, which may quote values, off every stream."""
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key under which "i10" comes after "i9".

    >>> sorted(["i10", "i9", "a"], key=natural_key)
    ['a', 'i9', 'i10']
    """
    parts = _DIGITS.split(name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)


def _swap_words(dataset: Dataset) -> None:
    """Turn binary words of a big-endian file (palettes, tables) into little-endian ones.

    pydicom turns numbers but leaves binary values as they were, and reads palettes as little-endian
    ones.
    """
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or ():
                _swap_words(item)
        elif element.VR in _WORD_BYTES and isinstance(element.value, bytes):
            width = _WORD_BYTES[element.VR]
            if len(element.value) % width == 0:
                words = np.frombuffer(element.value, f">u{width}")
                element.value = words.astype(f"<u{width}").tobytes()


def _walk(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        yield path, ""
        return
    root = path.resolve()
    for folder, subfolders, names in os.walk(path):
        subfolders.sort(key=natural_key)
        for name in sorted(names, key=natural_key):
            file = Path(folder) / name
            if file.is_symlink() and not file.resolve().is_relative_to(root):
                yield file, "It is a link that leads out of the given folder; it is not followed."
            elif not file.is_file():
                yield file, "It is no regular file."
            else:
                yield file, ""


def _members(archive: Path) -> Iterator[tuple[str, str]]:
    """Yield the names of a zip archive's files, each with the reason not to open it."""
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        yield "?", f"It is a zip archive whose list cannot be read ({type(error).__name__})."
        return
    total = 0
    for count, info in enumerate(sorted(infos, key=lambda one: natural_key(one.filename)), 1):
        if count > MAX_MEMBERS:
            yield info.filename, f"The archive has more than {MAX_MEMBERS} files; split it."
            return
        total += info.file_size
        yield info.filename, _why_not(info, total)


def _why_not(info: zipfile.ZipInfo, total_bytes: int) -> str:
    if info.flag_bits & 1:
        return "It is encrypted in its archive; unpack it first."
    if info.file_size > MAX_MEMBER_BYTES or total_bytes > MAX_ARCHIVE_BYTES:
        return "Its archive unpacks to more than is allowed; unpack it yourself if you trust it."
    if info.file_size > max(_SMALL_BYTES, _MAX_RATIO * max(info.compress_size, 1)):
        return (
            f"It unpacks to more than {_MAX_RATIO} times its size, as a zip bomb does; "
            "unpack it yourself if you trust it."
        )
    return ""


def _unpack(archive: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            left = opened.getinfo(member).file_size
            with opened.open(member) as source, target.open("wb") as file:
                while left >= 0 and (chunk := source.read(_CHUNK_BYTES)):
                    left -= len(chunk)
                    file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError,
            NotImplementedError, RuntimeError) as error:  # fmt: skip
        raise DicomFileError(
            f"It cannot be unpacked from its archive ({type(error).__name__})."
        ) from error
    if left < 0:
        raise DicomFileError("It is larger than its archive says.")


def _looks_like_dicom(path: Path) -> bool:
    """Say whether a file has the preamble; raise when it does not begin like a data set either."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise DicomFileError(f"It cannot be opened ({type(error).__name__}).") from error
    if head[128:132] == b"DICM":
        return True
    if not head:
        raise DicomFileError("It is empty.")
    if zipfile.is_zipfile(path):
        raise DicomFileError("It is an archive in an archive; unpack the outer one first.")
    if len(head) >= 8:
        for order in "<>":
            group, element = struct.unpack(f"{order}HH", head[:4])
            if group in (0x0002, 0x0008) and (element < 0x0100 or element in _FIRST_ELEMENTS):
                return False
    raise DicomFileError("It is no DICOM file.")


_FIRST_ELEMENTS: Final[Iterable[int]] = frozenset({0x0100, 0x0102, 0x1140, 0x2112})


def _check_deflated(path: Path, has_preamble: bool, deflated_uid: str) -> None:
    """Refuse a deflated data set that unpacks to more than fits."""
    if not has_preamble:
        return
    from pydicom.filereader import read_file_meta_info

    if read_file_meta_info(path).get("TransferSyntaxUID") != deflated_uid:
        return
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(_deflated_start(path))
        pending = file.read(_CHUNK_BYTES)
        while pending and not inflater.eof:
            total += len(inflater.decompress(pending, _CHUNK_BYTES))
            if total > MAX_INFLATED_BYTES:
                raise DicomFileError("It is deflated and unpacks to more than is allowed.")
            pending = inflater.unconsumed_tail or file.read(_CHUNK_BYTES)


def _deflated_start(path: Path) -> int:
    """Return where the data set begins: behind the group of file meta information."""
    with path.open("rb") as file:
        head = file.read(144)
    # (0002,0000) UL 4 and its value: the bytes of the group that follow.
    if head[132:136] != b"\x02\x00\x00\x00" or head[136:138] != b"UL":
        raise DicomFileError("It is deflated but does not say where its data set begins.")
    length: int = struct.unpack("<L", head[140:144])[0]
    return 144 + length
