"""Decoded frames of a DICOM file, one at a time, and sentences for those that cannot be decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from segstudio.dicom_files import DicomFileError, quiet_pydicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
_PIXEL_KEYWORDS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MAX_WHOLE_BYTES: Final = 2 << 30


def decoded_frames(
    path: Path, dataset: Dataset, frames: Sequence[int]
) -> Iterator[npt.NDArray[Any]]:
    """Yield frames as pydicom and its plugins decode them, YBR as RGB; little endian.

    Raises:
        DicomFileError: says which transfer syntax, and what is missing for it.
    """
    done = 0
    with quiet_pydicom():
        try:
            for array in _frames(path, dataset, frames):
                done += 1
                yield np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        except DicomFileError:
            raise
        except Exception as error:  # decoders may fail anyhow on damaged pixels
            if done or dataset.file_meta.TransferSyntaxUID != _JPEG_EXTENDED:
                raise DicomFileError(_reason(dataset, error)) from error
            failure = error
        else:
            return
    yield from _twelve_bit_jpeg(path, dataset, frames, failure)


def _frames(path: Path, dataset: Dataset, frames: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    from pydicom import dcmread
    from pydicom.pixels.utils import iter_pixels

    with _silent_libraries():
        if _has_standard_head(path):
            # From the path, so that no more than a frame of the pixels is in memory.
            from_path = _without_panic(iter_pixels(path, indices=list(frames)))
            try:
                first = next(from_path, None)
            except Exception:
                # Some files without offsets can only be read whole.
                if path.stat().st_size > _MAX_WHOLE_BYTES:
                    raise
            else:
                if first is not None:
                    yield first
                    yield from from_path
                return
        whole = dcmread(path, force=True)
        whole.file_meta = dataset.file_meta
        if not any(keyword in whole for keyword in _PIXEL_KEYWORDS):
            raise DicomFileError("It holds no pixels.")
        yield from _without_panic(iter_pixels(whole, indices=list(frames)))


def _without_panic(frames: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """Turn the panic of a decoder written in Rust, which is no Exception, into one."""
    while True:
        try:
            array = next(frames)
        except StopIteration:
            return
        except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            raise RuntimeError("A decoder panicked.") from error
        yield array


def _twelve_bit_jpeg(
    path: Path, dataset: Dataset, frames: Sequence[int], failure: Exception
) -> Iterator[npt.NDArray[Any]]:
    """Yield frames of 12-bit JPEG as GDCM decodes them.

    pydicom leaves those to a plugin under the GPL. GDCM has a decoder of its own, which pydicom
    does not call for them; it decodes a whole file at once.
    """
    try:
        import gdcm
    except ImportError:
        raise DicomFileError(_reason(dataset, failure)) from failure
    with _silent_libraries():
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        if not reader.Read():
            raise DicomFileError(_reason(dataset, failure)) from failure
        image = reader.GetImage()
        stored = image.GetPixelFormat()
        buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    if stored.GetSamplesPerPixel() != 1 or stored.GetBitsAllocated() != 16:
        raise DicomFileError(_reason(dataset, failure)) from failure
    kind = np.dtype("<i2" if stored.GetPixelRepresentation() else "<u2")
    shape = (-1, int(dataset.Rows), int(dataset.Columns))
    try:
        whole = np.frombuffer(buffer, kind).reshape(shape)
    except ValueError as error:
        raise DicomFileError("Its pixels do not fit the rows and columns it states.") from error
    for frame in frames:
        if frame >= len(whole):
            return
        yield whole[frame].copy()


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Send what C libraries print about damaged files to nowhere: it may quote the file."""
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a file
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _has_standard_head(path: Path) -> bool:
    from pydicom.filereader import read_file_meta_info

    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return False
    return "TransferSyntaxUID" in read_file_meta_info(path)


def _reason(dataset: Dataset, error: Exception) -> str:
    from pydicom.uid import UID

    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    name = "a private one" if syntax.is_private else str(syntax.name)
    text = str(error)
    if "number of bytes of pixel data is less" in text or "cannot reshape" in text:
        return "Its pixels end too early: it is truncated or damaged."
    if "No pixel data" in text or (isinstance(error, AttributeError | KeyError)):
        return "It holds no pixels, or lacks an attribute that says how to read them."
    if "missing dependencies" in text or isinstance(error, NotImplementedError):
        return (
            f"No decoder for its transfer syntax ({name}) is installed; those that segstudio uses "
            "come with: pip install 'segstudio[dicom]'"
        )
    return (
        f"Its pixels cannot be decoded ({name}, {type(error).__name__}): they are damaged, or of a "
        "kind that the decoders installed here do not know."
    )
