"""DICOM SEG, read back by pydicom and highdicom's reader: same voxels at the same place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom.seg import segread
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from exporters.dicom_segments import PRIVATE_SCHEME, content_uid
from segstudio.errors import SegstudioError, UsageError
from tests.exporters.projects import annotation, box, brush, run, source_of, task
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
    "a gap in the series": Series(numbers=(0, 1, 3, 4)),
    "uneven": Series(numbers=(0, 2, 5, 6)),
}


def export(tmp_path: Path, tasks: list[Any], **options: str) -> Path:
    source = source_of(tmp_path / "in", tasks, CONFIG)
    run("dicom-seg", source, tmp_path / "out", taxonomy=ORGANS, options=options)
    return tmp_path / "out"


def seg_file(out: Path) -> Path:
    return out / "segmentations" / "series-0001.dcm"


def frames(path: Path) -> dict[tuple[int, str], tuple[NDArray[Any], NDArray[Any]]]:
    """(segment, source instance) -> pixels and position of each frame, by pydicom alone."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = {}
    for at, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        found[segment, source.ReferencedSOPInstanceUID] = pixels[at], position
    return found


@pytest.mark.parametrize("series", ALL_SERIES.values(), ids=list(ALL_SERIES))
def test_every_voxel_is_where_its_pixel_was(series: Series, tmp_path: Path) -> None:
    masks = blobs(series)
    series.write(tmp_path / "in")
    out = export(tmp_path, series_tasks(series, masks), dicom=str(tmp_path / "in"))
    found = frames(seg_file(out))
    assert len(found) == 8
    for at in range(4):
        for number in range(2):
            pixels, position = found[number + 1, series.dicom(at)["sop_instance_uid"]]
            assert np.array_equal(pixels, masks[number, at])
            assert np.abs(position - world_mm(series, at, 0, 0)).max() < 1e-6
    dataset = pydicom.dcmread(seg_file(out))
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert np.abs(np.array(orientation, float) - series.orientation).max() < 1e-9
    measures = shared.PixelMeasuresSequence[0]
    assert np.array(measures.PixelSpacing, float) == pytest.approx(series.spacing_mm, abs=1e-9)
    assert dataset.SegmentsOverlap == "YES"


@pytest.mark.parametrize("series", [Series(), Series(orientation=oblique(), numbers=(3, 2, 1, 0))])
def test_highdicoms_reader_gives_the_masks_by_source_and_as_a_volume(
    series: Series, tmp_path: Path
) -> None:
    masks = blobs(series)
    seg = segread(seg_file(export(tmp_path, series_tasks(series, masks))))
    uids = [series.dicom(at)["sop_instance_uid"] for at in range(4)]
    by_source = seg.get_pixels_by_source_instance(uids)
    assert np.array_equal(by_source.transpose(3, 0, 1, 2), masks)
    volume = seg.get_volume()
    order = np.argsort(series.numbers)
    for slot in range(4):
        # highdicom's volumes are (slice, row, column); their direction may be either.
        (x, y, z) = volume.map_indices_to_reference(np.array([[slot, 2, 5]]))[0]
        places = [world_mm(series, at, 2, 5) for at in order]
        at = int(np.argmin([np.abs(place - (x, y, z)).max() for place in places]))
        assert np.abs(places[at] - (x, y, z)).max() < 1e-6
        assert np.array_equal(volume.array[slot].transpose(2, 0, 1), masks[:, order[at]])


