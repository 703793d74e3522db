"""Writes a de-identified DICOM file frame by frame, its pixels decoded (Explicit VR Little Endian).

Pixels are written as they were decoded, not copied: compressed streams can hold comments, and the
unused high bits of old files hold graphics. Preamble and file meta information are made anew.
"""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from segstudio.dicom_files import DicomFileError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IMPLEMENTATION_UID: Final = "2.25.154371213446519337735934236473026120417"
IMPLEMENTATION_NAME: Final = "SEGSTUDIO"
MAX_PIXEL_BYTES: Final = (1 << 32) - 2
_FLOAT_ELEMENTS: Final = {4: (0x7FE00008, b"OF"), 8: (0x7FE00009, b"OD")}
_PALETTE: Final = ("Red", "Green", "Blue")


class NativeDicomWriter:
    """A context manager that writes `path`; `unwritable` are the tags it had to leave out.

    The file is removed again when the block raises.
    """

    def __init__(self, path: Path, header: Dataset, frames: int) -> None:
        self._path = path
        self._header = header
        self._frames = frames
        self._file: IO[bytes] | None = None
        self._written_bytes = 0
        self.unwritable: tuple[int, ...] = ()

    def __enter__(self) -> NativeDicomWriter:
        return self

    def write_frame(self, stored: npt.NDArray[Any]) -> None:
        """Write the next frame: (rows, columns) or (rows, columns, 3).

        Raises:
            DicomFileError: the pixels do not fit into one element of DICOM.
        """
        if self._file is None:
            self._begin(stored)
        assert self._file is not None  # noqa: S101 - for mypy
        content = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).tobytes()
        self._file.write(content)
        self._written_bytes += len(content)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            if self._written_bytes % 2:
                self._file.write(b"\0")
            self._file.close()
        if error is not None:
            self._path.unlink(missing_ok=True)

    def _begin(self, first: npt.NDArray[Any]) -> None:
        length = first.nbytes * self._frames
        if length > MAX_PIXEL_BYTES:
            raise DicomFileError(
                "Its decoded pixels do not fit into one DICOM file of 4 GiB; import it with "
                "--no-dicom, then only its images are written."
            )
        describe_pixels(self._header, first, self._frames)
        content = self._encoded_header()
        tag, vr = 0x7FE00010, b"OB" if first.dtype.itemsize == 1 else b"OW"
        if first.dtype.kind == "f":
            tag, vr = _FLOAT_ELEMENTS[first.dtype.itemsize]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb")
        self._file.write(content)
        self._file.write(struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + b"\0\0")
        self._file.write(struct.pack("<L", length + length % 2))

    def _encoded_header(self) -> bytes:
        try:
            return encode(self._header)
        except Exception:
            # Some value cannot be written: find which, leave those out.
            self.unwritable = tuple(drop_unwritable(self._header))
        try:
            return encode(self._header)
        except Exception as error:  # a damaged value may fail anywhere in the library
            raise DicomFileError(
                f"Its header cannot be written again ({type(error).__name__})."
            ) from error


def describe_pixels(header: Dataset, first: npt.NDArray[Any], frames: int) -> None:
    """Make a header's image attributes say what the decoded pixels are, in place."""
    bits = first.dtype.itemsize * 8
    is_colour = first.ndim == 3
    header.SamplesPerPixel = 3 if is_colour else 1
    header.BitsAllocated = bits
    if is_colour:
        header.PhotometricInterpretation = "RGB"
        header.PlanarConfiguration = 0
        for colour in _PALETTE:
            for part in ("Descriptor", "Data"):
                header.pop(f"{colour}PaletteColorLookupTable{part}", None)
    elif "PlanarConfiguration" in header:
        del header.PlanarConfiguration
    if first.dtype.kind == "f":
        for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
            header.pop(keyword, None)
    else:
        stored = header.get("BitsStored")
        # Single bits were unpacked to bytes.
        if not isinstance(stored, int) or not 1 < stored <= bits:
            stored = bits
        header.BitsStored = stored
        header.HighBit = stored - 1
        header.PixelRepresentation = int(first.dtype.kind == "i")
    if frames > 1 or "NumberOfFrames" in header:
        header.NumberOfFrames = frames


def encode(header: Dataset) -> bytes:
    """Return preamble, file meta information and data set as bytes, without pixels."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    header.file_meta = meta
    header.preamble = b"\0" * 128
    buffer = BytesIO()
    dcmwrite(buffer, header, enforce_file_format=True)
    return buffer.getvalue()


def drop_unwritable(header: Dataset) -> list[int]:
    """Remove the attributes that the library cannot write, in place; return their tags."""
    from pydicom.dataset import Dataset as NewDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dropped = []
    for tag in list(header.keys()):
        alone = NewDataset()
        try:
            alone.add(header[tag])
            alone.save_as(
                BytesIO(), implicit_vr=ExplicitVRLittleEndian.is_implicit_VR, little_endian=True
            )
        except Exception:  # a damaged value may fail anywhere in the library
            del header[tag]
            dropped.append(int(tag))
    return dropped
