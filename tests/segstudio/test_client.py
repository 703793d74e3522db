"""The connection: tokens, retries, sentences; against a scripted server and a real one."""

import base64
import json
import logging
import pickle
import shutil
import ssl
import subprocess
import time

import pytest

from segstudio import http_client
from segstudio.client import connect
from segstudio.errors import ServerError, UsageError
from segstudio.http_client import RetryingClient, token_kind
from segstudio.source import open_source
from tests.conftest import missing
from tests.segstudio.fake_server import Answer, FakeServer

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(**claims):
    parts = [{"alg": "HS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


PAT = jwt(token_type="refresh", exp=8102416569)


@pytest.fixture
def slept(monkeypatch):
    delays = []
    monkeypatch.setattr(RetryingClient, "sleep", staticmethod(delays.append))
    return delays


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (LEGACY, "legacy"),
        (PAT, "personal-access"),
        (jwt(token_type="access", exp=8102416569), "access"),
        ("a.b.c", "legacy"),
    ],
)
def test_the_kind_of_a_token_is_told_by_its_shape(token, kind):
    assert token_kind(token) == kind


def test_a_legacy_token_is_sent_as_it_is():
    with FakeServer(lambda _: {"ok": 1}) as server, connect(server.url, LEGACY) as client:
        assert client.get_json("/api/x") == {"ok": 1}
        assert server.asked[0].headers["authorization"] == f"Token {LEGACY}"


def test_a_personal_access_token_is_exchanged_once_and_renewed_before_it_ends():
    issued = []

    def answer(asked):
        if asked.path == "/api/token/refresh/":
            assert asked.body == {"refresh": PAT}
            life_s = 10 if not issued else 300  # the first is about to end
            issued.append(jwt(token_type="access", exp=time.time() + life_s, n=len(issued)))
            return {"access": issued[-1]}
        return {"as": asked.headers["authorization"]}

    with FakeServer(answer) as server, connect(server.url, PAT) as client:
        seen = [client.get_json("/api/x")["as"] for _ in range(4)]
    assert len(issued) == 2
    assert seen == [f"Bearer {issued[0]}"] + 3 * [f"Bearer {issued[1]}"]


def test_an_access_token_that_the_server_refuses_is_renewed_at_once():
    good = jwt(token_type="access", exp=time.time() + 300, good=True)
    tokens = iter([jwt(token_type="access", exp=time.time() + 300), good])

    def answer(asked):
        if asked.path == "/api/token/refresh/":
            return {"access": next(tokens)}
        accepted = asked.headers["authorization"] == f"Bearer {good}"
        return {"ok": True} if accepted else Answer(401, {"detail": "expired"})

    with FakeServer(answer) as server, connect(server.url, PAT) as client:
        assert client.get_json("/api/x") == {"ok": True}


def test_a_refused_personal_access_token_says_what_to_do():
    with (
        FakeServer(lambda _: Answer(401, {"detail": "bad"})) as server,
        connect(server.url, PAT) as client,
        pytest.raises(ServerError, match=r"refused the personal access token.*Make a new one"),
    ):
        client.get_json("/api/x")


def test_it_waits_as_long_as_the_server_asks_and_no_longer_than_a_minute(slept):
    waits = iter(
        [Answer(429, headers={"Retry-After": "7"}), Answer(503, {}, {"Retry-After": "999"})]
    )
    with (
        FakeServer(lambda _: next(waits, {"ok": 1})) as server,
        connect(server.url, LEGACY) as client,
    ):
        assert client.get_json("/api/x") == {"ok": 1}
    assert slept == [7.0, 60.0]


def test_it_gives_up_after_five_attempts_with_growing_delays(slept):
    with (
        FakeServer(lambda _: Answer(502, {"detail": "bad gateway"})) as server,
        connect(server.url, LEGACY) as client,
    ):
        with pytest.raises(ServerError, match="failed on GET /api/x") as caught:
            client.get_json("/api/x")
        assert len(server.asked) == 5
    assert caught.value.status == 502
    assert len(slept) == 4
    assert slept == sorted(slept)


def test_a_post_that_may_have_been_carried_out_is_not_repeated(slept):
    with (
        FakeServer(lambda _: Answer(500, {})) as server,
        connect(server.url, LEGACY) as client,
    ):
        with pytest.raises(ServerError):
            client.request("POST", "/api/x", json={"a": 1})
        assert len(server.asked) == 1
    assert slept == []


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "refused the token.*Legacy tokens are switched off"),
        (403, "does not allow this user project 5"),
        (404, "There is no project 5 at http://127"),
        (400, r"refused project 5 \(400: no; \{'x': 'bad'\}\)"),
    ],
)
def test_refusals_are_sentences_that_name_the_server(status, sentence):
    body = {"detail": "no", "validation_errors": {"x": "bad"}}
    with (
        FakeServer(lambda _: Answer(status, body)) as server,
        connect(server.url, LEGACY) as client,
        pytest.raises(ServerError, match=sentence) as caught,
    ):
        client.project(5)
    assert LEGACY not in str(caught.value)


def test_no_server_is_a_sentence(slept):
    with (
        connect("http://127.0.0.1:1", LEGACY) as client,
        pytest.raises(ServerError, match=r"Nothing answers at http://127.*LABEL_STUDIO_URL"),
    ):
        client.get_json("/api/x")


def test_html_in_place_of_json_asks_whether_this_is_label_studio():
    page = Answer(200, b"<html>", {"Content-Type": "text/html"})
    with (
        FakeServer(lambda _: page) as server,
        connect(server.url, LEGACY) as client,
        pytest.raises(ServerError, match="'text/html' in place of JSON"),
    ):
        client.get_json("/api/x")


