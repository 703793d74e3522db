"""The batch modes through the whole backend, without HTTP, with an engine that draws squares."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.backend import Backend
from ml_backend.engines import Embedding
from ml_backend.engines.point_batches import PointBatch
from ml_backend.project_settings import ExtraParamsError
from ml_backend.protocol import PredictRequest, SetupRequest, read_task
from ml_backend.settings import Settings
from segstudio.tasks import parse_task

TASK = {"id": 1, "data": {"image": "a.jpg"}}


@pytest.fixture
def backend(drawing_engine: Any, picture: Any) -> Iterator[Backend]:
    """A backend whose engine finds a square of 20 x 20 px about every point of a grid."""

    def predict_points(embedding: Embedding, points_px: NDArray[np.float64]) -> PointBatch:
        time.sleep(drawing_engine.predict_s * len(points_px))
        size = embedding.height_px, embedding.width_px
        low_res = np.full((len(points_px), 1, *size), -9, np.float32)
        for i, (x, y) in enumerate(points_px.astype(int)):
            low_res[i, 0, max(0, y - 10) : y + 10, max(0, x - 10) : x + 10] = 9
        scores = np.linspace(0.9, 0.95, len(points_px), dtype=np.float32)[:, None]
        drawing_engine.encoded.append(("points", len(points_px)))
        return PointBatch(low_res, scores, size, size)

    drawing_engine.predict_points = predict_points
    made = Backend(Settings(), drawing_engine, lambda reference, task_id: picture())
    yield made
    made.close()


def set_up(backend: Backend, config_xml: str, **params: Any) -> str:
    answer = backend.setup(SetupRequest("1", config_xml, params))
    return str(answer["model_version"])


def ask(backend: Backend, *tasks: dict[str, Any], prompts: Any = None, config: str = "") -> list:
    read = tuple(read_task(task, with_boxes=prompts is None) for task in tasks)
    return backend.answer(PredictRequest(read, "1", config, prompts))


def regions_of(answer: dict[str, Any], task: dict[str, Any] = TASK) -> tuple[Any, ...]:
    """The regions as our own reader of Label Studio's data sees them."""
    (found,) = parse_task({**task, "predictions": [{"id": 1, **answer}]}).predictions
    assert not found.problems
    return found.regions


def test_automatic_masks_are_regions_of_the_chosen_label(backend, config_xml):
    version = set_up(backend, config_xml, mode="automatic", label="Car", points_per_side=2)
    (answer,) = ask(backend, TASK, config=config_xml)
    regions = regions_of(answer)
    assert [(one.kind, one.labels) for one in regions] == [("brush", ("Car",))] * 4
    assert len({one.id for one in regions}) == 4
    assert all((one.original_width_px, one.original_height_px) == (120, 80) for one in regions)
    assert [one.score for one in regions] == sorted((one.score for one in regions), reverse=True)
    assert answer["model_version"] == version
    assert version.startswith("drawing 1 automatic")
    assert answer["score"] == pytest.approx(0.925, abs=1e-4)  # the mean over the grid's points


def test_the_answer_kind_of_the_project_holds_for_automatic_masks(backend, config_xml):
    set_up(backend, config_xml, mode="automatic", label="Road", points_per_side=1)
    assert [one.kind for one in regions_of(ask(backend, TASK, config=config_xml)[0])] == ["polygon"]
    set_up(
        backend, config_xml, mode="automatic", label="Car", points_per_side=1, answer="rectangle"
    )
    (region,) = regions_of(ask(backend, TASK, config=config_xml)[0])
    assert region.kind == "rectangle"


def test_nothing_to_find_is_no_prediction(backend, config_xml):
    set_up(backend, config_xml, mode="automatic", label="Car", min_predicted_iou=1)
    assert ask(backend, TASK, config=config_xml) == [[]]


def test_a_project_that_is_off_gets_no_predictions_but_clicks_are_answered(
    backend, config_xml, box, click
):
    set_up(backend, config_xml, mode="off")
    drawn = {**TASK, "annotations": [{"id": 5, "result": [box(0, 0, 50, 50)]}]}
    assert ask(backend, drawn, TASK, config=config_xml) == [[], []]
    assert ask(backend, TASK, prompts=(click(50, 50),), config=config_xml)[0]["result"]


