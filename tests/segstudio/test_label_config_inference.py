"""An interface derived from annotations can be parsed and holds what they use."""

import pytest

from segstudio.label_config import parse_label_config
from segstudio.label_config_inference import infer_label_config


def region(kind, name, target, *labels):
    return {"type": kind, "from_name": name, "to_name": target, "value": {kind: list(labels)}}


def task(*regions, **data):
    return {"id": 1, "data": data, "annotations": [{"result": list(regions)}]}


def test_controls_labels_and_the_image_are_found():
    tasks = [
        task(region("brushlabels", "brush", "img", "Car", "A & B"), note="x", photo="s3://b/1.JPG"),
        task(region("polygonlabels", "poly", "img", "Road"), region("brushlabels", "brush", "img")),
    ]
    config = parse_label_config(infer_label_config(tasks))
    assert [(one.name, one.tag, one.label_names) for one in config.controls] == [
        ("brush", "BrushLabels", ("A & B", "Car")),
        ("poly", "PolygonLabels", ("Road",)),
    ]
    assert [(one.name, one.value_key) for one in config.images] == [("img", "photo")]


def test_the_order_of_the_tasks_does_not_matter():
    tasks = [
        task(region("brushlabels", "brush", "img", "Car"), image="a.png"),
        task(region("brushlabels", "brush", "img", "Bus"), image="b.png"),
    ]
    assert infer_label_config(tasks) == infer_label_config(tasks[::-1])


def test_predictions_count_too():
    raw = {"data": {}, "predictions": [{"result": [region("brushlabels", "b", "i", "Car")]}]}
    assert parse_label_config(infer_label_config([raw])).label_names == ("Car",)


@pytest.mark.parametrize(
    "tasks", [[], ["text"], [{"data": {}}], [task({"type": "choices"})], [task({"type": []})]]
)
def test_without_regions_there_is_no_interface(tasks):
    assert infer_label_config(tasks) is None
