"""The source images of a DICOM SEG: what is read of the de-identified files, what tasks know.

A file's header gives the patient and study that the segmentation belongs to (as the de-identified
series names them). Where no files are there, the task's data alone has all that the geometry and
the references need; patient and dates then stay empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from segstudio.dicom_geometry import DicomSlice
from segstudio.errors import SegstudioError

if TYPE_CHECKING:
    from pydicom import Dataset

CT_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
_SAME_MM: Final = 1e-3
# What a segmentation shares with its source: type 2 attributes, empty where nothing is known.
_SHARED: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
)
_MARKS: Final = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
_LOSSY: Final = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
# What these may hold; a file with anything else in them counts as one that says nothing.
_FORMS: Final = {
    "Date": re.compile(r"\d{8}"),
    "Time": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "Sex": re.compile(r"[MFO]"),
    "Age": re.compile(r"\d{3}[DWMY]"),
}
_DATES: Final = (("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime"),
                 ("AcquisitionDate", "AcquisitionTime"), ("StudyDate", "StudyTime"))  # fmt: skip
_NO_DATE: Final = ("19000101", "000000")


@dataclass(slots=True)
class SourceFiles:
    """The DICOM files of the tasks below one folder.

    `must_exist` makes a file that is not there an error; else what the task knows has to do.
    """

    folder: Path | None
    must_exist: bool = False
    _headers: dict[str, Dataset] = field(default_factory=dict)

    def header(self, one: DicomSlice) -> Dataset | None:
        """Return the header of a slice's file without its pixels, or None where it is not there.

        Raises:
            SegstudioError: the file must exist and does not, lies outside of the folder, is no
                DICOM, or is of another image than the task.
        """
        path = self._path(one)
        if path is None:
            return None
        key = str(path)
        if key not in self._headers:
            self._headers.clear()  # the frames of one file come one after the other
            self._headers[key] = _read_header(path)
        header = self._headers[key]
        _check_same(header, one, path)
        return header

    def _path(self, one: DicomSlice) -> Path | None:
        if self.folder is None:
            return None
        path = self.folder / one.file if one.file is not None else None
        if path is None or not path.is_file():
            if self.must_exist:
                named = "names no DICOM file" if path is None else f"is to be {path}, which is not"
                raise SegstudioError(
                    f"Slice {one.slice} of {one.series} {named} there. Give the folder above "
                    "dicom/ with --option dicom=FOLDER, or leave the option out: the segmentation "
                    "is then made of what the tasks know."
                )
            return None
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise SegstudioError(
                f"The DICOM file {path} leads out of {self.folder}; nothing outside of it is read."
            )
        return path


def source_images(slices: Sequence[DicomSlice], files: SourceFiles) -> list[Dataset]:
    """Return a single-frame CT header for each slice, as highdicom takes them.

    Each has a SOP instance UID of its own that stands for the slice (`stand_in_uid`); the real
    references are put in afterwards: a frame of a multi-frame file has no instance of its own.
    The slices are of one volume.
    """
    from pydicom import Dataset

    headers = [files.header(one) for one in slices]
    first = next((header for header in headers if header is not None), None)
    found = []
    for at, one in enumerate(slices):
        image = Dataset()
        for keyword in _SHARED:
            value = _shared_value(first, keyword)
            if value or not keyword.endswith(("Age", "Description")):
                setattr(image, keyword, value)
        if first is not None and first.get("LossyImageCompression") == "01":
            for keyword in _LOSSY:
                if keyword in first:
                    setattr(image, keyword, first[keyword].value)
        image.SOPClassUID = CT_IMAGE
        image.SOPInstanceUID = stand_in_uid(at)
        image.StudyInstanceUID = one.study_uid
        image.SeriesInstanceUID = one.series_uid
        image.Modality = one.modality or "OT"
        image.Rows, image.Columns = one.rows, one.columns
        image.FrameOfReferenceUID = one.frame_of_reference_uid or one.series_uid
        image.PositionReferenceIndicator = (
            str(first.get("PositionReferenceIndicator") or "") if first is not None else ""
        )
        image.PixelSpacing = _decimals(one.pixel_spacing_mm)
        image.ImageOrientationPatient = _decimals(slices[0].image_orientation)
        image.ImagePositionPatient = _decimals(one.image_position_mm)
        depth_mm = one.slice_thickness_mm or one.slice_spacing_mm
        image.SliceThickness = None if depth_mm is None else _decimals((depth_mm,))[0]
        found.append(image)
    return found


def stand_in_uid(at: int) -> str:
    """Return the UID that stands for the slice at a position until the references are put in."""
    return f"2.25.{at + 1}"


def shared_marks(slices: Sequence[DicomSlice], files: SourceFiles) -> dict[str, Any]:
    """Return what the first file says of its de-identification, by keyword; nothing without one."""
    header = _first_header(slices, files)
    if header is None:
        return {}
    return {keyword: header[keyword].value for keyword in _MARKS if keyword in header}


def content_moment(slices: Sequence[DicomSlice], files: SourceFiles) -> tuple[str, str]:
    """Return date and time of the source series as DICOM writes them.

    Segmentations must have a date. Where the source has none left, it is 1900-01-01: an invented
    day that nobody takes for a real one, and the same in every run.
    """
    header = _first_header(slices, files)
    if header is not None:
        for date, time in _DATES:
            if found_date := _shared_value(header, date):
                return found_date, _shared_value(header, time) or _NO_DATE[1]
    return _NO_DATE


def _first_header(slices: Sequence[DicomSlice], files: SourceFiles) -> Dataset | None:
    return next((found for one in slices if (found := files.header(one)) is not None), None)


def _shared_value(header: Dataset | None, keyword: str) -> str:
    """Return what a header says, "" where it says nothing or something that no one can read."""
    value = str(header.get(keyword) or "").strip() if header is not None else ""
    form = next((form for ending, form in _FORMS.items() if keyword.endswith(ending)), None)
    return value if form is None or form.fullmatch(value) else ""


def _read_header(path: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError) as error:
        raise SegstudioError(f"The DICOM file {path} cannot be read: {error}.") from error


def _check_same(header: Dataset, one: DicomSlice, path: Path) -> None:
    wanted = {
        "SOPInstanceUID": one.sop_instance_uid,
        "SeriesInstanceUID": one.series_uid,
        "Rows": one.rows,
        "Columns": one.columns,
    }
    for keyword, value in wanted.items():
        if str(header.get(keyword)) != str(value):
            raise SegstudioError(
                f"The DICOM file {path} has the {keyword} {header.get(keyword)}, slice {one.slice} "
                f"of {one.series} {value}: it is another image. Give the folder that 'segstudio "
                "dicom import' wrote; it has the de-identified files with the tasks' own UIDs."
            )
    position = header.get("ImagePositionPatient")
    if one.frame_number is None and position and one.image_position_mm is not None:
        away = np.abs(np.array(position, float) - np.array(one.image_position_mm)).max()
        if away > _SAME_MM:
            raise SegstudioError(
                f"The DICOM file {path} lies at {[float(value) for value in position]} mm, slice "
                f"{one.slice} of {one.series} at {list(one.image_position_mm)} mm; import the "
                "series again."
            )


def _decimals(values: Sequence[float] | None) -> list[Any]:
    """Return numbers as DICOM's decimal strings, which hold 16 characters."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(value, auto_format=True) for value in values or ()]
