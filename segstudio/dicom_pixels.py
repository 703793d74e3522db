"""From stored DICOM pixels to 8-bit pictures: decoding, rescaling, window, photometric.

Frames are decoded one at a time. Formulas: PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT, window),
C.7.6.3.1.2 (photometric interpretation).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from segstudio.dicom_files import DicomFileError
from segstudio.dicom_frames import code_of, frame_count, frame_numbers, grey_attributes
from segstudio.errors import UsageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Pixels = npt.NDArray[Any]

MAX_FRAME_PX: Final = 1 << 28
FILE_WINDOW: Final = "file"
AUTO_WINDOW: Final = "auto"
_PADDED_KEEP: Final = (0.5, 99.5)  # percentiles between which an automatic window lies
_SAMPLES: Final = 8
_PAIR: Final = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class Window:
    """A range of values in output units (HU for CT) that becomes black to white.

    `function` is LINEAR, LINEAR_EXACT or SIGMOID, as in DICOM. `for_ct` marks presets in HU.
    """

    name: str
    center: float
    width: float
    function: str = "LINEAR"
    for_ct: bool = False


PRESETS: Final = {
    window.name: window
    for window in (
        Window("abdomen", 40.0, 400.0, for_ct=True),
        Window("lung", -600.0, 1500.0, for_ct=True),
        Window("bone", 400.0, 1800.0, for_ct=True),
        Window("brain", 40.0, 80.0, for_ct=True),
        Window("liver", 60.0, 160.0, for_ct=True),
        Window("mediastinum", 50.0, 350.0, for_ct=True),
    )
}


def parse_window(text: str) -> Window:
    """Read a preset's name or CENTER,WIDTH.

    >>> parse_window("40,400").name, parse_window("-600,1500").name
    ('c40w400', 'cm600w1500')

    Raises:
        UsageError: neither, or a width below 1.
    """
    if text in PRESETS:
        return PRESETS[text]
    pair = _PAIR.fullmatch(text)
    if pair is None or float(pair[2]) < 1:
        raise UsageError(
            f"--window takes {', '.join(PRESETS)}, or CENTER,WIDTH with a width of at least 1 such "
            f"as 40,400, not '{text}'."
        )
    name = f"c{pair[1]}w{pair[2]}".replace("-", "m").replace(".", "p")
    return Window(name, float(pair[1]), float(pair[2]))


def check_image(dataset: Dataset) -> None:
    """Raise a DicomFileError where a header describes no image that could be decoded."""
    if "DirectoryRecordSequence" in dataset:
        raise DicomFileError("It is a DICOMDIR, a list of other files.")
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int) or rows < 1 or columns < 1:
        kind = code_of(dataset, "Modality")
        raise DicomFileError(f"It holds no image{f' (modality {kind})' if kind else ''}.")
    if rows * columns > MAX_FRAME_PX:
        raise DicomFileError(
            f"A frame has {rows} x {columns} pixels; at most {MAX_FRAME_PX} are read."
        )
    samples = dataset.get("SamplesPerPixel", 1)
    if samples not in (1, 3):
        raise DicomFileError("It has neither 1 nor 3 samples per pixel.")


def iter_frames(path: Path, dataset: Dataset, frames: Iterable[int] | None = None,
                ) -> Iterator[Pixels]:  # fmt: skip
    """Yield decoded frames: (rows, columns) stored values, or (rows, columns, 3) RGB.

    Bits above the stored ones, in which old files keep graphics, are cleared. The header may say
    more than the file holds: then an error comes where the frames end.

    Args:
        path: the file; `dataset`: its header.
        dataset: its header, as `dicom_files.read_header` gives it.
        frames: which ones, counted from 0; all when None.

    Raises:
        DicomFileError: a frame cannot be decoded; the sentence says why.
    """
    from segstudio.dicom_decoders import decoded_frames

    wanted = list(range(frame_count(dataset))) if frames is None else list(frames)
    shape = (int(dataset.Rows), int(dataset.Columns))
    done = 0
    for array in decoded_frames(path, dataset, wanted):
        if array.shape[:2] != shape or array.ndim not in (2, 3):
            raise DicomFileError("Its pixels do not fit the rows and columns it states.")
        yield _clear_unused_bits(array, dataset)
        done += 1
    if done < len(wanted):
        raise DicomFileError(f"It states {len(wanted)} frames but holds {done}.")


def has_own_window(dataset: Dataset, frame: int = 0) -> bool:
    """Say whether a file says itself how its grey values are shown."""
    grey = grey_attributes(dataset, frame)
    return "VOILUTSequence" in grey or own_window(dataset, frame) is not None


def own_window(dataset: Dataset, frame: int) -> Window | None:
    """Return the first window that a file states for a frame; None where there is none."""
    center = frame_numbers(dataset, frame, "WindowCenter", 1)
    width = frame_numbers(dataset, frame, "WindowWidth", 1)
    if center is None or width is None or width[0] <= 0:
        return None
    stated = str(grey_attributes(dataset, frame).get("VOILUTFunction", "LINEAR"))
    function = stated if stated in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"
    if function == "LINEAR" and width[0] < 1:
        function = "LINEAR_EXACT"
    return Window(FILE_WINDOW, center[0], width[0], function)


def needs_auto_window(dataset: Dataset) -> bool:
    """Say whether a file leaves open how its grey values are shown.

    Eight unsigned bits without rescaling are shown as they are.
    """
    if dataset.get("SamplesPerPixel", 1) != 1 or has_own_window(dataset):
        return False
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        return False
    return not _is_plain_8bit(dataset, 0)


def auto_window(samples: Iterable[tuple[Pixels, Dataset, int]]) -> Window:
    """Return a window for frames of a series that states none: 0.5 to 99.5 % of their values.

    Args:
        samples: (stored values, header, frame) of some frames; `sample_indices` picks them.
    """
    lows, highs = [], []
    for stored, dataset, frame in samples:
        values = modality_values(stored, dataset, frame).astype(np.float64)
        values = values[_is_not_padding(stored, dataset)]
        if values.size:
            low, high = np.nanpercentile(values, _PADDED_KEEP)
            lows.append(float(low))
            highs.append(float(high))
    low, high = (min(lows), max(highs)) if lows else (0.0, 1.0)
    if not (np.isfinite(low) and np.isfinite(high)) or high <= low:
        low, high = (low, low + 1.0) if np.isfinite(low) else (0.0, 1.0)
    return Window(AUTO_WINDOW, (low + high) / 2, high - low, "LINEAR_EXACT")


def sample_indices(count: int) -> list[int]:
    """Return up to 8 evenly spread positions below `count`.

    >>> sample_indices(3), sample_indices(80)
    ([0, 1, 2], [5, 15, 25, 35, 45, 55, 65, 75])
    """
    if count <= _SAMPLES:
        return list(range(count))
    return [(2 * number + 1) * count // (2 * _SAMPLES) for number in range(_SAMPLES)]


def modality_values(stored: Pixels, dataset: Dataset, frame: int) -> Pixels:
    """Return a frame in output units: through the modality LUT, or rescaled."""
    tables = grey_attributes(dataset, frame).get("ModalityLUTSequence")
    table = _read_table(tables[0]) if tables else None
    if table is not None:
        return _look_up(stored, table)
    slope, intercept = rescale_of(dataset, frame)
    if (slope, intercept) == (1.0, 0.0):
        return stored
    return stored.astype(np.float64) * slope + intercept


def rescale_of(dataset: Dataset, frame: int) -> tuple[float, float]:
    """Return a frame's slope and intercept; 1 and 0 where the file states none."""
    slope = frame_numbers(dataset, frame, "RescaleSlope", 1) or (1.0,)
    intercept = frame_numbers(dataset, frame, "RescaleIntercept", 1) or (0.0,)
    return slope[0], intercept[0]


