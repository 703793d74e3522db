"""The first run of the whole demo, for real: its server, its ML backend, its results."""

from __future__ import annotations

import contextlib
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.annotators import expected_class_means, expected_pair_ious
from demo.photos import PHOTOS, load_photo
from demo.references import REFERENCES
from demo.run import DemoOptions, DemoState, running_demo
from demo.summary import summary_table
from segstudio.client import Client, connect
from tests.conftest import label_studio_venv
from tests.demo.demo_runs import run_demo

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def first_run(demo_dir: Path) -> Iterator[DemoState]:
    with running_demo(DemoOptions(demo_dir, label_studio_venv())) as state:
        yield state


@pytest.fixture(scope="module")
def client(first_run: DemoState) -> Iterator[Client]:
    server = first_run.label_studio
    with connect(server.url, server.api_key) as opened:
        yield opened


def test_the_project_has_the_photos_and_asks_for_three_annotators(
    first_run: DemoState, client: Client
) -> None:
    project = client.project(first_run.project_id)
    assert project["maximum_annotations"] == 3
    assert project["task_number"] == len(PHOTOS) >= 8
    assert "simulated" in project["description"]
    task = client.get_json(f"/api/tasks/{first_run.tasks['chelsea']}/")
    photo = client.http.get(f"{client.url}{task['data']['image']}")
    assert photo.content == (first_run.options.out_dir / "photos" / "chelsea.png").read_bytes()


def test_three_annotators_finished_the_photos_that_have_a_reference(
    first_run: DemoState, client: Client
) -> None:
    for photo, task_id in first_run.tasks.items():
        task = client.get_json(f"/api/tasks/{task_id}/")
        workers = sorted(
            annotation["completed_by"]["id"]
            if isinstance(annotation["completed_by"], dict)
            else annotation["completed_by"]
            for annotation in task["annotations"]
        )
        assert workers == (list(first_run.annotator_ids) if photo in REFERENCES else [])
        assert task["is_labeled"] == (photo in REFERENCES)
        for annotation in task["annotations"]:
            assert not annotation["ground_truth"]
            notes = [region["meta"]["text"][0] for region in annotation["result"]]
            assert notes
            assert all(note.startswith("simulated: ") for note in notes)


def test_an_annotator_can_log_in_and_open_a_task(first_run: DemoState) -> None:
    for account in first_run.annotators:
        with contextlib.closing(first_run.label_studio.log_in(account)) as session:
            answer = session.get(f"/api/tasks/{first_run.tasks['chelsea']}/")
            assert answer.status_code == 200


def test_a_click_through_label_studio_comes_back_as_a_mask_of_its_label(
    first_run: DemoState, client: Client
) -> None:
    (backend,) = client.get_json("/api/ml/", project=first_run.project_id)
    assert (backend["state"], backend["is_interactive"]) == ("CO", True)
    assert backend["url"] == first_run.ml_backend.url
    photo = load_photo(next(photo for photo in PHOTOS if photo.name == "coins"))
    coin = REFERENCES["coins"].segment(photo)[0].mask
    height_px, width_px = coin.shape
    rows, columns = np.nonzero(coin)
    x_px, y_px = int(columns.mean()), int(rows.mean())
    prompt = {
        "id": "click-1",
        "type": "keypointlabels",
        "from_name": "keypoint",
        "to_name": "image",
        "original_width": width_px,
        "original_height": height_px,
        "image_rotation": 0,
        "is_positive": True,
        "value": {
            "x": 100 * (x_px + 0.5) / width_px,
            "y": 100 * (y_px + 0.5) / height_px,
            "width": 0.5,
            "labels": ["Coin"],
            "keypointlabels": ["Coin"],
        },
    }
    answer = client.json_of(
        client.request(
            "POST",
            f"/api/ml/{backend['id']}/interactive-annotating",
            json={"task": first_run.tasks["coins"], "context": {"result": [prompt]}},
        )
    )
    from segstudio.shapes import region_mask
    from segstudio.tasks import parse_task

    result = answer["data"]["result"]
    task = parse_task({"id": 1, "data": {}, "annotations": [{"id": 1, "result": result}]})
    (region,) = task.annotations[0].regions
    assert (region.kind, region.from_name, region.labels) == ("brush", "brush", ("Coin",))
    assert region_mask(region).to_dense()[y_px, x_px]


