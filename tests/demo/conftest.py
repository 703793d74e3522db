from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the first run and those after it, as a person has one."""
    return tmp_path_factory.mktemp("demo") / "demo-output"
