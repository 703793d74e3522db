"""Where the pixels of a DICOM slice are in the patient, and which slices make one volume.

`segstudio dicom import` keeps this in each task's data under `dicom`; exports, checks and
propagation read it from there. Coordinates are millimetres in the patient system of DICOM (LPS:
x to the patient's left, y to the back, z to the head); `ras_from_lps` gives those of NIfTI.

An index (column, row, slice) of whole numbers is the **centre** of a voxel: ImagePositionPatient
is the centre of the first pixel, not its corner. Source: DICOM PS3.3, C.7.6.2.1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from segstudio.errors import SegstudioError

Affine = npt.NDArray[np.float64]

MAX_SIDE_PX: Final = 65_535
"""Rows and Columns of DICOM are 16 bits."""

MAX_SLICES: Final = 100_000
"""More slices than any series has; a volume's grid is made of that many slots."""

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_SERIES: Final = re.compile(r"\w[\w.-]{0,99}")
_MOST_TEXT_CHARS: Final = 100
_MOST: Final = 1e9  # of any number: millimetres, grey values
_LEAST_UNIT_SHARE: Final = 0.01  # how far written direction cosines may be from orthonormal


class DicomGeometryError(SegstudioError):
    """Task data under `dicom` that cannot be used; the sentence names the key and the value."""


@dataclass(frozen=True, slots=True)
class DicomWindow:
    """How grey values were shown: a name, and centre and width in rescaled units."""

    name: str
    center: float
    width: float


@dataclass(frozen=True, slots=True)
class DicomRescale:
    """What turns stored values into output units: ``slope * stored + intercept``."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class DicomSlice:
    """One slice (frame) of a series, as the task's data describes it; all UIDs are replaced ones.

    `slice` counts from 0 in the order of import, `slices` is how many the series has.
    `frame_number` counts from 1 and is None where the file has one frame. `pixel_spacing_mm` is
    (between rows, between columns), as DICOM writes it. `image_orientation` has the direction in
    which columns count up, then the one in which rows do. `image_position_mm` is the centre of the
    first pixel. `file` is the de-identified DICOM file, relative to the tasks file.
    """

    series: str
    slice: int
    slices: int
    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    rows: int
    columns: int
    modality: str = ""
    frame_number: int | None = None
    frame_of_reference_uid: str | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    image_orientation: tuple[float, float, float, float, float, float] | None = None
    image_position_mm: tuple[float, float, float] | None = None
    slice_thickness_mm: float | None = None
    slice_spacing_mm: float | None = None
    window: DicomWindow | None = None
    rescale: DicomRescale = DicomRescale()
    photometric: str = ""
    file: str | None = None

    @property
    def has_geometry(self) -> bool:
        """Say whether spacing, orientation and position are all known."""
        return None not in (self.pixel_spacing_mm, self.image_orientation, self.image_position_mm)

    def as_task_data(self) -> dict[str, Any]:
        """Return the JSON-able value of the task's `dicom`; `read_dicom` reads it back equal."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    def normal(self) -> npt.NDArray[np.float64]:
        """Return the unit vector across the slice: columns' direction x rows' direction.

        Raises:
            DicomGeometryError: the slice has no geometry.
        """
        direction = np.asarray(_known(self).image_orientation, float).reshape(2, 3)
        across = np.cross(direction[0], direction[1])
        unit: npt.NDArray[np.float64] = across / np.linalg.norm(across)
        return unit

    def affine_lps(self) -> Affine:
        """Return the 4 x 4 matrix from (column, row, slice, 1) to (x, y, z, 1) in mm, LPS.

        One step in the third index is `slice_spacing_mm` along the normal (else
        `slice_thickness_mm`, else 1 mm); the slice itself lies at index 0.

        Raises:
            DicomGeometryError: the slice has no geometry.
        """
        depth_mm = self.slice_spacing_mm or self.slice_thickness_mm or 1.0
        return affine_with_step(self, self.normal() * depth_mm)


