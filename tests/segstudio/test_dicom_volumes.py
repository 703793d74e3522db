from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from segstudio.dicom_geometry import DicomGeometryError, DicomSlice
from segstudio.dicom_volumes import even_stretches, group_volumes

_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def _slice(number: int, position: Sequence[float], slices: int = 4, **changed: Any) -> DicomSlice:
    x, y, z = position
    one = DicomSlice(
        series="series-0001",
        slice=number,
        slices=slices,
        study_uid="2.25.1",
        series_uid="2.25.2",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"2.25.{100 + number}",
        rows=5,
        columns=7,
        pixel_spacing_mm=(0.5, 0.75),
        image_orientation=_AXIAL,
        image_position_mm=(x, y, z),
    )
    return dataclasses.replace(one, **changed)


def _stack(heights: Sequence[float], slices: int | None = None) -> list[DicomSlice]:
    total = len(heights) if slices is None else slices
    return [_slice(at, (0, 0, height), total) for at, height in enumerate(heights)]


def test_slices_are_ordered_along_the_normal_whatever_their_order_and_numbers():
    given = _stack([30, 20, 10, 0])  # numbered from the head down
    (volume,) = group_volumes([given[2], given[0], given[3], given[1]])
    assert [one.slice for one in volume.slices] == [3, 2, 1, 0]
    assert volume.members == (2, 0, 3, 1)
    grid = volume.grid()
    assert grid is not None
    assert (grid.slots, grid.missing, grid.depth) == ((0, 1, 2, 3), (), 4)
    assert grid.affine_lps @ [0, 0, 3, 1] == pytest.approx([0, 0, 30, 1])
    assert grid.spacing_mm == (0.75, 0.5, 10.0)


@pytest.mark.parametrize("tilt", [0.0005, 0.00005, 0.49995])
def test_a_direction_that_wavers_in_its_last_digit_is_one_volume(tilt: float):
    level = (1 - tilt**2) ** 0.5
    leans = [tilt + 1e-6 * (-1) ** at for at in range(4)]
    given = [
        dataclasses.replace(one, image_orientation=(level, lean, 0.0, -lean, level, 0.0))
        for one, lean in zip(_stack([0, 10, 20, 30]), leans, strict=True)
    ]
    (volume,) = group_volumes(given)
    assert volume.members == (0, 1, 2, 3)
    assert volume.grid() is not None


@pytest.mark.parametrize(
    ("heights", "kept", "slots", "missing", "depth"),
    [
        ([0, 2, 4, 6], [1, 3], (1, 3), (0, 2), 4),  # some tasks are left out
        ([6, 4, 2, 0], [0, 1], (2, 3), (0, 1), 4),  # numbered from the head down
        ([0, 2, 6, 8], [0, 1, 2, 3], (0, 1, 3, 4), (2,), 5),  # the series itself has a gap
    ],
)
def test_missing_slices_are_reported(
    heights: list[float],
    kept: list[int],
    slots: tuple[int, ...],
    missing: tuple[int, ...],
    depth: int,
):
    given = _stack(heights)
    (volume,) = group_volumes([given[at] for at in kept])
    grid = volume.grid()
    assert grid is not None
    assert (grid.slots, grid.missing, grid.depth) == (slots, missing, depth)
    for slot, one in zip(grid.slots, volume.slices, strict=True):
        assert (grid.affine_lps @ [0, 0, slot, 1])[:3] == pytest.approx(one.image_position_mm)


def test_uneven_distances_have_no_grid_and_small_ones_are_within_the_tolerance():
    (uneven,) = group_volumes(_stack([0, 2, 5, 7]))
    assert uneven.grid() is None
    (rounded,) = group_volumes(_stack([0, 2.01, 3.99, 6]))
    grid = rounded.grid()
    assert grid is not None
    assert grid.spacing_mm[2] == pytest.approx(2)
    assert rounded.grid(tolerance=0.001) is None


