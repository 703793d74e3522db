"""What several test packages share: fixtures on disk, a real Label Studio, a real browser.

A test that needs a server, a browser or the fixtures is skipped with the reason where they are
missing, and fails where they must be there: in CI (environment variable CI).
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

# A shell that starts the tests in the background has Ctrl-C ignored, which children inherit: those
# that a test interrupts would never hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
SERVER_TEST_TIMEOUT_S = 1800
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


def missing(reason: str) -> NoReturn:
    """Skips the test with the reason; in CI, where everything must be there, fails it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """The folder of real data kept beside the repository; see its README.md."""
    folder = Path(os.environ.get("SEGSTUDIO_FIXTURES", ROOT.parent / "shared" / "fixtures"))
    if not folder.is_dir():
        missing(f"The fixtures are not in {folder}; set SEGSTUDIO_FIXTURES to their folder.")
    return folder


@pytest.fixture(scope="session")
def artifacts_dir() -> Path:
    """Where tests leave what a person may want to look at."""
    folder = ROOT / "test-artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser's executable."""
    named = os.environ.get("SEGSTUDIO_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None or not Path(found).exists():
        missing(
            f"No Chromium ({named or ', '.join(CHROMIUM_NAMES)}); `make chromium` installs one "
            "where it may, or set SEGSTUDIO_CHROMIUM to its path."
        )
    return found


@dataclass(frozen=True)
class RunningLabelStudio:
    """The test session's server: its address, its access token, its administrator."""

    url: str
    api_key: str
    admin_email: str
    admin_password: str
    server: Any = field(repr=False)
    """The demo.label_studio_server.LabelStudioServer behind it."""

    def sdk(self) -> Any:
        """A client of label-studio-sdk as the administrator."""
        from label_studio_sdk import LabelStudio

        return LabelStudio(base_url=self.url, api_key=self.api_key)


def label_studio_venv() -> Path:
    """The environment of the Label Studio server."""
    venv = Path(os.environ.get("SEGSTUDIO_LABEL_STUDIO_VENV", ROOT / ".venv-label-studio"))
    if not (venv / "bin" / "label-studio").exists():
        missing(f"Label Studio is not installed in {venv}; `make label-studio` installs it.")
    return venv


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLabelStudio]:
    """A real, empty Label Studio, started once for the whole test session.

    While one works on a test, SEGSTUDIO_TEST_LABEL_STUDIO=DIR takes the server that already runs
    on the data folder DIR in its place and saves its start of a minute.
    """
    from demo.label_studio_server import ADMIN_EMAIL, LabelStudioServer, ensure_label_studio
    from demo.processes import terminate_like_interrupt

    executable = ensure_label_studio(label_studio_venv())
    running_dir = os.environ.get("SEGSTUDIO_TEST_LABEL_STUDIO")
    if running_dir:
        server = LabelStudioServer(executable, Path(running_dir))
        server.attach()
        admin = server.account(ADMIN_EMAIL)
        yield RunningLabelStudio(server.url, server.api_key, admin.email, admin.password, server)
        return
    data_dir = tmp_path_factory.mktemp("label-studio")
    # A test session that is terminated leaves no server behind.
    with terminate_like_interrupt(), LabelStudioServer(executable, data_dir) as server:
        admin = server.account(ADMIN_EMAIL)
        yield RunningLabelStudio(server.url, server.api_key, admin.email, admin.password, server)


@pytest.fixture
def legacy_token(label_studio: RunningLabelStudio) -> Iterator[str]:
    """The administrator's legacy token, which the server accepts during the test."""
    from segstudio.client import connect

    with connect(label_studio.url, label_studio.api_key) as client:
        settings = client.get_json("/api/jwt/settings")
        allowed = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
        client.request("POST", "/api/jwt/settings", json={**settings, **allowed})
        try:
            yield str(client.get_json("/api/current-user/token")["token"])
        finally:
            client.request("POST", "/api/jwt/settings", json=settings)


@pytest.fixture(scope="session")
def ml_backend_server(
    label_studio: RunningLabelStudio, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Our ML backend with the built-in model, as `segstudio serve` runs it: `.url`, `.model`."""
    from demo.ml_backend_server import MlBackendServer

    with MlBackendServer(
        tmp_path_factory.mktemp("ml-backend"),
        label_studio_url=label_studio.url,
        api_key=label_studio.api_key,
        model=os.environ.get("SEGSTUDIO_TEST_MODEL"),
    ) as server:
        server.wait_until_up()
        yield server


@pytest.fixture
def project_factory(label_studio: RunningLabelStudio) -> Iterator[Callable[..., Any]]:
    """Makes projects on the test server, `make(label_config, title=..., **fields)`, and removes
    them after the test.
    """
    client = label_studio.sdk()
    made: list[int] = []

    def make(label_config: str, title: str = "test", **fields: Any) -> Any:
        project = client.projects.create(title=title, label_config=label_config, **fields)
        made.append(project.id)
        return project

    yield make
    for project_id in made:
        client.projects.delete(id=project_id)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses the server or the browser has its marker, so that `-m` can leave it out."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "label_studio" in names:
            item.add_marker("server")
            if item.get_closest_marker("timeout") is None:
                # The first of them waits for the server's first start: minutes on a busy machine.
                item.add_marker(pytest.mark.timeout(SERVER_TEST_TIMEOUT_S))
        if "chromium_path" in names:
            item.add_marker("browser")
