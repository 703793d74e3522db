"""DICOM files made for tests: every identifying value in them is invented and easy to find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

IDENTITY = {
    "PatientName": "Zyxwvut^Qwertha",
    "PatientID": "IDNUMBER-77114",
    "PatientBirthDate": "19470613",
    "AccessionNumber": "ACC-99-4711-X",
    "InstitutionName": "Hospital Nowherestadt",
    "InstitutionAddress": "Invented Lane 17",
    "ReferringPhysicianName": "Refphys^Doctora",
    "StationName": "STATION-XQ9",
    "OperatorsName": "Operatrix^Una",
    "DeviceSerialNumber": "SERIAL-881199",
    "StudyDate": "20190213",
    "StudyTime": "131517",
    "SeriesDescription": "Zyxwvut abdomen",
    "PatientComments": "lives in Nowherestadt",
    "StudyID": "STUDY-5150",
}
STUDY, SERIES, FRAME = "1.2.3.4.5.100", "1.2.3.4.5.200", "1.2.3.4.5.300"


def make_dataset(
    pixels: npt.NDArray[Any] | None = None, *, uid: str = "1.2.3.4.5.1", z_mm: float = 0.0,
    number: int = 1, modality: str = "CT", **attributes: Any,
) -> Dataset:  # fmt: skip
    """A CT slice with an identity; an attribute given as None is left out."""
    stored = np.arange(64, dtype=np.int16).reshape(8, 8) if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    values: dict[str, Any] = {
        **IDENTITY,
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": uid, "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES, "FrameOfReferenceUID": FRAME, "Modality": modality,
        "InstanceNumber": number, "ImagePositionPatient": [-10.0, -20.0, z_mm],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 2.5, "RescaleSlope": 1, "RescaleIntercept": -1024,
        "WindowCenter": 40, "WindowWidth": 400, "Manufacturer": "Maker of Scanners",
        "Rows": stored.shape[-2], "Columns": stored.shape[-1], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": stored.dtype.itemsize * 8,
        "BitsStored": stored.dtype.itemsize * 8, "HighBit": stored.dtype.itemsize * 8 - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"), "PixelData": stored.tobytes(),
    }  # fmt: skip
    if stored.ndim == 3:
        values["NumberOfFrames"] = stored.shape[0]
    for keyword, value in {**values, **attributes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def add_hidden_identity(dataset: Dataset) -> None:
    """Put identifying values where a plain look at the top level misses them."""
    request = Dataset()
    request.ScheduledProcedureStepDescription = "for Zyxwvut"
    request.AccessionNumber = IDENTITY["AccessionNumber"]
    dataset.RequestAttributesSequence = Sequence([request])
    source = Dataset()
    source.ReferencedSOPClassUID = CTImageStorage
    source.ReferencedSOPInstanceUID = "1.2.3.4.5.2"
    source.ReferringPhysicianName = IDENTITY["ReferringPhysicianName"]
    kept = Dataset()
    kept.CodeValue = "121320"
    kept.CodingSchemeDesignator = "DCM"
    kept.CodeMeaning = "Uncompressed predecessor"
    kept.InstitutionName = IDENTITY["InstitutionName"]
    source.PurposeOfReferenceCodeSequence = Sequence([kept])
    dataset.SourceImageSequence = Sequence([source])
    # A sequence that the profile does not list and that holds a listed attribute.
    voi = Dataset()
    voi.LUTDescriptor = [4, 0, 8]
    voi.add_new(0x00283006, "OW", bytes([0, 0, 80, 0, 160, 0, 255, 0]))
    voi.PatientName = IDENTITY["PatientName"]
    dataset.VOILUTSequence = Sequence([voi])
    block = dataset.private_block(0x0009, "MAKER PRIVATE", create=True)
    block.add_new(0x10, "LO", IDENTITY["PatientID"])
    nested = kept.private_block(0x0011, "MAKER INNER", create=True)
    nested.add_new(0x01, "PN", IDENTITY["PatientName"])
    dataset.add_new(0x60000022, "LO", "overlay of Zyxwvut")
    dataset.add_new(0x60003000, "OW", b"Zyxwvut^" * 2)
    dataset.add_new(0x50003000, "OW", b"Zyxwvut^" * 2)
    dataset.add_new(0x00189999, "LO", IDENTITY["PatientName"])  # no dictionary knows it
    dataset.BodyPartExamined = "ZYXWVUT"  # kept by the profile, but it repeats the name
    dataset.file_meta.SourceApplicationEntityTitle = "STATION-XQ9"
    dataset.preamble = b"II*\0" + b"Zyxwvut^Qwertha" + b"\0" * 109


def write_file(folder: Path, name: str, dataset: Dataset) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, slices: int = 4, **attributes: Any) -> list[Path]:
    """Slices 2.5 mm apart; file names and instance numbers run against the positions."""
    paths = []
    for at in range(slices):
        dataset = make_dataset(
            np.full((8, 8), 1000 + 10 * at, np.int16), uid=f"1.2.3.4.5.{at + 1}",
            z_mm=2.5 * at - 30, number=slices - at, **attributes,
        )  # fmt: skip
        paths.append(write_file(folder, f"Zyxwvut-{slices - at}.dcm", dataset))
    return paths
