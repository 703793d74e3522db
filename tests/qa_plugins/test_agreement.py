from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qa_plugins.agreement import AgreementCheck, draw_task
from qa_plugins.agreement_sums import AgreementSums
from segstudio.images import regions_by_image
from segstudio.plugins import CheckContext
from segstudio.scene import class_masks
from segstudio.source import open_source
from segstudio.tasks import parse_task
from segstudio.taxonomy import derive_taxonomy
from tests.qa_plugins.qa_tasks import LABELS, annotation, context, raw_task

CHECK = AgreementCheck()
FULL = np.ones((4, 4))
TOP = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
LEFT = TOP.T
CORNER = TOP * LEFT
NONE = np.zeros((4, 4))


def agreement(tasks: list[dict[str, Any]], **options: str) -> dict[str, Any]:
    made = context(options)
    return CHECK.summarize([CHECK.measure(parse_task(task), made) for task in tasks], made)


def of_class(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in result["classes"] if entry["name"] == name)


def two(drawn_a: list[Any], drawn_b: list[Any], task_id: int = 1, **data: Any) -> dict[str, Any]:
    return raw_task(
        task_id,
        [annotation(10 * task_id, 1, drawn_a), annotation(10 * task_id + 1, 2, drawn_b)],
        **data,
    )


def test_one_pair_by_hand() -> None:
    result = agreement([two([("car", TOP)], [("car", LEFT)])])
    car = of_class(result, "car")
    assert car["iou"]["accumulated"] == pytest.approx(4 / 12)
    assert car["dice"] == pytest.approx(8 / 16)
    assert car["tasks"] == 1
    assert car["pixels"] == 16
    assert car["iou"]["ci95"] is None
    assert result["batch"]["miou"]["per_image"] == pytest.approx(4 / 12)
    assert result["tasks"][0]["classes"] == {"car": pytest.approx(4 / 12)}
    assert result["pairs"] == [
        {"a": 1, "b": 2, "miou": pytest.approx(1 / 3), "miou_per_image": pytest.approx(1 / 3),
         "tasks": 1, "classes": {"car": pytest.approx(1 / 3)}}
    ]  # fmt: skip


def test_a_class_that_nobody_drew_is_null_and_in_no_mean() -> None:
    result = agreement([two([("car", FULL)], [("car", FULL)])])
    assert of_class(result, "road")["iou"] == {
        "accumulated": None, "per_image": None, "ci95": None, "ci95_accumulated": None,
    }  # fmt: skip
    assert of_class(result, "road")["dice"] is None
    assert result["batch"]["miou"]["accumulated"] == 1.0


def test_accumulated_and_per_image_differ_as_defined() -> None:
    # Image 1: 1 of 16 pixels agree; image 2: all 4 of 4.
    one_pixel = NONE.copy()
    one_pixel[0, 0] = 1
    tasks = [
        two([("car", FULL)], [("car", one_pixel)], 1),
        two([("car", CORNER)] * 2, [("car", CORNER)], 2),
    ]
    iou = of_class(agreement(tasks), "car")["iou"]
    assert iou["accumulated"] == pytest.approx(5 / 20)
    assert iou["per_image"] == pytest.approx((1 / 16 + 1) / 2)


def test_batch_per_image_is_the_mean_over_classes_not_over_tasks() -> None:
    tasks = [
        two([("car", FULL), ("road", TOP)], [("car", FULL), ("road", NONE)], 1),
        two([("car", TOP)], [("car", CORNER)], 2),
    ]
    result = agreement(tasks)
    assert [task["miou"] for task in result["tasks"]] == [0.5, 0.5]
    assert result["batch"]["miou"]["per_image"] == pytest.approx(((1 + 0.5) / 2 + 0) / 2)


def test_an_empty_annotation_counts_as_nothing_drawn() -> None:
    result = agreement([two([("car", FULL)], [])])
    assert result["batch"]["compared_tasks"] == 1
    assert of_class(result, "car")["iou"]["per_image"] == 0.0


def test_two_empty_annotations_are_compared_and_have_no_value() -> None:
    result = agreement([two([], [])])
    assert result["batch"]["compared_tasks"] == 1
    assert result["batch"]["pairs"] == 1
    assert result["batch"]["miou"]["accumulated"] is None
    assert result["tasks"][0]["miou"] is None


