"""Groups DICOM files into series and puts their slices in order.

Order: along the normal of the slices where position and orientation are known (PS3.3, C.7.6.2),
else by instance number; stacks of other directions in one series come one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from segstudio.dicom_files import FoundFile
from segstudio.dicom_frames import (
    code_of,
    frame_count,
    frame_numbers,
    length_of,
    orientation_of,
    position_of,
)
from segstudio.dicom_pixels import Window, check_image, needs_auto_window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SAME_PLACE_MM: Final = 1e-3
_EVEN_SHARE: Final = 0.01
_SAME_DIRECTION: Final = 1e-3
_LAST: Final = 1 << 40

Triple = tuple[float, float, float]
Six = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """What the order of slices needs of a file's header; UIDs are the original ones.

    `uid` is the SOP instance's, empty where the file has none; `series_key` tells series apart.
    The tuples have one entry a frame.
    """

    file: FoundFile
    uid: str
    series_key: tuple[str, str]
    modality: str
    sop_class_uid: str
    instance_number: int
    acquisition_number: int
    positions: tuple[Triple | None, ...]
    orientations: tuple[Six | None, ...]
    stated_spacing_mm: float | None
    needs_window: bool

    @property
    def frames(self) -> int:
        """How many frames the file has."""
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file with the places of its frames in the series.

    `slices` has each frame's number in the series from 0, `spacing_mm` the distance between the
    slices of its stack (None where it is not even).
    """

    indexed: IndexedFile
    series: str
    slices: tuple[int, ...]
    slices_of_series: int
    spacing_mm: tuple[float | None, ...]
    window: Window | None = None
    boxes: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """One series under its pseudonymous name, its files in the order of their first slices."""

    name: str
    modality: str
    sop_class_uid: str
    files: tuple[PlannedFile, ...]
    ordered_by: str

    @property
    def slice_count(self) -> int:
        """How many slices (frames) the series has."""
        return sum(len(file.slices) for file in self.files)

    def with_files(self, files: Iterable[PlannedFile]) -> Series:
        """Return the series with other files of the same slices."""
        return replace(self, files=tuple(files))


def index_file(file: FoundFile, dataset: Dataset) -> IndexedFile:
    """Return what the order needs of a header.

    Raises:
        DicomFileError: it describes no image.
    """
    check_image(dataset)
    frames = range(frame_count(dataset))
    series_uid = _uid(dataset, "SeriesInstanceUID")
    return IndexedFile(
        file=file,
        uid=_uid(dataset, "SOPInstanceUID"),
        # Files that name no series cannot be known to belong together.
        series_key=(_uid(dataset, "StudyInstanceUID"), series_uid or file.name),
        modality=code_of(dataset, "Modality"),
        sop_class_uid=_uid(dataset, "SOPClassUID"),
        instance_number=_whole(dataset, "InstanceNumber"),
        acquisition_number=_whole(dataset, "AcquisitionNumber"),
        positions=tuple(position_of(dataset, frame) for frame in frames),
        orientations=tuple(orientation_of(dataset, frame) for frame in frames),
        stated_spacing_mm=length_of(dataset, 0, "SpacingBetweenSlices"),
        needs_window=needs_auto_window(dataset),
    )


def plan_series(indexed: Iterable[IndexedFile]) -> tuple[Series, ...]:
    """Group files into series, named in the order in which they were found, and order the slices.

    Of nothing it makes nothing.
    """
    groups: defaultdict[tuple[str, str], list[IndexedFile]] = defaultdict(list)
    for one in indexed:
        groups[one.series_key].append(one)
    return tuple(
        _series(f"series-{number:04}", files) for number, files in enumerate(groups.values(), 1)
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    file_at: int
    frame: int
    stack: int
    along_mm: float | None


def _series(name: str, files: Sequence[IndexedFile]) -> Series:
    frames = _frames(files)
    by_position = bool(frames) and all(one.along_mm is not None for one in frames)

    def key(one: _Frame) -> tuple[float, ...]:
        file = files[one.file_at]
        place = (one.stack, round((one.along_mm or 0.0) / _SAME_PLACE_MM)) if by_position else ()
        numbers = (file.instance_number, file.acquisition_number)
        return *place, *numbers, file.file.number, one.frame

    ordered = sorted(frames, key=key)
    spacings = _stack_spacings(ordered) if by_position else {}
    places: defaultdict[int, dict[int, tuple[int, float | None]]] = defaultdict(dict)
    for number, one in enumerate(ordered):
        spacing = spacings.get(one.stack) or files[one.file_at].stated_spacing_mm
        places[one.file_at][one.frame] = number, spacing
    planned = [
        PlannedFile(
            indexed=file,
            series=name,
            slices=tuple(places[at][frame][0] for frame in range(file.frames)),
            slices_of_series=len(ordered),
            spacing_mm=tuple(places[at][frame][1] for frame in range(file.frames)),
        )
        for at, file in enumerate(files)
    ]
    planned.sort(key=lambda file: file.slices)
    numbered = all(file.instance_number != _LAST for file in files)
    return Series(
        name=name,
        modality=files[0].modality,
        sop_class_uid=files[0].sop_class_uid,
        files=tuple(planned),
        ordered_by="position"
        if by_position
        else "instance number"
        if numbered
        else "order of the files",
    )


def _frames(files: Sequence[IndexedFile]) -> list[_Frame]:
    stacks: list[Six] = []
    frames = []
    for at, file in enumerate(files):
        for frame, (place, orientation) in enumerate(
            zip(file.positions, file.orientations, strict=True)
        ):
            if place is None or orientation is None:
                frames.append(_Frame(at, frame, 0, None))
                continue
            stack = _stack_of(orientation, stacks)
            # All of a stack are measured along one normal, so that rounding cannot disorder them.
            known = stacks[stack]
            normal = np.cross(known[:3], known[3:])
            frames.append(_Frame(at, frame, stack, float(np.dot(normal, place))))
    return frames


def _stack_of(orientation: Six, stacks: list[Six]) -> int:
    """Return which stack has a slice's direction; a new one is added.

    By distance, not by rounding: 0.0005 and 0.0004999 are one direction.
    """
    for number, known in enumerate(stacks):
        if max(abs(a - b) for a, b in zip(orientation, known, strict=True)) <= _SAME_DIRECTION:
            return number
    stacks.append(orientation)
    return len(stacks) - 1


def _stack_spacings(ordered: Sequence[_Frame]) -> dict[int, float]:
    """Return the distance between the slices of each stack in which it is even."""
    along: defaultdict[int, list[float]] = defaultdict(list)
    for one in ordered:
        places = along[one.stack]
        value = one.along_mm or 0.0
        if not places or value - places[-1] > _SAME_PLACE_MM:
            places.append(value)
    spacings = {}
    for stack, places in along.items():
        steps = np.diff(places)
        if steps.size and float(steps.max() - steps.min()) <= _EVEN_SHARE * float(steps.min()):
            spacings[stack] = (places[-1] - places[0]) / steps.size
    return spacings


def _uid(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def _whole(dataset: Dataset, keyword: str) -> int:
    numbers = frame_numbers(dataset, 0, keyword, 1)
    return _LAST if numbers is None else int(numbers[0])
