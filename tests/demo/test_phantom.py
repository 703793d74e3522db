"""The phantom of the demo: real DICOM, the same each time, and it says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread

from demo.phantom import ORGANS, PIXEL_MM, SIDE_PX, SLICE_MM, SLICES, write_phantom


def test_it_is_a_ct_series_in_hounsfield_units_that_says_it_is_synthetic(tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "a")
    again = write_phantom(tmp_path / "b")
    assert len(paths) == SLICES
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    slices = [dcmread(path) for path in paths]
    assert {one.SeriesInstanceUID for one in slices} == {slices[0].SeriesInstanceUID}
    assert len({one.SOPInstanceUID for one in slices}) == SLICES
    heights = [one.ImagePositionPatient[2] for one in slices]
    assert np.allclose(np.diff(heights), SLICE_MM)
    middle = slices[SLICES // 2]
    assert "Synthetic" in str(middle.PatientName)
    assert "no patient" in middle.SeriesDescription
    values = middle.pixel_array.astype(float) * middle.RescaleSlope + middle.RescaleIntercept
    (aorta,) = [organ for organ in ORGANS if organ.name == "Aorta"]
    column, row = (round(one / PIXEL_MM + (SIDE_PX - 1) / 2) for one in aorta.centre_mm[:2])
    inside = values[row - 3 : row + 4, column - 3 : column + 4]
    assert abs(inside.mean() - aorta.hounsfield) < 10
    assert values[0, 0] < -900
