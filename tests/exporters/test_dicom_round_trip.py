"""The whole way: DICOM files, `segstudio dicom import`, annotations, export, an independent reader.

What is compared at the end are the original files, as ITK reads them, with the exported masks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from click.testing import CliRunner
from highdicom.seg import segread
from PIL import Image
from pydicom import Dataset
from pydicom.data import get_testdata_file

from segstudio.cli import main
from tests.exporters.projects import annotation, brush
from tests.exporters.series import MR, Series, oblique

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ORIGINALS = {
    "CT": Series(rows=24, columns=40, numbers=(3, 2, 1, 0, 4)),
    "MR": Series(
        rows=16,
        columns=24,
        orientation=oblique(),
        numbers=(0, 1, 2, 3),
        sop_class=MR,
        modality="MR",
    ),
}


def command(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def annotate(folder: Path) -> dict[tuple[float, ...], Any]:
    """Draw the brighter half of every imported picture as Liver; return the masks by position."""
    tasks = json.loads((folder / "tasks.json").read_text())
    masks = {}
    for number, one in enumerate(tasks, start=1):
        name = one["data"]["image"].partition("?d=")[2]
        with Image.open(folder / name) as picture:
            grey = np.asarray(picture.convert("L")).astype(int)
        mask = grey > np.median(grey)
        masks[tuple(one["data"]["dicom"]["image_position_mm"])] = mask
        one["id"] = number
        one["annotations"] = [annotation(number, 5, [brush(f"r{number}", "Liver", mask)])]
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return masks


def check_is_brighter_half(original: Any, mask: Any) -> None:
    """The mask lies on the original's own bright pixels: 8-bit pictures may tie, never swap."""
    assert mask.any()
    assert not mask.all()
    assert original[mask].min() >= original[~mask].max()


@pytest.mark.parametrize("series", ORIGINALS.values(), ids=list(ORIGINALS))
def test_masks_lie_on_the_original_files_pixels(series: Series, tmp_path: Path) -> None:
    series.write(tmp_path / "original")
    command("dicom", "import", tmp_path / "original", "--out", tmp_path / "set", "--workers", 1)
    masks = annotate(tmp_path / "set")
    for kind in ("nifti", "dicom-seg"):
        command("export", kind, tmp_path / "set" / "tasks.json", "--out", tmp_path / kind,
                "--workers", 1)  # fmt: skip
    reader = SimpleITK.ImageSeriesReader()
    folder = str(tmp_path / "original" / "dicom" / series.name)
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    original = reader.Execute()
    nifti = SimpleITK.ReadImage(str(tmp_path / "nifti" / "labels" / "series-0001.nii.gz"))
    assert nifti.GetSize() == original.GetSize()
    largest = np.abs(original.GetOrigin()).max()
    for mine, theirs in (
        (nifti.GetOrigin(), original.GetOrigin()),
        (nifti.GetSpacing(), original.GetSpacing()),
        (nifti.GetDirection(), original.GetDirection()),
    ):
        assert np.abs(np.subtract(mine, theirs)).max() < 1e-6 * largest
    grey, labels = (SimpleITK.GetArrayFromImage(image) for image in (original, nifti))
    # DICOM SEG by highdicom: the voxel at the place of each original voxel.
    seg = segread(tmp_path / "dicom-seg" / "segmentations" / "series-0001.dcm")
    volume = seg.get_volume(combine_segments=True)
    rows, columns = np.indices(grey.shape[1:]).reshape(2, -1)
    for slot in range(grey.shape[0]):
        check_is_brighter_half(grey[slot], labels[slot] > 0)
        place = original.TransformIndexToPhysicalPoint((0, 0, slot))
        wanted = next(
            mask for at, mask in masks.items() if np.abs(np.subtract(at, place)).max() < 1e-6
        )
        assert np.array_equal(labels[slot] > 0, wanted)
        corners = [
            original.TransformIndexToPhysicalPoint((int(column), int(row), slot))
            for row, column in zip(rows, columns, strict=True)
        ]
        index = volume.map_reference_to_indices(np.array(corners))
        assert np.abs(index - np.rint(index)).max() < 1e-6
        found = volume.array[tuple(np.rint(index).astype(int).T)]
        assert np.array_equal(found.reshape(wanted.shape) > 0, wanted)


