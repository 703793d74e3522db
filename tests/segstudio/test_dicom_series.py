"""Which files make a series, and the order of its slices."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from segstudio.dicom_files import FoundFile
from segstudio.dicom_frames import code_of, position_of, spacing_of
from segstudio.dicom_series import Series, index_file, plan_series
from tests.segstudio.dicom_cases import make_dataset

TILTED = [1, 0, 0, 0, 0.8, 0.6]


def planned(*datasets: Dataset) -> tuple[Series, ...]:
    return plan_series(
        index_file(FoundFile(number, Path("x")), dataset)
        for number, dataset in enumerate(datasets, 1)
    )


def order(series: Series) -> list[int]:
    places = {number: file.indexed.file.number for file in series.files for number in file.slices}
    return [places[number] for number in sorted(places)]


def test_slices_go_by_their_place_along_the_normal_not_by_number_or_file() -> None:
    heights = [7.5, -5.0, 0.0, 2.5, 5.0, -2.5]
    (series,) = planned(
        *(make_dataset(uid=f"1.{at}", z_mm=z, number=at) for at, z in enumerate(heights))
    )
    assert order(series) == [2, 6, 3, 4, 5, 1]
    assert series.ordered_by == "position"
    assert {file.spacing_mm for file in series.files} == {(2.5,)}


def test_oblique_slices_go_along_their_own_normal() -> None:
    # Along the normal (0, -0.6, 0.8) the second is lower, though its z is higher.
    first = make_dataset(uid="1.1", ImageOrientationPatient=TILTED,
                         ImagePositionPatient=[0, 0, 0])  # fmt: skip
    second = make_dataset(uid="1.2", ImageOrientationPatient=TILTED,
                          ImagePositionPatient=[0, 10, 5])  # fmt: skip
    (series,) = planned(first, second)
    assert order(series) == [2, 1]
    assert series.files[0].spacing_mm[0] == pytest.approx(2.0)


def test_without_positions_the_instance_number_decides_then_the_file() -> None:
    bare: dict[str, Any] = {"ImagePositionPatient": None}
    (series,) = planned(*(make_dataset(uid=f"1.{n}", number=n, **bare) for n in (3, 1, 2)))
    assert (order(series), series.ordered_by) == ([2, 3, 1], "instance number")
    (series,) = planned(*(make_dataset(uid=f"1.{n}", InstanceNumber=None, **bare) for n in (3, 1)))
    assert (order(series), series.ordered_by) == ([1, 2], "order of the files")


def test_stacks_of_other_directions_come_one_after_the_other() -> None:
    sagittal = [0, 1, 0, 0, 0, -1]
    datasets = [make_dataset(uid="1.1", z_mm=5), make_dataset(uid="1.2", z_mm=0)]
    datasets.insert(1, make_dataset(uid="1.3", ImageOrientationPatient=sagittal))
    (series,) = planned(*datasets)
    assert order(series) == [3, 1, 2]


@pytest.mark.parametrize("tilt", [0.0005, 0.00005, 0.4995])
def test_a_direction_that_wavers_in_its_last_digit_is_one_stack(tilt: float) -> None:
    level = round((1 - tilt**2) ** 0.5, 7)
    datasets = []
    for at in range(6):
        lean = tilt + 1e-6 * (-1) ** at
        turned = [level, round(lean, 7), 0, round(-lean, 7), level, 0]
        datasets.append(make_dataset(uid=f"1.{at}", z_mm=at, ImageOrientationPatient=turned))
    (series,) = planned(*datasets)
    assert order(series) == [1, 2, 3, 4, 5, 6]
    assert series.files[0].spacing_mm == (pytest.approx(1.0, abs=1e-3),)


def test_uneven_distances_have_no_spacing_but_what_the_file_states() -> None:
    heights = [0.0, 1.0, 5.0]
    (series,) = planned(*(make_dataset(uid=f"1.{z}", z_mm=z) for z in heights))
    assert {file.spacing_mm for file in series.files} == {(None,)}
    (series,) = planned(
        *(make_dataset(uid=f"1.{z}", z_mm=z, SpacingBetweenSlices=3) for z in heights)
    )
    assert {file.spacing_mm for file in series.files} == {(3.0,)}


def test_series_are_told_apart_and_named_in_order_of_their_files() -> None:
    series = planned(
        make_dataset(uid="1.1", SeriesInstanceUID="1.9"),
        make_dataset(uid="1.2", SeriesInstanceUID="1.8"),
        make_dataset(uid="1.3", SeriesInstanceUID="1.9"),
        make_dataset(uid="1.4", SeriesInstanceUID=None),
        make_dataset(uid="1.5", SeriesInstanceUID=None),
    )
    assert [(one.name, len(one.files)) for one in series] == [
        ("series-0001", 2), ("series-0002", 1), ("series-0003", 1), ("series-0004", 1)
    ]  # fmt: skip
    assert plan_series([]) == ()


def multi_frame(heights: list[float]) -> Dataset:
    dataset = make_dataset(
        np.zeros((len(heights), 4, 4), np.int16), ImagePositionPatient=None, PixelSpacing=None,
        ImageOrientationPatient=None,
    )  # fmt: skip
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.25, 0.5]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for height in heights:
        group, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = [1, 2, height]
        group.PlanePositionSequence = [plane]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset


def test_frames_of_one_file_are_ordered_like_slices() -> None:
    dataset = multi_frame([4.0, 0.0, 2.0])
    (series,) = planned(dataset)
    assert series.files[0].slices == (2, 0, 1)
    assert position_of(dataset, 2) == (1.0, 2.0, 2.0)
    assert spacing_of(dataset, 1) == (0.25, 0.5)
    assert series.files[0].spacing_mm == (2.0, 2.0, 2.0)


def test_rounded_positions_cannot_disorder_a_long_stack() -> None:
    heights = [round(-300 + 0.625 * at, 2) for at in range(400)]
    shuffled = list(enumerate(heights))
    random.Random(4).shuffle(shuffled)
    (series,) = planned(*(make_dataset(uid=f"1.{at}", z_mm=z) for at, z in shuffled))
    numbers = [shuffled[number - 1][0] for number in order(series)]
    assert numbers == list(range(400))


def test_a_modality_that_is_text_is_not_taken_over() -> None:
    assert code_of(make_dataset(modality="Zyxwvut, Qwertha"), "Modality") == ""
