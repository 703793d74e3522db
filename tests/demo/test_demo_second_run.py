"""The second run of the demo reuses what the first one made, and both end when told to."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from demo.processes import port_is_free
from tests.demo.demo_runs import DEMO, demo_environment, demo_ports, results, run_demo

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def used_demo_dir(demo_dir: Path) -> Path:
    """The folder of the first run, which has ended; made here when this file runs alone."""
    if not (demo_dir / "qa" / "qa.json").exists():
        finished = run_demo(demo_dir)
        assert finished.returncode == 0, finished.stderr
    return demo_dir


def test_it_reuses_everything_and_ctrl_c_stops_all_of_it(
    used_demo_dir: Path, artifacts_dir: Path
) -> None:
    before = results(used_demo_dir)
    started = time.monotonic()
    process = subprocess.Popen(
        [*DEMO, "--dir", str(used_demo_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=demo_environment(),
    )
    try:
        stderr_lines = []
        assert process.stderr is not None
        for line in process.stderr:
            stderr_lines.append(line)
            if line.startswith("All done in"):
                break
        took_s = time.monotonic() - started
        ports = demo_ports(used_demo_dir)
        assert not any(port_is_free(port) for port in ports), "".join(stderr_lines)
        table = []
        assert process.stdout is not None
        for line in process.stdout:
            table.append(line)
            if "Ctrl-C stops all of it" in line:
                break
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert "Stopping the ML backend and Label Studio" in stderr
    assert all(port_is_free(port) for port in ports)
    # Reported, not asserted: the clock of a busy machine tells more about others' work than ours.
    (artifacts_dir / "second-run-s.txt").write_text(f"up after {took_s:.1f} s\n", encoding="utf-8")
    assert "Stored" not in "".join(stderr_lines)
    assert results(used_demo_dir) == before
    assert "qa.html" in "".join(table)


def test_with_exit_it_ends_by_itself(used_demo_dir: Path) -> None:
    finished = run_demo(used_demo_dir)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"All done in \d+ s", finished.stderr)
    assert all(port_is_free(port) for port in demo_ports(used_demo_dir))
