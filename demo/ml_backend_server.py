"""Our own ML backend as a process of the demo: `segstudio serve` on a free port."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx

from demo.environments import say
from demo.processes import LOOPBACK, ServiceProcess, choose_port, wait_until
from demo.state import StateFile
from segstudio.errors import SegstudioError

START_TIMEOUT_S = 600.0

Report = Callable[[str], None]


class MlBackendServerError(SegstudioError):
    """The ML backend could not be started."""


def default_model() -> str:
    """The built-in SAM, or the classical engine in a copy of the sources without its weights."""
    from ml_backend.engines.registry import has_tiny_weights

    return "tiny" if has_tiny_weights() else "classical"


class MlBackendServer:
    """`segstudio serve` on loopback; a context manager that stops what it started."""

    def __init__(
        self,
        data_dir: Path,
        *,
        label_studio_url: str,
        api_key: str,
        model: str | None = None,
        report: Report = say,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._label_studio_url = label_studio_url
        self._api_key = api_key
        self._report = report
        self._process = ServiceProcess("The ML backend", self._data_dir / "ml-backend.log")
        self._state = StateFile(self._data_dir / "ml-backend.json")
        self.model = model or default_model()
        self.url = ""

    @property
    def log_path(self) -> Path:
        """The backend's log file."""
        return self._process.log_path

    def __enter__(self) -> MlBackendServer:
        """Starts the backend."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops the backend."""
        self.stop()

    def start(self) -> str:
        """Starts the backend and gives its URL at once; `wait_until_up` waits for the model.

        Raises:
            ProcessError: It could not be started.
        """
        self._process.stop_leftover()
        port = choose_port(None, preferred=self._state.read().get("port"), purpose="the ML backend")
        self.url = f"http://{LOOPBACK}:{port}"
        command = [sys.executable, "-c", "from segstudio.cli import main; main()", "serve"]
        command += ["--model", self.model, "--host", LOOPBACK, "--port", str(port)]
        command += ["--embeddings-dir", str(self._data_dir / "embeddings")]
        # The token goes through the environment: a command line can be read by other users.
        environment = {
            **os.environ,
            "LABEL_STUDIO_URL": self._label_studio_url,
            "LABEL_STUDIO_API_KEY": self._api_key,
            "PYTHONUNBUFFERED": "1",
        }
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._process.start(command, env=environment, cwd=self._data_dir)
        self._state.update(port=port)
        return self.url

    def wait_until_up(self) -> None:
        """Waits until the model is loaded.

        Raises:
            ProcessError: The backend ended.
            MlBackendServerError: It does not answer.
        """
        announced_s = 10.0
        with httpx.Client(base_url=self.url, timeout=2.0, trust_env=False) as session:
            for waited_s in wait_until(START_TIMEOUT_S):
                self._process.require_running()
                try:
                    if session.get("/health").is_success:
                        return
                except httpx.HTTPError:
                    pass  # not listening yet
                if waited_s > announced_s:
                    self._report(f"  waiting for the ML backend ({waited_s:.0f} s so far) ...")
                    announced_s += 10.0
        raise MlBackendServerError(
            f"The ML backend did not answer on {self.url} within {START_TIMEOUT_S:.0f} s. The end "
            f"of its log {self.log_path}:\n{self._process.log_tail()}"
        )

    def stop(self) -> None:
        """Stops the backend; does nothing when it does not run."""
        self._process.stop()

    def require_running(self) -> None:
        """Raises a ProcessError with the end of the log when the backend has ended by itself."""
        self._process.require_running()
