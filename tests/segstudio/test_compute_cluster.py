"""The map on a real Ray cluster: a head node of this machine, found by its address."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="the extra 'scale' is not installed")

ROOT = Path(__file__).resolve().parents[2]

# What the cluster's workers run must be importable there, as a team's own package is.
WORK = """
import os
from segstudio.shapes import region_mask

def measure(task):
    if task.id == 3:
        raise ValueError("this one is damaged")
    masks = [
        region_mask(region)
        for annotation in task.annotations
        for region in annotation.regions
        if region.kind != "keypoint"
    ]
    return task.id, [mask.to_coco_rle()["counts"].decode() for mask in masks], os.getppid()

def die_on_six(task):
    if task.id == 6:
        os._exit(9)
    return measure(task)
"""

DRIVER = """
import json, os, sys
from cluster_work import die_on_six, measure
from segstudio.compute import map_tasks
from segstudio.source import open_source

export, address = sys.argv[1:]
pulled = 0

def tasks():
    global pulled
    for task in open_source(export).tasks():
        pulled += 1
        yield task

def run(function=measure, **engine):
    global pulled
    pulled, ahead, values, errors, parents = 0, 0, [], [], set()
    for result in map_tasks(function, tasks(), **engine):
        ahead = max(ahead, pulled - len(values) - len(errors))
        if result.error is None:
            *value, parent = result.value
            values.append(value)
            parents.add(parent)
        else:
            errors.append([result.error.kind, result.error.task_id, result.error.message])
    return {"values": values, "errors": errors, "ahead": ahead,
            "elsewhere": os.getpid() not in parents and os.getppid() not in parents}

print(json.dumps([
    run(workers=1),
    run(workers=2),
    run(cluster=address, in_flight=2),
    run(die_on_six, workers=2),
    run(die_on_six, cluster=address),
]))
"""


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a running head node, and the environment that may use it."""
    work = tmp_path_factory.mktemp("work")
    (work / "cluster_work.py").write_text(WORK)
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie below it
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(work), str(ROOT)]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0"),
        *("--num-cpus=2", "--include-dashboard=false"),
        *("--disable-usage-stats", f"--temp-dir={folder}"),
        *("--object-store-memory=100000000", f"--dashboard-port={free_port()}"),
        f"--dashboard-agent-listen-port={free_port()}",
    ]
    process = subprocess.Popen(
        command, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            found = re.search(r"--address='([^']+)'", line)
            if found:
                break
        else:
            pytest.fail("Ray did not start:\n" + "".join(said))
        # Nobody reads what else it says; a full pipe would stop it.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield found[1], environment
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def drive(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip


@pytest.mark.timeout(900)
def test_results_of_a_cluster_are_those_of_this_machine(
    cluster: tuple[str, dict[str, str]], fixtures_dir: Path
) -> None:
    address, environment = cluster
    export = fixtures_dir / "label_studio" / "project-all-region-types.json"
    done = drive(environment, str(export), address)
    assert done.returncode == 0, done.stderr
    inline, processes, on_cluster, *with_deaths = json.loads(done.stdout)
    [error] = on_cluster["errors"]
    assert error[:2] == ["task-failed", 3]
    assert error[2].startswith("ValueError: this one is damaged (cluster_work.py, line ")
    assert [task for task, _ in on_cluster["values"]] == [1, 2, 6, 10]
    for other in (inline, processes):
        assert other["values"] == on_cluster["values"]
        assert other["errors"] == on_cluster["errors"]
    assert on_cluster["ahead"] <= 2
    assert on_cluster["elsewhere"]
    # A task that kills its worker is the only one lost, here as there.
    for one in with_deaths:
        assert one["values"] == [value for value in inline["values"] if value[0] != 6]
        assert [error[:2] for error in one["errors"]] == [["task-failed", 3], ["worker-died", 6]]


@pytest.mark.timeout(900)
def test_a_command_writes_the_same_bytes_on_a_cluster(
    cluster: tuple[str, dict[str, str]], fixtures_dir: Path, tmp_path: Path
) -> None:
    address, environment = cluster
    folder = fixtures_dir / "label_studio"
    written = []
    for name, engine in (("here", ["--workers", "1"]), ("there", ["--cluster", address])):
        command = [
            *(sys.executable, "-m", "segstudio.cli", "export", "semantic-png"),
            *(str(folder / "project-all-region-types.json"), "--annotations", "all"),
            *("--label-config", str(folder / "label-config.xml"), "--out", name, *engine),
        ]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr
        files = [one for one in (tmp_path / name).rglob("*") if one.is_file()]
        written.append({str(one.relative_to(tmp_path / name)): one.read_bytes() for one in files})
    here, there = written
    assert sum(name.endswith(".png") for name in here) >= 5
    assert here == there


@pytest.mark.timeout(900)
def test_a_cluster_that_refuses_the_token_is_a_sentence_without_it(
    cluster: tuple[str, dict[str, str]], fixtures_dir: Path
) -> None:
    address, environment = cluster
    wrong: dict[str, Any] = {**environment, "RAY_AUTH_TOKEN": "0" * 64}
    export = fixtures_dir / "label_studio" / "project-all-region-types.json"
    refused = drive(wrong, str(export), address)
    assert refused.returncode != 0
    last = refused.stderr.strip().splitlines()[-1]
    assert f"The Ray cluster at '{address}' cannot be used" in last
    assert "RAY_AUTH_MODE=token" in last
    assert environment["RAY_AUTH_TOKEN"] not in refused.stderr