def test_three_annotators_are_three_pairs_and_null_pairs_are_left_out() -> None:
    people = [annotation(1, 1, [("car", TOP)]), annotation(2, 2), annotation(3, 3)]
    result = agreement([raw_task(1, people)])
    assert result["batch"]["pairs"] == 3
    # 1-2 and 1-3 are 0, 2-3 drew nothing and has no value.
    assert of_class(result, "car")["iou"]["per_image"] == 0.0
    assert [pair["miou"] for pair in result["pairs"]] == [0.0, 0.0, None]


def test_regions_of_a_class_are_joined_before_any_overlap() -> None:
    drawn = [("car", TOP), ("car", LEFT), ("road", FULL)]
    other = [("road", FULL), ("car", TOP + LEFT)]
    result = agreement([two(drawn, other)])
    assert of_class(result, "car")["iou"]["accumulated"] == 1.0
    assert of_class(result, "road")["iou"]["accumulated"] == 1.0
    confusion = result["confusion"]
    pixels = np.array(confusion["pixels"])
    assert pixels.sum() == np.trace(pixels)  # overlapping one's own classes is no confusion


def test_a_label_swap_is_a_mismatching_label_and_confused_pixels() -> None:
    result = agreement([two([("car", TOP)], [("road", TOP)])])
    conflicts = result["tasks"][0]["conflicts"]
    assert [(one["type"], one["class_a"], one["class_b"]) for one in conflicts] == [
        ("mismatching_label", "car", "road")
    ]
    assert conflicts[0]["regions_a"] == ["a10r0"]
    labels, pixels = result["confusion"]["labels"], result["confusion"]["pixels"]
    assert pixels[labels.index("car")][labels.index("road")] == 8


def test_what_only_one_drew_is_confused_with_unlabelled() -> None:
    result = agreement([two([("car", TOP)], [("car", CORNER)])])
    labels, pixels = result["confusion"]["labels"], result["confusion"]["pixels"]
    assert pixels[labels.index("car")][labels.index("(unlabelled)")] == 4
    assert pixels[labels.index("car")][labels.index("car")] == 8  # both directions


def test_annotators_who_disagree_on_the_size_are_an_error_of_the_task() -> None:
    task = raw_task(
        7, [annotation(1, 1, [("car", FULL)]), annotation(2, 2, [("car", np.ones((4, 5)))])]
    )
    result = agreement([task, two([("car", FULL)], [("car", FULL)], 8)])
    assert [(one["kind"], one["task_id"]) for one in result["errors"]] == [("size-mismatch", 7)]
    assert result["batch"]["compared_tasks"] == 1
    assert result["batch"]["miou"]["accumulated"] == 1.0


def test_a_region_that_cannot_be_decoded_takes_its_annotation_out_and_nothing_else() -> None:
    broken = two([("car", FULL)], [("car", FULL)], 1)
    broken["annotations"].append(annotation(12, 3, [("car", FULL)]))
    broken["annotations"][2]["result"][0]["value"]["rle"] = [255, 255, 1]
    result = agreement([broken])
    assert result["batch"]["kept_out"] == {"unreadable": 1}
    assert result["batch"]["pairs"] == 1
    error = next(one for one in result["errors"] if one["kind"] == "unreadable-region")
    assert (error["task_id"], error["annotation_id"], error["region_id"]) == (1, 12, "a12r0")


def test_pages_of_one_task_are_compared_page_by_page() -> None:
    from tests.qa_plugins.qa_tasks import region

    first = {**annotation(1, 1), "result": [region(TOP, "car", "a", 0), region(TOP, "car", "b", 1)]}
    second = {
        **annotation(2, 2),
        "result": [region(TOP, "car", "c", 0), region(LEFT, "car", "d", 1)],
    }
    result = agreement([raw_task(1, [first, second])])
    assert result["batch"]["pairs"] == 2
    assert of_class(result, "car")["iou"]["per_image"] == pytest.approx((1 + 1 / 3) / 2)


