from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segstudio.masks import Mask, iou
from segstudio.optical_flow import (
    MAX_SIDE_PX,
    Flow,
    align_centres,
    carry_along,
    centre_px,
    dense_search,
    estimate_flow,
    small_gray,
)


def texture(shift_px: int = 0, height_px: int = 64, width_px: int = 96) -> NDArray[np.uint8]:
    noise = np.random.default_rng(5).integers(0, 255, (height_px, 200), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    smooth = cv2.normalize(smooth, smooth.copy(), 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(smooth[:, 60 - shift_px : 60 - shift_px + width_px], np.uint8)


def square(left: int) -> Mask:
    dense = np.zeros((64, 96), bool)
    dense[20:40, left : left + 20] = True
    return Mask.from_dense(dense)


def test_a_mask_is_carried_as_far_as_the_picture_moved() -> None:
    flow = estimate_flow(texture(0), texture(3), 64, 96)
    assert (iou(flow.warp(square(40)), square(43)) or 0) > 0.97
    assert flow.speed_px(square(40)) == pytest.approx(3, abs=0.2)
    assert flow.speed_px(Mask.empty(64, 96)) == 0


def test_motion_of_small_photos_is_scaled_to_the_masks() -> None:
    small = estimate_flow(texture(0), texture(3), 64, 96)
    large = small.resized(128, 192)
    assert large.displacement_px.shape == (128, 192, 2)
    assert large.displacement_px[64, 96] == pytest.approx(
        2 * small.displacement_px[32, 48], abs=0.1
    )


def test_motions_join_so_that_a_mask_is_warped_once() -> None:
    grays = [texture(shift) for shift in (0, 2, 4, 6)]
    pairs = [(dense_search(a, b), dense_search(b, a)) for a, b in pairwise(grays)]
    carried = list(carry_along(pairs))
    assert len(carried) == 3
    for step, one in enumerate(carried, start=1):
        assert (iou(one.flow.warp(square(40)), square(40 + 2 * step)) or 0) > 0.95
        assert np.median(one.trust) > 0.9
    assert list(carry_along([])) == []


def test_where_the_way_back_leads_elsewhere_there_is_no_trust() -> None:
    there = Flow(np.full((4, 6, 2), [-3, 0], np.float32))
    home = there.displacement_px.copy()
    home[:, :3] = [3, 0]
    (one,) = carry_along([(there, Flow(home))])
    assert one.trust[0].round(2).tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    (one,) = carry_along([(there, there)])
    assert one.trust.max() < 1e-6


def test_pictures_too_small_to_search_have_no_motion() -> None:
    assert not dense_search(texture()[:8], texture(3)[:8]).displacement_px.any()


def test_joined_motion_is_known_by_hand() -> None:
    right = Flow(np.full((4, 6, 2), [-1, 0], np.float32))
    down = Flow(np.full((4, 6, 2), [0, -1], np.float32))
    both = down.after(right)
    assert both.displacement_px[1, 1].tolist() == [-1, -1]
    dot = Mask.from_dense([[1, 0], [0, 0]])
    still = Flow.still(2, 2)
    assert still.warp(dot) == dot


def test_what_comes_in_from_outside_is_no_mask_but_the_border_of_a_field() -> None:
    left = Flow(np.full((2, 3, 2), [1, 0], np.float32))
    assert left.warp(Mask.from_dense([[0, 0, 1], [0, 0, 1]])).to_dense().tolist() == [
        [False, True, False],
        [False, True, False],
    ]
    field = np.array([[1, 2, 3], [1, 2, 3]], np.float32)
    assert left.warp_field(field).tolist() == [[2, 3, 3], [2, 3, 3]]


def test_photos_become_grey_and_small() -> None:
    gray = small_gray(np.zeros((100, 2048, 3), np.uint8))
    assert gray.shape == (25, MAX_SIDE_PX) and gray.dtype == np.uint8
    assert small_gray(np.zeros((20, 30, 3), np.uint8)).shape == (20, 30)


def test_centres_are_aligned_and_an_empty_mask_stays() -> None:
    assert centre_px(square(40)) == (49.5, 29.5)
    assert align_centres(square(40), square(50)) == square(50)
    empty = Mask.empty(64, 96)
    assert align_centres(empty, square(5)) == empty
