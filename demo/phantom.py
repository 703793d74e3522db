"""A synthetic CT series of an abdomen, written as real DICOM: shapes, no patient.

Real abdominal CT cannot be had everywhere without a download. The phantom has organs as ellipsoids
with the Hounsfield units of a contrast CT, noise and a little blur, and says that it is synthetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

SIDE_PX: Final = 320
PIXEL_MM: Final = 1.2
SLICES: Final = 16
SLICE_MM: Final = 6.0
STUDY_UID: Final = "2.25.288411926405317150246189632547715009131"
_RESCALE_INTERCEPT: Final = -1024
_NOISE_HU: Final = 9.0


@dataclass(frozen=True, slots=True)
class Organ:
    """An ellipsoid: centre and radii in mm (x to the patient's left, y to the back, z up)."""

    name: str
    hounsfield: float
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]


# Later ones lie on top. The patient's right is on the left of the picture.
ORGANS: Final = (
    Organ("Fat", -100.0, (0, 0, 0), (165, 120, 900)),
    Organ("Muscle", 55.0, (0, 0, 0), (152, 107, 900)),
    Organ("Fat", -95.0, (0, -6, 0), (138, 88, 900)),
    Organ("Muscle", 60.0, (-34, 62, 0), (30, 26, 900)),
    Organ("Muscle", 60.0, (34, 62, 0), (30, 26, 900)),
    Organ("Spine", 320.0, (0, 46, 0), (23, 19, 900)),
    Organ("Canal", 30.0, (0, 72, 0), (9, 8, 900)),
    Organ("Liver", 112.0, (-66, -16, 18), (66, 62, 62)),
    Organ("Gallbladder", 8.0, (-38, -46, -18), (17, 14, 20)),
    Organ("Stomach", 22.0, (48, -44, 14), (40, 27, 34)),
    Organ("Air", -960.0, (50, -62, 14), (26, 9, 26)),
    Organ("Spleen", 124.0, (98, 22, 22), (25, 40, 38)),
    Organ("Pancreas", 92.0, (14, -2, -4), (40, 11, 11)),
    Organ("Right kidney", 176.0, (-66, 48, -30), (25, 28, 46)),
    Organ("Pelvis", -70.0, (-58, 46, -30), (9, 9, 18)),
    Organ("Left kidney", 178.0, (68, 48, -22), (25, 28, 48)),
    Organ("Pelvis", -70.0, (60, 46, -22), (9, 9, 18)),
    Organ("Aorta", 232.0, (9, 18, 0), (11, 11, 900)),
    Organ("Inferior vena cava", 150.0, (-21, 17, 0), (13, 10, 900)),
)


def phantom_slices() -> Iterator[tuple[float, npt.NDArray[np.int16]]]:
    """Yield (z in mm, Hounsfield units of (rows, columns)), from the feet up; always the same."""
    import cv2

    noise = np.random.default_rng(7)
    axis = (np.arange(SIDE_PX) - (SIDE_PX - 1) / 2) * PIXEL_MM
    x, y = axis[None, :], axis[:, None]
    for number in range(SLICES):
        z = (number - (SLICES - 1) / 2) * SLICE_MM
        values = np.full((SIDE_PX, SIDE_PX), -1000.0)
        for organ in ORGANS:
            (cx, cy, cz), (rx, ry, rz) = organ.centre_mm, organ.radii_mm
            inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 <= 1
            values[inside] = organ.hounsfield
        blurred = cv2.GaussianBlur(values, (0, 0), 0.8)
        noisy = cv2.GaussianBlur(noise.normal(0, _NOISE_HU * 2, values.shape), (0, 0), 0.7)
        yield z, np.rint(blurred + noisy).astype(np.int16)


def write_phantom(folder: Path) -> tuple[Path, ...]:
    """Write the series as DICOM files; the same bytes each time."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (z, values) in enumerate(phantom_slices(), 1):
        one = Dataset()
        one.SOPClassUID = CTImageStorage
        one.SOPInstanceUID = generate_uid(prefix="2.25.", entropy_srcs=[STUDY_UID, str(number)])
        one.StudyInstanceUID = STUDY_UID
        one.SeriesInstanceUID = generate_uid(prefix="2.25.", entropy_srcs=[STUDY_UID, "series"])
        one.FrameOfReferenceUID = generate_uid(prefix="2.25.", entropy_srcs=[STUDY_UID, "frame"])
        one.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        one.Modality = "CT"
        one.Manufacturer = "segstudio phantom"
        one.PatientName, one.PatientID = "Phantom^Synthetic", "SYNTHETIC-1"
        one.PatientBirthDate = one.PatientSex = ""
        one.StudyDate = one.StudyTime = one.AccessionNumber = one.StudyID = ""
        one.ReferringPhysicianName = ""
        one.SeriesDescription = "Synthetic abdominal phantom, no patient"
        one.SeriesNumber, one.InstanceNumber = 1, number
        one.BodyPartExamined, one.PatientPosition = "ABDOMEN", "HFS"
        start = -(SIDE_PX - 1) / 2 * PIXEL_MM
        one.ImagePositionPatient = [start, start, z]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness = [PIXEL_MM, PIXEL_MM], SLICE_MM
        one.Rows = one.Columns = SIDE_PX
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.PixelRepresentation = 0
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, _RESCALE_INTERCEPT, "HU"
        one.WindowCenter, one.WindowWidth = 40, 400
        one.BurnedInAnnotation = "NO"
        one.PixelData = (values - _RESCALE_INTERCEPT).clip(0).astype("<u2").tobytes()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"slice-{number:02}.dcm"
        one.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)
