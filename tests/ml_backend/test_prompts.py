from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_backend.engines import Prompt
from ml_backend.prompts import group_prompts, prompt_sizes, scribble_points
from segstudio import brush_rle

H, W = 80, 120


def prompts(*regions: Any) -> list[Prompt]:
    return [group.prompt for group in group_prompts(list(regions), H, W)[0]]


def test_all_clicks_of_a_label_are_one_prompt_in_their_order(click):
    found = prompts(click(50, 50), click(25, 75), click(10, 10, positive=False))
    assert found == [
        Prompt(((59.5, 39.5), (29.5, 59.5), (11.5, 7.5)), (True, True, False)),
    ]


def test_a_click_without_is_positive_counts_as_positive(click):
    assert prompts(click(50, 50, positive=None))[0].positive == (True,)


def test_labels_make_regions_of_their_own(click):
    groups, _ = group_prompts([click(10, 10), click(20, 20, "Road"), click(30, 30)], H, W)
    assert [(g.labels, len(g.prompt.points_px)) for g in groups] == [(("Car",), 2), (("Road",), 1)]


def test_each_box_is_a_region_and_takes_the_clicks_inside_it(click, box):
    found = prompts(
        box(0, 0, 50, 50), box(50, 50, 50, 50), click(75, 75, positive=False), click(80, 80)
    )
    assert found == [
        Prompt(box_px=(0, 0, 59, 39)),
        Prompt(((89.5, 59.5), (95.5, 63.5)), (False, True), (60, 40, 119, 79)),
    ]


def test_a_click_in_nested_boxes_goes_to_the_smaller(click, box):
    found = prompts(box(0, 0, 100, 100), box(40, 40, 20, 20), click(50, 50, positive=False))
    assert [len(prompt.points_px) for prompt in found] == [0, 1]


def test_a_positive_click_outside_all_boxes_is_its_own_region(click, box):
    assert prompts(box(0, 0, 10, 10), click(50, 50)) == [
        Prompt(box_px=(0, 0, 11, 7)),
        Prompt(((59.5, 39.5),), (True,)),
    ]


def test_negative_clicks_alone_are_reported(click):
    groups, problems = group_prompts([click(50, 50, positive=False)], H, W)
    assert groups == []
    assert "Negative points alone" in problems[0]


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (lambda click, box: click(101, 50), "outside the image"),
        (lambda click, box: click(50, -3), "outside the image"),
        (lambda click, box: click(float("nan"), 5), "no finite number"),
        (lambda click, box: click("x", 5), "could not convert"),
        (lambda click, box: click(True, 5), "no number"),
        (lambda click, box: box(110, 10, 20, 20), "no pixel of the image"),
        (lambda click, box: box(10, 10, 0, 0), "no pixel of the image"),
        (lambda click, box: {"type": "keypointlabels"}, "no region with a value"),
        (lambda click, box: {"type": "choices", "value": {"choices": ["a"]}}, "no prompt"),
        (lambda click, box: "text", "no region with a value"),
    ],
)
def test_what_cannot_be_a_prompt_is_dropped_with_the_reason(click, box, region, reason):
    groups, problems = group_prompts([region(click, box), click(50, 50)], H, W)
    assert [group.prompt for group in groups] == [Prompt(((59.5, 39.5),), (True,))]
    assert reason in problems[0]


def test_a_box_over_the_edge_is_clipped(box):
    assert prompts(box(-10, 50, 30, 80))[0].box_px == (0, 40, 23, 79)


def test_a_click_on_the_far_edge_lies_on_the_last_pixel(click):
    assert prompts(click(100, 100))[0].points_px == ((119.0, 79.0),)


def test_a_rotated_rectangle_gives_its_bounding_box(box):
    region = box(50, 50, 10, 10)
    region["value"]["rotation"] = 90  # about the top-left corner: it extends to the left
    assert prompts(region)[0].box_px == pytest.approx((52, 40, 59, 51))


def test_an_ellipse_gives_its_bounding_box(click):
    region = click(50, 50, type="ellipselabels")
    region["value"] = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 25, "ellipselabels": ["Car"]}
    assert prompts(region)[0].box_px == pytest.approx((48, 20, 71, 59))


def test_a_scribble_becomes_points_on_itself(click):
    mask = np.zeros((H, W), bool)
    mask[38:43, 10:110] = True
    region = click(0, 0, type="brushlabels")
    region["value"] = {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": ["Car"]}
    (prompt,) = prompts(region)
    assert len(prompt.points_px) == 5
    assert all(mask[round(y), round(x)] for x, y in prompt.points_px)
    assert max(x for x, _ in prompt.points_px) - min(x for x, _ in prompt.points_px) > 80


def test_a_negative_scribble_takes_part_of_a_box_away(click, box):
    mask = np.zeros((H, W), bool)
    mask[30:40, 40:60] = True
    region = click(0, 0, type="brushlabels", positive=False)
    region["value"] = {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": ["Car"]}
    (prompt,) = prompts(box(0, 0, 100, 100), region)
    assert prompt.box_px == (0, 0, 119, 79)
    assert len(prompt.points_px) > 1
    assert not any(prompt.positive)


def test_a_scribble_drawn_at_another_size_lies_at_the_same_place(click):
    mask = np.zeros((2 * H, 2 * W), bool)
    mask[80:84, 100:140] = True
    region = click(0, 0, type="brushlabels", original_width=2 * W, original_height=2 * H)
    region["value"] = {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": ["Car"]}
    (prompt,) = prompts(region)
    assert all(49 < x < 71 and 39 < y < 43 for x, y in prompt.points_px)


def test_several_boxes_of_several_labels_are_one_region_each(box):
    groups, problems = group_prompts(
        [box(0, 0, 10, 10), box(20, 0, 10, 10, "Road"), box(40, 0, 10, 10), box(60, 0, 10, 10)],
        H, W,
    )  # fmt: skip
    assert [group.labels for group in groups] == [("Car",), ("Car",), ("Car",), ("Road",)]
    assert len({group.prompt.box_px for group in groups}) == 4
    assert problems == []


def test_a_labels_item_names_the_plain_shape_of_its_id(click, box):
    plain = box(0, 0, 50, 50, type="rectangle", id="a")
    plain["value"] = {key: plain["value"][key] for key in ("x", "y", "width", "height")}
    name = {**plain, "type": "labels", "from_name": "label",
            "value": {**plain["value"], "labels": ["Road"]}}  # fmt: skip
    stray = {**name, "id": "b"}
    groups, problems = group_prompts([plain, name, stray], H, W)
    assert [(group.labels, group.prompt) for group in groups] == [
        (("Road",), Prompt(box_px=(0, 0, 59, 39))),
    ]
    assert problems == []


def test_an_empty_scribble_has_no_points():
    assert scribble_points(np.zeros((4, 4), bool)) == ()


def test_prompt_sizes_reads_what_the_editor_drew_on(click, box):
    assert prompt_sizes([click(1, 1), box(1, 1, 1, 1, original_width=0)]) == {(80, 120)}


def test_no_prompts_give_no_groups():
    assert group_prompts([], H, W) == ([], [])