def chosen_window(
    dataset: Dataset, frame: int, wanted: Window | None, fallback: Window | None
) -> Window | None:
    """Return the window for a frame; None where the file's VOI LUT or plain values are shown.

    Args:
        dataset: the header.
        frame: from 0.
        wanted: asked for; presets in HU count for CT only.
        fallback: the series' automatic window.
    """
    if wanted is not None and (not wanted.for_ct or dataset.get("Modality") == "CT"):
        return wanted
    if "VOILUTSequence" in grey_attributes(dataset, frame):
        return None
    stated = own_window(dataset, frame)
    if stated is not None or _is_plain_8bit(dataset, frame):
        return stated
    return fallback


def to_8bit(
    stored: Pixels, dataset: Dataset, frame: int, window: Window | None
) -> npt.NDArray[np.uint8]:
    """Return a frame as it is shown: (rows, columns) grey or (rows, columns, 3) RGB, 8 bits.

    Args:
        stored: as `iter_frames` yields it.
        dataset: the header.
        frame: from 0.
        window: from `chosen_window`; not used for colours.
    """
    if stored.ndim == 3:
        return _colour_to_8bit(stored, dataset)
    photometric = dataset.get("PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        return _palette_to_8bit(stored, dataset)
    if window is None and _is_plain_8bit(dataset, frame):
        most = (1 << int(dataset.get("BitsStored", 8))) - 1
        shown = np.round(stored.astype(np.float64) * (255.0 / most)).astype(np.uint8)
    else:
        values = modality_values(stored, dataset, frame)
        if window is None:
            shown = _through_voi_lut(values, dataset, frame)
        else:
            shown = apply_window(values, window)
    return np.asarray(255 - shown if photometric == "MONOCHROME1" else shown, np.uint8)


def apply_window(values: Pixels, window: Window) -> npt.NDArray[np.uint8]:
    """Return values as 0..255 through a window.

    >>> apply_window(np.array([-200, 39.5, 240]), Window("", 40, 400)).tolist()
    [0, 128, 255]
    """
    numbers = np.nan_to_num(np.asarray(values, np.float32))
    if window.function == "SIGMOID":
        # Far from the centre the exponential overflows to what is meant: 0.
        with np.errstate(over="ignore"):
            share = 1.0 / (1.0 + np.exp(-4.0 * (numbers - window.center) / window.width))
    elif window.function == "LINEAR_EXACT" or window.width <= 1:
        share = (numbers - window.center) / window.width + 0.5
    else:
        share = (numbers - (window.center - 0.5)) / (window.width - 1) + 0.5
    return np.asarray(np.rint(np.clip(share, 0.0, 1.0) * 255.0), np.uint8)


def black_out(stored: Pixels, boxes: Sequence[tuple[int, int, int, int]], value: float = 0) -> None:
    """Set boxes (x, y, width, height) in pixels to one value, in place."""
    for x, y, width, height in boxes:
        stored[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = value


def _is_plain_8bit(dataset: Dataset, frame: int) -> bool:
    grey = grey_attributes(dataset, frame)
    return (
        int(dataset.get("BitsStored", 16) or 16) <= 8
        and int(dataset.get("PixelRepresentation", 0) or 0) == 0
        and "ModalityLUTSequence" not in grey
        and (frame_numbers(dataset, frame, "RescaleSlope", 1) or (1.0,)) == (1.0,)
        and (frame_numbers(dataset, frame, "RescaleIntercept", 1) or (0.0,)) == (0.0,)
    )


def _clear_unused_bits(array: Pixels, dataset: Dataset) -> Pixels:
    if array.dtype.kind not in "iu" or array.ndim == 3:
        return array
    stored, allocated = int(dataset.get("BitsStored", 0) or 0), array.dtype.itemsize * 8
    if not 0 < stored < allocated:
        return array
    if array.dtype.kind == "u":
        return np.asarray(np.bitwise_and(array, np.array((1 << stored) - 1, array.dtype)))
    shift = allocated - stored
    # The sign is the highest stored bit.
    return np.asarray(np.right_shift(np.left_shift(array, shift), shift))


def _is_not_padding(stored: Pixels, dataset: Dataset) -> npt.NDArray[np.bool_]:
    padding = dataset.get("PixelPaddingValue")
    if not isinstance(padding, int):
        return np.ones(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    other = limit if isinstance(limit, int) else padding
    return np.asarray((stored < min(padding, other)) | (stored > max(padding, other)))


def _colour_to_8bit(stored: Pixels, dataset: Dataset) -> npt.NDArray[np.uint8]:
    if stored.dtype == np.uint8:
        return stored
    bits = int(dataset.get("BitsStored", 0) or stored.dtype.itemsize * 8)
    return (
        np.asarray(stored.astype(np.uint64) >> max(bits - 8, 0), np.uint64)
        .clip(0, 255)
        .astype(np.uint8)
    )


def _palette_to_8bit(stored: Pixels, dataset: Dataset) -> npt.NDArray[np.uint8]:
    from pydicom.dataset import Dataset as NewDataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.uid import ExplicitVRLittleEndian

    # pydicom goes by the file's byte order for some palettes; `read_header` turned them all.
    palette = NewDataset()
    palette.file_meta = FileMetaDataset()
    palette.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for element in dataset:
        if "PaletteColorLookupTable" in element.keyword:
            palette.add(element)
    palette.PhotometricInterpretation = "PALETTE COLOR"
    try:
        coloured = np.asarray(apply_color_lut(stored, palette))[..., :3]
    except Exception as error:  # a damaged palette may fail anywhere in the library
        raise DicomFileError("Its colour palette is missing or damaged.") from error
    if coloured.dtype == np.uint8:
        return coloured
    return np.asarray(coloured >> 8, np.uint8)


def _through_voi_lut(values: Pixels, dataset: Dataset, frame: int) -> npt.NDArray[np.uint8]:
    table = _read_table(grey_attributes(dataset, frame).VOILUTSequence[0])
    if table is None:
        raise DicomFileError("Its VOI LUT is missing or damaged.")
    shown = _look_up(values, table).astype(np.float64)
    return np.asarray(np.rint(np.clip(shown / ((1 << table.bits) - 1), 0, 1) * 255), np.uint8)


@dataclass(frozen=True, slots=True)
class _Table:
    entries: npt.NDArray[np.uint16]
    first: int
    bits: int


def _read_table(item: Dataset) -> _Table | None:
    """Read a modality or VOI LUT (PS3.3, C.11.1.1.1, C.11.2.1.1); None where it is damaged.

    pydicom's own functions look for the byte order of the whole file, which single frames of
    multi-frame files do not have, and wrap around in tables of 8 bits.
    """
    try:
        count, first, bits = (int(one) for one in item.LUTDescriptor)
        data = item.LUTData
    except (AttributeError, TypeError, ValueError):
        return None
    count = count or 1 << 16
    if isinstance(data, bytes):
        # Words; but tables of 8 bits are also found as one byte an entry.
        one_byte = bits == 8 and len(data) < 2 * count
        entries = np.frombuffer(data[: len(data) // 2 * 2], np.uint8 if one_byte else "<u2")
    else:
        entries = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    if not 0 < count <= len(entries) or not 1 <= bits <= 16:
        return None
    return _Table(entries[:count].astype(np.uint16), first, bits)


def _look_up(values: Pixels, table: _Table) -> Pixels:
    first = table.first
    # Where values are signed the first one is too, whatever the attribute was written as.
    if first > 0x7FFF and values.size and values.min() < 0:
        first -= 1 << 16
    places = np.clip(np.floor(values).astype(np.int64) - first, 0, len(table.entries) - 1)
    return np.asarray(table.entries[places])
