"""A Label Studio server of our own on this machine: its environment, its process, its log-ins."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx

from demo.environments import EnvironmentFailedError, ensure_environment, say
from demo.processes import (
    LOOPBACK,
    FolderLock,
    ProcessError,
    ServiceProcess,
    choose_port,
    wait_until,
)
from demo.state import StateFile
from segstudio.errors import SegstudioError

LABEL_STUDIO_VERSION = "1.23.2"
ADMIN_EMAIL = "admin@demo.localhost"
START_TIMEOUT_S = 900.0
REQUEST_TIMEOUT_S = 60.0

Report = Callable[[str], None]

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "TZ")


class LabelStudioServerError(SegstudioError):
    """The server could not be installed, started or logged in to."""


@dataclass(frozen=True, slots=True)
class Account:
    """A log-in of the server."""

    email: str
    password: str


def ensure_label_studio(venv_dir: Path, *, report: Report = say) -> Path:
    """Gives Label Studio's executable, installing it into its own environment when missing.

    Args:
        venv_dir: The environment's folder; our own packages never go there.
        report: Receives the progress, a line at a time.

    Raises:
        LabelStudioServerError: It could not be installed.
    """
    executable = venv_dir / "bin" / "label-studio"
    # Absolute, but not resolved: the environment's python is a link into the system's.
    if _installed_version(venv_dir) == LABEL_STUDIO_VERSION and executable.exists():
        return executable.absolute()
    try:
        ensure_environment(
            venv_dir,
            [[f"label-studio=={LABEL_STUDIO_VERSION}"]],
            what=f"Label Studio {LABEL_STUDIO_VERSION}",
            report=report,
        )
    except EnvironmentFailedError as error:
        raise LabelStudioServerError(str(error)) from error
    return executable.absolute()


def _installed_version(venv_dir: Path) -> str | None:
    """The version that pip finished installing, told by its metadata folder."""
    for found in venv_dir.glob("lib/python3*/site-packages/label_studio-*.dist-info/RECORD"):
        return found.parent.name.removeprefix("label_studio-").removesuffix(".dist-info")
    return None


class LabelStudioServer:
    """A server on loopback with sqlite; a context manager that stops all it started.

    Its users, projects and files are in `data_dir` and are there again at the next start.
    """

    def __init__(
        self,
        executable: Path,
        data_dir: Path,
        *,
        port: int | None = None,
        report: Report = say,
    ) -> None:
        self._executable = executable
        self.data_dir = data_dir.absolute()
        self._wanted_port = port
        self._report = report
        self._lock = FolderLock(self.data_dir, purpose="Label Studio")
        self._process = ServiceProcess("Label Studio", self.data_dir / "label-studio.log")
        self._state = StateFile(self.data_dir / "log-ins.json")
        self.url = ""
        self.api_key = ""

    @property
    def log_path(self) -> Path:
        """The server's log file."""
        return self._process.log_path

    def __enter__(self) -> LabelStudioServer:
        """Starts the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops the server."""
        self.stop()

    def start(self) -> str:
        """Starts the server, waits until it answers, logs the administrator in; gives the URL.

        Raises:
            ProcessError: The port is taken, another run uses the folder, or the server ended.
            LabelStudioServerError: It does not answer, or refuses the log-in.
        """
        # The database and the access token are nobody else's business on this machine.
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.__enter__()
        try:
            if self._process.stop_leftover():
                self._report("Stopped a Label Studio that an earlier run had left behind.")
            port = choose_port(
                self._wanted_port,
                preferred=self._state.read().get("port"),
                purpose="Label Studio",
            )
            self.url = f"http://{LOOPBACK}:{port}"
            admin = self.account(ADMIN_EMAIL)
            command = [str(self._executable), "start", "--no-browser"]
            command += ["--internal-host", LOOPBACK, "--port", str(port)]
            command += ["--data-dir", str(self.data_dir)]
            environment = _environment(self.data_dir, self.url, admin)
            self._process.start(command, env=environment, cwd=self.data_dir)
            self._wait_until_up(port)
            self._state.update(port=port)
            self.api_key = self._personal_access_token(admin)
        except BaseException:
            self.stop()
            raise
        return self.url

    def attach(self) -> str:
        """Takes the server that another process runs on this data folder; gives the URL.

        Raises:
            LabelStudioServerError: None has been started there.
        """
        state = self._state.read()
        if "port" not in state or "api_key" not in state:
            raise LabelStudioServerError(f"No Label Studio has been started on {self.data_dir}.")
        self.url = f"http://{LOOPBACK}:{state['port']}"
        self.api_key = str(state["api_key"])
        return self.url

    def stop(self) -> None:
        """Stops the server; does nothing when it does not run."""
        self._process.stop()
        self._lock.__exit__(None, None, None)

    def require_running(self) -> None:
        """Raises a ProcessError with the end of the log when the server has ended by itself."""
        self._process.require_running()

    def account(self, email: str) -> Account:
        """The log-in of this e-mail; its password is made once and kept, readable by us only."""
        return Account(email, self._state.password(email))

    def log_in(self, account: Account) -> httpx.Client:
        """A browser-like session; logging in by form also gives a user its organization.

        Raises:
            LabelStudioServerError: The server refuses the e-mail or the password.
        """
        session = self._session()
        session.get("/user/login/")
        form = {"email": account.email, "password": account.password}
        answer = _post_form(session, "/user/login/", form)
        if answer.status_code != httpx.codes.FOUND:
            session.close()
            raise LabelStudioServerError(
                f"Label Studio at {self.url} refused the log-in of {account.email} (HTTP "
                f"{answer.status_code}). If its password was changed by hand, delete "
                f"{self.data_dir} to start over. The server's log: {self.log_path}."
            )
        return session

    def ensure_users(self, emails: Sequence[str]) -> list[Account]:
        """The accounts of these e-mails, able to log in; signed up by invitation when new.

        A user made through the API has no organization until it logs in and sees no task; one
        that signed up by invitation has.

        Raises:
            LabelStudioServerError: A sign-up failed.
        """
        accounts = [self.account(email) for email in emails]
        with contextlib.closing(self.log_in(self.account(ADMIN_EMAIL))) as admin_session:
            users = self._checked(admin_session.get("/api/users/")).json()
            present = {user["email"] for user in users}
            missing = [account for account in accounts if account.email not in present]
            if missing:
                invite = self._checked(admin_session.get("/api/invite")).json()
        for account in missing:
            self._sign_up(account, str(invite["token"]))
        return accounts

    def _sign_up(self, account: Account, token: str) -> None:
        with contextlib.closing(self._session()) as session:
            session.get("/user/signup/", params={"token": token})
            form = {"email": account.email, "password": account.password}
            answer = _post_form(session, f"/user/signup/?token={token}", form)
        if answer.status_code != httpx.codes.FOUND:
            raise LabelStudioServerError(
                f"Label Studio at {self.url} did not accept the new user {account.email} (HTTP "
                f"{answer.status_code}). Its log: {self.log_path}."
            )

    def _session(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=REQUEST_TIMEOUT_S, trust_env=False)

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            raise LabelStudioServerError(
                f"Label Studio answered {answer.request.method} {answer.request.url.path} with "
                f"HTTP {answer.status_code}. Its log: {self.log_path}."
            )
        return answer

    def _wait_until_up(self, port: int) -> None:
        announced_s = 10.0
        with contextlib.closing(self._session()) as session:
            for waited_s in wait_until(START_TIMEOUT_S):
                self._process.require_running()
                try:
                    answer = session.get("/health", timeout=2.0)
                    if answer.is_success and answer.json().get("status") == "UP":
                        break
                except (httpx.HTTPError, ValueError):
                    pass  # not listening yet
                if waited_s > announced_s:
                    self._report(f"  waiting for Label Studio ({waited_s:.0f} s so far) ...")
                    announced_s += 10.0
            else:
                raise LabelStudioServerError(
                    f"Label Studio did not answer on {self.url} within {START_TIMEOUT_S:.0f} s. "
                    f"The end of its log {self.log_path}:\n{self._process.log_tail()}"
                )
        log = self.log_path.read_text(encoding="utf-8", errors="replace")
        if re.search(rf"Port {port} is in use", log):
            # It moves to another port by itself; what answered on ours is someone else's.
            raise ProcessError(
                f"Port {port} for Label Studio was taken while it started. Start again, or choose "
                "another one with --port."
            )

    def _personal_access_token(self, admin: Account) -> str:
        token = self._state.read().get("api_key", "")
        with contextlib.closing(self._session()) as session:
            if token:
                answer = session.post("/api/token/refresh/", json={"refresh": token})
                if answer.is_success:
                    return str(token)
        with contextlib.closing(self.log_in(admin)) as session:
            headers = {"X-CSRFToken": session.cookies.get("csrftoken") or ""}
            answer = session.post("/api/token/", headers=headers)
            if answer.is_error:
                raise LabelStudioServerError(
                    f"Label Studio at {self.url} gave {admin.email} no access token (HTTP "
                    f"{answer.status_code}: {answer.text[:200]}). Delete {self.data_dir} to start "
                    f"over. The server's log: {self.log_path}."
                )
            token = str(answer.json()["token"])
        self._state.update(api_key=token)
        return token