def write_enhanced(path: Path, series: Series) -> None:
    """Write one multi-frame file whose frames have a place each, in the order of `numbers`."""
    series.write(path.parent)
    first = pydicom.dcmread(path.parent / "dicom" / series.name / "0000.dcm")
    shutil.rmtree(path.parent / "dicom")
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
                    "SliceThickness", "RescaleSlope", "RescaleIntercept"):  # fmt: skip
        delattr(first, keyword)
    first.SOPClassUID = first.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    first.NumberOfFrames = len(series.numbers)
    measures, plane, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = list(series.spacing_mm)
    measures.SliceThickness, measures.SpacingBetweenSlices = 2.0, series.step_mm
    plane.ImageOrientationPatient = [f"{value:.12f}" for value in series.orientation]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    first.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number in series.numbers:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = [f"{value:.9f}" for value in series.position_mm(number)]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    first.PerFrameFunctionalGroupsSequence = frames
    first.PixelData = b"".join(series.pixels(at).tobytes() for at in range(len(series.numbers)))
    first.save_as(path, enforce_file_format=True)


def test_frames_of_an_enhanced_file_keep_their_places(tmp_path: Path) -> None:
    series = Series(
        rows=16, columns=24, orientation=oblique(), numbers=(2, 0, 3, 1), modality="MR"
    )  # fmt: skip
    write_enhanced(tmp_path / "original" / "a.dcm", series)
    command("dicom", "import", tmp_path / "original", "--out", tmp_path / "set", "--workers", 1)
    masks = annotate(tmp_path / "set")
    assert len(masks) == 4
    command("export", "dicom-seg", tmp_path / "set" / "tasks.json", "--out", tmp_path / "seg",
            "--workers", 1)  # fmt: skip
    seg = segread(tmp_path / "seg" / "segmentations" / "series-0001.dcm")
    imported = pydicom.dcmread(next((tmp_path / "set" / "dicom").rglob("*.dcm")))
    by_frame = seg.get_pixels_by_source_frame(imported.SOPInstanceUID, [1, 2, 3, 4])[..., 0]
    for number, pixels in zip(series.numbers, by_frame, strict=True):
        wanted = next(
            mask
            for at, mask in masks.items()
            if np.abs(np.subtract(at, series.position_mm(number))).max() < 1e-6
        )
        assert np.array_equal(pixels > 0, wanted)
        # The frame itself, as the original file has it.
        check_is_brighter_half(series.pixels(series.numbers.index(number)), wanted)


def test_segmentations_reference_the_imported_files_and_hold_no_patient(
    tmp_path: Path,
) -> None:
    for name in ("CT_small.dcm", "MR_small.dcm"):
        (tmp_path / "original").mkdir(exist_ok=True)
        shutil.copy(str(get_testdata_file(name)), tmp_path / "original" / name)
    command("dicom", "import", tmp_path / "original", "--out", tmp_path / "set", "--workers", 1)
    annotate(tmp_path / "set")
    command("export", "dicom-seg", tmp_path / "set" / "tasks.json", "--out", tmp_path / "seg",
            "--option", f"dicom={tmp_path / 'set'}", "--workers", 1)  # fmt: skip
    written = sorted((tmp_path / "seg" / "segmentations").iterdir())
    assert len(written) == 2
    for path in written:
        seg = pydicom.dcmread(path)
        imported = pydicom.dcmread(tmp_path / "set" / "dicom" / path.stem / "0000.dcm")
        (series,) = seg.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == imported.SeriesInstanceUID
        (instance,) = series.ReferencedInstanceSequence
        assert instance.ReferencedSOPInstanceUID == imported.SOPInstanceUID
        assert seg.StudyInstanceUID == imported.StudyInstanceUID
        assert seg.FrameOfReferenceUID == imported.FrameOfReferenceUID
        content = path.read_bytes()
        for name in ("CT_small.dcm", "MR_small.dcm"):
            original = pydicom.dcmread(str(get_testdata_file(name)))
            for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SOPInstanceUID"):
                value = str(original[keyword].value).encode()
                assert value not in content, keyword