@pytest.mark.parametrize("kind", ["binary", "fractional"])
def test_itk_finds_the_same_voxels_at_the_same_place(kind: str, tmp_path: Path) -> None:
    """ITK has no notion of segments: with one of them the frames are the slices.

    Nor does it unpack bits of frames whose pixels are no multiple of 8, hence the size.
    """
    series = Series(rows=8, columns=16, orientation=oblique(), sop_class=MR, modality="MR")
    masks = blobs(series, classes=1)
    out = export(tmp_path, series_tasks(series, masks, ("Liver",)), type=kind)
    image = SimpleITK.ReadImage(str(seg_file(out)))
    for at in range(4):
        for row, column in np.ndindex(series.rows, series.columns):
            index = image.TransformPhysicalPointToContinuousIndex(
                world_mm(series, at, row, column).tolist()
            )
            assert np.abs(np.array(index) - np.rint(index)).max() < 1e-6
            assert bool(image[np.rint(index).astype(int).tolist()]) == masks[0, at, row, column]


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_real_files_of_pydicom(name: str, tmp_path: Path) -> None:
    original = pydicom.dcmread(str(get_testdata_file(name)))
    folder = tmp_path / "in" / "dicom" / "series-0001"
    folder.mkdir(parents=True)
    original.save_as(folder / "0000.dcm")
    data = {
        **Series().dicom(0),
        "slices": 1,
        "study_uid": original.StudyInstanceUID,
        "series_uid": original.SeriesInstanceUID,
        "sop_class_uid": original.SOPClassUID,
        "sop_instance_uid": original.SOPInstanceUID,
        "frame_of_reference_uid": original.FrameOfReferenceUID,
        "modality": original.Modality,
        "rows": original.Rows,
        "columns": original.Columns,
        "pixel_spacing_mm": [float(value) for value in original.PixelSpacing],
        "image_orientation": [float(value) for value in original.ImageOrientationPatient],
        "image_position_mm": [float(value) for value in original.ImagePositionPatient],
        "slice_thickness_mm": float(original.SliceThickness),
        "file": "dicom/series-0001/0000.dcm",
    }
    mask = np.random.default_rng(3).random((original.Rows, original.Columns)) < 0.4
    one = task(1, "a.png", annotation(1, 5, [brush("a", "Liver", mask)]), dicom=data)
    out = export(tmp_path, [one], dicom=str(tmp_path / "in"))
    seg = segread(seg_file(out))
    pixels = seg.get_pixels_by_source_instance([original.SOPInstanceUID])
    assert np.array_equal(pixels[0, :, :, 0], mask)
    geometry = seg.get_volume().get_geometry()
    place = geometry.map_indices_to_reference(np.array([[0, 0, 0]]))[0]
    assert np.abs(place - np.array(original.ImagePositionPatient, float)).max() < 1e-6
    assert seg.StudyInstanceUID == original.StudyInstanceUID
    assert seg.FrameOfReferenceUID == original.FrameOfReferenceUID


def test_segments_have_the_taxonomys_codes_and_a_private_one_where_there_is_none(
    tmp_path: Path,
) -> None:
    series = Series()
    masks = blobs(series, classes=3)
    out = export(tmp_path, series_tasks(series, masks, ("Liver", "Lesion", "Knot")))
    seg = segread(seg_file(out))
    found = [
        (
            one.segment_label,
            one.segmented_property_type.value,
            one.segmented_property_type.scheme_designator,
            one.segmented_property_category.value,
            str(one.SegmentAlgorithmType),
        )
        for one in map(seg.get_segment_description, seg.segment_numbers)
    ]
    assert found == [
        ("Liver", "10200004", "SCT", "91723000", "MANUAL"),
        ("Lesion", "52988006", "SCT", "49755003", "MANUAL"),
        ("Knot", "12", PRIVATE_SCHEME, "class", "MANUAL"),
    ]
    (volume,) = json.loads((out / "volumes.json").read_text())["volumes"]
    assert [one["is_coded"] for one in volume["segments"]] == [True, True, False]


def test_what_a_model_proposed_is_semiautomatic(tmp_path: Path) -> None:
    series = Series()
    tasks = series_tasks(series, blobs(series))
    tasks[2]["annotations"][0]["result"][0]["origin"] = "prediction-changed"
    seg = segread(seg_file(export(tmp_path, tasks)))
    kinds = [str(one.SegmentAlgorithmType) for one in seg.SegmentSequence]
    assert kinds == ["SEMIAUTOMATIC", "MANUAL"]
    assert "Segment Anything" in seg.SegmentSequence[0].SegmentAlgorithmName


