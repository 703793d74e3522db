"""The wheel holds everything that the repository's packages hold, not only their Python files."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
READ_ALL_FILES = """
import importlib.metadata, hashlib, json, sys
files = importlib.metadata.files("segstudio")
print(json.dumps({str(f): hashlib.sha256(f.locate().read_bytes()).hexdigest() for f in files}))
"""


def run(*command: object) -> str:
    finished = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd="/", check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def installed_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The SHA-256 of each file that installing the wheel into an empty environment leaves."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("segstudio-*.whl")
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    found: dict[str, str] = json.loads(run(python, "-c", READ_ALL_FILES))
    return found


def packaged_files() -> list[str]:
    """Every file of the packages that git knows."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        hatch = tomllib.load(file)["tool"]["hatch"]
    packages = hatch["build"]["targets"]["wheel"]["packages"]
    return run("git", "-C", ROOT, "ls-files", "--", *packages).splitlines()


def test_the_wheel_installs_every_file_of_the_packages_unchanged(
    installed_files: dict[str, str],
) -> None:
    import hashlib

    expected = {
        name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in packaged_files()
    }
    assert any(name.endswith(".xml") for name in expected)
    assert {name: installed_files.get(name) for name in expected} == expected


def test_the_wheel_installs_nothing_outside_its_packages(installed_files: dict[str, str]) -> None:
    tops = {name.split("/")[0] for name in installed_files if not name.startswith("..")}
    packages = {name.split("/")[0] for name in packaged_files()}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
