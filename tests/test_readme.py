"""The README's plugins are installed as a team's own package and run, as the README says."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def team_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two modules and the two entry points of the README, installed into a folder."""
    source = tmp_path_factory.mktemp("team")
    modules = []
    for block in code_blocks("python"):
        name = re.match(r"# (\w+\.py):", block)
        assert name, f"The first line of a README module names its file; this one is {block[:40]!r}"
        (source / name[1]).write_text(block, encoding="utf-8")
        modules.append(name[1])
    assert modules == ["area_csv.py", "tiny_regions.py"]
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "team-plugins"\nversion = "1.0"\n'
        + "".join(code_blocks("toml"))
        + f"[tool.hatch.build.targets.wheel]\nonly-include = {json.dumps(modules)}\n",
        encoding="utf-8",
    )
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def run_segstudio(team_package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(team_package)}
    command = [sys.executable, "-m", "segstudio.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def fixture_arguments(fixtures_dir: Path) -> list[str]:
    folder = fixtures_dir / "label_studio"
    return [
        str(folder / "project-all-region-types.json"),
        "--label-config",
        str(folder / "label-config.xml"),
    ]


def test_the_readme_exporter_runs_when_its_package_is_installed(
    team_package: Path, fixtures_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "areas"
    done = run_segstudio(
        team_package,
        "export",
        "area-csv",
        *fixture_arguments(fixtures_dir),
        *("--annotations", "user:4", "--out", str(out)),
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((out / "areas.csv").open()))
    assert rows
    assert {row["class"] for row in rows} <= {"Car", "Road", "Sky", "Wheel"}
    assert all(int(row["pixels"]) > 0 for row in rows)


def test_the_readme_check_runs_when_its_package_is_installed(
    team_package: Path, fixtures_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "qa"
    arguments = ["qa", "tiny-regions", *fixture_arguments(fixtures_dir), "--out", str(out)]
    done = run_segstudio(team_package, *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "qa.json").read_text())["checks"]["tiny-regions"]["count"] == 0
    assert "<h2>Tiny regions</h2>" not in (out / "qa.html").read_text(encoding="utf-8")

    done = run_segstudio(team_package, *arguments, "--option", "min_px=100000")
    assert done.returncode == 0, done.stderr
    count = json.loads((out / "qa.json").read_text())["checks"]["tiny-regions"]["count"]
    page = (out / "qa.html").read_text(encoding="utf-8")
    assert count > 0 and "<h2>Tiny regions</h2>" in page
    assert f"{count} regions are tiny." in page and "<b>Look at tiny regions.</b>" in page
