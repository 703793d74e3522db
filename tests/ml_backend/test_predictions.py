from __future__ import annotations

import numpy as np
import pytest

from ml_backend.predictions import (
    AnswerError,
    Losses,
    choose_control,
    clip_score,
    prediction,
    region_items,
    region_of_mask,
)
from segstudio.label_config import parse_label_config
from segstudio.masks import iou
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task

LABEL = '<Label value="Car"/>'


def config(*controls: str):
    return parse_label_config(
        f'<View><Image name="image" value="$image"/>{"".join(controls)}</View>'
    )


def control(tag: str, name: str, labels: str = LABEL) -> str:
    return f'<{tag} name="{name}" toName="image">{labels}</{tag}>'


KINDS = ["BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels"]


@pytest.mark.parametrize("last", range(4))
def test_the_richest_kind_that_holds_the_label_is_taken(last):
    tags = KINDS[last:]
    found = choose_control(config(*(control(tag, tag) for tag in tags[::-1])), ["Car"], "image")
    assert found.tag == tags[0]


def test_a_preferred_kind_wins():
    both = config(control("BrushLabels", "b"), control("PolygonLabels", "p"))
    assert choose_control(both, ["Car"], "image", "polygon").name == "p"
    assert choose_control(both, ["Car"], "image", "rectangle").name == "b"


def test_a_control_without_the_label_is_passed_over():
    mixed = config(
        control("BrushLabels", "b", '<Label value="Sky"/>'), control("PolygonLabels", "p")
    )
    assert choose_control(mixed, ["Car"], "image").name == "p"


def test_an_alias_is_the_label():
    aliased = config(control("BrushLabels", "b", '<Label value="Car" alias="vehicle"/>'))
    assert choose_control(aliased, ["vehicle"], "image").name == "b"
    with pytest.raises(AnswerError, match="'Car'"):
        choose_control(aliased, ["Car"], "image")


def test_a_control_of_another_image_is_no_answer():
    two = parse_label_config(
        '<View><Image name="a" value="$a"/><Image name="b" value="$b"/>'
        '<BrushLabels name="brush" toName="a"><Label value="Car"/></BrushLabels></View>'
    )
    with pytest.raises(AnswerError, match="of 'b' holds the label 'Car'"):
        choose_control(two, ["Car"], "b")


def test_a_prompt_without_label_is_refused():
    with pytest.raises(AnswerError, match="no label"):
        choose_control(config(control("BrushLabels", "b")), [], "image")


NAMES = '<Labels name="names" toName="image"><Label value="Car"/></Labels>'


@pytest.mark.parametrize("tag", ["Brush", "Bitmask", "Polygon", "Rectangle"])
def test_a_plain_shape_is_answered_with_its_label_in_an_item_of_its_own(tag):
    plain = config(f'<{tag} name="shape" toName="image"/>', NAMES)
    found = choose_control(plain, ["Car"], "image")
    made, _ = region_of_mask(blob(), found, ["Car"], to_name="image", size_px=(80, 120), score=0.5)
    assert made is not None
    items = region_items(made, plain)
    assert [(item["from_name"], item["type"], "labels" in item["value"]) for item in items] == [
        ("shape", tag.lower(), False),
        ("names", "labels", True),
    ]
    assert items[0]["id"] == items[1]["id"]
    task = parse_task({"id": 1, "data": {}, "annotations": [{"id": 2, "result": items}]})
    (annotation,) = task.annotations
    assert not annotation.problems
    assert [(one.kind, one.labels) for one in annotation.regions] == [(tag.lower(), ("Car",))]


def test_a_plain_shape_without_any_labels_is_answered_without_one():
    plain = config('<Brush name="shape" toName="image"/>')
    found = choose_control(plain, [], "image")
    made, _ = region_of_mask(blob(), found, [], to_name="image", size_px=(80, 120), score=0.5)
    assert made is not None
    (item,) = region_items(made, plain)
    assert set(item["value"]) == {"format", "rle"}
    with pytest.raises(AnswerError, match="no label"):
        choose_control(config('<Brush name="shape" toName="image"/>', NAMES), [], "image")
    with pytest.raises(AnswerError, match="holds the label 'Tree'"):
        choose_control(config('<Brush name="shape" toName="image"/>', NAMES), ["Tree"], "image")


def test_a_region_of_a_labelled_shape_is_one_item():
    labelled = config(control("BrushLabels", "b"), NAMES)
    made, _ = region_of_mask(
        blob(), labelled.controls[0], ["Car"], to_name="image", size_px=(80, 120), score=1
    )
    assert made is not None
    assert region_items(made, labelled) == [made]


def blob() -> np.ndarray:
    rows, columns = np.mgrid[:80, :120]
    ring = np.hypot(rows - 40, columns - 50) < 30
    ring &= np.hypot(rows - 40, columns - 50) > 12
    return ring | (columns > 100)


@pytest.mark.parametrize(("tag", "least_iou"), list(zip(KINDS, [1.0, 1.0, 1.0, 0.3], strict=True)))
def test_an_answer_read_back_is_the_mask(tag, least_iou):
    made, losses = region_of_mask(
        blob(),
        config(control(tag, "c")).controls[0],
        ["Car"],
        to_name="image",
        size_px=(80, 120),
        score=0.5,
        tolerance_px=0.0,
    )
    assert losses == Losses()
    task = parse_task(
        {"id": 1, "data": {}, "annotations": [{"id": 2, "result": [made], "completed_by": 1}]}
    )
    (region,) = task.annotations[0].regions
    assert (region.from_name, region.labels, region.score) == ("c", ("Car",), 0.5)
    found = iou(region_mask(region), type(region_mask(region)).from_dense(blob()))
    assert found is not None
    assert found >= least_iou


def test_an_answer_has_the_size_that_the_editor_drew_on():
    made, _ = region_of_mask(
        blob(),
        config(control("BrushLabels", "c")).controls[0],
        ["Car"],
        to_name="image",
        size_px=(160, 240),
        score=1,
    )
    assert made is not None
    assert (made["original_height"], made["original_width"]) == (160, 240)


def test_specks_are_left_out_of_polygons_and_counted():
    mask = np.zeros((80, 120), bool)
    mask[10:60, 10:90] = True
    mask[30, 30] = False
    mask[70, 100] = True
    made, losses = region_of_mask(
        mask,
        config(control("PolygonLabels", "c")).controls[0],
        ["Car"],
        to_name="image",
        size_px=(80, 120),
        score=1,
    )
    assert losses == Losses(holes=1, parts=1)
    assert made is not None
    assert len(made["value"]["points"]) == 4


def test_an_empty_mask_gives_no_region():
    made, _ = region_of_mask(
        np.zeros((4, 4), bool),
        config(control("BrushLabels", "c")).controls[0],
        ["Car"],
        to_name="image",
        size_px=(4, 4),
        score=1,
    )
    assert made is None


@pytest.mark.parametrize(
    ("score", "clipped"), [(0.5, 0.5), (1.2, 1.0), (-0.1, 0.0), (float("inf"), 0.0)]
)
def test_scores_are_clipped(score, clipped):
    assert clip_score(score) == clipped


def test_a_prediction_carries_its_score_and_version():
    assert prediction([], 1.5, "v") == {"result": [], "score": 1.0, "model_version": "v"}
