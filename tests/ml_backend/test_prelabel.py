"""`segstudio prelabel configure` and the automatic masks, against a real Label Studio."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ml_backend.prelabel_command import changed_params
from segstudio.cli import main
from segstudio.client import connect
from segstudio.errors import UsageError
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task

CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Disc"/></KeyPointLabels>
<BrushLabels name="brush" toName="image"><Label value="Disc"/><Label value="Object"/></BrushLabels>
</View>"""
LENIENT = ("points_per_side=3", "min_predicted_iou=0.2", "min_stability=0.2")


def photo(noise: float) -> bytes:
    """A red disc on grey, more or less drowned in noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:150, :220]
    shown = np.where((np.hypot(rows - 75, columns - 110) < 50)[..., None], [200, 60, 50], 115)
    pixels = np.clip(shown + rng.normal(0, noise, shown.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


class Project:
    """A project with photos and the backend connected, and the command for it."""

    def __init__(self, server: Any, project: Any, backend_url: str, noises: list[float]) -> None:
        self.id = project.id
        self.server = server
        self.client = connect(server.url, server.api_key)
        self.sdk = server.sdk()
        for number, noise in enumerate(noises):
            name = f"{number}.jpg"
            answer = self.client.http.post(
                f"{server.url}/api/projects/{self.id}/import",
                files={name: (name, photo(noise), "image/jpeg")},
            )
            assert answer.is_success, answer.text
        self.ml_id = self.sdk.ml.create(
            url=backend_url, project=self.id, title="SAM", is_interactive=True
        ).id
        self.task_ids = sorted(task.id for task in self.sdk.tasks.list(project=self.id))

    def configure(self, *options: str, exit_code: int = 0) -> str:
        arguments = ["prelabel", "configure", f"project:{self.id}", *options]
        environment = {
            "LABEL_STUDIO_URL": self.server.url,
            "LABEL_STUDIO_API_KEY": self.server.api_key,
        }
        result = CliRunner().invoke(main, arguments, env=environment)
        assert result.exit_code == exit_code, result.output
        return result.output

    def state(self) -> tuple[Any, ...]:
        backend = self.client.get_json(f"/api/ml/{self.ml_id}")
        project = self.client.project(self.id)
        return (
            backend["title"], backend["model_version"], backend["extra_params"] or {},
            project["model_version"], project["sampling"],
        )  # fmt: skip

    def retrieve(self) -> dict[int, Any]:
        """What the Data Manager's action does; the predictions by task."""
        body = {"selectedItems": {"all": True, "excluded": []}, "project": self.id}
        self.client.request(
            "POST", f"/api/dm/actions/?id=retrieve_tasks_predictions&project={self.id}", json=body
        )
        raw = {one: self.client.get_json(f"/api/tasks/{one}/") for one in self.task_ids}
        return {one: parse_task(task).predictions for one, task in raw.items()}


@pytest.fixture
def connected(label_studio: Any, project_factory: Any, ml_backend_server: Any) -> Any:
    def make(noises: list[float], config: str = CONFIG) -> Project:
        return Project(label_studio, project_factory(config), ml_backend_server.url, noises)

    return make


def test_a_project_is_set_up_for_automatic_masks_and_serves_the_least_sure_task_first(connected):
    project = connected([2.0, 90.0, 30.0])
    before = project.state()
    options = ["--mode", "automatic", *(part for one in LENIENT for part in ("--param", one))]
    said = project.configure(*options, "--dry-run")
    assert "would change sampling: 'Sequential sampling' -> 'Uncertainty sampling'" in said
    assert project.state() == before

    said = project.configure(*options)
    title, version, params, project_version, sampling = project.state()
    assert title == version == project_version
    assert " automatic " in version
    assert params == {
        "mode": "automatic", "points_per_side": 3, "min_predicted_iou": 0.2, "min_stability": 0.2,
    }  # fmt: skip
    assert sampling == "Uncertainty sampling"
    assert version in said

    predictions = project.retrieve()
    scores = {}
    for task_id, (prediction,) in predictions.items():
        assert prediction.model_version == version
        assert not prediction.problems
        assert {region.labels for region in prediction.regions} == {("Object",)}
        assert all(region_mask(region).area_px >= 100 for region in prediction.regions)
        scores[task_id] = prediction.score
    assert len(set(scores.values())) == 3
    following = project.client.get_json(f"/api/projects/{project.id}/next/")
    assert following["id"] == min(scores, key=lambda task_id: scores[task_id])

    assert "Nothing to change" in project.configure(*options)
    project.configure("--mode", "off", "--sampling", "sequential")
    title, version, params, _, sampling = project.state()
    assert title == version
    assert "automatic" not in version
    assert params["mode"] == "off"
    assert sampling == "Sequential sampling"


def test_what_cannot_work_is_a_sentence_and_changes_nothing(connected):
    project = connected([2.0], CONFIG.replace('<Label value="Object"/>', '<Label value="Road"/>'))
    before = project.state()
    said = project.configure("--mode", "automatic", exit_code=2)
    assert "has 2 labels ('Disc', 'Road'): name one" in said
    assert "holds the label 'Tree'" in project.configure(
        "--mode", "automatic", "--label", "Tree", exit_code=2
    )
    said = project.configure("--param", "min_stabilty=0.9", exit_code=2)
    assert "Did you mean 'min_stability'?" in said
    assert "has no ML backend 999999" in project.configure("--backend", "999999", exit_code=2)
    assert project.state() == before


def test_a_project_without_backend_is_told_to_connect_one(label_studio, project_factory):
    project = project_factory(CONFIG)
    environment = {
        "LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": label_studio.api_key,
    }  # fmt: skip
    result = CliRunner().invoke(
        main, ["prelabel", "configure", f"project:{project.id}"], env=environment
    )
    assert result.exit_code == 2
    assert "has no ML backend: connect one" in result.output


def test_a_wrong_parameter_at_the_server_is_refused_when_connecting(connected):
    project = connected([2.0])
    with pytest.raises(Exception, match="400"):
        project.sdk.ml.update(
            id=project.ml_id,
            url=project.client.get_json(f"/api/ml/{project.ml_id}")["url"],
            project=project.id,
            extra_params=json.loads('{"mode": "magic"}'),
        )


@pytest.mark.parametrize("change", ["novalue", "=3"])
def test_a_parameter_is_key_and_value(change):
    with pytest.raises(UsageError, match="KEY=VALUE"):
        changed_params({}, (change,))
