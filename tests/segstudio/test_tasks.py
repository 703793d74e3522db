"""Tasks of exports, of the API and of webhooks; what is no task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle

from segstudio import raster_reference, runs_reference
from segstudio.masks import Mask
from segstudio.regions import Region
from segstudio.shapes import region_mask
from segstudio.tasks import (
    Task,
    TaskFormatError,
    parse_annotation,
    parse_prediction,
    parse_task,
)

RECTANGLE = {
    "id": "r1",
    "type": "rectanglelabels",
    "from_name": "rect",
    "to_name": "image",
    "original_width": 20,
    "original_height": 10,
    "value": {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["Car"]},
}


def test_a_minimal_task() -> None:
    task = parse_task({"id": 3, "data": {"image": "a.png"}})
    assert (task.id, dict(task.data), task.annotations, task.predictions) == (
        3,
        {"image": "a.png"},
        (),
        (),
    )
    assert (task.is_labeled, task.overlap, task.project_id, task.all_problems) == (
        None,
        None,
        None,
        (),
    )


def test_every_field_is_read() -> None:
    task = parse_task(
        {
            "id": 3,
            "inner_id": 1,
            "project": 8,
            "overlap": 2,
            "is_labeled": True,
            "updated_at": "2026-11-20T20:00:00Z",
            "data": {"image": "a.png"},
            "meta": {"batch": "b1"},
            "annotations": [
                {
                    "id": 5,
                    "completed_by": {"id": 9, "email": "a@example.com"},
                    "result": [RECTANGLE],
                    "was_cancelled": False,
                    "ground_truth": True,
                    "created_at": "c",
                    "updated_at": "u",
                    "lead_time": 12.5,
                    "parent_prediction": 4,
                    "unique_id": "x-y",
                }
            ],
            "predictions": [
                {"id": 4, "model_version": "sam", "score": 0.5, "result": [RECTANGLE]},
                17,
            ],
        }
    )
    assert (task.inner_id, task.project_id, task.overlap, task.is_labeled) == (1, 8, 2, True)
    assert (dict(task.meta), task.updated_at) == ({"batch": "b1"}, "2026-11-20T20:00:00Z")
    [annotation] = task.annotations
    assert (annotation.id, annotation.completed_by, annotation.ground_truth) == (5, 9, True)
    assert (annotation.lead_time_s, annotation.parent_prediction) == (12.5, 4)
    assert (annotation.created_at, annotation.updated_at, annotation.unique_id) == ("c", "u", "x-y")
    [prediction] = task.predictions
    assert (prediction.id, prediction.model_version, prediction.score) == (4, "sam", 0.5)
    assert prediction.regions == annotation.regions
    assert task.all_problems == ()


@pytest.mark.parametrize("completed_by", [7, {"id": 7, "email": "a@example.com"}])
def test_annotators_come_as_numbers_and_as_objects(completed_by: Any) -> None:
    annotation = parse_annotation({"id": 1, "completed_by": completed_by, "result": []})
    assert annotation.completed_by == 7


def test_an_annotator_without_a_number_is_reported() -> None:
    raw = {"id": 1, "completed_by": {"email": "a@example.com"}, "result": []}
    annotation = parse_annotation(raw, 3)
    assert annotation.completed_by is None
    assert [problem.kind for problem in annotation.problems] == ["unknown-annotator"]


def test_a_task_meant_for_import_takes_the_id_it_is_given() -> None:
    assert parse_task({"data": {}}, default_id=4).id == 4
    assert parse_task({"data": {}, "id": 9}, default_id=4).id == 9


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ([], "is a JSON object, not list"),
        ({"data": {}}, "without an id"),
        ({"id": True, "data": {}}, "without an id"),
        ({"id": 5}, "Task 5 has no 'data'"),
        ({"id": 5, "data": "a.png"}, "it has str"),
    ],
)
def test_what_is_no_task_is_refused_in_a_sentence(raw: Any, sentence: str) -> None:
    with pytest.raises(TaskFormatError, match=sentence):
        parse_task(raw)


def test_a_damaged_annotation_is_left_out_and_the_rest_stays() -> None:
    good = {"id": 2, "result": [RECTANGLE]}
    raw = {
        "id": 5,
        "data": {},
        "annotations": ["x", {"id": 1}, good],
        "predictions": [{"id": 3, "result": None}, {"result": [RECTANGLE]}],
    }
    task = parse_task(raw)
    assert [annotation.id for annotation in task.annotations] == [2]
    assert [prediction.id for prediction in task.predictions] == [None]
    problems = task.all_problems
    assert [problem.kind for problem in problems] == [
        "unreadable-annotation",
        "unreadable-annotation",
        "unreadable-prediction",
    ]
    assert all(problem.is_loss and problem.task_id == 5 for problem in problems)
    assert "annotation 1 has no 'result' list" in problems[1].message


def test_annotations_that_are_no_list_are_reported() -> None:
    task = parse_task({"id": 5, "data": {}, "annotations": {"1": {}}})
    assert [problem.kind for problem in task.problems] == ["unreadable-annotation"]


def test_problems_of_regions_carry_all_ids() -> None:
    broken = {**RECTANGLE, "original_width": 0}
    raw = {"id": 5, "data": {}, "annotations": [{"id": 6, "result": [broken, RECTANGLE]}]}
    task = parse_task(raw)
    [problem] = task.all_problems
    assert (problem.task_id, problem.annotation_id, problem.region_id) == (5, 6, "r1")
    assert len(task.annotations[0].regions) == 1


def test_numbers_beyond_any_float_are_no_numbers() -> None:
    region = {**RECTANGLE, "score": 10**400}
    raw = {"id": 5, "data": {}, "annotations": [
        {"id": 6, "result": [region], "lead_time": 10**400}, {"id": 7, "result": [RECTANGLE]},
    ], "predictions": [{"result": [], "score": -(10**400)}]}  # fmt: skip
    task = parse_task(raw)
    assert task.all_problems == ()
    assert [one.lead_time_s for one in task.annotations] == [None, None]
    assert [one.regions[0].score for one in task.annotations] == [None, None]
    assert task.predictions[0].score is None


def test_a_prediction_needs_a_result() -> None:
    with pytest.raises(TaskFormatError, match="no 'result' list"):
        parse_prediction({"id": 1})


@pytest.fixture
def project(fixtures_dir: Path) -> list[Task]:
    path = fixtures_dir / "label_studio" / "project-all-region-types.json"
    return [parse_task(raw) for raw in json.loads(path.read_text(encoding="utf-8"))]


def test_the_fixture_project_is_read_completely(project: list[Task]) -> None:
    regions = [r for task in project for one in task.annotations for r in one.regions]
    counts = {kind: sum(r.kind == kind for r in regions) for kind in {r.kind for r in regions}}
    assert [task.id for task in project] == [1, 2, 3, 6, 10]
    assert sum(len(task.annotations) for task in project) == 11
    assert counts == {
        "brush": 8, "polygon": 3, "rectangle": 2, "ellipse": 1, "keypoint": 2, "bitmask": 1,
    }  # fmt: skip
    problems = [problem.kind for task in project for problem in task.all_problems]
    assert problems == ["prompt-left-behind"]
    cancelled = [one.id for task in project for one in task.annotations if one.was_cancelled]
    assert cancelled == [7]


def slow_mask(region: Region) -> Mask:
    """The region's pixels by other code: the SDK's decoder, or exact fractions."""
    height_px, width_px = region.original_height_px, region.original_width_px
    value = region.value
    if region.kind == "brush":
        return Mask.from_dense(decode_rle(value["rle"]).reshape(height_px, width_px, 4)[..., 3])
    scale = np.array([width_px, height_px]) / 100
    if region.kind == "polygon":
        ring = np.array(value["points"]) * scale
    else:
        x, y = np.array([value["x"], value["y"]]) * scale
        w, h = np.array([value["width"], value["height"]]) * scale
        angle = np.deg2rad(value["rotation"])
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        ring = np.array([[0, 0], [w, 0], [w, h], [0, h]]) @ turn + (x, y)
    edges = np.hstack([ring, np.roll(ring, -1, axis=0)])
    return Mask.from_dense(raster_reference.fill_polygon(edges, height_px, width_px))


def test_the_fixture_s_regions_equal_the_sdk_and_a_slow_reader(project: list[Task]) -> None:
    regions = {
        json.dumps(dict(r.value), sort_keys=True, default=list): r
        for task in project
        for one in task.annotations
        for r in one.regions
        if r.kind in ("brush", "polygon", "rectangle")
    }
    assert len(regions) == 4
    for region in regions.values():
        mask = region_mask(region)
        assert mask == slow_mask(region)
        if region.kind == "brush":
            pixels = region.original_height_px * region.original_width_px
            runs, status, _ = runs_reference.brush_decode(bytes(region.value["rle"]), pixels)
            assert status == 0
            np.testing.assert_array_equal(runs, mask.runs)


def test_the_fixture_s_bitmask_is_the_same_shape_as_its_brush(project: list[Task]) -> None:
    by_id = {region.id: region for region in project[0].annotations[0].regions}
    assert region_mask(by_id["m1"]) == region_mask(by_id["b1"])


def test_the_api_and_the_webhook_describe_the_same_kind_of_task(fixtures_dir: Path) -> None:
    folder = fixtures_dir / "label_studio"
    task = parse_task(json.loads((folder / "task-api.json").read_text(encoding="utf-8")))
    assert [one.completed_by for one in task.annotations] == [2, 3, 4]
    assert (task.is_labeled, task.overlap) == (True, 3)
    hook = json.loads((folder / "webhook-annotation-created.json").read_text(encoding="utf-8"))
    annotation = parse_annotation(hook["annotation"], hook["task"]["id"])
    assert [region.kind for region in annotation.regions] == ["rectangle"]
    assert parse_task(hook["task"]).id == 4
