"""A label-studio-ml server of each version with our model, connected to a real Label Studio.

1.0.9 comes from the package index. 2.x is on no index: `SEGSTUDIO_LABEL_STUDIO_ML_SOURCE` names a
checkout of https://github.com/HumanSignal/label-studio-ml-backend, and without one its tests are
skipped with that sentence. (Last run on commit d02cedf35d0e, version 2.0.1dev0.)
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from demo.ml_backend_server import default_model
from segstudio.tasks import parse_task
from tests.browser.scene import ball_on_ground
from tests.conftest import ROOT, missing
from tests.ml_backend.label_studio_ml import LabelStudioMlServer
from tests.ml_backend.live import CONFIG, LiveProject, encode_jpeg

MODEL_VERSIONS = {"1.0.9": "INITIAL", "2.x": "segstudio "}
"""What each names as the model's version: 1.0.9 lets no model say its own."""


def environment_python() -> Path:
    venv = Path(
        os.environ.get("SEGSTUDIO_LABEL_STUDIO_ML_VENV", ROOT / ".venv-label-studio-ml")
    ).absolute()
    if not (venv / "segstudio-requirements.txt").exists():
        missing(f"label-studio-ml is not installed in {venv}; `make label-studio-ml` installs it.")
    return venv / "bin" / "python"


def source_of(version: str) -> Path | None:
    if version == "1.0.9":
        return None
    named = os.environ.get("SEGSTUDIO_LABEL_STUDIO_ML_SOURCE")
    if not named:
        pytest.skip(
            "label-studio-ml 2.x is on no package index; set SEGSTUDIO_LABEL_STUDIO_ML_SOURCE to a "
            "checkout of https://github.com/HumanSignal/label-studio-ml-backend to test with it."
        )
    return Path(named).absolute()


@pytest.fixture(scope="module", params=sorted(MODEL_VERSIONS))
def server(
    request: pytest.FixtureRequest, label_studio: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, LabelStudioMlServer]]:
    """The version's name and its server, made by `label-studio-ml init` and `start`."""
    version = request.param
    source = source_of(version)
    environment = {
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.api_key,
        "SEGSTUDIO_MODEL": os.environ.get("SEGSTUDIO_TEST_MODEL") or default_model(),
    }
    folder = tmp_path_factory.mktemp("label-studio-ml")
    with LabelStudioMlServer(
        folder, environment_python(), source=source, environment=environment
    ) as running:
        yield version, running


def test_the_server_is_of_the_version_that_it_is_tested_as(server):
    version, running = server
    assert running.version().startswith(version.removesuffix("x"))


def test_label_studio_connects_clicks_and_stores_what_the_model_answers(
    server: tuple[str, LabelStudioMlServer],
    label_studio: Any,
    project_factory: Callable[..., Any],
) -> None:
    version, running = server
    scene = ball_on_ground()
    height_px, width_px = scene.mask.shape
    project = LiveProject(
        label_studio,
        project_factory(CONFIG.format(tag="BrushLabels")),
        running.url,
        encode_jpeg(scene.rgb),
        extra_params={"answer": "brush"},
    )
    backend = project.sdk.ml.get(id=project.ml_id)
    assert backend.readable_state == "Connected"
    assert (backend.model_version or "").startswith(MODEL_VERSIONS[version])

    click = {
        "original_width": width_px, "original_height": height_px, "image_rotation": 0,
        "value": {"x": 100 * scene.point_px[0] / width_px, "y": 100 * scene.point_px[1] / height_px,
                  "width": 0.5, "labels": ["Disc"], "keypointlabels": ["Disc"]},
        "is_positive": True, "id": "k1", "from_name": "kp", "to_name": "image",
        "type": "keypointlabels",
    }  # fmt: skip
    answer = project.prompt(click)
    assert answer["model_version"].startswith("segstudio ")
    assert project.overlap(answer["result"], scene.mask) >= 0.8
    # Storing it made Label Studio call the webhook that it keeps for every backend.
    health = httpx.get(f"{running.url}/health", timeout=30, trust_env=False)
    assert health.json()["status"] == "UP"

    task = parse_task(project.retrieve_predictions())
    assert all(not prediction.problems for prediction in task.predictions)
    assert "Traceback" not in running.log, running.log


def test_each_project_is_answered_with_its_own_interface(
    server: tuple[str, LabelStudioMlServer],
    config_xml: str,
    click: Callable[..., dict[str, Any]],
    picture: Callable[..., bytes],
) -> None:
    _, running = server
    image = "data:image/jpeg;base64," + base64.b64encode(picture()).decode()
    configs = {n: config_xml.replace('name="brush"', f'name="brush{n}"') for n in (1001, 1002)}
    with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as http:
        for number, config in configs.items():
            body = {
                "project": f"{number}.5",
                "schema": config,
                "hostname": "http://x",
                "access_token": "t",
                "extra_params": {"answer": "brush"},
            }
            assert http.post("/setup", json=body).status_code == 200
        for number, config in configs.items():
            body = {
                "tasks": [{"id": 1, "data": {"image": image}}],
                "project": f"{number}.5",
                "label_config": config,
                "params": {"login": None, "password": None, "context": {"result": [click(50, 50)]}},
            }
            (prediction,) = http.post("/predict", json=body).json()["results"]
            assert prediction["model_version"].startswith("segstudio ")
            names = {region["from_name"] for region in prediction["result"]}
            assert names <= {f"brush{number}"}
            if names:  # a picture of one colour may hold nothing
                assert np.isfinite(prediction["score"])