def test_intervals_hold_the_value_and_narrow_with_the_number_of_tasks() -> None:
    random = np.random.default_rng(0)

    def noisy(count: int) -> list[dict[str, Any]]:
        return [
            two([("car", FULL)], [("car", random.random((4, 4)) < 0.8)], task_id)
            for task_id in range(1, count + 1)
        ]

    few, many = (of_class(agreement(noisy(count)), "car")["iou"] for count in (5, 60))
    for iou in (few, many):
        assert iou["ci95"][0] <= iou["per_image"] <= iou["ci95"][1]
        assert iou["ci95_accumulated"][0] <= iou["accumulated"] <= iou["ci95_accumulated"][1]
    assert many["ci95"][1] - many["ci95"][0] < few["ci95"][1] - few["ci95"][0]


def test_more_annotators_of_the_same_images_do_not_pass_for_more_images() -> None:
    random = np.random.default_rng(1)
    shapes = [random.random((4, 4)) < share for share in np.linspace(0.2, 0.9, 12)]

    def batch(copies: int) -> list[dict[str, Any]]:
        return [
            raw_task(
                number + 1,
                [
                    annotation(number * 9 + k, k, [("car", FULL if k < copies else shape)])
                    for k in range(2 * copies)
                ],
            )
            for number, shape in enumerate(shapes)
        ]

    once, twice = (of_class(agreement(batch(copies)), "car")["iou"]["ci95"] for copies in (1, 2))
    # Four of the six pairs differ as the one pair did, two agree fully: (4 v + 2) / 6 each.
    assert twice[1] - twice[0] == pytest.approx((once[1] - once[0]) * 4 / 6)


def test_frames_of_one_clip_are_resampled_together() -> None:
    tasks = [
        two([("car", FULL)], [("car", TOP if clip else FULL)], 1 + frame + 10 * clip, video=clip)
        for clip in (0, 1)
        for frame in range(8)
    ]
    by_task = of_class(agreement(tasks), "car")["iou"]["ci95"]
    by_clip = of_class(agreement(tasks, resample_by="video"), "car")["iou"]["ci95"]
    assert by_clip == [0.5, 1.0]
    assert by_task[1] - by_task[0] < 0.4


DRAWN = st.lists(
    st.tuples(st.sampled_from(LABELS), st.integers(0, 2**16 - 1)), min_size=0, max_size=3
)


def pixels(bits: int) -> np.ndarray:
    return np.array([bits >> k & 1 for k in range(16)]).reshape(4, 4)


def drawn_of(drawn: list[tuple[str, int]]) -> list[Any]:
    return [(label, pixels(bits)) for label, bits in drawn]


@given(st.lists(st.lists(DRAWN, min_size=2, max_size=3), min_size=1, max_size=5), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_half_and_half_are_the_whole_and_numbers_are_the_dense_ones(
    people_of_tasks: list[list[list[tuple[str, int]]]], cut: int
) -> None:
    made = context()
    tasks = [
        raw_task(number, [annotation(9 * number + k, k, drawn_of(d)) for k, d in enumerate(people)])
        for number, people in enumerate(people_of_tasks)
    ]
    measured = [CHECK.measure(parse_task(task), made) for task in tasks]
    whole, left, right = AgreementSums(), AgreementSums(), AgreementSums()
    for one in measured:
        whole.add(one)
    for one in measured[:cut]:
        left.add(one)
    for one in measured[cut:]:
        right.add(one)
    left.merge(right)
    assert_same(left.as_json(LABELS), whole.as_json(LABELS))
    for label in LABELS:
        expected = dense_reference(people_of_tasks, label)
        found = of_class({"classes": whole.as_json(LABELS)["classes"]}, label)["iou"]
        for key, value in expected.items():
            assert found[key] == (None if value is None else pytest.approx(value, abs=1e-12))


def dense_reference(
    people_of_tasks: list[list[list[tuple[str, int]]]], label: str
) -> dict[str, Any]:
    """The definitions, written down once more with dense arrays."""
    values, shared, union = [], 0, 0
    for people in people_of_tasks:
        masks = [
            np.any([pixels(bits) for name, bits in drawn if name == label] or [NONE], axis=0)
            for drawn in people
        ]
        for i in range(len(masks)):
            for j in range(i + 1, len(masks)):
                both, either = (masks[i] & masks[j]).sum(), (masks[i] | masks[j]).sum()
                shared, union = shared + both, union + either
                if either:
                    values.append(both / either)
    return {
        "accumulated": shared / union if union else None,
        "per_image": float(np.mean(values)) if values else None,
    }


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=1e-12)
    else:
        assert a == b