def read_dicom(data: Mapping[str, Any], task_id: int | None = None) -> DicomSlice | None:
    """Read the `dicom` of a task's data.

    Args:
        data: the task's data.
        task_id: for the sentences.

    Returns:
        The slice, or None where the task's data has no `dicom`. Spacing, orientation and position
        may be None (a secondary capture has none).

    Raises:
        DicomGeometryError: a value that is missing, of another type or impossible.

    >>> read_dicom({"image": "a.png"}) is None
    True
    """
    raw = data.get("dicom")
    if raw is None:
        return None
    reader = _Reader(raw, "The task's data" if task_id is None else f"The data of task {task_id}")
    position_in_series = reader.integer("slice", 0)
    slices = reader.integer("slices", 1, MAX_SLICES)
    if position_in_series >= slices:
        raise reader.error("slice", f"less than slices, which is {slices}, since it counts from 0")
    orientation = reader.numbers("image_orientation", 6)
    if orientation is not None:
        reader.check_orientation(orientation)
    spacing = reader.numbers("pixel_spacing_mm", 2, positive=True)
    position = reader.numbers("image_position_mm", 3)
    return DicomSlice(
        series=reader.text("series", _SERIES, "letters, digits, dots and dashes (a file's name)"),
        slice=position_in_series,
        slices=slices,
        study_uid=reader.uid("study_uid"),
        series_uid=reader.uid("series_uid"),
        sop_class_uid=reader.uid("sop_class_uid"),
        sop_instance_uid=reader.uid("sop_instance_uid"),
        rows=reader.integer("rows", 1, MAX_SIDE_PX),
        columns=reader.integer("columns", 1, MAX_SIDE_PX),
        modality=reader.free_text("modality"),
        frame_number=reader.integer("frame_number", 1) if reader.has("frame_number") else None,
        frame_of_reference_uid=reader.uid("frame_of_reference_uid")
        if reader.has("frame_of_reference_uid")
        else None,
        pixel_spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        image_orientation=None if orientation is None else _six(orientation),
        image_position_mm=None if position is None else (position[0], position[1], position[2]),
        slice_thickness_mm=reader.length("slice_thickness_mm"),
        slice_spacing_mm=reader.length("slice_spacing_mm"),
        window=reader.window(),
        rescale=reader.rescale(),
        photometric=reader.free_text("photometric"),
        file=reader.file(),
    )


def require_dicom(data: Mapping[str, Any], task_id: int, purpose: str) -> DicomSlice:
    """Read the `dicom` of a task's data, which must be there with its geometry.

    Raises:
        DicomGeometryError: the task has none, or one without spacing, orientation or position.
    """
    found = read_dicom(data, task_id)
    if found is None:
        raise DicomGeometryError(
            f"Task {task_id} has no 'dicom' in its data, so where its pixels are in the patient is "
            f"not known, which {purpose} needs. Make the tasks with 'segstudio dicom import', or "
            "export another format."
        )
    return _known(found, f"Task {task_id}", purpose)


def ras_from_lps(affine: Affine) -> Affine:
    """Return an affine of NIfTI's system (RAS) for one of DICOM's (LPS): x and y change sign.

    It is its own inverse.
    """
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def affine_with_step(one: DicomSlice, step_mm: npt.ArrayLike) -> Affine:
    """Return the LPS affine from (column, row, slice, 1) that starts at a slice.

    Args:
        one: the slice at index 0.
        step_mm: the vector from it to the next one.
    """
    known = _known(one)
    assert known.pixel_spacing_mm and known.image_orientation  # noqa: S101 - for mypy
    row_mm, column_mm = known.pixel_spacing_mm
    direction = np.asarray(known.image_orientation, float).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0] = direction[0] * column_mm
    affine[:3, 1] = direction[1] * row_mm
    affine[:3, 2] = step_mm
    affine[:3, 3] = known.image_position_mm
    return affine


def _known(one: DicomSlice, who: str = "", purpose: str = "this") -> DicomSlice:
    if one.has_geometry:
        return one
    lacking = [
        key
        for key in ("pixel_spacing_mm", "image_orientation", "image_position_mm")
        if getattr(one, key) is None
    ]
    raise DicomGeometryError(
        f"{who or 'The slice'} (slice {one.slice} of {one.series}, {one.modality or 'no modality'})"
        f" has no {' and no '.join(lacking)} in its 'dicom', so where its pixels are in the "
        f"patient is not known, which {purpose} needs."
    )


