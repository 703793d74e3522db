"""Result lists to regions: every kind, plain controls, answers, and the traps of stored data."""

from __future__ import annotations

from typing import Any

import pytest

from segstudio.brush_rle import encode
from segstudio.masks import Mask
from segstudio.regions import LOSS_KINDS, Region
from segstudio.result_lists import ParsedResult, parse_result

BOX = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
STREAM = encode(Mask.full(50, 100))
POINT = {"x": 5, "y": 6, "width": 0.5}


def item(kind: str, value: Any, region_id: str | None = "r1", **more: Any) -> dict[str, Any]:
    head = {"id": region_id} if region_id is not None else {}
    return {
        **head,
        "type": kind,
        "from_name": more.pop("from_name", kind),
        "to_name": "image",
        "original_width": 100,
        "original_height": 50,
        "image_rotation": 0,
        "value": value,
        **more,
    }


def kinds(parsed: ParsedResult) -> list[str]:
    return [problem.kind for problem in parsed.problems]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("brush", {"format": "rle", "rle": STREAM}),
        ("bitmask", {"imageDataURL": "data:image/png;base64,AAAA"}),
        ("polygon", {"points": [[1, 1], [2, 1], [2, 2]], "closed": True}),
        ("rectangle", BOX),
        ("ellipse", {"x": 50, "y": 50, "radiusX": 5, "radiusY": 6, "rotation": 10}),
        ("keypoint", POINT),
    ],
)
def test_every_kind_is_read_from_its_labels_control_and_from_the_plain_pair(
    kind: str, value: dict[str, Any]
) -> None:
    [own] = parse_result([item(f"{kind}labels", {**value, f"{kind}labels": ["Car"]})]).regions
    plain = parse_result(
        [item(kind, value), item("labels", {**value, "labels": ["Car"]}, from_name="label")]
    )
    assert plain.problems == ()
    [paired] = plain.regions
    for region in (own, paired):
        assert (region.kind, region.labels) == (kind, ("Car",))
        assert (region.original_width_px, region.original_height_px) == (100, 50)
    assert paired.from_name == kind


def test_labels_may_come_before_their_shape_and_from_several_controls() -> None:
    parsed = parse_result(
        [
            item("labels", {**BOX, "labels": ["Car", "Van"]}, from_name="what"),
            item("rectangle", BOX),
            item("labels", {**BOX, "labels": ["Van", "Parked"]}, from_name="state"),
        ]
    )
    assert [region.labels for region in parsed.regions] == [("Car", "Van", "Parked")]
    assert parsed.problems == ()


def test_labels_without_a_shape_item_bring_their_own() -> None:
    parsed = parse_result([item("labels", {"format": "rle", "rle": STREAM, "labels": ["Car"]})])
    assert [(region.kind, region.labels) for region in parsed.regions] == [("brush", ("Car",))]


def test_two_label_controls_on_one_shape_give_one_region_with_both_labels() -> None:
    parsed = parse_result(
        [
            item("rectanglelabels", {**BOX, "rectanglelabels": ["Car"]}, from_name="a"),
            item("rectanglelabels", {**BOX, "rectanglelabels": ["Red"]}, from_name="b"),
        ]
    )
    assert [region.labels for region in parsed.regions] == [("Car", "Red")]
    assert parsed.problems == ()


def test_everything_about_a_region_is_kept() -> None:
    parsed = parse_result(
        [
            item("rectangle", BOX, score=0.25, origin="prediction", parentID="p0", item_index=2,
                 meta={"text": ["left", "side"]}, image_rotation=90),
            item("choices", {**BOX, "choices": ["yes"]}, from_name="truncated"),
            item("textarea", {**BOX, "text": ["AB 12"]}, from_name="plate"),
            item("number", {**BOX, "number": 3}, from_name="wheels"),
            item("rating", {**BOX, "rating": 4}, from_name="quality"),
            item("taxonomy", {**BOX, "taxonomy": [["Vehicle", "Car"]]}, from_name="tree"),
        ]
    )  # fmt: skip
    assert parsed.problems == ()
    assert parsed.answers == {}
    [region] = parsed.regions
    assert region == Region(
        id="r1",
        kind="rectangle",
        from_name="rectangle",
        to_name="image",
        labels=(),
        value=BOX,
        original_width_px=100,
        original_height_px=50,
        image_rotation_deg=90,
        item_index=2,
        score=0.25,
        origin="prediction",
        parent_id="p0",
        attributes={
            "note": "left\nside",
            "truncated": ["yes"],
            "plate": ["AB 12"],
            "wheels": 3,
            "quality": 4,
            "tree": [["Vehicle", "Car"]],
        },
    )


