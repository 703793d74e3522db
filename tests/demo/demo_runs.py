"""The demo as a command of its own, for the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import label_studio_venv

DEMO = (sys.executable, "-c", "from segstudio.cli import main; main()", "demo")


def run_demo(out_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, "--exit", "--dir", str(out_dir), *arguments],
        capture_output=True,
        text=True,
        env=demo_environment(),
        check=False,
    )


def demo_environment() -> dict[str, str]:
    return {**os.environ, "SEGSTUDIO_LABEL_STUDIO_VENV": str(label_studio_venv())}


def demo_ports(demo_dir: Path) -> list[int]:
    files = ("label-studio/log-ins.json", "ml-backend/ml-backend.json")
    return [json.loads((demo_dir / name).read_text())["port"] for name in files]


def results(demo_dir: Path) -> dict[str, Any]:
    """What a second run must find or make again unchanged."""
    qa = json.loads((demo_dir / "qa" / "qa.json").read_text())
    return {
        "tasks": [(task["id"], task["miou"], task["annotators"]) for task in qa["tasks"]],
        "exports": {
            str(path.relative_to(demo_dir)): path.read_bytes()
            for path in sorted((demo_dir / "export").rglob("*.png"))
        },
    }