def _post_form(session: httpx.Client, path: str, form: dict[str, str]) -> httpx.Response:
    """Posts a form as a browser does: with the page's CSRF token."""
    return session.post(
        path,
        data={**form, "csrfmiddlewaretoken": session.cookies.get("csrftoken") or ""},
        headers={"Referer": f"{session.base_url}"},
        follow_redirects=False,
    )


def _environment(data_dir: Path, url: str, admin: Account) -> dict[str, str]:
    """The server's environment variables."""
    # Little of ours: the server reads plain names such as CI, HOST and DEBUG as its own settings.
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **passed_on,
        "HOME": str(data_dir),
        "XDG_CONFIG_HOME": str(data_dir / "config"),
        "XDG_DATA_HOME": str(data_dir / "share"),
        "PYTHONUNBUFFERED": "1",
        "LABEL_STUDIO_HOST": url,
        "LABEL_STUDIO_USERNAME": admin.email,
        "LABEL_STUDIO_PASSWORD": admin.password,
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        # Our ML backend listens on loopback, which the server refuses unless told otherwise.
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(data_dir / "local-files"),
        # Nothing leaves this machine.
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Installs Label Studio for the demo and tests.")
    parser.add_argument("venv_dir", type=Path)
    try:
        ensure_label_studio(parser.parse_args(argv).venv_dir)
    except SegstudioError as error:
        say(f"Error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("Stopped; the next run goes on from here.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
