"""NIfTI, read back by SimpleITK (ITK's own reader) and nibabel: same voxels at the same place."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from segstudio.errors import SegstudioError, UsageError
from tests.exporters.projects import annotation, box, brush, run, source_of, task, tree
from tests.exporters.series import (
    CONFIG,
    MR,
    ORGANS,
    Series,
    blobs,
    oblique,
    series_tasks,
    world_mm,
)

ALL_SERIES = {
    "axial CT": Series(),
    "numbered from the head down": Series(numbers=(3, 2, 1, 0)),
    "oblique MR": Series(orientation=oblique(), sop_class=MR, modality="MR"),
    "oblique MR, numbered down": Series(orientation=oblique(), numbers=(3, 2, 1, 0), modality="MR"),
    "sagittal": Series(orientation=(0, 1, 0, 0, 0, -1)),
    "coronal": Series(orientation=(1, 0, 0, 0, 0, -1)),
    "a gap in the series": Series(numbers=(0, 1, 3, 4)),
}


def export(tmp_path: Path, tasks: list[Any], **options: str) -> Path:
    source = source_of(tmp_path / "in", tasks, CONFIG)
    run("nifti", source, tmp_path / "out", taxonomy=ORGANS, options=options)
    return tmp_path / "out"


def on_top(masks: Any) -> Any:
    """The label map of Liver, then Lesion drawn over it."""
    return np.where(masks[1], 10, np.where(masks[0], 5, 0))


@pytest.mark.parametrize("series", ALL_SERIES.values(), ids=list(ALL_SERIES))
def test_every_voxel_is_where_its_pixel_was(series: Series, tmp_path: Path) -> None:
    masks = blobs(series)
    out = export(tmp_path, series_tasks(series, masks))
    image = SimpleITK.ReadImage(str(out / "labels" / "series-0001.nii.gz"))
    voxels = SimpleITK.GetArrayFromImage(image)
    lowest = min(series.numbers)
    assert voxels.shape == (max(series.numbers) - lowest + 1, series.rows, series.columns)
    affine = nibabel.load(out / "labels" / "series-0001.nii.gz").affine
    for at, number in enumerate(series.numbers):
        assert np.array_equal(voxels[number - lowest], on_top(masks[:, at]))
        for row, column in ((0, 0), (series.rows - 1, series.columns - 1), (2, 5)):
            index = (column, row, number - lowest)
            place = world_mm(series, at, row, column)
            itk = np.array(image.TransformIndexToPhysicalPoint(index))
            ras = affine @ [*index, 1]
            for found in (itk, [-ras[0], -ras[1], ras[2]]):
                assert np.abs(found - place).max() < 1e-6 * np.abs(place).max()
    wanted = (series.spacing_mm[1], series.spacing_mm[0], series.step_mm)
    assert image.GetSpacing() == pytest.approx(wanted, rel=1e-6)


def test_nifti_2_holds_places_beyond_32_bits(tmp_path: Path) -> None:
    """ITK reads no NIfTI-2, so the header is read here, at the places that nifti2.h gives."""
    series = replace(Series(orientation=oblique()), origin_mm=(-101.1234567, 33.7654321, -250.7))
    masks = blobs(series)
    out = export(tmp_path, series_tasks(series, masks), version="2")
    content = gzip.decompress((out / "labels" / "series-0001.nii.gz").read_bytes())
    size_of_header, dims = (
        struct.unpack_from("<i", content)[0],
        struct.unpack_from("<8q", content, 16),
    )
    assert (size_of_header, dims[:4]) == (540, (3, 13, 9, 4))
    affine = np.array(struct.unpack_from("<12d", content, 400)).reshape(3, 4)
    for at, row, column in ((0, 0, 0), (3, 8, 12)):
        x, y, z = world_mm(series, at, row, column)
        assert np.abs(affine @ [column, row, at, 1] - [-x, -y, z]).max() < 1e-6
    offset = struct.unpack_from("<q", content, 168)[0]
    voxels = np.frombuffer(content, np.uint8, 4 * 9 * 13, offset).reshape(4, 9, 13)
    assert np.array_equal(voxels, on_top(masks))


def test_the_same_place_as_the_series_that_itk_reads(tmp_path: Path) -> None:
    series = Series(orientation=oblique(), sop_class=MR, modality="MR", numbers=(3, 2, 1, 0))
    masks = blobs(series)
    out = export(tmp_path, series_tasks(series, masks))
    labels = SimpleITK.ReadImage(str(out / "labels" / "series-0001.nii.gz"))
    reader = SimpleITK.ImageSeriesReader()
    series.write(tmp_path / "dcm")
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "dcm/dicom/series-0001")))
    photos = reader.Execute()
    assert labels.GetSize() == photos.GetSize()
    assert np.allclose(labels.GetOrigin(), photos.GetOrigin(), rtol=0, atol=3e-5)
    assert np.allclose(labels.GetDirection(), photos.GetDirection(), rtol=0, atol=1e-6)
    # The grey value under each voxel says which pixel it was.
    grey = SimpleITK.GetArrayFromImage(photos) + 1024
    for at in range(4):
        slot = int(np.flatnonzero(grey[:, 0, 0] == series.pixels(at)[0, 0])[0])
        assert np.array_equal(SimpleITK.GetArrayFromImage(labels)[slot], on_top(masks[:, at]))


def test_slices_without_annotation_are_unlabelled_or_void_and_told(tmp_path: Path) -> None:
    series = Series()
    masks = blobs(series)
    tasks = series_tasks(series, masks, keep=[1, 3])
    out = export(tmp_path, tasks)
    voxels = nibabel.load(out / "labels" / "series-0001.nii.gz").get_fdata()
    assert voxels.shape == (13, 9, 4)
    assert not voxels[:, :, [0, 2]].any()
    assert np.array_equal(voxels[:, :, 3].T, on_top(masks[:, 3]))
    (volume,) = json.loads((out / "volumes.json").read_text())["volumes"]
    assert volume["slices_without_annotation"] == [0, 2]
    assert volume["tasks"] == [2, 4]
    out = export(tmp_path / "void", tasks, missing="void")
    voxels = nibabel.load(out / "labels" / "series-0001.nii.gz").get_fdata()
    assert (voxels[:, :, [0, 2]] == 255).all()


def test_the_stack_holds_what_lies_under_something_else(tmp_path: Path) -> None:
    series = Series()
    masks = blobs(series)
    out = export(tmp_path, series_tasks(series, masks), stack="yes")
    for number, name in enumerate(("5-Liver", "10-Lesion")):
        found = nibabel.load(out / "stack" / "series-0001" / f"{name}.nii.gz").get_fdata()
        assert np.array_equal(found.transpose(2, 1, 0), masks[number])
    assert json.loads((out / "dataset.json").read_text())["losses"]["overlapped_px"] == 0
    plain = export(tmp_path / "plain", series_tasks(series, masks))
    lost = json.loads((plain / "dataset.json").read_text())["losses"]["overlapped_px"]
    assert lost == (masks[0] & masks[1]).sum()


def test_void_and_ignored_classes_have_the_void_id(tmp_path: Path) -> None:
    series = Series()
    masks = blobs(series)
    out = export(tmp_path, series_tasks(series, masks, ("Liver", "Unclear")))
    voxels = nibabel.load(out / "labels" / "series-0001.nii.gz").get_fdata().transpose(2, 1, 0)
    assert np.array_equal(voxels == 255, masks[1])
    assert np.array_equal(voxels == 5, masks[0] & ~masks[1])


def test_windows_of_one_slice_are_joined_and_the_later_one_is_on_top(tmp_path: Path) -> None:
    config = CONFIG.replace("image", "image_soft").replace(
        "</View>",
        '<Image name="image_bone" value="$image_bone"/>'
        '<BrushLabels name="bone" toName="image_bone"><Label value="Lesion"/></BrushLabels></View>',
    )
    series = Series(numbers=(0,))
    soft, bone = box(0, 0, 5, 5, (9, 13)), box(3, 3, 8, 8, (9, 13))
    regions = [
        brush("a", "Liver", soft, to_name="image_soft"),
        brush("b", "Lesion", bone, to_name="image_bone", from_name="bone"),
    ]
    one = task(1, None, annotation(1, 5, regions), dicom=series.dicom(0),
               image_soft="s.png", image_bone="b.png")  # fmt: skip
    source = source_of(tmp_path / "in", [one], config)
    run("nifti", source, tmp_path / "out", taxonomy=ORGANS, options={"stack": "yes"})
    voxels = nibabel.load(tmp_path / "out/labels/series-0001.nii.gz").get_fdata()[:, :, 0].T
    assert np.array_equal(voxels, np.where(bone, 10, np.where(soft, 5, 0)))
    liver = nibabel.load(tmp_path / "out/stack/series-0001/5-Liver.nii.gz").get_fdata()
    assert np.array_equal(liver[:, :, 0].T, soft)


def test_an_uneven_series_becomes_even_parts(tmp_path: Path) -> None:
    series = Series()
    masks = blobs(series)
    tasks = series_tasks(series, masks)
    # Two slices 2.5 mm apart, then two that are 3.3 mm apart, 1.9 mm on.
    for at, z in enumerate((0.0, 2.5, 4.4, 7.7)):
        tasks[at]["data"]["dicom"]["image_position_mm"] = [0.0, 0.0, z]
    out = export(tmp_path, tasks)
    volumes = json.loads((out / "volumes.json").read_text())["volumes"]
    assert [one["tasks"] for one in volumes] == [[1, 2], [3, 4]]
    assert [one["spacing_mm"][2] for one in volumes] == [2.5, pytest.approx(3.3)]
    second = nibabel.load(out / "labels" / "series-0001-part2.nii.gz")
    assert second.affine[2, 3] == pytest.approx(4.4)
    assert np.array_equal(second.get_fdata()[:, :, 1].T, on_top(masks[:, 3]))


def test_a_tilted_gantry_keeps_its_shear_in_the_sform(tmp_path: Path) -> None:
    series = Series()
    tasks = series_tasks(series, blobs(series))
    for at in range(4):
        tasks[at]["data"]["dicom"]["image_position_mm"] = [0.0, 0.9 * at, 2.5 * at]
    image = nibabel.load(export(tmp_path, tasks) / "labels" / "series-0001.nii.gz")
    assert image.affine[:3, 2] == pytest.approx([0, -0.9, 2.5])
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    tasks = [
        *series_tasks(Series(), blobs(Series())),
        *series_tasks(Series(name="series-0002", uid=2000), blobs(Series(), seed=1), first_id=50),
    ]
    first = export(tmp_path / "a", tasks, stack="yes")
    second = source_of(tmp_path / "b" / "in", tasks, CONFIG)
    run("nifti", second, tmp_path / "b" / "out", taxonomy=ORGANS, options={"stack": "yes"})
    volumes = {name: data for name, data in tree(first).items() if not name.startswith(".")}
    again = tree(tmp_path / "b" / "out")
    assert len([name for name in volumes if name.endswith(".nii.gz")]) == 6
    for name, data in volumes.items():
        if name.endswith((".nii.gz", "volumes.json")):
            assert again[name] == data, name


def test_tasks_without_dicom_geometry_are_refused(tmp_path: Path) -> None:
    plain = task(1, "a.png", annotation(1, 5, [brush("a", "Liver", box(0, 0, 2, 2))]))
    with pytest.raises(SegstudioError, match=r"Task 1 has no 'dicom'.*segstudio dicom import"):
        export(tmp_path, [plain])
    secondary = series_tasks(Series(), blobs(Series()), image_position_mm=None)
    with pytest.raises(SegstudioError, match=r"Task \d .* has no image_position_mm"):
        export(tmp_path / "b", secondary)
    other_size = series_tasks(replace(Series(), rows=9), blobs(Series()), rows=8)
    with pytest.raises(SegstudioError, match=r"13 x 9 pixels, its DICOM slice 13 x 8"):
        export(tmp_path / "c", other_size)


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no option 'stak'; did you mean 'stack'"):
        export(tmp_path, series_tasks(Series(), blobs(Series())), stak="yes")