def _six(values: tuple[float, ...]) -> tuple[float, float, float, float, float, float]:
    first, second, third, fourth, fifth, sixth = values
    return first, second, third, fourth, fifth, sixth


class _Reader:
    """Reads one `dicom` value key by key; what it refuses it names."""

    def __init__(self, raw: object, where: str) -> None:
        self._where = where
        if not isinstance(raw, Mapping):
            raise DicomGeometryError(
                f"{where} has a 'dicom' that is no object but {type(raw).__name__}; "
                "'segstudio dicom import' writes it."
            )
        self._raw: Mapping[str, Any] = raw

    def error(self, key: str, wanted: str) -> DicomGeometryError:
        shown = repr(self._raw.get(key))
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        given = f"is {shown}" if key in self._raw else "is missing"
        return DicomGeometryError(f"{self._where}: dicom.{key} {given}; it must be {wanted}.")

    def has(self, key: str) -> bool:
        return self._raw.get(key) is not None

    def integer(self, key: str, least: int, most: int = 2**31) -> int:
        value = self._raw.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.error(key, f"a whole number from {least} to {most}")
        return value

    def text(self, key: str, pattern: re.Pattern[str], wanted: str) -> str:
        value = self._raw.get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(key, wanted)
        return value

    def free_text(self, key: str) -> str:
        value = self._raw.get(key)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > _MOST_TEXT_CHARS:
            raise self.error(key, f"a text of at most {_MOST_TEXT_CHARS} characters")
        return value

    def uid(self, key: str) -> str:
        value = self.text(key, _UID, "a DICOM UID: digits and dots")
        if len(value) > 64:
            raise self.error(key, "a DICOM UID of at most 64 characters")
        return value

    def number(self, value: object, key: str, wanted: str) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Not-a-number fails the comparison too; no scanner is a thousand kilometres wide.
        if not is_number or not -_MOST <= value <= _MOST:  # type: ignore[operator]
            raise self.error(key, wanted)
        return float(value)  # type: ignore[arg-type]

    def numbers(self, key: str, count: int, *, positive: bool = False) -> tuple[float, ...] | None:
        wanted = f"a list of {count} {'positive ' if positive else ''}numbers, or null"
        value = self._raw.get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) != count:
            raise self.error(key, wanted)
        found = tuple(self.number(one, key, wanted) for one in value)
        if positive and min(found) <= 0:
            raise self.error(key, wanted)
        return found

    def length(self, key: str) -> float | None:
        value = self._raw.get(key)
        if value is None:
            return None
        found = abs(self.number(value, key, "a number of millimetres, or null"))
        return found or None

    def check_orientation(self, values: tuple[float, ...]) -> None:
        first, second = np.asarray(values).reshape(2, 3)
        lengths = np.array([np.linalg.norm(first), np.linalg.norm(second)])
        if np.abs(lengths - 1).max() > _LEAST_UNIT_SHARE or abs(first @ second) > _LEAST_UNIT_SHARE:
            raise self.error(
                "image_orientation", "two directions of length 1 at a right angle, or null"
            )

    def window(self) -> DicomWindow | None:
        value = self._raw.get("window")
        if value is None:
            return None
        wanted = "an object with name, center and width, or null"
        if not isinstance(value, Mapping):
            raise self.error("window", wanted)
        return DicomWindow(
            name=str(value.get("name") or "")[:_MOST_TEXT_CHARS],
            center=self.number(value.get("center"), "window", wanted),
            width=self.number(value.get("width"), "window", wanted),
        )

    def rescale(self) -> DicomRescale:
        value = self._raw.get("rescale")
        if value is None:
            return DicomRescale()
        wanted = "an object with slope and intercept, or null"
        if not isinstance(value, Mapping):
            raise self.error("rescale", wanted)
        return DicomRescale(
            slope=self.number(value.get("slope", 1.0), "rescale", wanted),
            intercept=self.number(value.get("intercept", 0.0), "rescale", wanted),
        )

    def file(self) -> str | None:
        value = self._raw.get("file")
        if value is None:
            return None
        wanted = "a file's path relative to the tasks file, without '..', or null"
        if not isinstance(value, str) or not value or len(value) > 1000 or "\0" in value:
            raise self.error("file", wanted)
        parts = value.replace("\\", "/").split("/")
        if value.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise self.error("file", wanted)
        return value