# One object of b fits two of a under other names equally well.
@example(
    [("car", 1), ("road", 1), ("sky", 1)],
    [("car", 1), ("road", 2), ("car", 1)],
)
@given(DRAWN, DRAWN)
@settings(max_examples=30, deadline=None)
def test_agreement_is_symmetric(a: list[tuple[str, int]], b: list[tuple[str, int]]) -> None:
    forth, back = (
        agreement([two(drawn_of(x), drawn_of(y))])["classes"] for x, y in ((a, b), (b, a))
    )
    assert_same(forth, back)


@pytest.mark.parametrize(("grow_px", "expected"), [(0, 1.0), (1, 400 / 484), (3, 400 / 676)])
def test_a_dilation_of_known_size_costs_the_iou_that_it_must(grow_px: int, expected: float) -> None:
    square, wider = np.zeros((60, 60)), np.zeros((60, 60))
    square[20:40, 20:40] = 1
    wider[20 - grow_px : 40 + grow_px, 20 - grow_px : 40 + grow_px] = 1
    result = agreement([two([("car", square)], [("car", wider)])])
    assert of_class(result, "car")["iou"]["accumulated"] == pytest.approx(expected)


def test_masks_are_those_of_the_scene(fixtures_dir: Path) -> None:
    path = fixtures_dir / "label_studio" / "project-all-region-types.json"
    config = fixtures_dir / "label_studio" / "label-config.xml"
    source = open_source(str(path), label_config=config)
    made = CheckContext(derive_taxonomy(source.label_config), source.label_config, {})
    compared = 0
    for task in source.tasks():
        drawn = draw_task(task, made)
        for key, _, drawings in drawn.images:
            for person, drawing in zip(drawn.annotators, drawings, strict=True):
                mine = next(one for one in task.annotations if one.completed_by == person
                            and not one.was_cancelled and not one.ground_truth)  # fmt: skip
                regions = regions_by_image(mine).get(key, ())
                expected, _ = class_masks(regions, made.taxonomy)
                assert dict(drawing.class_masks) == expected
                compared += 1
    assert compared >= 4


def test_every_kind_of_region_is_compared(fixtures_dir: Path) -> None:
    path = fixtures_dir / "label_studio" / "project-all-region-types.json"
    config = fixtures_dir / "label_studio" / "label-config.xml"
    source = open_source(str(path), label_config=config)
    made = CheckContext(derive_taxonomy(source.label_config), source.label_config, {})
    result = CHECK.summarize([CHECK.measure(task, made) for task in source.tasks()], made)
    drawn = {entry["name"] for entry in result["classes"] if entry["tasks"]}
    assert drawn == {"Car", "Road", "Sky", "Wheel"}
    assert result["batch"]["kept_out"] == {"ground_truth": 2, "skipped": 1}
    assert [one["kind"] for one in result["errors"]] == ["prompt-left-behind"]


def test_davis_frames_equal_a_dense_computation(fixtures_dir: Path) -> None:
    source = open_source(str(fixtures_dir / "davis" / "project-8-sequences.json.gz"))
    made = CheckContext(derive_taxonomy(source.label_config), source.label_config, {})
    sums, shared, union, values = AgreementSums(), {}, {}, {}
    for number, task in enumerate(source.tasks()):
        if number % 25:
            continue
        sums.add(CHECK.measure(task, made))
        by_person = [class_masks(one.regions, made.taxonomy)[0] for one in task.annotations]
        for name in {*by_person[0], *by_person[1]}:
            a, b = (np.asarray(masks[name]) if name in masks else np.False_ for masks in by_person)
            both, either = int(np.sum(a & b)), int(np.sum(a | b))
            shared[name] = shared.get(name, 0) + both
            union[name] = union.get(name, 0) + either
            values.setdefault(name, []).append(both / either)
    assert sums.compared_tasks == 20
    for entry in sums.as_json()["classes"]:
        name = entry["name"]
        assert entry["iou"]["accumulated"] == pytest.approx(shared[name] / union[name], abs=1e-12)
        assert entry["iou"]["per_image"] == pytest.approx(np.mean(values[name]), abs=1e-12)
