"""Synthetic DICOM series, the tasks that an import makes of them, and their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from segstudio.taxonomy import ConceptCode, SegmentClass, Taxonomy
from tests.exporters.projects import annotation, brush, task

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
CONFIG: Final = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="Liver"/><Label value="Lesion"/>
<Label value="Knot"/><Label value="Unclear"/></BrushLabels></View>"""
ORGANS: Final = Taxonomy(
    "organs",
    (
        SegmentClass(
            5, "Liver", kind="stuff", color=(221, 130, 101),
            code=ConceptCode("SCT", "10200004", "Liver"),
        ),
        SegmentClass(
            10, "Lesion", color=(255, 233, 78),
            code=ConceptCode(
                "SCT", "52988006", "Lesion",
                ConceptCode("SCT", "49755003", "Morphologically Abnormal Structure"),
            ),
        ),
        SegmentClass(12, "Knot", color=(1, 2, 3)),
        SegmentClass(20, "Unclear", ignore=True),
    ),
)  # fmt: skip


def oblique() -> tuple[float, ...]:
    """Return direction cosines turned about two axes, as DICOM holds them: 16 characters."""
    a, b = np.deg2rad(25), np.deg2rad(-40)
    columns = np.array([np.cos(a), np.sin(a), 0])
    rows = np.array([-np.sin(a) * np.cos(b), np.cos(a) * np.cos(b), np.sin(b)])
    return tuple(float(f"{value:.12f}") for value in (*columns, *rows))


@dataclass(frozen=True)
class Series:
    """A series of parallel slices; `numbers` are the places of its slices along the normal."""

    name: str = "series-0001"
    rows: int = 9
    columns: int = 13
    spacing_mm: tuple[float, float] = (0.7, 1.3)  # between rows, between columns
    orientation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    origin_mm: tuple[float, float, float] = (-101.25, 33.5, -250.125)
    step_mm: float = 2.5
    numbers: tuple[int, ...] = (0, 1, 2, 3)
    sop_class: str = CT
    modality: str = "CT"
    uid: int = 1000
    has_dates: bool = True

    def position_mm(self, number: int) -> tuple[float, ...]:
        first, second = np.array(self.orientation).reshape(2, 3)
        found = np.array(self.origin_mm) + number * self.step_mm * np.cross(first, second)
        return tuple(float(f"{value:.9f}") for value in found)

    def dicom(self, at: int, **changed: Any) -> dict[str, Any]:
        """Return the `dicom` of the task of the slice that was imported at a place."""
        return {
            "series": self.name,
            "slice": at,
            "slices": len(self.numbers),
            "study_uid": "2.25.1",
            "series_uid": f"2.25.{self.uid}",
            "sop_class_uid": self.sop_class,
            "sop_instance_uid": f"2.25.{self.uid}{at:04d}",
            "frame_number": None,
            "frame_of_reference_uid": "2.25.77",
            "modality": self.modality,
            "rows": self.rows,
            "columns": self.columns,
            "pixel_spacing_mm": list(self.spacing_mm),
            "image_orientation": list(self.orientation),
            "image_position_mm": list(self.position_mm(self.numbers[at])),
            "slice_thickness_mm": 2.0,
            "slice_spacing_mm": self.step_mm,
            "window": None,
            "rescale": {"slope": 1.0, "intercept": -1024.0},
            "photometric": "MONOCHROME2",
            "file": f"dicom/{self.name}/{at:04d}.dcm",
            **changed,
        }

    def write(self, folder: Path) -> list[Path]:
        """Write the de-identified files as an import leaves them, with pixels of their own."""
        paths = []
        for at in range(len(self.numbers)):
            data, dataset = self.dicom(at), Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.PatientID, dataset.PatientName = "anon-7", "anon^7"
            dataset.PatientBirthDate, dataset.PatientSex = "", "O"
            dataset.PatientIdentityRemoved = "YES"
            dataset.StudyID, dataset.AccessionNumber = "s1", ""
            dataset.StudyDate, dataset.StudyTime = "20210304" if self.has_dates else "", ""
            dataset.SOPClassUID = data["sop_class_uid"]
            dataset.SOPInstanceUID = data["sop_instance_uid"]
            dataset.StudyInstanceUID = data["study_uid"]
            dataset.SeriesInstanceUID = data["series_uid"]
            dataset.FrameOfReferenceUID = data["frame_of_reference_uid"]
            dataset.Modality, dataset.InstanceNumber = self.modality, at + 1
            dataset.Rows, dataset.Columns = self.rows, self.columns
            dataset.PixelSpacing = [f"{value:.10g}" for value in self.spacing_mm]
            dataset.ImageOrientationPatient = [f"{value:.12f}" for value in self.orientation]
            dataset.ImagePositionPatient = [f"{value:.9f}" for value in data["image_position_mm"]]
            dataset.SliceThickness = "2.0"
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
            dataset.PixelRepresentation = 0
            dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
            dataset.PixelData = self.pixels(at).tobytes()
            path = folder / data["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths

    def pixels(self, at: int) -> NDArray[np.uint16]:
        rows, columns = np.indices((self.rows, self.columns))
        return (100 * self.numbers[at] + columns + 13 * rows).astype(np.uint16)

    def with_numbers(self, *numbers: int) -> Series:
        return replace(self, numbers=numbers)


def blobs(series: Series, classes: int = 2, seed: int = 0) -> NDArray[np.bool_]:
    """Return (classes, slices, rows, columns) of masks without symmetry, which may overlap."""
    random = np.random.default_rng(seed)
    shape = (classes, len(series.numbers), series.rows, series.columns)
    masks = random.random(shape) < 0.3
    masks[:, :, 1:4, 2:7] = True
    masks[0, :, 0, 0] = True  # the first and the last pixel lie at the corners
    masks[-1, :, -1, -1] = True
    return masks


def series_tasks(
    series: Series, masks: NDArray[np.bool_], labels: Sequence[str] = ("Liver", "Lesion"),
    *, first_id: int = 1, keep: Sequence[int] | None = None, user: int = 5, **changed: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the tasks of a series, one region a class and slice."""
    found = []
    for at in range(len(series.numbers)) if keep is None else keep:
        regions: list[Mapping[str, Any]] = [
            brush(f"r{at}-{label}", label, masks[number, at])
            for number, label in enumerate(labels)
            if masks[number, at].any()
        ]
        found.append(
            task(
                first_id + at, f"images/{series.name}/{at:04d}.png",
                annotation(first_id + at, user, regions),
                video=series.name, frame=at, dicom=series.dicom(at, **changed),
            )
        )  # fmt: skip
    return found


def world_mm(series: Series, at: int, row: int, column: int) -> NDArray[np.float64]:
    """Return where a pixel's centre is (LPS), by DICOM's own formula written out."""
    d = series.dicom(at)
    first, second = np.array(d["image_orientation"]).reshape(2, 3)
    row_mm, column_mm = d["pixel_spacing_mm"]
    position: NDArray[np.float64] = np.array(d["image_position_mm"])
    return position + first * column_mm * column + second * row_mm * row
