"""The protocol as Label Studio speaks it, over real HTTP."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from ml_backend.app import create_app
from ml_backend.settings import Settings, SettingsError
from segstudio import brush_rle
from segstudio.errors import MediaError


def mask_of(region: dict) -> np.ndarray:
    return brush_rle.decode(
        region["value"]["rle"], region["original_height"], region["original_width"]
    ).to_dense()


def test_health_setup_and_webhook_answer_as_label_studio_expects(serve, config_xml):
    server = serve()
    assert server.http.get("/health").json()["status"] == "UP"
    answer = server.http.post(
        "/setup",
        json={
            "project": "1.1795208019",
            "schema": config_xml,
            "hostname": "http://elsewhere.example",
            "access_token": "secret-token",
            "extra_params": {},
        },
    )
    assert answer.json() == {"model_version": "drawing 1"}
    answer = server.http.post("/webhook", json={"action": "ANNOTATION_CREATED"})
    assert answer.status_code == 200


def test_a_click_comes_back_as_a_brush_region_of_its_label(serve, click):
    (answer,) = serve().predict([click(50, 50)])
    (region,) = answer["result"]
    assert (region["from_name"], region["to_name"], region["type"]) == (
        "brush",
        "image",
        "brushlabels",
    )
    assert region["value"]["brushlabels"] == ["Car"]
    assert (region["original_width"], region["original_height"]) == (120, 80)
    assert (region["score"], answer["score"], answer["model_version"]) == (1.0, 1.0, "drawing 1")
    mask = mask_of(region)
    assert mask[40, 60]
    assert mask.sum() == 400


def test_a_label_that_only_polygons_hold_comes_back_as_a_polygon(serve, click):
    (region,) = serve().predict([click(50, 50, "Road")])[0]["result"]
    assert (region["from_name"], region["type"]) == ("poly", "polygonlabels")
    assert len(region["value"]["points"]) == 4


def test_a_label_that_no_control_holds_gives_an_empty_result(serve, click):
    assert serve().predict([click(50, 50, "Nowhere")])[0]["result"] == []


def test_other_labels_are_answered_all_the_same(serve, click):
    (answer,) = serve().predict([click(50, 50, "Nowhere"), click(20, 20), click(70, 70, "Road")])
    assert [region["type"] for region in answer["result"]] == ["brushlabels", "polygonlabels"]
    assert len({region["id"] for region in answer["result"]}) == 2


def test_an_empty_context_gives_an_empty_result(serve):
    server = serve()
    assert server.predict([])[0]["result"] == []
    assert server.fetched == []


def test_several_boxes_are_several_regions(serve, box):
    (answer,) = serve().predict([box(0, 0, 10, 10), box(50, 50, 10, 10)])
    assert [mask_of(region).sum() for region in answer["result"]] == [12 * 8, 12 * 8]


def test_the_next_click_refines_the_last_answer_without_encoding_again(serve, click):
    server = serve()
    first, second = click(50, 50), click(60, 60, positive=False)
    server.predict([first])
    server.predict([first, second])
    server.predict([first, second, click(10, 10)])
    fed = [prompt.mask_input for prompt in server.engine.prompts]
    assert fed[0] is None
    assert [mask.max() for mask in fed[1:]] == [1, 2]
    assert len(server.engine.encoded) == 1
    assert server.fetched == ["/data/upload/1/a.jpg"]


def test_a_click_elsewhere_starts_afresh(serve, click):
    server = serve()
    server.predict([click(50, 50)])
    server.predict([click(20, 20), click(30, 30)])
    assert server.engine.prompts[1].mask_input is None


def test_the_same_photo_under_two_addresses_is_encoded_once(serve, click, picture):
    server = serve({"/a.jpg": picture(), "/b.jpg": picture()})
    for name in ("/a.jpg", "/b.jpg"):
        server.predict([click(50, 50)], tasks=[{"id": 1, "data": {"image": name}}])
    assert len(server.engine.encoded) == 1


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_turned_photo_is_segmented_as_the_browser_shows_it(serve, click, picture, orientation):
    server = serve({"/data/upload/1/a.jpg": picture(120, 80, orientation)})
    point = click(25, 75, original_width=80, original_height=120)
    (region,) = server.predict([point])[0]["result"]
    assert server.engine.encoded == [(120, 80, 3)]
    assert (region["original_height"], region["original_width"]) == (120, 80)
    rows, columns = np.nonzero(mask_of(region))
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((90, 20), abs=1)


def test_an_editor_that_shows_the_stored_orientation_is_followed(serve, click, picture):
    server = serve({"/data/upload/1/a.jpg": picture(120, 80, 6)})
    (region,) = server.predict([click(25, 75)])[0]["result"]
    assert server.engine.encoded[-1] == (80, 120, 3)
    rows, columns = np.nonzero(mask_of(region))
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((60, 30), abs=1)


def test_an_answer_has_the_size_of_the_prompt_where_the_image_differs(serve, click):
    point = click(50, 50, original_width=240, original_height=160)
    (region,) = serve().predict([point])[0]["result"]
    assert mask_of(region).shape == (160, 240)
    assert mask_of(region).sum() == 1600


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (MediaError("The image is not there."), "not there"),
        (RuntimeError("boom"), "RuntimeError: boom"),
        (b"no image", "image"),
    ],
)
def test_an_image_that_cannot_be_had_gives_an_empty_result_and_a_reason(
    serve, click, caplog, content, reason
):
    server = serve({"/data/upload/1/a.jpg": content})
    with caplog.at_level("INFO", "ml_backend"):
        assert server.predict([click(50, 50)])[0]["result"] == []
    lines = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert any(reason in line.get("reason", "") for line in lines)


@pytest.mark.parametrize(
    "data", [{}, {"image": None}, {"image": ["a"]}, {"image": ""}, {"other": "x"}, "text", None]
)
def test_a_task_without_image_gives_an_empty_result(serve, click, data):
    tasks = [{"id": 1, "data": data}]
    point = click(50, 50, item_index=3 if data == {"image": ["a"]} else 0)
    assert serve().predict([point], tasks=tasks)[0]["result"] == []


@pytest.mark.parametrize(
    "config", ["", "<View/>", "<broken", '<View><Text name="t" value="$t"/></View>']
)
def test_a_config_without_image_gives_an_empty_result(serve, click, config):
    assert serve().predict([click(50, 50)], config=config)[0]["result"] == []


def test_every_task_has_its_answer_in_its_place(serve, picture, box):
    server = serve({"/a.jpg": picture(), "/bad.jpg": MediaError("gone")})
    drawn = [{"id": 5, "result": [box(0, 0, 50, 50)]}]
    answers = server.predict(
        None,
        tasks=[
            {"id": 1, "data": {"image": "/a.jpg"}, "annotations": drawn},
            {"id": 2, "data": {"image": "/bad.jpg"}, "annotations": drawn},
            {"id": 3, "data": {"image": "/a.jpg"}},
            {"id": 4, "data": {"image": "/a.jpg"}, "predictions": drawn},
        ],
    )
    # No prediction at all for the tasks without a mask, so that Label Studio will ask again.
    assert answers[1:3] == [[], []]
    assert [len(answer["result"]) for answer in (answers[0], answers[3])] == [1, 1]
    assert mask_of(answers[0]["result"][0]).sum() == 60 * 40


def test_skipped_annotations_lend_no_boxes(serve, box):
    drawn = [{"id": 5, "was_cancelled": True, "result": [box(0, 0, 50, 50)]}]
    task = {"id": 1, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": drawn}
    assert serve().predict(None, tasks=[task]) == [[]]


def test_opening_a_task_encodes_its_image_ahead_of_the_first_click(serve, click):
    server = serve()
    assert server.predict(None) == [[]]
    deadline = time.monotonic() + 10
    while not server.engine.encoded and time.monotonic() < deadline:
        time.sleep(0.01)
    server.predict([click(50, 50)])
    assert len(server.engine.encoded) == 1


def test_health_answers_while_the_model_computes(serve, click):
    server = serve()
    server.engine.encode_s = 1.0
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(server.predict, [click(50, 50)])
        slowest = 0.0
        while not busy.done():
            started = time.perf_counter()
            assert server.http.get("/health").status_code == 200
            slowest = max(slowest, time.perf_counter() - started)
            time.sleep(0.02)
        assert busy.result()[0]["result"]
    assert slowest < 0.5


def test_a_click_overtakes_a_batch(serve, click, box, picture):
    images = {f"/{n}.jpg": picture(100 + n, 80) for n in range(12)}
    server = serve(images)
    server.engine.encode_s = 0.1
    drawn = [{"id": 5, "result": [box(0, 0, 50, 50)]}]
    tasks = [{"id": n, "data": {"image": f"/{n}.jpg"}, "annotations": drawn} for n in range(11)]
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(server.predict, None, tasks=tasks)
        time.sleep(0.2)
        answer = server.predict([click(50, 50)], tasks=[{"id": 99, "data": {"image": "/11.jpg"}}])
        assert answer[0]["result"]
        assert not batch.done()
        assert all(item["result"] for item in batch.result())


def test_twenty_annotators_on_one_image_share_its_encoding(serve, click):
    server = serve()
    server.engine.encode_s = 0.2
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: server.predict([click(5 + n, 50)]), range(20)))
    assert all(answer[0]["result"] for answer in answers)
    assert len(server.engine.encoded) == 1
    assert len(server.fetched) == 1


def test_a_full_queue_is_said_with_503_at_once(serve, click, config_xml):
    server = serve(queue_limit=1)
    server.engine.predict_s = 0.3
    server.predict([click(1, 1)])

    def post(n):
        return server.http.post(
            "/predict",
            json={
                "tasks": [{"id": 1, "data": {"image": "/data/upload/1/a.jpg"}}],
                "label_config": config_xml,
                "params": {"context": {"result": [click(5 + n, 50)]}},
            },
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["Retry-After"] == "1"
            assert "try again in a moment" in answer.json()["error"]
        else:
            assert answer.json()["results"][0]["result"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "no JSON"),
        (b"[]", "a JSON list"),
        (b"{}", "needs a list under 'tasks'"),
        (b'{"tasks": 5}', "needs a list under 'tasks'"),
    ],
)
def test_what_label_studio_never_sends_is_a_400_with_a_sentence(serve, body, sentence):
    response = serve().http.post("/predict", content=body)
    assert response.status_code == 400
    assert sentence in response.json()["error"]


def test_a_large_body_is_read_by_a_helper_process(serve, click):
    tasks = [{"id": 1, "data": {"image": "/data/upload/1/a.jpg", "note": "x" * 300_000}}]
    server = serve()
    started = time.perf_counter()
    assert server.predict([click(50, 50)], tasks=tasks)[0]["result"]
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_a_413(serve, chunked):
    server = serve(max_body_bytes=1000)
    body = (b"x" * 500 for _ in range(5)) if chunked else b"x" * 2500
    response = server.http.post("/predict", content=body)
    assert response.status_code == 413
    assert "at most 1000 bytes" in response.json()["error"]


def test_a_password_guards_everything_but_health_and_webhooks(serve, click):
    server = serve(basic_auth=("me", "pass:word"))
    assert server.http.get("/health").status_code == 200
    assert server.http.post("/webhook", json={}).status_code == 200
    for call in (
        lambda **kw: server.http.post("/setup", json={"project": "1"}, **kw),
        lambda **kw: server.http.post("/predict", json={"tasks": []}, **kw),
        lambda **kw: server.http.get("/metrics", **kw),
    ):
        assert call().status_code == 401
        assert call(auth=("me", "wrong")).status_code == 401
        assert call(headers={"Authorization": "Basic ???"}).status_code == 401
        assert call(auth=("me", "pass:word")).status_code == 200


def test_a_secret_path_is_the_only_way_in(serve):
    server = serve(secret_path="abcdefgh-1234")
    assert server.http.get("/health").status_code == 404
    assert server.http.post("/predict", json={"tasks": []}).status_code == 404
    assert server.http.get("/abcdefgh-1234/health").status_code == 200
    assert server.http.post("/abcdefgh-1234/webhook", json={}).status_code == 200


def test_a_web_page_cannot_reach_an_open_server_by_a_name_of_its_own(serve):
    server = serve()
    response = server.http.get("/health", headers={"Host": "evil.example:9090"})
    assert response.status_code == 421
    assert server.http.get("/health", headers={"Host": "localhost:9090"}).status_code == 200
    guarded = serve(basic_auth=("me", "word"))
    answer = guarded.http.get("/health", headers={"Host": "backend.example"})
    assert answer.status_code == 200


def test_metrics_count_answers_and_stages(serve, click):
    server = serve()
    server.predict([click(50, 50)])
    text = server.http.get("/metrics").text
    assert 'segstudio_answers_total{mode="click",outcome="regions"} 1.0' in text
    assert 'segstudio_stage_seconds_count{stage="encode"} 1.0' in text


def test_no_token_reaches_the_log(serve, config_xml, click, caplog):
    server = serve(secret_path="abcdefgh-1234", api_key="api-key-value")
    with caplog.at_level("DEBUG"):
        body = {"project": "1.5", "schema": config_xml, "access_token": "secret-token"}
        server.http.post("/abcdefgh-1234/setup", json=body)
        server.http.post("/abcdefgh-1234/predict", json={"tasks": [{"id": 1, "data": {}}]})
    assert caplog.records
    shown = "\n".join(
        str(record.__dict__) for record in caplog.records if "ml_backend" in record.name
    )
    assert "secret-token" not in shown
    assert "abcdefgh-1234" not in shown
    assert "api-key-value" not in repr(server.backend.settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"host": "0.0.0.0"}, "Other machines could reach"),
        ({"host": "::"}, "Other machines could reach"),
        ({"secret_path": "short"}, "at least 12 characters"),
        ({"secret_path": "with/slash/in-it"}, "only letters"),
        ({"basic_auth": ("me", "")}, "USER:PASSWORD"),
        ({"port": 70000}, "does not exist"),
        ({"answer_kind": "vector"}, "choose one of brush"),
    ],
)
def test_unsafe_settings_are_refused(settings, sentence):
    with pytest.raises(SettingsError, match=sentence):
        Settings(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0", "basic_auth": ("a", "b")},
        {"host": "0.0.0.0", "no_auth": True},
        {"host": "::1"},
    ],
)
def test_safe_settings_are_taken(settings):
    assert Settings(**settings).host == settings["host"]


def test_without_label_studio_an_upload_is_refused_with_a_sentence(drawing_engine, caplog, click):
    app = create_app(Settings(), drawing_engine)
    from ml_backend.protocol import PredictRequest, PredictTask

    config = '<View><Image name="image" value="$image"/></View>'
    request = PredictRequest(
        (PredictTask(1, {"image": "/data/upload/1/a.jpg"}),), "1", config, (click(50, 50),)
    )
    with caplog.at_level("INFO", "ml_backend"):
        assert app.state.backend.answer(request)[0]["result"] == []
    assert any("--label-studio-url" in str(getattr(r, "fields", "")) for r in caplog.records)
    app.state.backend.close()


def test_the_server_stops_while_a_click_waits(serve, click):
    server = serve()
    server.engine.encode_s = 0.5
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.predict, [click(50, 50)])
        time.sleep(0.2)
        started = time.perf_counter()
        server.stop()
        assert time.perf_counter() - started < 8
        with contextlib.suppress(httpx.HTTPError):
            assert isinstance(waiting.result(10), list)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/health")
