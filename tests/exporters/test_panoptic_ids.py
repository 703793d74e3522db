import math

import numpy as np
import pytest

from exporters.panoptic_ids import (
    _SIDE,
    _STRIDE,
    color_to_id,
    id_to_color,
    paint_ids,
    segment_ids,
)


@pytest.mark.parametrize(
    ("color", "segment_id"),
    [((0, 0, 0), 0), ((255, 0, 0), 255), ((0, 1, 0), 256), ((0, 0, 1), 65536),
     ((220, 20, 60), 3937500), ((255, 255, 255), 16777215)],
)  # fmt: skip
def test_ids_are_red_plus_256_green_plus_65536_blue(color, segment_id: int) -> None:
    assert color_to_id(color) == segment_id
    assert id_to_color(segment_id) == color


def test_stuff_takes_its_own_colour_and_a_thing_never_takes_it() -> None:
    road = (128, 64, 128)
    ids = segment_ids([(road, False), (road, True), (road, False)], reserved=[road])
    assert ids[1] == color_to_id(road)
    assert len(set(ids)) == 3


def test_the_first_instance_has_the_class_colour_and_the_others_lie_near() -> None:
    ids = segment_ids([((220, 20, 60), False)] * 200, reserved=[])
    assert ids[0] == color_to_id((220, 20, 60))
    assert len(set(ids)) == 200
    distance = np.abs(np.array([id_to_color(i) for i in ids]) - (220, 20, 60)).max()
    assert distance <= 30


def test_no_segment_is_ever_void_not_even_of_a_black_class() -> None:
    ids = segment_ids([((0, 0, 0), True), ((0, 0, 0), False)], reserved=[(0, 0, 0)])
    assert 0 not in ids and len(set(ids)) == 2


def test_two_stuff_classes_of_one_colour_still_differ() -> None:
    ids = segment_ids([((9, 9, 9), True), ((9, 9, 9), True)], reserved=[(9, 9, 9)])
    assert len(set(ids)) == 2


def test_more_instances_than_near_colours_still_get_distinct_ids() -> None:
    # In the corner of the colour cube only 31**3 colours are near.
    assert len(set(segment_ids([((0, 0, 0), False)] * 40_000, reserved=[]))) == 40_000


def test_every_offset_comes_once() -> None:
    assert math.gcd(_STRIDE, _SIDE**3) == 1


def test_painting_gives_each_number_its_id_and_zero_void() -> None:
    numbers = np.array([[0, 1], [2, 2]], np.int32)
    picture = paint_ids(numbers, [300, 70000]).astype(np.int64)
    ids = picture[..., 0] + 256 * picture[..., 1] + 65536 * picture[..., 2]
    assert ids.tolist() == [[0, 300], [70000, 70000]]
