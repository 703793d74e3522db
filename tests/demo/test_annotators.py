from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from demo.annotators import (
    as_reference,
    both,
    dilated,
    expected_class_means,
    expected_overlaps,
    expected_pair_ious,
    mislabelled,
    missing_largest,
    shifted,
    without,
)
from demo.references import DrawnObject


def drawn(label: str, rows: list[str]) -> DrawnObject:
    return DrawnObject(label, np.array([[cell == "#" for cell in row] for row in rows]))


def rows_of(drawn_object: DrawnObject) -> list[str]:
    return ["".join("#" if cell else "." for cell in row) for row in drawn_object.mask]


DOT = drawn("Coin", [".....", ".....", "..#..", ".....", "....."])
BAR = drawn("Sky", ["##...", "##...", ".....", ".....", "....."])


@pytest.mark.parametrize(
    ("deviation", "expected"),
    [
        (as_reference(), [".....", ".....", "..#..", ".....", "....."]),
        (dilated(1), [".....", "..#..", ".###.", "..#..", "....."]),
        (dilated(2), ["..#..", ".###.", "#####", ".###.", "..#.."]),
        (shifted(1), [".....", ".....", "...#.", ".....", "....."]),
        (shifted(3), [".....", ".....", ".....", ".....", "....."]),
        (both(shifted(1), dilated(1)), [".....", "...#.", "..###", "...#.", "....."]),
    ],
)
def test_a_deviation_changes_the_mask_as_it_says(deviation: Any, expected: list[str]) -> None:
    (changed,) = deviation.apply((DOT,))
    assert (changed.label, rows_of(changed)) == ("Coin", expected)


def test_the_largest_objects_of_a_label_are_overlooked() -> None:
    large = drawn("Coin", ["##...", "##...", ".....", ".....", "....."])
    left = missing_largest(1, "Coin").apply((DOT, large, BAR))
    assert [id(each) for each in left] == [id(DOT), id(BAR)]


def test_a_label_is_left_out_or_swapped() -> None:
    assert without("Sky").apply((DOT, BAR)) == (DOT,)
    assert [each.label for each in mislabelled("Coin", "Cup").apply((DOT, BAR))] == ["Cup", "Sky"]


PLUS = dilated(1).apply((DOT,))


def test_expected_overlap_of_every_pair_and_class_that_either_drew() -> None:
    by_annotator = ((DOT, BAR), PLUS, mislabelled("Coin", "Cup").apply((DOT,)))
    found = {
        (each.first, each.second, each.label): (each.intersection_px, each.union_px)
        for each in expected_overlaps({"photo": by_annotator})
    }
    assert found == {
        (1, 2, "Coin"): (1, 5),
        (1, 2, "Sky"): (0, 4),
        (1, 3, "Coin"): (0, 1),
        (1, 3, "Cup"): (0, 1),
        (1, 3, "Sky"): (0, 4),
        (2, 3, "Coin"): (0, 5),
        (2, 3, "Cup"): (0, 1),
    }


def test_several_objects_of_a_class_count_as_their_union() -> None:
    other = drawn("Coin", [".....", ".....", "...#.", ".....", "....."])
    (found,) = expected_overlaps({"photo": ((DOT, other), (DOT,))})
    assert found.iou == 0.5


def test_a_photo_averages_its_pairs_and_a_pair_accumulates_its_photos() -> None:
    overlaps = expected_overlaps({"one": ((DOT,), PLUS, (DOT,)), "two": ((BAR,), (BAR,), ())})
    assert expected_class_means(overlaps, "one") == {"Coin": (1 / 5 + 1 + 1 / 5) / 3}
    assert expected_class_means(overlaps, "two") == {"Sky": 1 / 3}
    twice = expected_overlaps({"one": ((DOT,), PLUS), "two": ((DOT,), (DOT,))})
    assert expected_pair_ious(twice) == {(1, 2, "Coin"): 2 / 6}