def test_a_control_named_note_does_not_hide_the_region_s_note() -> None:
    parsed = parse_result(
        [
            item("rectangle", BOX, meta={"text": "mine"}),
            item("textarea", {**BOX, "text": ["asked"]}, from_name="note"),
        ]
    )
    assert parsed.regions[0].attributes == {"note": ["asked"], "meta.note": "mine"}


def test_answers_without_a_region_are_the_image_s() -> None:
    parsed = parse_result(
        [
            item("choices", {"choices": ["day"]}, "c1", from_name="light"),
            item("choices", {"choices": ["rain"]}, "c2", from_name="light"),
            item("rating", {"rating": 2}, "c3", from_name="quality"),
            item("rating", {"rating": 5}, "c4", from_name="quality"),
            item("choices", {"choices": ["night"]}, "c5", from_name="light", item_index=1),
        ]
    )
    assert parsed.answers == {"light": ["day", "rain"], "quality": 5, "light[1]": ["night"]}
    assert kinds(parsed) == ["repeated-answer"]


def test_a_mask_stored_again_as_a_keypoint_counts_once() -> None:
    mask = {"format": "rle", "rle": STREAM}
    accepted = item("brushlabels", {**mask, "brushlabels": ["Car"]}, score=0.9)
    again = item("keypointlabels", {**mask, "keypointlabels": ["Car"]}, from_name="kp")
    for items in ([accepted, again], [again, accepted]):
        parsed = parse_result(items, 7, 8)
        assert [(region.kind, region.labels) for region in parsed.regions] == [("brush", ("Car",))]
        assert parsed.regions[0].from_name == "brushlabels"
        assert kinds(parsed) == ["duplicate-region"]
        [problem] = parsed.problems
        assert (problem.task_id, problem.annotation_id, problem.region_id) == (7, 8, "r1")
        assert not problem.is_loss


def test_a_mask_stored_only_as_a_keypoint_is_read_as_a_mask() -> None:
    value = {"format": "rle", "rle": STREAM, "keypointlabels": ["Car"]}
    parsed = parse_result([item("keypointlabels", value)])
    assert [(region.kind, region.labels) for region in parsed.regions] == [("brush", ("Car",))]
    assert kinds(parsed) == ["mistyped-region"]


@pytest.mark.parametrize("is_positive", [True, False])
def test_a_prompt_left_behind_is_kept_as_a_keypoint_and_reported(is_positive: bool) -> None:
    value = {**POINT, "labels": ["Car"], "keypointlabels": ["Car"]}
    parsed = parse_result([item("keypointlabels", value, is_positive=is_positive)])
    [region] = parsed.regions
    assert (region.kind, region.is_positive, region.labels) == ("keypoint", is_positive, ("Car",))
    assert kinds(parsed) == ["prompt-left-behind"]


def test_a_keypoint_that_someone_drew_is_no_problem() -> None:
    parsed = parse_result([item("keypointlabels", {**POINT, "keypointlabels": ["Car"]})])
    assert [region.kind for region in parsed.regions] == ["keypoint"]
    assert parsed.problems == ()


def test_two_shapes_under_one_id_are_both_kept_and_reported() -> None:
    parsed = parse_result([item("rectangle", BOX), item("rectangle", {**BOX, "x": 11})])
    assert [region.value["x"] for region in parsed.regions] == [10, 11]
    assert kinds(parsed) == ["shared-id"]


def test_the_same_shape_twice_counts_once() -> None:
    parsed = parse_result([item("rectangle", BOX), item("rectangle", BOX)])
    assert len(parsed.regions) == 1
    assert kinds(parsed) == ["duplicate-region"]


def test_an_unfinished_polygon_is_kept_and_reported() -> None:
    value = {"points": [[1, 1], [2, 1], [2, 2]], "closed": False}
    parsed = parse_result([item("polygon", value)])
    assert len(parsed.regions) == 1
    assert kinds(parsed) == ["open-polygon"]