def test_a_redirect_to_another_origin_carries_no_token():
    with FakeServer(lambda _: {"stolen": True}) as other:
        away = Answer(302, {}, {"Location": f"{other.url}/api/x"})
        with (
            FakeServer(lambda _: away) as server,
            connect(server.url, LEGACY) as client,
            pytest.raises(ServerError, match="sends requests on to another address"),
        ):
            client.get_json("/api/x")
        assert all("authorization" not in asked.headers for asked in other.asked)


def test_tokens_stay_out_of_logs_and_representations(caplog, slept):
    caplog.set_level(logging.DEBUG)
    with (
        FakeServer(lambda _: Answer(503, {})) as server,
        connect(server.url, LEGACY) as client,
        pytest.raises(ServerError),
    ):
        client.get_json("/api/x")
    assert "attempt 2 of 5" in caplog.text
    assert LEGACY not in caplog.text + repr(client) + repr(client.http)


def test_a_client_can_be_sent_to_a_worker():
    with FakeServer(lambda asked: asked.headers["authorization"]) as server:
        copy = pickle.loads(pickle.dumps(connect(server.url, LEGACY)))
        assert copy.get_json("/api/x") == f"Token {LEGACY}"


@pytest.mark.parametrize(
    ("url", "key", "sentence"),
    [
        (None, LEGACY, "Set LABEL_STUDIO_URL"),
        ("http://localhost:8080", None, "token for http://localhost:8080 is missing"),
        ("localhost:8080", LEGACY, "must look like http://"),
        ("http://me:secret@localhost", LEGACY, "must not hold a user name"),
        ("http://localhost", "two words", "characters that no token has"),
    ],
)
def test_a_connection_that_cannot_be_is_refused_before_anything_is_sent(
    monkeypatch, url, key, sentence
):
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    with pytest.raises(UsageError, match=sentence):
        connect(url, key)


def test_a_server_that_is_slow_once_is_asked_again(monkeypatch, slept):
    monkeypatch.setattr(http_client, "TIMEOUT", 0.5)
    asked_before = []

    def answer(asked):
        asked_before.append(asked)
        if len(asked_before) <= 2:
            time.sleep(1.5)
        return {"ok": len(asked_before)}

    with FakeServer(answer) as server, connect(server.url, LEGACY) as client:
        assert client.get_json("/api/x")["ok"] >= 3
        asked_before.clear()
        with pytest.raises(ServerError, match="did not answer in time"):
            client.request("POST", "/api/x", json={})
    assert len(asked_before) == 1  # it may have been carried out
    assert len(slept) == 2


@pytest.fixture
def secure_server(tmp_path):
    """A server with a certificate that nobody has signed, and the file of that certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        missing("openssl is not installed; it makes the certificate of this test.")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
         "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FakeServer(lambda _: {"ok": 1}, tls=context) as server:
        yield server, certificate


def test_certificates_are_checked_trusted_by_file_or_waived(secure_server, slept):
    server, certificate = secure_server
    with (
        connect(server.url, LEGACY) as client,
        pytest.raises(ServerError, match=r"is not trusted .*--ca-bundle"),
    ):
        client.get_json("/api/x")
    assert server.asked == []  # no token went out
    for options in ({"ca_bundle": str(certificate)}, {"insecure": True}):
        with connect(server.url, LEGACY, **options) as client:
            assert client.get_json("/api/x") == {"ok": 1}


def test_a_missing_certificate_file_is_a_sentence():
    with pytest.raises(UsageError, match=r"'/no/ca.pem' does not exist"):
        connect("https://localhost", LEGACY, ca_bundle="/no/ca.pem")


def test_a_server_below_a_prefix_is_asked_there():
    with (
        FakeServer(lambda asked: asked.path) as server,
        connect(f"{server.url}/studio/", LEGACY) as client,
    ):
        assert client.get_json("/api/x") == "/studio/api/x"


def test_both_the_sdk_and_raw_http_work_on_a_real_server(label_studio):
    with connect(label_studio.url, label_studio.api_key) as client:
        assert client.token_kind == "personal-access"
        user = client.get_json("/api/current-user/whoami")
        assert user["email"] == label_studio.admin_email
        assert client.sdk.users.whoami().email == label_studio.admin_email
        with pytest.raises(ServerError, match="There is no project 999999"):
            client.project(999999)


def test_a_legacy_token_reads_tasks_of_a_real_server_where_it_is_allowed(
    label_studio, project_factory
):
    project = project_factory('<View><Image name="image" value="$image"/></View>')
    with connect(label_studio.url, label_studio.api_key) as client:
        settings = client.get_json("/api/jwt/settings")
        allowed = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
        client.request("POST", "/api/jwt/settings", json={**settings, **allowed})
        try:
            token = client.get_json("/api/current-user/token")["token"]
            tasks = [{"data": {"image": "https://example.com/1.jpg"}}]
            with connect(label_studio.url, token) as legacy:
                assert legacy.token_kind == "legacy"
                legacy.request("POST", f"/api/projects/{project.id}/import", json=tasks)
                source = open_source(f"project:{project.id}", client=legacy)
                assert [task.data for task in source.tasks()] == [tasks[0]["data"]]
                assert legacy.sdk.users.whoami().email == label_studio.admin_email
        finally:
            client.request("POST", "/api/jwt/settings", json=settings)
        with (
            connect(label_studio.url, token) as legacy,
            pytest.raises(ServerError, match="Legacy tokens are switched off"),
        ):
            legacy.get_json("/api/projects/")
