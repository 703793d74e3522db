"""Work ahead of the annotators, with a real Label Studio: next tasks, webhooks, whole projects."""

from __future__ import annotations

import io
import re
import time
from collections import defaultdict

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ml_backend.precompute_command import precompute
from ml_backend.prewarm import Prewarmer
from segstudio.client import connect

CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Car"/></KeyPointLabels>
<BrushLabels name="brush" toName="image"><Label value="Car"/></BrushLabels></View>"""
TASKS = 6


def photo(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((30, 40, 3), 40 * number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def project(label_studio, project_factory):
    """A project with six uploaded photos: the client, the project's id, the tasks' ids."""
    made = project_factory(CONFIG)
    with connect(label_studio.url, label_studio.api_key) as client:
        for number in range(TASKS):
            answer = client.http.post(
                f"{label_studio.url}/api/projects/{made.id}/import",
                files={"file": (f"{number}.png", photo(number), "image/png")},
            )
            assert answer.is_success, answer.text
        found = client.get_json("/api/tasks/", project=made.id, page_size=100, include="id")
        yield client, made.id, sorted(task["id"] for task in found["tasks"])


def test_the_next_tasks_are_those_that_label_studio_would_serve(project):
    client, project_id, ids = project
    client.request("POST", f"/api/tasks/{ids[2]}/annotations/", json={"result": []})
    prewarmer = Prewarmer(lambda *_: None, lambda: False, client)
    found = prewarmer._next_tasks(str(project_id), ids[0])
    assert [task.id for task in found] == [ids[1], ids[3], ids[4]]
    assert re.fullmatch(r"/data/upload/\d+/.*1\.png", found[0].data["image"])

    for n, score in ((5, 0.1), (3, 0.4), (1, 0.9), (4, 0.5), (0, 0.6)):
        body = {"task": ids[n], "score": score, "model_version": "m", "result": []}
        client.request("POST", "/api/predictions/", json=body)
    body = {"sampling": "Uncertainty sampling", "model_version": "m"}
    client.request("PATCH", f"/api/projects/{project_id}/", json=body)
    prewarmer = Prewarmer(lambda *_: None, lambda: False, client)
    found = prewarmer._next_tasks(str(project_id), ids[3])
    assert [task.id for task in found] == [ids[5], ids[4], ids[0]]
    prewarmer.close()


def test_the_webhook_that_label_studio_makes_has_the_next_tasks_encoded(
    label_studio, project, serve, picture
):
    client, project_id, ids = project
    server = serve(
        secret_path="a-secret-segment",
        label_studio_url=label_studio.url,
        api_key=label_studio.api_key,
    )
    sides = iter(range(100, 200))
    server.images = defaultdict(lambda: picture(next(sides), 80))
    url = server.url + "/a-secret-segment"
    client.request("POST", "/api/ml/", json={"project": project_id, "url": url})
    assert server.backend._projects.keys() == {str(project_id)}
    client.request("POST", f"/api/tasks/{ids[0]}/annotations/", json={"result": []})
    deadline = time.monotonic() + 60
    while len(server.engine.encoded) < 3:
        assert time.monotonic() < deadline, server.backend.metrics.render().decode()
        time.sleep(0.05)
    assert sorted(name[-5:] for name in server.fetched) == ["1.png", "2.png", "3.png"]
    assert 'segstudio_webhooks_total{outcome="next tasks"}' in (
        server.backend.metrics.render().decode()
    )


def test_a_project_is_precomputed_through_the_server(label_studio, project, tmp_path):
    client, project_id, ids = project
    client.request("PATCH", f"/api/tasks/{ids[5]}/", json={"data": {"image": "/data/upload/0/x"}})
    arguments = [
        *(f"project:{project_id}", "--url", label_studio.url, "--api-key", label_studio.api_key),
        *("--model", "classical", "--embeddings-dir", str(tmp_path), "--workers", "1"),
    ]
    first = CliRunner().invoke(precompute, arguments)
    assert "5 encoded, 0 there already, 1 failed" in first.output, first.output
    assert f"FAILED task {ids[5]}: " in first.output
    assert f"precompute: {TASKS} of {TASKS}" in first.output
    again = CliRunner().invoke(precompute, arguments)
    assert "0 encoded, 5 there already, 1 failed" in again.output
    assert label_studio.api_key not in first.output
