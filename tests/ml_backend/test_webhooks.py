"""What a webhook may do, and from whom."""

from __future__ import annotations

import json

import pytest

from ml_backend.webhooks import WebhookEvent, read_webhook

OTHER = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="Boat"/></BrushLabels></View>"""


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (
            {"action": "ANNOTATION_CREATED", "project": {"id": 3}, "task": {"id": 7}},
            WebhookEvent("ANNOTATION_CREATED", "3", 7),
        ),
        (
            {"action": "PROJECT_UPDATED", "project": {"id": 3, "label_config": "<View/>"}},
            WebhookEvent("PROJECT_UPDATED", "3", None, "<View/>"),
        ),
        (
            {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}]},
            WebhookEvent("ANNOTATIONS_DELETED"),
        ),
        (
            {"action": "X", "project": 3, "task": "7"},
            WebhookEvent("X"),
        ),
        ({"action": 5}, None),
        ([], None),
    ],
)
def test_only_ids_and_the_interface_are_read(body, event):
    assert read_webhook(json.dumps(body).encode()) == event


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_webhook_is_none(body):
    assert read_webhook(body) is None


def post(server, body, path="/webhook", **how):
    answer = server.http.post(path, json=body, **how)
    outcomes = [
        line.split('"')[1]
        for line in server.backend.metrics.render().decode().splitlines()
        if line.startswith("segstudio_webhooks_total{") and line.endswith(" 1.0")
    ]
    return answer.status_code, outcomes


def setup(server, path="/setup", **how):
    body = {"project": "3.17", "schema": "<View/>", "extra_params": {"answer": "polygon"}}
    assert server.http.post(path, json=body, **how).status_code == 200


@pytest.mark.parametrize(
    ("settings", "path", "how", "status", "outcome"),
    [
        ({}, "", {}, 200, "interface"),
        ({"basic_auth": ("me", "word")}, "", {}, 200, "unauthenticated"),
        ({"basic_auth": ("me", "word")}, "", {"auth": ("me", "word")}, 200, "interface"),
        ({"basic_auth": ("me", "word")}, "", {"auth": ("me", "no")}, 401, None),
        ({"secret_path": "abcdefgh-1234"}, "/abcdefgh-1234", {}, 200, "interface"),
        ({"secret_path": "abcdefgh-1234"}, "", {}, 404, None),
        (
            {"secret_path": "abcdefgh-1234", "basic_auth": ("me", "word")},
            "/abcdefgh-1234", {}, 200, "interface",
        ),
    ],
)  # fmt: skip
def test_only_whom_the_server_knows_changes_a_project(serve, settings, path, how, status, outcome):
    server = serve(**settings)
    prefix = f"/{settings['secret_path']}" if "secret_path" in settings else ""
    auth = {"auth": settings["basic_auth"]} if "basic_auth" in settings else {}
    setup(server, prefix + "/setup", **auth)
    body = {"action": "PROJECT_UPDATED", "project": {"id": 3, "label_config": OTHER}}
    assert post(server, body, path + "/webhook", **how) == (status, [outcome] if outcome else [])
    changed = server.backend._projects["3"].label_config == OTHER
    assert changed == (outcome == "interface")


def test_a_project_that_never_connected_is_not_made_by_a_webhook(serve):
    server = serve()
    post(server, {"action": "PROJECT_UPDATED", "project": {"id": 9, "label_config": OTHER}})
    assert server.backend._projects == {}


def test_an_updated_interface_is_used_by_clicks_that_bring_none(serve, click):
    server = serve()
    setup(server)
    assert server.predict([click(50, 50, "Boat")], config="")[0]["result"] == []
    tasks = [{"id": 1, "data": {"image": "/data/upload/1/a.jpg"}}]
    project = {"id": 3, "label_config": OTHER}
    post(server, {"action": "PROJECT_UPDATED", "project": project})
    context = {"context": {"result": [click(50, 50, "Boat")]}}
    answer = server.http.post(
        "/predict", json={"project": "3.17", "tasks": tasks, "params": context}
    )
    (region,) = answer.json()["results"][0]["result"]
    assert region["value"]["brushlabels"] == ["Boat"]


def test_a_deleted_project_is_forgotten(serve):
    server = serve()
    setup(server)
    post(server, {"action": "PROJECT_DELETED", "project": {"id": 3}})
    assert server.backend._projects == {}


def test_a_finished_task_warms_the_next(serve):
    server = serve()
    setup(server)
    came: list[tuple[str, int | None]] = []
    server.backend.came_to = lambda project, task: came.append((project, task))
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 3}, "task": {"id": 7}}
    assert post(server, body) == (200, ["next tasks"])
    assert came == [("3", 7)]


def test_a_large_webhook_is_read_by_the_helper_process(serve):
    server = serve()
    setup(server)
    project = {"id": 3, "label_config": OTHER, "description": "x" * 400_000}
    assert post(server, {"action": "PROJECT_UPDATED", "project": project})[0] == 200
    assert server.backend._projects["3"].label_config == OTHER