def test_objects_of_neighbouring_slices_are_one_segment_with_a_tracking_id(tmp_path: Path) -> None:
    series = Series()
    left, right, liver = (np.zeros((4, 9, 13), bool) for _ in range(3))
    left[0:3, 1:5, 1:5] = True  # three slices, moving by a pixel
    left[2, 1:5, 1] = False
    right[1:4, 3:8, 7:12] = True
    liver[:, 0:6, 0:9] = True
    tasks = series_tasks(series, liver[None], ("Liver",))
    for at, one in enumerate(tasks):
        for name, masks in (("a", left), ("b", right)):
            if masks[at].any():
                region = brush(f"{name}{at}", "Lesion", masks[at])
                one["annotations"][0]["result"].append(region)
    out = export(tmp_path, tasks, segments="objects")
    seg = segread(seg_file(out))
    assert [one.segment_label for one in seg.SegmentSequence] == ["Liver", "Lesion 1", "Lesion 2"]
    pixels = seg.get_pixels_by_source_instance(
        [series.dicom(at)["sop_instance_uid"] for at in range(4)]
    )
    assert np.array_equal(pixels.transpose(3, 0, 1, 2), np.stack([liver, left, right]))
    assert seg.SegmentSequence[1].TrackingID == "Lesion 1"
    assert seg.SegmentSequence[1].TrackingUID != seg.SegmentSequence[2].TrackingUID
    assert "TrackingUID" not in seg.SegmentSequence[0]
    found = json.loads((out / "dataset.json").read_text())["losses"]
    assert found["instances_merged"] == 0
    merged = export(tmp_path / "classes", tasks)
    assert json.loads((merged / "dataset.json").read_text())["losses"]["instances_merged"] == 2


def test_fractional_has_full_and_no_occupancy(tmp_path: Path) -> None:
    series = Series()
    masks = blobs(series)
    seg = segread(seg_file(export(tmp_path, series_tasks(series, masks), type="fractional")))
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "OCCUPANCY")
    uids = [series.dicom(at)["sop_instance_uid"] for at in range(4)]
    pixels = seg.get_pixels_by_source_instance(uids)
    assert np.array_equal(pixels.transpose(3, 0, 1, 2), masks.astype(float))


def test_frames_of_one_multi_frame_file_are_named_by_number(tmp_path: Path) -> None:
    series = Series(orientation=oblique())
    masks = blobs(series)
    tasks = series_tasks(series, masks, sop_instance_uid="2.25.9", file=None)
    for at, one in enumerate(tasks):
        one["data"]["dicom"]["frame_number"] = at + 1
    dataset = pydicom.dcmread(seg_file(export(tmp_path, tasks)))
    (series_item,) = dataset.ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in series_item.ReferencedInstanceSequence] == [
        "2.25.9"
    ]
    assert len(dataset.SourceImageSequence) == 1
    seg = segread(seg_file(tmp_path / "out"))
    pixels = seg.get_pixels_by_source_frame("2.25.9", [1, 2, 3, 4])
    assert np.array_equal(pixels.transpose(3, 0, 1, 2), masks)


def test_empty_slices_are_referenced_and_have_no_frame(tmp_path: Path) -> None:
    series = Series()
    masks = blobs(series)
    masks[:, 1] = False
    out = export(tmp_path, series_tasks(series, masks))
    assert len(frames(seg_file(out))) == 6
    dataset = pydicom.dcmread(seg_file(out))
    (series_item,) = dataset.ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in series_item.ReferencedInstanceSequence] == [
        series.dicom(at)["sop_instance_uid"] for at in range(4)
    ]
    assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[
        0
    ].SpacingBetweenSlices == pytest.approx(2.5)


def test_a_series_without_segments_has_no_file_and_is_told(tmp_path: Path) -> None:
    series = Series()
    nothing = np.zeros((2, 4, 9, 13), bool)
    drawn = Series(name="series-0002", uid=2000)
    tasks = series_tasks(series, nothing)
    for one in tasks:  # an empty annotation tells no size; a prediction does
        one["predictions"] = [
            {
                "id": 1,
                "model_version": "m",
                "result": [brush("p", "Liver", box(0, 0, 1, 1, (9, 13)))],
            }
        ]
    out = export(tmp_path, [*tasks, *series_tasks(drawn, blobs(drawn), first_id=10)])
    first, second = json.loads((out / "volumes.json").read_text())["volumes"]
    assert first["file"] is None
    assert first["note"] == "Nobody drew anything on this series."
    assert second["file"] == "segmentations/series-0002.dcm"
    assert [path.name for path in (out / "segmentations").iterdir()] == ["series-0002.dcm"]


