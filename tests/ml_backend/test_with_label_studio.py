"""The backend connected to a real Label Studio: set-up, clicks, boxes, reading back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from segstudio.masks import iou
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task
from tests.ml_backend.live import (
    AT_THE_DISC,
    BASIC_AUTH,
    CONFIG,
    LiveProject,
    disc_photo,
    key_point,
)

SERVE = [sys.executable, "-c", "from segstudio.cli import main; main()", "serve"]
SESSIONS = 8
CLICKS_OF_A_SESSION = 4


def start_backend(label_studio: Any, api_key: str, cache: Any) -> tuple[str, Any]:
    """`segstudio serve` with the classical engine behind basic authentication: URL, process."""
    process = subprocess.Popen(
        [*SERVE, "--model", "classical", "--port", "0", "--basic-auth", ":".join(BASIC_AUTH)],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": api_key,
            "SEGSTUDIO_CACHE": str(cache),
        },
    )
    assert process.stderr is not None
    found = re.search(r"http://\S+", process.stderr.readline())
    assert found
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return found[0], process


@pytest.fixture(scope="module")
def backend(label_studio: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A backend with the administrator's personal access token."""
    url, process = start_backend(
        label_studio, label_studio.api_key, tmp_path_factory.mktemp("cache")
    )
    yield url
    process.terminate()
    process.wait(20)


@pytest.fixture
def connected(
    label_studio: Any, project_factory: Callable[..., Any], backend: str
) -> Callable[..., LiveProject]:
    """Makes a project with a photo and the backend."""

    def make(photo: bytes, tag: str = "BrushLabels", url: str = backend) -> LiveProject:
        project = project_factory(CONFIG.format(tag=tag))
        return LiveProject(label_studio, project, url, photo, basic_auth=BASIC_AUTH)

    return make


def test_the_backend_is_connected_with_its_model_version(connected):
    project = connected(disc_photo()[0])
    backend = project.sdk.ml.get(id=project.ml_id)
    assert backend.readable_state == "Connected"
    assert backend.model_version == "segstudio classical grabcut 0.1"


@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels", "PolygonLabels"])
def test_a_click_is_answered_in_the_projects_own_kind_and_reads_back(connected, tag):
    photo, mask = disc_photo()
    project = connected(photo, tag)
    answer = project.prompt(AT_THE_DISC)
    assert [region["type"] for region in answer["result"]] == [tag.lower()]
    assert project.overlap(answer["result"], mask) > 0.9


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_turned_photo_is_clicked_where_the_eye_sees_the_disc(connected, orientation):
    photo, mask = disc_photo(orientation)
    project = connected(photo)
    assert project.overlap(project.prompt(AT_THE_DISC)["result"], mask) > 0.9


def test_no_prompt_or_one_off_the_image_is_answered_empty(connected):
    project = connected(disc_photo()[0])
    assert project.prompt()["result"] == []
    assert project.prompt(key_point(150, 50))["result"] == []


def test_predictions_that_are_retrieved_turn_boxes_into_masks(connected):
    photo, mask = disc_photo()
    project = connected(photo)
    drawn = {
        "original_width": 220, "original_height": 150, "image_rotation": 0, "id": "r1",
        "from_name": "rect", "to_name": "image", "type": "rectanglelabels",
        "value": {"x": 48, "y": 10, "width": 40, "height": 60, "rotation": 0,
                  "rectanglelabels": ["Disc"]},
    }  # fmt: skip
    project.sdk.annotations.create(id=project.task_id, result=[drawn])
    (prediction,) = parse_task(project.retrieve_predictions()).predictions
    assert prediction.model_version == "segstudio classical grabcut 0.1"
    (region,) = prediction.regions
    found = region_mask(region)
    assert (iou(found, type(found).from_dense(mask)) or 0) > 0.9


def test_a_task_without_boxes_gets_no_empty_prediction_that_would_show_as_a_tab(connected):
    project = connected(disc_photo()[0])
    assert project.retrieve_predictions()["predictions"] == []


def test_a_wrong_password_is_refused_by_the_server_that_connects(connected, backend):
    project = connected(disc_photo()[0])
    with pytest.raises(Exception, match=r"(?i)auth"):
        project.sdk.ml.create(
            url=backend,
            project=project.id,
            auth_method="BASIC_AUTH",
            basic_auth_user="me",
            basic_auth_pass="wrong",
        )


def test_a_backend_with_a_legacy_token_opens_the_images_of_the_server(
    label_studio, connected, tmp_path, legacy_token
):
    photo, mask = disc_photo()
    url, process = start_backend(label_studio, legacy_token, tmp_path)
    try:
        project = connected(photo, url=url)
        assert project.overlap(project.prompt(AT_THE_DISC)["result"], mask) > 0.9
    finally:
        process.terminate()
        process.wait(20)


def test_annotators_who_click_at_once_through_label_studio_all_get_their_masks(connected, backend):
    """Several sessions, each on a photo of its own, click by click, all at the same time."""
    photo, mask = disc_photo()
    projects = [connected(photo) for _ in range(2)]
    stop = threading.Event()
    health_s: list[float] = []

    def watch_health() -> None:
        with httpx.Client(trust_env=False, timeout=5) as session:
            while not stop.wait(0.05):
                started = time.monotonic()
                session.get(f"{backend}/health").raise_for_status()
                health_s.append(time.monotonic() - started)

    def session(number: int) -> list[list[dict[str, Any]]]:
        project = projects[number % len(projects)]
        clicks = [
            {**AT_THE_DISC, "id": f"s{number}c{click}", "value": {**AT_THE_DISC["value"],
             "x": AT_THE_DISC["value"]["x"] + click}}
            for click in range(CLICKS_OF_A_SESSION)
        ]  # fmt: skip
        return [project.prompt(*clicks[: n + 1])["result"] for n in range(CLICKS_OF_A_SESSION)]

    with ThreadPoolExecutor(SESSIONS + 1) as pool:
        watching = pool.submit(watch_health)
        try:
            answers = [answer for many in pool.map(session, range(SESSIONS)) for answer in many]
        finally:
            stop.set()
        watching.result()
    assert len(answers) == SESSIONS * CLICKS_OF_A_SESSION
    assert all(len(answer) == 1 for answer in answers)
    region_ids = [answer[0]["id"] for answer in answers]
    assert len(set(region_ids)) == len(region_ids)
    assert projects[0].overlap(answers[0], mask) > 0.9
    assert health_s, "the watch on /health never asked"
    assert max(health_s) < 1.0, "Label Studio gives up on /health after a second"
