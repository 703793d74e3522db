"""What a DICOM header says about one frame: place, spacing, grey values.

Multi-frame files keep it in functional groups, per frame or shared; older ones in the data set
itself. Numbers that cannot be read count as missing.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from segstudio.dicom_files import DicomFileError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FRAMES: Final = 200_000
_CODE: Final = re.compile(r"[A-Z0-9_ ]{1,16}")
_GROUPS: Final = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
    "VOILUTSequence": "FrameVOILUTSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "ModalityLUTSequence": "PixelValueTransformationSequence",
}
_GREY_KEYS: Final = (
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence",
)  # fmt: skip
_IMAGE_KEYS: Final = ("PhotometricInterpretation", "BitsStored", "BitsAllocated",
                      "PixelRepresentation")  # fmt: skip


def frame_value(dataset: Dataset, frame: int, keyword: str) -> Any:
    """Return an attribute of one frame (counted from 0): its own, the shared or the file's."""
    group = _GROUPS.get(keyword)
    if group is not None:
        for holder in _holders(dataset, frame):
            items = holder.get(group)
            if items and keyword in items[0]:
                return _safe(items[0], keyword)
    return _safe(dataset, keyword)


def frame_numbers(
    dataset: Dataset, frame: int, keyword: str, count: int
) -> tuple[float, ...] | None:
    """Return an attribute of one frame as so many finite numbers; None where it is not that."""
    value = frame_value(dataset, frame, keyword)
    if value is None or isinstance(value, str):
        return None
    try:
        values = [value] if isinstance(value, int | float) else list(value)
        numbers = tuple(float(one) for one in values)
    except (TypeError, ValueError):
        return None
    if len(numbers) < count or not all(math.isfinite(one) for one in numbers[:count]):
        return None
    return numbers[:count]


def frame_count(dataset: Dataset) -> int:
    """Return how many frames a header states: 1 where it says nothing.

    Raises:
        DicomFileError: no whole number of at least 1, or more than `MAX_FRAMES`.
    """
    try:
        stated = dataset.get("NumberOfFrames")
        count = 1 if stated is None or stated == "" else int(stated)
    except Exception as error:  # a damaged value may fail anywhere in the library
        raise DicomFileError("Its number of frames is no number.") from error
    if not 1 <= count <= MAX_FRAMES:
        raise DicomFileError(f"It states {count} frames; 1 to {MAX_FRAMES} are read.")
    return count


def orientation_of(
    dataset: Dataset, frame: int
) -> tuple[float, float, float, float, float, float] | None:
    """Return the direction cosines of rows and columns; None where they are no right angle."""
    numbers = frame_numbers(dataset, frame, "ImageOrientationPatient", 6)
    if numbers is None:
        return None
    first, second = np.array(numbers).reshape(2, 3)
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    if max(abs(length - 1) for length in lengths) > 0.01 or abs(first @ second) > 0.01:
        return None
    a, b, c, d, e, f = numbers
    return a, b, c, d, e, f


def position_of(dataset: Dataset, frame: int) -> tuple[float, float, float] | None:
    """Return the centre of the first pixel in mm; of a dose grid with its frame's offset."""
    numbers = frame_numbers(dataset, frame, "ImagePositionPatient", 3)
    if numbers is None:
        return None
    x, y, z = numbers
    offsets = _safe(dataset, "GridFrameOffsetVector")
    orientation = orientation_of(dataset, frame)
    if frame and offsets is not None and orientation is not None:
        try:
            shift = float(offsets[frame]) - float(offsets[0])
        except (TypeError, ValueError, IndexError):
            return None
        normal = np.cross(orientation[:3], orientation[3:])
        x, y, z = (float(one) for one in np.array(numbers) + normal * shift)
    return x, y, z


def spacing_of(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Return (between rows, between columns) in mm: in the patient, else at the detector."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        numbers = frame_numbers(dataset, frame, keyword, 2)
        if numbers is not None and min(numbers) > 0:
            return numbers[0], numbers[1]
    return None


def length_of(dataset: Dataset, frame: int, keyword: str) -> float | None:
    """Return a positive length in mm."""
    numbers = frame_numbers(dataset, frame, keyword, 1)
    return abs(numbers[0]) if numbers is not None and numbers[0] != 0 else None


def code_of(dataset: Dataset, keyword: str) -> str:
    """Return a coded string such as a modality; empty where it is none, since text could name."""
    value = str(_safe(dataset, keyword) or "").strip()
    return value if _CODE.fullmatch(value) else ""


def grey_attributes(dataset: Dataset, frame: int) -> Dataset:
    """Return a small data set with what turns one frame's stored values into grey ones."""
    from pydicom.dataset import Dataset as NewDataset

    small = NewDataset()
    for keyword in _IMAGE_KEYS:
        value = _safe(dataset, keyword)
        if value is not None:
            setattr(small, keyword, value)
    for keyword in _GREY_KEYS:
        value = frame_value(dataset, frame, keyword)
        if value is not None and value != "":
            setattr(small, keyword, value)
    return small


def _holders(dataset: Dataset, frame: int) -> list[Dataset]:
    holders: list[Dataset] = []
    per_frame = _safe(dataset, "PerFrameFunctionalGroupsSequence")
    if per_frame and frame < len(per_frame):
        holders.append(per_frame[frame])
    shared = _safe(dataset, "SharedFunctionalGroupsSequence")
    if shared:
        holders.append(shared[0])
    return holders


def _safe(dataset: Dataset, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except Exception:  # a damaged value may fail anywhere in the library
        return None
