"""Loading: nothing heavy at import, and a compile cache wherever the package is installed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import segstudio
from segstudio import jit

PACKAGE = Path(segstudio.__file__).parent
HEAVY = ("numba", "cv2", "PIL", "pycocotools", "scipy", "label_studio_sdk", "torch")


def run(code: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["segstudio", "segstudio.tasks", "segstudio.shapes", "segstudio.brush_rle"]
)
def test_importing_the_kernel_loads_nothing_heavy(module: str, tmp_path: Path) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code, tmp_path) == "[]"


def test_the_version_is_that_of_the_installation() -> None:
    from importlib.metadata import version

    assert segstudio.__version__ == version("segstudio")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = segstudio.nothing


def test_a_read_only_installation_caches_in_a_private_folder(tmp_path: Path) -> None:
    """The package where nothing can be written, as in a container."""
    site, temporary = tmp_path / "site", tmp_path / "tmp"
    temporary.mkdir()
    shutil.copytree(PACKAGE, site / "segstudio", ignore=shutil.ignore_patterns("__pycache__"))
    # A file in the place of the cache folder keeps even root from writing there.
    (site / "segstudio" / "__pycache__").write_text("")
    code = (
        "from segstudio.masks import Mask; import segstudio;"
        "print(segstudio.__file__, Mask.from_dense([[0, 1]]).area_px)"
    )
    environment = {"PYTHONPATH": str(site), "TMPDIR": str(temporary), "NUMBA_CACHE_DIR": ""}
    assert run(code, tmp_path, **environment) == f"{site / 'segstudio' / '__init__.py'} 1"
    [folder] = temporary.glob("segstudio-kernels-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.rglob("*.nbi"))


def test_a_folder_that_others_can_write_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit.tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"segstudio-kernels-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    chosen = jit._private_folder()
    assert chosen != planted
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o700
    planted.chmod(0o700)
    assert jit._private_folder() == planted


def test_every_kernel_can_be_compiled_ahead() -> None:
    from segstudio import codec_kernels, raster, run_kernels
    from segstudio.warm_up import warm_up

    warm_up()
    # Kernels that only other kernels call are part of their callers' machine code.
    inner = {"joined"}
    for module in (codec_kernels, raster, run_kernels):
        for name, function in vars(module).items():
            if hasattr(function, "signatures") and name not in inner and name[0] != "_":
                assert function.signatures, f"{module.__name__}.{name} was not compiled"
