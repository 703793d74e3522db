from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import (
    FolderLock,
    ProcessError,
    ServiceProcess,
    choose_port,
    port_is_free,
    wait_until,
)

SLEEPER = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_that_was_asked_for_is_refused_with_a_sentence(taken_port: int) -> None:
    with pytest.raises(ProcessError, match=f"Port {taken_port} for Label Studio is taken"):
        choose_port(taken_port, purpose="Label Studio")


def test_a_taken_port_of_the_last_run_is_replaced_by_a_free_one(taken_port: int) -> None:
    port = choose_port(None, preferred=taken_port, purpose="Label Studio")
    assert port != taken_port
    assert port_is_free(port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ProcessError, match="is not a port"):
        choose_port(port, purpose="Label Studio")


def wait_for_log(process: ServiceProcess, text: str) -> None:
    for _ in wait_until(20):
        if text in process.log_tail():
            return
    raise AssertionError(f"{text!r} never came: {process.log_tail()}")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_stopping_ends_the_children_of_the_process_too(tmp_path: Path) -> None:
    process = ServiceProcess("The server", tmp_path / "server.log")
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('child', child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process.start([sys.executable, "-c", script], env=os.environ, cwd=tmp_path)
    wait_for_log(process, "child")
    child = int(process.log_tail().split()[-1])
    assert is_alive(child)
    process.stop()
    for _ in wait_until(10):
        if not is_alive(child):
            break
    assert not is_alive(child)
    assert not (tmp_path / "server.pid").exists()


def test_a_server_that_ends_by_itself_is_reported_with_its_log(tmp_path: Path) -> None:
    process = ServiceProcess("The server", tmp_path / "server.log")
    process.start(
        [sys.executable, "-c", "print('no disk'); raise SystemExit(7)"],
        env=os.environ,
        cwd=tmp_path,
    )
    with pytest.raises(ProcessError, match=r"(?s)exit code 7.*server\.log.*no disk"):
        for _ in wait_until(20):
            process.require_running()
    process.stop()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = ServiceProcess("The server", tmp_path / "server.log")
    with pytest.raises(ProcessError, match=r"/no/such/program: No such file"):
        process.start(["/no/such/program"], env=os.environ, cwd=tmp_path)


def test_what_a_killed_run_left_behind_is_ended_by_the_next(tmp_path: Path) -> None:
    first = ServiceProcess("The server", tmp_path / "server.log")
    first.start(SLEEPER, env=os.environ, cwd=tmp_path)
    pid = int((tmp_path / "server.pid").read_text().split()[0])
    second = ServiceProcess("The server", tmp_path / "server.log")
    assert second.stop_leftover()
    assert not is_alive(pid)
    assert not second.stop_leftover()
    first.stop()


def test_a_process_that_only_has_the_old_number_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEPER, start_new_session=True, stdout=subprocess.DEVNULL) as other:
        try:
            (tmp_path / "server.pid").write_text(f"{other.pid} 1\n")
            assert not ServiceProcess("The server", tmp_path / "server.log").stop_leftover()
            assert other.poll() is None
        finally:
            other.kill()


def test_a_folder_is_locked_for_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path, purpose="The demo"),
        pytest.raises(ProcessError, match=rf"The demo already runs in .* {os.getpid()}"),
        FolderLock(tmp_path, purpose="The demo"),
    ):
        pass
    with FolderLock(tmp_path, purpose="The demo"):
        pass


def test_the_lock_file_of_a_process_that_is_gone_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("999999")
    with FolderLock(tmp_path, purpose="The demo"):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
