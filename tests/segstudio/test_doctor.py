"""The doctor finds what is there, what is missing, and what is wrong."""

import pytest
from click.testing import CliRunner

from segstudio import doctor
from segstudio.cli import main
from segstudio.http_client import RetryingClient
from tests.segstudio.fake_server import Answer, FakeServer

TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Car"/></BrushLabels></View>'
)
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(RetryingClient, "sleep", staticmethod(lambda delay_s: None))
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "LABEL_STUDIO_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def label_studio(asked):
    if asked.path != "/api/version" and asked.headers.get("authorization") != f"Token {TOKEN}":
        return Answer(401, {"detail": "Invalid token."})
    return {
        "/api/version": {"release": "1.23.2"},
        "/api/current-user/whoami": {"email": "ann@example.com"},
        "/api/projects/4/": {"title": "Cars", "label_config": CONFIG},
        "/api/ml/": [{"title": "SAM", "url": NOWHERE, "state": "ER", "is_interactive": True}],
    }.get(asked.path, Answer(404, {"detail": "nothing"}))


def states(findings):
    return [(one.subject, one.state) for one in findings]


def test_a_working_server_and_token_are_ok():
    with FakeServer(label_studio) as server:
        found = list(doctor.server(server.url, TOKEN, None, False, None))
    assert states(found) == [("token", "ok"), ("Label Studio", "ok")]
    assert found[0].detail == "legacy, of ann@example.com"
    assert found[1].detail == f"1.23.2 at {server.url}"


def test_a_project_shows_its_labels_and_a_backend_that_is_down():
    with FakeServer(label_studio) as server:
        found = list(doctor.server(server.url, TOKEN, None, False, 4))
    assert states(found)[2:] == [("project 4", "ok"), ("connected models", "trouble")]
    assert found[2].detail == "'Cars': Car"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (None, [("token", "trouble"), ("Label Studio", "ok")]),
        ("bad", [("Label Studio", "trouble")]),
    ],
)
def test_a_missing_or_wrong_token_is_trouble(token, expected):
    with FakeServer(label_studio) as server:
        assert states(doctor.server(server.url, token, None, False, None)) == expected


def test_no_server_given_is_a_note_and_one_that_is_down_is_trouble():
    assert states(doctor.server(None, None, None, False, None)) == [("Label Studio", "note")]
    assert states(doctor.server(NOWHERE, TOKEN, None, False, None)) == [("Label Studio", "trouble")]


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (500, "trouble")])
def test_the_ml_backend_is_asked_for_its_health(status, state):
    with FakeServer(lambda asked: Answer(status, {"status": "UP"})) as server:
        assert doctor.backend(server.url).state == state
        assert server.asked[0].path == "/health"
    assert doctor.backend(NOWHERE).state == "note"


def test_what_is_not_installed_is_said_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(doctor._EXTRAS, "scale", ("no-such-package",))
    (scale,) = [one for one in doctor.installed() if one.subject == "extra scale"]
    assert (scale.state, scale.mend) == ("note", "pip install 'segstudio[scale]'")


def test_the_command_prints_a_table_and_its_exit_code_tells_trouble():
    fine = CliRunner().invoke(main, ["doctor", "--ml-backend", NOWHERE])
    assert fine.exit_code == 0
    assert "how to mend it" in fine.output
    assert "segstudio" in fine.output
    bad = CliRunner().invoke(main, ["doctor", "--url", NOWHERE, "--ml-backend", NOWHERE])
    assert bad.exit_code == 3