def test_a_click_passes_between_the_pieces_of_a_grid(backend, config_xml, click):
    set_up(backend, config_xml, mode="automatic", label="Car", points_per_side=16)
    ask(backend, TASK, prompts=(click(50, 50),), config=config_xml)
    backend.engine.predict_s = 0.01
    batch = threading.Thread(target=ask, args=(backend, TASK), kwargs={"config": config_xml})
    batch.start()
    waits = []
    time.sleep(0.3)
    for n in range(5):
        started = time.monotonic()
        assert ask(backend, TASK, prompts=(click(10 + n, 50),), config=config_xml)[0]["result"]
        waits.append(time.monotonic() - started)
    assert batch.is_alive()  # 256 points take 2.6 s at least
    assert sorted(waits)[2] < 1.0
    batch.join(60)


def test_a_grid_that_takes_too_long_is_finished_for_the_next_request(backend, config_xml):
    set_up(backend, config_xml, mode="automatic", label="Car", points_per_side=4, max_wait_s=0)
    backend.engine.predict_s = 0.02
    assert ask(backend, TASK, config=config_xml) == [[]]
    deadline = time.monotonic() + 30
    while not (answer := ask(backend, TASK, config=config_xml)[0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(answer["result"]) == 16
    assert sum(size[1] for size in backend.engine.encoded if size[0] == "points") == 16


def test_crops_are_encoded_once(backend, config_xml):
    wanted = {"mode": "automatic", "label": "Car", "points_per_side": 1, "crop_layers": 1}
    set_up(backend, config_xml, **wanted)
    ask(backend, TASK, config=config_xml)
    encoded = [size for size in backend.engine.encoded if size[0] != "points"]
    assert len(encoded) == 5
    set_up(backend, config_xml, **wanted, max_masks=9)
    ask(backend, TASK, config=config_xml)
    assert [size for size in backend.engine.encoded if size[0] != "points"] == encoded


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"mode": "magic"}, "'mode' is one of"),
        ({"mode": "automatic"}, "has 2 labels"),
        ({"mode": "automatic", "label": "Nowhere"}, "holds the label 'Nowhere'"),
    ],
)
def test_setup_refuses_what_cannot_work(backend, config_xml, params, sentence):
    with pytest.raises(ExtraParamsError, match=sentence):
        set_up(backend, config_xml, **params)


def test_an_engine_without_grids_says_so(backend, config_xml):
    del backend.engine.predict_points
    with pytest.raises(ExtraParamsError, match="need a Segment Anything model"):
        set_up(backend, config_xml, mode="automatic", label="Car")


def test_a_bad_parameter_is_a_400_with_the_sentence(serve, config_xml):
    body = {"project": "1", "schema": config_xml, "extra_params": {"mode": "magic"}}
    response = serve().http.post("/setup", json=body)
    assert response.status_code == 400
    assert "one of box-to-instance, automatic, off, not 'magic'" in response.json()["error"]


PLAIN = """<View><Image name="image" value="$image"/>
<Rectangle name="rect" toName="image" smart="true"/><{tag} name="shape" toName="image"/>
<Labels name="label" toName="image"><Label value="Car"/></Labels></View>"""


@pytest.mark.parametrize("tag", ["Brush", "Bitmask", "Polygon"])
def test_plain_boxes_with_a_labels_control_become_masks_of_the_same_class(backend, box, tag):
    plain = box(25, 25, 50, 50, type="rectangle")
    geometry = {key: plain["value"][key] for key in ("x", "y", "width", "height", "rotation")}
    drawn = [
        {**plain, "value": geometry},
        {**plain, "from_name": "label", "type": "labels", "value": {**geometry, "labels": ["Car"]}},
    ]
    task = {**TASK, "annotations": [{"id": 5, "result": drawn}]}
    (answer,) = ask(backend, task, config=PLAIN.format(tag=tag))
    assert [(item["from_name"], item["type"]) for item in answer["result"]] == [
        ("shape", tag.lower()), ("label", "labels"),
    ]  # fmt: skip
    (region,) = regions_of(answer)
    assert (region.kind, region.labels) == (tag.lower(), ("Car",))


def test_a_scribble_marked_as_a_prompt_becomes_a_mask_and_others_stay_answers(
    backend, config_xml, click
):
    from segstudio import brush_rle

    mask = np.zeros((80, 120), bool)
    mask[38:43, 30:90] = True
    drawn = click(0, 0, type="brushlabels", from_name="brush", id="s1")
    drawn["value"] = {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": ["Car"]}
    marked = {**drawn, "id": "s2", "meta": {"text": ["Prompt"]}}
    task = {**TASK, "annotations": [{"id": 5, "result": [drawn, marked]}]}
    (answer,) = ask(backend, task, config=config_xml)
    assert [one.labels for one in regions_of(answer)] == [("Car",)]
    (prompt,) = backend.engine.prompts
    assert len(prompt.points_px) == 5
    assert all(prompt.positive)
    del task["annotations"][0]["result"][1]
    assert ask(backend, task, config=config_xml) == [[]]