def test_the_same_input_gives_the_same_bytes_and_another_mask_other_uids(tmp_path: Path) -> None:
    series = Series()
    masks = blobs(series)
    first = seg_file(export(tmp_path / "a", series_tasks(series, masks)))
    second = seg_file(export(tmp_path / "b", series_tasks(series, masks)))
    assert first.read_bytes() == second.read_bytes()
    masks[0, 0, 5, 5] ^= True
    third = pydicom.dcmread(seg_file(export(tmp_path / "c", series_tasks(series, masks))))
    assert third.SOPInstanceUID != pydicom.dcmread(first).SOPInstanceUID
    assert len(content_uid(b"x", "series")) <= 64


def test_patient_study_and_dates_are_the_source_files(tmp_path: Path) -> None:
    series = Series()
    series.write(tmp_path / "in")
    tasks = series_tasks(series, blobs(series))
    with_files = pydicom.dcmread(seg_file(export(tmp_path, tasks, dicom=str(tmp_path / "in"))))
    assert (with_files.PatientID, with_files.StudyID) == ("anon-7", "s1")
    assert with_files.PatientIdentityRemoved == "YES"
    assert with_files.ContentDate == "20210304"
    without = pydicom.dcmread(seg_file(export(tmp_path / "b", tasks)))
    assert (without.PatientID, without.ContentDate) == ("", "19000101")
    assert without.StudyInstanceUID == with_files.StudyInstanceUID == "2.25.1"
    assert "InstanceCreationDate" not in without


def test_a_source_of_lossy_pictures_with_odd_dates_gives_a_valid_segmentation(
    tmp_path: Path,
) -> None:
    series = Series(numbers=(0,))
    (path,) = series.write(tmp_path / "in")
    dataset = pydicom.dcmread(path)
    dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", 12
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.add_new("StudyDate", "DA", "")
    dataset.PatientSex = "U"
    dataset.save_as(path)
    tasks = series_tasks(series, blobs(series))
    seg = pydicom.dcmread(seg_file(export(tmp_path, tasks, dicom=str(tmp_path / "in"))))
    assert seg.LossyImageCompression == "01"
    assert seg.LossyImageCompressionRatio == 12
    assert (seg.PatientSex, seg.ContentDate) == ("", "19000101")


def test_files_of_another_series_and_missing_ones_are_refused(tmp_path: Path) -> None:
    series = Series()
    tasks = series_tasks(series, blobs(series))
    folder = tmp_path / "in"
    replace(series, uid=3000).write(folder)
    with pytest.raises(SegstudioError, match="it is another image"):
        export(tmp_path, tasks, dicom=str(folder))
    (folder / "dicom/series-0001/0002.dcm").unlink()
    series_files = Series().write(folder)
    series_files[2].unlink()
    with pytest.raises(SegstudioError, match=r"Slice 2 of series-0001 is to be .*0002\.dcm"):
        export(tmp_path / "b", tasks, dicom=str(folder))
    with pytest.raises(UsageError, match="which is no folder"):
        export(tmp_path / "c", tasks, dicom=str(tmp_path / "nowhere"))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    series = Series()
    elsewhere = series.write(tmp_path / "elsewhere")
    folder = tmp_path / "in" / "dicom" / "series-0001"
    folder.mkdir(parents=True)
    for path in elsewhere:
        (folder / path.name).symlink_to(path)
    with pytest.raises(SegstudioError, match="leads out of"):
        export(tmp_path, series_tasks(series, blobs(series)), dicom=str(tmp_path / "in"))


def test_losses_are_counted_and_overlap_is_none(tmp_path: Path) -> None:
    series = Series()
    masks = blobs(series)
    out = export(tmp_path, series_tasks(series, masks, ("Liver", "Unclear")))
    found = json.loads((out / "dataset.json").read_text())["losses"]
    assert found["overlapped_px"] == 0
    assert found["void_px_not_held"] == masks[1].sum()


def test_tasks_without_dicom_geometry_are_refused(tmp_path: Path) -> None:
    plain = task(1, "a.png", annotation(1, 5, [brush("a", "Liver", box(0, 0, 2, 2))]))
    with pytest.raises(SegstudioError, match=r"Task 1 has no 'dicom'.*DICOM SEG needs"):
        export(tmp_path, [plain])


def test_one_slice_twice_is_refused(tmp_path: Path) -> None:
    series = Series()
    tasks = series_tasks(series, blobs(series))
    tasks[1]["data"]["dicom"] = tasks[0]["data"]["dicom"]
    with pytest.raises(SegstudioError, match="are the same DICOM image"):
        export(tmp_path, tasks)
