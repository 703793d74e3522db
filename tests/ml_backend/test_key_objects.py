from typing import Any

import numpy as np

from ml_backend.key_objects import key_objects, match_objects, track_name
from segstudio.masks import Mask, union_all
from segstudio.region_values import mask_to_value
from segstudio.regions import Region

SIZE = (60, 100)


def box(left: int, top: int = 10, side: int = 20) -> Mask:
    dense = np.zeros(SIZE, bool)
    dense[top : top + side, left : left + side] = True
    return Mask.from_dense(dense)


def region(name: str, mask: Mask, label: str = "Car", **attributes: Any) -> Region:
    value = mask_to_value(mask, "brush")
    return Region(name, "brush", "brush", "image", (label,), value, SIZE[1], SIZE[0],
                  attributes=attributes)  # fmt: skip


def matched(before: list[Region], after: list[Region]) -> dict[str, str]:
    one, other = key_objects(before)[0], key_objects(after)[0]
    pairs = match_objects(one, other)
    return {one[row].region.id: other[column].region.id for row, column in pairs.items()}


def test_a_named_track_goes_before_everything_else() -> None:
    before = [region("a", box(0), track_id=1), region("b", box(50), track_id=2)]
    after = [region("a", box(50), track_id=2), region("b", box(0), track_id=1)]
    assert matched(before, after) == {"a": "b", "b": "a"}


def test_then_the_same_region_id_then_likeness() -> None:
    before = [region("a", box(0)), region("b", box(50))]
    assert matched(before, [region("b", box(0)), region("x", box(40))]) == {"b": "b", "a": "x"}
    assert matched(before, [region("y", box(52)), region("x", box(3))]) == {"b": "y", "a": "x"}


def test_what_moved_clear_of_itself_is_matched_by_its_shape() -> None:
    assert matched([region("a", box(0))], [region("x", box(22))]) == {"a": "x"}
    assert matched([region("a", box(0, side=6))], [region("x", box(80, 30))]) == {}


def test_other_classes_and_other_tracks_are_never_one_object() -> None:
    assert matched([region("a", box(0))], [region("a", box(0), "Bus")]) == {}
    assert matched([region("a", box(0), track_id=1)], [region("a", box(0), track_id=2)]) == {}
    assert matched([region("a", box(0))], []) == {}


def test_regions_of_one_track_are_one_object_and_prompts_are_none() -> None:
    parts = [region("a", box(0), track_id=7), region("b", box(50), track_id=7)]
    point = Region("p", "keypoint", "k", "image", ("Car",), {"x": 1, "y": 1}, 100, 60)
    (one,), problems = key_objects([*parts, point])
    assert one.mask == union_all([box(0), box(50)], *SIZE)
    assert (one.given, one.region.id, problems) == ("7", "a", ())


def test_a_damaged_region_is_reported_and_left_out() -> None:
    broken = Region("x", "brush", "brush", "image", ("Car",), {"rle": [1, 2]}, 100, 60)
    found, (problem,) = key_objects([broken], task_id=4)
    assert found == () and (problem.task_id, problem.region_id) == (4, "x")


def test_names_of_tracks_are_read_as_the_checks_read_them() -> None:
    assert track_name({"object_id": "dog"}) == "dog"
    assert track_name({"track_id": 3.0}) == "3"
    assert track_name({"track_id": []}) is None