def test_three_planes_and_two_phases_of_a_series_are_volumes_of_their_own():
    axial = [_slice(at, (0, 0, 5 * at), 8) for at in range(2)]
    coronal = [_slice(2 + at, (0, 5 * at, 0), 8, image_orientation=_CORONAL) for at in range(2)]
    second = [_slice(4 + at, (0, 0, 5 * at), 8) for at in range(2)]
    volumes = group_volumes([*axial, *coronal, *second])
    assert [volume.name for volume in volumes] == [
        "series-0001", "series-0001-2", "series-0001-3",
    ]  # fmt: skip
    assert [[one.slice for one in volume.slices] for volume in volumes] == [[0, 1], [4, 5], [2, 3]]
    # Numbers of a series with several stacks say nothing about the distances of one.
    assert [volume.grid().depth for volume in volumes] == [2, 2, 2]  # type: ignore[union-attr]


def test_an_oblique_stack_is_straight_and_a_tilted_one_sheared():
    turn = np.deg2rad(20)
    columns = np.array([np.cos(turn), np.sin(turn), 0])
    rows = np.array([0.0, 0.0, -1.0])
    normal = np.cross(columns, rows)
    orientation = (*columns, *rows)
    oblique = [_slice(at, 3 * at * normal, image_orientation=orientation) for at in range(4)]
    (volume,) = group_volumes(oblique)
    grid = volume.grid()
    assert grid is not None
    assert not grid.is_sheared
    assert grid.affine_lps[:3, 2] == pytest.approx(3 * normal)
    tilted = [_slice(at, (0, 0.8 * at, 3 * at)) for at in range(4)]
    (volume,) = group_volumes(tilted)
    grid = volume.grid()
    assert grid is not None
    assert grid.is_sheared
    assert grid.affine_lps[:3, 2] == pytest.approx([0, 0.8, 3])


def test_one_slice_is_as_thick_as_its_spacing():
    (volume,) = group_volumes([_slice(0, (1, 2, 3), slice_spacing_mm=2.0, slice_thickness_mm=5.0)])
    grid = volume.grid()
    assert grid is not None
    assert (grid.depth, grid.spacing_mm) == (1, (0.75, 0.5, 2.0))


def test_slices_without_geometry_have_an_order_and_no_grid():
    given = [_slice(at, (0, 0, 0), image_position_mm=None) for at in (1, 0)]
    (volume,) = group_volumes(given)
    assert [one.slice for one in volume.slices] == [0, 1]
    assert volume.grid() is None
    assert group_volumes([]) == ()


def test_the_same_image_twice_is_refused():
    with pytest.raises(DicomGeometryError, match="are the same DICOM image"):
        group_volumes([_slice(0, (0, 0, 0)), _slice(0, (0, 0, 0))])


@pytest.mark.parametrize(
    ("heights", "parts"),
    [
        ([0, 2, 4, 6], [[0, 1, 2, 3]]),
        ([0, 2, 6, 8], [[0, 1, 2, 3]]),  # a gap is a missing slot, not another distance
        ([0, 2, 4, 7, 10], [[0, 1, 2], [3, 4]]),
        ([0, 2, 5, 7], [[0, 1], [2, 3]]),
        ([0, 3, 4], [[0, 1, 2]]),  # 3 is thrice 1
        ([5], [[0]]),
    ],
)
def test_uneven_volumes_are_cut_into_even_parts(heights: list[float], parts: list[list[int]]):
    (volume,) = group_volumes(_stack(heights))
    found = even_stretches(volume)
    assert [[one.slice for one in part.slices] for part, _ in found] == parts
    names = [part.name for part, _ in found]
    assert names == (["series-0001"] if len(parts) == 1 else [
        f"series-0001-part{number}" for number in range(1, len(parts) + 1)
    ])  # fmt: skip
    for part, grid in found:
        for slot, one in zip(grid.slots, part.slices, strict=True):
            place = grid.affine_lps @ [0, 0, slot, 1]
            assert place[:3] == pytest.approx(one.image_position_mm)


def test_a_volume_without_geometry_has_no_even_part():
    (volume,) = group_volumes([_slice(0, (0, 0, 0), pixel_spacing_mm=None)])
    assert even_stretches(volume) == ()
