from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
import torch
from click.testing import CliRunner

from ml_backend.command import models, serve
from ml_backend.serving import bind, limit_threads, warm_up
from ml_backend.settings import Settings
from segstudio.errors import SegstudioError

SERVE = [sys.executable, "-c", "from segstudio.cli import main; main()", "serve"]


def test_a_server_serves_until_it_is_told_to_stop(tmp_path):
    environment = {
        **{name: value for name, value in os.environ.items() if "LABEL_STUDIO" not in name},
        "SEGSTUDIO_CACHE": str(tmp_path),
    }
    process = subprocess.Popen(
        [*SERVE, "--model", "classical", "--port", "0"],
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    try:
        assert process.stderr is not None
        lines = [process.stderr.readline()]
        found = re.search(r"http://127\.0\.0\.1:\d+", lines[0])
        assert found, lines
        lines += [process.stderr.readline() for _ in range(2)]
        assert "knows no objects" in lines[1]
        assert "--label-studio-url" in lines[2]
        health = httpx.get(found[0] + "/health", timeout=10).json()
        assert health["model_version"] == "segstudio classical grabcut 0.1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "Other machines could reach the server on 0.0.0.0"),
        (["--basic-auth", "nocolon"], "USER:PASSWORD"),
        (["--secret-path", "x"], "at least 12 characters"),
        (["--model", "vit_x"], "There is no model 'vit_x'"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(arguments, sentence, tmp_path):
    result = CliRunner().invoke(
        serve, ["--port", "0", *arguments], env={"SEGSTUDIO_CACHE": str(tmp_path)}
    )
    assert isinstance(result.exception, SegstudioError)
    assert sentence in str(result.exception)


def test_a_model_that_was_not_downloaded_names_the_command(tmp_path):
    result = CliRunner().invoke(
        serve, ["--port", "0", "--model", "vit_b"], env={"SEGSTUDIO_MODELS": str(tmp_path)}
    )
    assert "segstudio models download vit_b" in str(result.exception)


def test_a_taken_port_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SegstudioError, match=rf"cannot listen on 127.0.0.1:{port}"):
            bind("127.0.0.1", port)


def test_the_port_stays_closed_until_the_server_listens():
    with bind("127.0.0.1", 0) as reserved, pytest.raises(ConnectionRefusedError):
        socket.create_connection(reserved.getsockname(), timeout=1)


def test_warming_up_runs_the_engine_once(drawing_engine):
    warm_up(drawing_engine)
    assert (len(drawing_engine.encoded), len(drawing_engine.prompts)) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "threads"),
    [({"model": "tiny"}, 1), ({"model": "tiny", "threads": 2}, 2), ({"model": "vit_b"}, 3)],
)
def test_the_small_model_computes_in_one_thread_unless_told(settings, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        limit_threads(Settings(**settings))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_models_are_listed_with_what_is_here(tmp_path):
    result = CliRunner().invoke(models, ["list"], env={"SEGSTUDIO_MODELS": str(tmp_path)})
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.output.splitlines()}
    assert "not here" in rows["vit_b"]
    assert "2565 MB" in rows["vit_h"]
    assert str(tmp_path) in result.output


def test_there_is_nothing_to_download_of_a_built_in_model():
    result = CliRunner().invoke(models, ["download", "tiny"])
    assert "built in" in result.output


def test_an_unknown_model_cannot_be_downloaded():
    result = CliRunner().invoke(models, ["download", "vit_x"])
    assert "vit_b, vit_l, vit_h" in str(result.exception)