def test_relations_are_reported_not_lost() -> None:
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    parsed = parse_result([relation])
    assert kinds(parsed) == ["relation"]
    assert "'a' to 'b'" in parsed.problems[0].message


@pytest.mark.parametrize(
    ("broken", "kind", "sentence"),
    [
        (item("rectangle", BOX, original_width=None), "unreadable-region", "original_width is Non"),
        (item("rectangle", BOX, original_height=0), "unreadable-region", "100 x 0 pixels"),
        (item("rectangle", BOX, original_width=-3), "unreadable-region", "-3 x 50 pixels"),
        (item("rectangle", BOX, original_width=10.5), "unreadable-region", "10.5, not a whole"),
        (item("rectangle", BOX, item_index="x"), "unreadable-region", "item_index is 'x'"),
        (item("rectangle", None), "unreadable-region", "no value"),
        (item("rectangle", {**BOX, "x": None}), "unreadable-region", "its x is None"),
        (item("rectangle", {**BOX, "x": float("nan")}), "unreadable-region", "its x is nan"),
        (item("rectangle", {**BOX, "x": 10**400}), "unreadable-region", "not a percentage"),
        (item("rectangle", BOX, original_width=10**400), "unreadable-region", "not a whole"),
        (item("rectangle", {**BOX, "width": 1e9}), "unreadable-region", "its width is 1000000000"),
        (item("rectangle", {**BOX, "rotation": "a"}), "unreadable-region", "its rotation is 'a'"),
        (item("rectangle", {**BOX, "y": True}), "unreadable-region", "its y is True"),
        (item("ellipse", {"x": 1, "y": 1, "radiusX": 1}), "unreadable-region", "radiusY is None"),
        (item("polygon", {"points": [[1, 1], [2, 2]]}), "unreadable-region", "2 points"),
        (item("polygon", {"points": [[1], [2], [3]]}), "unreadable-region", "not a pair"),
        (item("polygon", {"points": [[1, "2"]] * 3}), "unreadable-region", "its point is '2'"),
        (item("polygon", {}), "unreadable-region", "no points"),
        (item("brush", {"format": "rle"}), "unreadable-region", "without an 'rle'"),
        (item("bitmask", {}), "unreadable-region", "without an 'imageDataURL'"),
        (item("brushlabels", {"rle": STREAM, "brushlabels": [1]}), "unreadable-region", "labels"),
        (item("videorectangle", {"sequence": []}), "unknown-type", "'videorectangle'"),
        (item("vectorlabels", {"vertices": []}), "unknown-type", "'vectorlabels'"),
        (item("labels", {"start": 0, "end": 1, "labels": ["A"]}), "unknown-type", "no shape"),
        ("text", "unreadable-region", "Item 0 of the result is not an object"),
    ],
)
def test_what_cannot_be_read_is_left_out_with_a_sentence_and_the_rest_stays(
    broken: Any, kind: str, sentence: str
) -> None:
    parsed = parse_result([broken, item("rectangle", BOX, "r2")])
    assert [region.id for region in parsed.regions] == ["r2"]
    assert kinds(parsed) == [kind]
    assert kind in LOSS_KINDS
    assert parsed.problems[0].is_loss
    assert sentence in parsed.problems[0].message


def test_answers_of_a_region_that_is_not_there_are_kept_with_a_problem() -> None:
    parsed = parse_result(
        [
            item("rectangle", {**BOX, "x": None}),
            item("labels", {**BOX, "labels": ["Car"]}),
            item("choices", {**BOX, "choices": ["yes"]}, from_name="truncated"),
        ]
    )
    assert kinds(parsed) == ["unreadable-region", "orphan-answer"]
    assert parsed.answers == {"truncated": ["yes"]}


def test_items_without_an_id_are_regions_of_their_own() -> None:
    parsed = parse_result([item("rectangle", BOX, None), item("rectangle", BOX, None)])
    assert [region.id for region in parsed.regions] == ["#0", "#1"]
    assert parsed.problems == ()


def test_an_empty_result_is_empty() -> None:
    assert parse_result([]) == ParsedResult((), {}, ())
