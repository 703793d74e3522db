from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo.environments import EnvironmentFailedError, ensure_environment

ROOT = Path(__file__).resolve().parents[2]


def empty_index(folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    return ["--no-index", "--find-links", str(folder)]


def make_package(folder: Path) -> Path:
    """A package without dependencies that a build backend of its own, in it, builds."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(
        "import zipfile\n"
        "def build_wheel(directory, config_settings=None, metadata_directory=None):\n"
        "    name = 'tiny_thing-1.0-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(f'{directory}/{name}', 'w') as wheel:\n"
        "        info = 'tiny_thing-1.0.dist-info'\n"
        "        wheel.writestr('tiny_thing.py', 'WORKS = True\\n')\n"
        "        wheel.writestr(f'{info}/METADATA',\n"
        "            'Metadata-Version: 2.1\\nName: tiny-thing\\nVersion: 1.0\\n')\n"
        "        wheel.writestr(f'{info}/WHEEL',\n"
        "            'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr(f'{info}/RECORD', '')\n"
        "    return name\n"
    )
    return folder


def test_an_environment_is_made_filled_and_used_again(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    said: list[str] = []
    arguments = [[*empty_index(tmp_path / "index"), str(package)]]
    for _ in range(2):
        python = ensure_environment(
            tmp_path / "venv", arguments, what="a tiny thing", report=said.append
        )
    works = subprocess.run([python, "-c", "import tiny_thing"], capture_output=True, check=False)
    assert works.returncode == 0
    assert sum(line.startswith("Making the environment") for line in said) == 1
    assert sum(line.startswith("Installed a tiny thing in") for line in said) == 2


def test_a_half_made_environment_is_made_again(tmp_path: Path) -> None:
    broken = tmp_path / "venv" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    said: list[str] = []
    package = make_package(tmp_path / "package")
    ensure_environment(
        tmp_path / "venv",
        [[*empty_index(tmp_path / "index"), str(package)]],
        what="a tiny thing",
        report=said.append,
    )
    assert said[0].startswith("Making the environment")


def test_a_package_that_cannot_be_had_is_a_sentence_that_names_the_log(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailedError, match=r"No matching distribution .*pip\.log"):
        ensure_environment(
            tmp_path / "venv",
            [[*empty_index(tmp_path / "index"), "no-such-thing"]],
            what="nothing",
            report=lambda line: None,
        )


def test_an_index_that_cannot_be_reached_is_said_to_be_a_matter_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(EnvironmentFailedError, match="could not reach the package index"):
        ensure_environment(
            tmp_path / "venv",
            # Port 9 of this machine: nothing listens there.
            [["--retries", "1", "--index-url", "http://127.0.0.1:9/", "no-such-thing"]],
            what="nothing",
            report=lambda line: None,
        )


def test_run_as_a_script_a_failure_is_one_sentence_and_exit_code_3(tmp_path: Path) -> None:
    finished = subprocess.run(
        [
            sys.executable,
            str(ROOT / "demo" / "environments.py"),
            str(tmp_path / "venv"),
            "--what",
            "nothing",
            "--",
            *empty_index(tmp_path / "index"),
            "no-such-thing",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 3
    assert finished.stderr.splitlines()[-1].startswith("Error: nothing could not be installed: ")
    assert "Traceback" not in finished.stderr
