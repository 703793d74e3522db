import numpy as np
import pytest

from ml_backend.mask_motion import BAND_PX, Canvas, ShapeMotion, signed_distance
from ml_backend.propagation import (
    Interval,
    flow_score,
    from_one_side,
    hold_score,
    shape_score,
)
from segstudio.masks import Mask, iou
from segstudio.optical_flow import Carrying, Flow

HEIGHT_PX, WIDTH_PX = 120, 200


def box(left: int, top: int = 40, width: int = 40, height: int = 40) -> Mask:
    dense = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    dense[top : top + height, left : left + width] = True
    return Mask.from_dense(dense)


def moved(dx: float, trust: float = 1.0) -> Carrying:
    flow = np.full((HEIGHT_PX, WIDTH_PX, 2), [-dx, 0], np.float32)
    return Carrying(Flow(flow), np.full((HEIGHT_PX, WIDTH_PX), trust, np.float32))


def overlap(one: Mask, other: Mask) -> float:
    return iou(one, other) or 0.0


def test_a_shape_that_moves_is_in_between() -> None:
    motion = ShapeMotion.between(box(40), box(60))
    assert overlap(motion.blend(0.5), box(50)) > 0.9
    assert overlap(motion.blend(0.25), box(45)) > 0.9


def test_a_shape_that_grows_is_in_between() -> None:
    small, large = box(60, 50, 20, 20), box(50, 40, 40, 40)
    middle = ShapeMotion.between(small, large).blend(0.5)
    assert small.area_px < middle.area_px < large.area_px
    assert overlap(middle, box(55, 45, 30, 30)) > 0.85


def test_a_part_that_comes_and_goes_leaves_the_rest_in_its_place() -> None:
    body, with_speck = box(40), box(40) | box(150, 20, 20, 20)
    motion = ShapeMotion.between(body, with_speck)
    assert overlap(motion.blend(0.2), body) > 0.95
    late = motion.blend(0.8)
    assert overlap(late, with_speck) > 0.9


def test_fields_are_signed_cut_off_and_at_their_own_resolution() -> None:
    assert signed_distance(np.zeros((2, 2), np.uint8)).tolist() == [[-BAND_PX] * 2] * 2
    assert signed_distance(np.ones((2, 2), np.uint8)).tolist() == [[BAND_PX] * 2] * 2
    for canvas in (
        Canvas.whole(HEIGHT_PX, WIDTH_PX),
        Canvas.whole(HEIGHT_PX, WIDTH_PX, side_px=100),
        Canvas.around(box(40)),
    ):
        assert overlap(canvas.mask(canvas.field(box(40))), box(40)) > 0.97
        assert canvas.mask(canvas.field(Mask.empty(HEIGHT_PX, WIDTH_PX))).is_empty
    assert Canvas.around(box(0), box(160)).width_px == WIDTH_PX


def test_flow_decides_where_shapes_cannot_know() -> None:
    """The object waits, then jumps: shapes put it half way, the photos know better."""
    interval = Interval(box(40), box(80), 4)
    by_shapes = interval.propose(2)
    by_flow = interval.propose(2, (moved(0), moved(-40)))
    assert by_shapes is not None and by_flow is not None
    assert overlap(by_flow.mask, box(40)) > 0.95 > overlap(by_shapes.mask, box(40))
    assert by_flow.agreement == 1.0


def test_what_cannot_be_trusted_has_no_vote() -> None:
    interval = Interval(box(40), box(40), 2)
    found = interval.propose(1, (moved(0), moved(60, trust=0.0)))
    assert found is not None and overlap(found.mask, box(40)) > 0.95
    assert found.agreement == 0.0 and found.score < 0.4


def test_scores_fall_with_distance_and_where_both_sides_disagree() -> None:
    together, apart = Interval(box(40), box(42), 10), Interval(box(20), box(140), 10)
    scores = []
    for interval in (together, apart):
        found = [interval.propose(step) for step in (1, 3, 5)]
        scores.append([one.score for one in found if one is not None])
        assert scores[-1] == sorted(scores[-1], reverse=True)
    assert min(scores[0]) > max(scores[1])
    assert shape_score(1, 1, 1) > shape_score(1, 1, 9) > shape_score(0.2, 0.1, 9)
    assert flow_score(0.0, 200) == 0.0
    assert hold_score(1) > hold_score(7)


def test_an_object_of_one_key_frame_ends_at_the_middle() -> None:
    found = [from_one_side(box(40), distance, absent_at=6) for distance in range(1, 6)]
    assert [one is not None for one in found] == [True, True, True, False, False]
    scores = [one.score for one in found if one is not None]
    assert scores == sorted(scores, reverse=True) and scores[0] < hold_score(1)
    assert all(one.mask == box(40) for one in found if one is not None)


@pytest.mark.parametrize(("dx", "there"), [(-30, True), (-90, False), (170, False)])
def test_an_object_that_leaves_the_image_is_gone(dx: float, there: bool) -> None:
    found = from_one_side(box(40), 3, carried=moved(dx))
    assert (found is not None) == there
    if found is not None:
        assert overlap(found.mask, box(40 + int(dx))) > 0.95


def test_an_object_that_is_covered_is_gone() -> None:
    assert from_one_side(box(40), 3, carried=moved(2, trust=0.01)) is None


def test_masks_of_large_images_are_carried_at_a_smaller_scale() -> None:
    dense = np.zeros((1500, 2400), bool)
    dense[300:900, 400:1000] = True
    one = Mask.from_dense(dense)
    found = Interval(one, one.shift(120, 0), 4).propose(2)
    assert found is not None and overlap(found.mask, one.shift(60, 0)) > 0.9
