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
from pydicom.data import get_testdata_file

from segstudio.cli import main
from tests.exporters.projects import annotation, brush
from tests.exporters.series import MR, Series, oblique

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
