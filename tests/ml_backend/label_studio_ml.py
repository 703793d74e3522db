"""label-studio-ml in an environment of its own: run as a module it is made, `make label-studio-ml`.

Version 1.0.9 comes from the package index; what it pins is older than any Python it could run on
here, so it goes in without its dependencies. Version 2.x is on no index: a checkout of its own
repository is put on the path as it is, with the same environment behind it.

torch and the rest of segstudio are not installed again: the environment looks for them where the
tests' own environment has them, after its own packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from demo.environments import EnvironmentFailedError, ensure_environment, say
from demo.processes import LOOPBACK, ServiceProcess, choose_port, wait_until

LABEL_STUDIO_ML_VERSION = "1.0.9"
REQUIREMENTS = (
    "attrs>=25",  # label-studio-ml pins `attr`, another package that overwrites a part of it
    "colorama>=0.4.6,<0.5",
    "flask>=3.1,<4",
    "label-studio-tools==0.0.4",
    "redis>=5",  # imported by 1.0.9 without being declared, like rq
    "rq>=2",
    "semver>=3.0.2,<4",  # of 2.x
)
START_TIMEOUT_S = 300.0
ROOT = Path(__file__).resolve().parent.parent.parent
MODEL_SCRIPT = f"{ROOT / 'ml_backend' / 'model.py'}:SegmentAnythingModel"
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "TZ", "HOME")


def ensure_label_studio_ml(venv_dir: Path) -> Path:
    """Gives the environment's Python, making the environment where it is missing.

    Raises:
        EnvironmentFailedError: it could not be made, such as without network.
    """
    python = venv_dir / "bin" / "python"
    recorded = venv_dir / "segstudio-requirements.txt"
    wanted = "\n".join((sys.prefix, LABEL_STUDIO_ML_VERSION, *REQUIREMENTS))
    if not recorded.exists() or recorded.read_text(encoding="utf-8") != wanted:
        ensure_environment(
            venv_dir,
            [REQUIREMENTS, ["--no-deps", f"label-studio-ml=={LABEL_STUDIO_ML_VERSION}"]],
            what=f"label-studio-ml {LABEL_STUDIO_ML_VERSION}",
        )
        (packages,) = venv_dir.glob("lib/python3*/site-packages")
        ours = next(Path(path) for path in sys.path if path.endswith("site-packages"))
        # `addsitedir` reads the .pth files there too, such as that of segstudio itself.
        line = f"import site; site.addsitedir({str(ours)!r})\n"
        (packages / "zz-segstudio.pth").write_text(line, encoding="utf-8")
        recorded.write_text(wanted, encoding="utf-8")
    return python.absolute()


class LabelStudioMlServer:
    """`label-studio-ml init` and `start` with our model; a context manager that stops it."""

    def __init__(
        self, folder: Path, python: Path, *, source: Path | None, environment: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._python = python
        self._environment = {
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            **environment,
            "PYTHONUNBUFFERED": "1",
            "MODEL_DIR": str(folder / "models"),
            "SEGSTUDIO_CACHE": str(folder / "cache"),
        }
        # `label-studio-ml start` runs whatever `python` is on the path.
        self._environment["PATH"] = f"{python.parent}{os.pathsep}{self._environment['PATH']}"
        if source is not None:
            self._environment["PYTHONPATH"] = str(source)
        self._process = ServiceProcess("label-studio-ml", folder / "label-studio-ml.log")
        self.url = ""

    @property
    def log(self) -> str:
        """What the server has printed."""
        return self._process.log_path.read_text(encoding="utf-8", errors="replace")

    def version(self) -> str:
        """The version of the package that this server runs."""
        program = (
            "import importlib.metadata as m, label_studio_ml as l; "
            "print(getattr(l, '__version__', None) or m.version('label-studio-ml'))"
        )
        return self._run("-c", program).splitlines()[-1]

    def __enter__(self) -> LabelStudioMlServer:
        self._run("-m", "label_studio_ml.server", "init", "backend", "--script", MODEL_SCRIPT)
        port = choose_port(None, purpose="label-studio-ml")
        self.url = f"http://{LOOPBACK}:{port}"
        command = [str(self._python), "-m", "label_studio_ml.server", "start", "backend"]
        command += ["--host", LOOPBACK, "--port", str(port)]
        self._process.start(command, env=self._environment, cwd=self._folder)
        try:
            self._wait_until_up()
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def _wait_until_up(self) -> None:
        import httpx

        for _ in wait_until(START_TIMEOUT_S):
            self._process.require_running()
            try:
                if httpx.get(f"{self.url}/health", timeout=2, trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                pass  # not listening yet
        raise AssertionError(f"label-studio-ml did not answer:\n{self._process.log_tail()}")

    def _run(self, *arguments: str) -> str:
        finished = subprocess.run(
            [str(self._python), *arguments], capture_output=True, text=True, check=False,
            cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout


if __name__ == "__main__":
    try:
        ensure_label_studio_ml(Path(sys.argv[1]))
    except EnvironmentFailedError as error:
        say(f"Error: {error}")
        sys.exit(3)
