from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from segstudio.dicom_geometry import (
    DicomGeometryError,
    DicomSlice,
    ras_from_lps,
    read_dicom,
    require_dicom,
)

_AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def dicom_data(**changed: Any) -> dict[str, Any]:
    """Return task data's `dicom` of one axial CT slice."""
    return {
        "series": "series-0001",
        "slice": 0,
        "slices": 4,
        "study_uid": "2.25.1",
        "series_uid": "2.25.2",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance_uid": "2.25.3",
        "frame_number": None,
        "frame_of_reference_uid": "2.25.4",
        "modality": "CT",
        "rows": 5,
        "columns": 7,
        "pixel_spacing_mm": [0.5, 0.75],
        "image_orientation": _AXIAL,
        "image_position_mm": [-10.0, -20.0, 30.0],
        "slice_thickness_mm": 3.0,
        "slice_spacing_mm": 2.5,
        "window": {"name": "abdomen", "center": 40.0, "width": 400.0},
        "rescale": {"slope": 1.0, "intercept": -1024.0},
        "photometric": "MONOCHROME2",
        "file": "dicom/series-0001/0000.dcm",
        **changed,
    }


def _read(**changed: Any) -> DicomSlice:
    found = read_dicom({"dicom": dicom_data(**changed)}, 7)
    assert found is not None
    return found


def test_task_data_goes_through_json_and_back():
    raw = dicom_data()
    again = _read().as_task_data()
    assert again == raw
    assert read_dicom({"dicom": json.loads(json.dumps(again))}) == _read()


def test_a_secondary_capture_has_no_geometry_and_is_read():
    nulls = dict.fromkeys(
        ("pixel_spacing_mm", "image_orientation", "image_position_mm", "window", "rescale", "file")
    )
    one = _read(**nulls)
    assert not one.has_geometry
    assert one.rescale.slope == 1.0
    with pytest.raises(DicomGeometryError, match="no pixel_spacing_mm and no image_orientation"):
        one.affine_lps()


def test_a_task_without_dicom_is_none_and_refused_where_it_is_needed():
    assert read_dicom({"image": "a.png"}) is None
    with pytest.raises(DicomGeometryError, match=r"Task 7 has no 'dicom'.*which NIfTI needs"):
        require_dicom({"image": "a.png"}, 7, "NIfTI")


def test_the_position_is_the_centre_of_the_first_pixel():
    affine = _read().affine_lps()
    assert affine @ [0, 0, 0, 1] == pytest.approx([-10, -20, 30, 1])
    # Columns are 0.75 mm apart, rows 0.5 mm, slices 2.5 mm.
    assert affine @ [1, 0, 0, 1] == pytest.approx([-9.25, -20, 30, 1])
    assert affine @ [0, 1, 0, 1] == pytest.approx([-10, -19.5, 30, 1])
    assert affine @ [0, 0, 1, 1] == pytest.approx([-10, -20, 32.5, 1])


def test_a_sagittal_slice_steps_along_its_own_normal():
    one = _read(image_orientation=[0, 1, 0, 0, 0, -1])
    assert one.normal() == pytest.approx([-1, 0, 0])
    assert one.affine_lps() @ [2, 3, 1, 1] == pytest.approx([-12.5, -18.5, 28.5, 1])


def test_ras_turns_x_and_y():
    affine = _read().affine_lps()
    assert ras_from_lps(affine) @ [0, 0, 0, 1] == pytest.approx([10, 20, 30, 1])
    assert np.array_equal(ras_from_lps(ras_from_lps(affine)), affine)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"series": "../x"}, "dicom.series is '../x'"),
        ({"slice": 4}, "less than slices, which is 4"),
        ({"rows": 0}, "dicom.rows is 0; it must be a whole number from 1 to 65535"),
        ({"rows": True}, "dicom.rows is True"),
        ({"slices": 2**31}, "from 1 to 100000"),
        ({"rows": float("inf")}, "dicom.rows is inf"),
        ({"slice_thickness_mm": 10**400}, "a number of millimetres"),
        ({"study_uid": "1.2.a"}, "a DICOM UID"),
        ({"series_uid": "1." * 40 + "1"}, "at most 64"),
        ({"frame_number": 0}, "dicom.frame_number is 0"),
        ({"pixel_spacing_mm": [0.5]}, "a list of 2 positive numbers"),
        ({"pixel_spacing_mm": [0.5, -1]}, "a list of 2 positive numbers"),
        ({"image_position_mm": [0, 0, float("nan")]}, "a list of 3 numbers"),
        ({"image_orientation": [1, 0, 0, 1, 0, 0]}, "at a right angle"),
        ({"window": [40, 400]}, "name, center and width"),
        ({"rescale": {"slope": "1"}}, "slope and intercept"),
        ({"file": "/etc/passwd"}, "relative to the tasks file"),
        ({"file": "a/../../b.dcm"}, "relative to the tasks file"),
        ({"modality": 3}, "dicom.modality is 3"),
    ],
)
def test_impossible_values_are_named(changed: dict[str, Any], words: str):
    with pytest.raises(DicomGeometryError) as caught:
        _read(**changed)
    assert words in str(caught.value)
    assert str(caught.value).startswith("The data of task 7: dicom.")


def test_a_missing_key_is_named():
    raw = dicom_data()
    del raw["rows"]
    with pytest.raises(DicomGeometryError, match=r"dicom\.rows is missing"):
        read_dicom({"dicom": raw})
    with pytest.raises(DicomGeometryError, match="no object but list"):
        read_dicom({"dicom": []})