def test_the_agreement_is_what_the_perturbations_make_it(first_run: DemoState) -> None:
    result = json.loads((first_run.options.out_dir / "qa" / "qa.json").read_text())
    measured = {task["id"]: task["classes"] for task in result["tasks"]}
    assert len(measured) == len(REFERENCES) == 4
    for photo in REFERENCES:
        expected = expected_class_means(first_run.overlaps, photo)
        assert measured[first_run.tasks[photo]] == pytest.approx(expected, abs=1e-12)

    numbers = {person: number for number, person in enumerate(first_run.annotator_ids, 1)}
    by_pair = {
        (numbers[pair["a"]], numbers[pair["b"]], label): iou
        for pair in result["pairs"]
        for label, iou in pair["classes"].items()
    }
    assert by_pair == pytest.approx(expected_pair_ious(first_run.overlaps), abs=1e-12)


def test_the_perturbations_have_the_effect_that_they_are_known_for(first_run: DemoState) -> None:
    camera = expected_class_means(first_run.overlaps, "camera")
    # One of three annotators used another label: only the pair of the other two shares the class.
    assert camera["Cup"] == 0.0
    assert 0.3 < camera["Person"] < 1 / 3
    rocket = expected_class_means(first_run.overlaps, "rocket")
    assert 0.25 < rocket["Sky"] < 1 / 3
    assert expected_class_means(first_run.overlaps, "coffee")["Cup"] > 0.95
    assert first_run.qa_result["batch"]["verdict"] == "fail"


def test_the_result_is_on_the_tasks_and_in_the_saved_tab(
    first_run: DemoState, client: Client
) -> None:
    measured = {task["id"]: task for task in first_run.qa_result["tasks"]}
    for photo, task_id in first_run.tasks.items():
        task = client.get_json(f"/api/tasks/{task_id}/", resolve_uri="false")
        assert task["data"]["photo"] == photo
        assert task["data"]["image"].startswith("/data/upload/")
        if photo in REFERENCES:
            assert task["data"]["qa_miou"] == measured[task_id]["miou"]
            assert task["meta"]["segstudio"]["agreement"]["classes"] == measured[task_id]["classes"]
        else:
            assert "qa_miou" not in task["data"]
    assert first_run.tab_id is not None
    tab = client.get_json(f"/api/dm/views/{first_run.tab_id}/")
    assert tab["data"]["title"] == "QA: needs rework"
    listed = client.get_json("/api/tasks/", view=first_run.tab_id, page_size=100)["tasks"]
    scores = [task["data"]["qa_miou"] for task in listed]
    assert scores == sorted(scores)
    expected = {task["id"] for task in measured.values() if task["verdict"] == "rework"}
    assert {task["id"] for task in listed} == expected
    assert first_run.tasks["camera"] in expected


def test_both_exports_hold_annotator_1s_masks(first_run: DemoState) -> None:
    photo = load_photo(next(photo for photo in PHOTOS if photo.name == "coins"))
    coins = [coin.mask for coin in REFERENCES["coins"].segment(photo)]
    (semantic,) = first_run.exports["semantic-png"].glob("masks/*coins.png")
    label_map = np.asarray(Image.open(semantic))
    assert np.array_equal(label_map == 1, np.logical_or.reduce(coins))

    panoptic = json.loads((first_run.exports["coco-panoptic"] / "panoptic.json").read_text())
    (annotation,) = [
        one for one in panoptic["annotations"] if one["file_name"].endswith("coins.png")
    ]
    areas = sorted(int(np.count_nonzero(coin)) for coin in coins)
    assert sorted(one["area"] for one in annotation["segments_info"]) == areas


def test_the_report_and_the_table_name_what_a_person_needs(first_run: DemoState) -> None:
    page = (first_run.options.out_dir / "qa" / "qa.html").read_text()
    assert "<html" in page
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary_table(first_run, stays_up=True))
    text = console.export_text()
    for needed in (
        first_run.label_studio.url,
        first_run.ml_backend.url,
        *(account.password for account in (first_run.admin, *first_run.annotators)),
        str(first_run.options.out_dir / "qa" / "qa.html"),
        "Ctrl-C stops all of it",
    ):
        assert needed in text


def test_only_we_can_read_the_passwords(first_run: DemoState) -> None:
    folder = first_run.options.out_dir / "label-studio"
    assert (folder.stat().st_mode & 0o077) == 0
    assert ((folder / "log-ins.json").stat().st_mode & 0o077) == 0


def test_a_second_demo_in_the_same_folder_is_told_that_one_runs(first_run: DemoState) -> None:
    finished = run_demo(first_run.options.out_dir)
    assert finished.returncode == 3
    assert "The demo already runs in" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_taken_port_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        finished = run_demo(tmp_path / "out", "--port", str(port))
    assert finished.returncode == 3
    assert f"Port {port} for Label Studio is taken" in finished.stderr
    assert "Traceback" not in finished.stderr
