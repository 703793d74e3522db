"""Ports, background processes and the lock that keeps two demos out of one folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from segstudio.errors import SegstudioError

LOOPBACK = "127.0.0.1"
STOP_TIMEOUT_S = 10.0


class ProcessError(SegstudioError):
    """A program of the demo could not be started, ended early, or its port is taken."""


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    # Something may listen on all addresses while the loopback address itself can still be bound.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) != 0


def choose_port(wanted: int | None, *, preferred: int | None = None, purpose: str) -> int:
    """A loopback port: the wanted one or an error, else the preferred one if free, else any.

    Args:
        wanted: The port that the user asked for, or None.
        preferred: The port of the last run, so that bookmarks stay good, or None.
        purpose: Whose port it is, for the sentence.

    Raises:
        ProcessError: The wanted port is taken, or is not a port.
    """
    if wanted is not None:
        if not 1 <= wanted <= 65535:
            raise ProcessError(f"Port {wanted} for {purpose} is not a port; choose 1024 to 65535.")
        if not port_is_free(wanted):
            raise ProcessError(
                f"Port {wanted} for {purpose} is taken by another program. Choose another one with "
                "--port, or leave --port out and a free one is found."
            )
        return wanted
    if preferred is not None and port_is_free(preferred):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class ServiceProcess:
    """A server in the background, in a process group of its own, with a log file.

    The process id is kept in a file beside the log together with the moment the process began, so
    that a later run can end what a killed run left behind and never anything else.
    """

    def __init__(self, name: str, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._pid_path = log_path.with_suffix(".pid")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        """Starts the command; its output goes to the log file.

        Raises:
            ProcessError: The program is not there or may not be run.
        """
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - commands of our own making
                    list(command),
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProcessError(
                    f"{self.name} could not be started: {command[0]}: {error.strerror}."
                ) from error
        pid = self._process.pid
        self._pid_path.write_text(f"{pid} {_started_at(pid)}\n", encoding="ascii")

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def require_running(self) -> None:
        """Raises a ProcessError with the end of the log when the process has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise ProcessError(
                f"{self.name} ended by itself with exit code {self._process.returncode}. "
                f"The end of its log {self.log_path}:\n{self.log_tail()}"
            )

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, indented."""
        with contextlib.suppress(OSError):
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
            return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
        return "    (no log)"

    def stop(self) -> None:
        """Ends the process and all that it started; does nothing when there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
            self._pid_path.unlink(missing_ok=True)

    def stop_leftover(self) -> bool:
        """Ends the process that an earlier, killed run left behind; says whether there was one."""
        try:
            pid_text, _, started_at = self._pid_path.read_text(encoding="ascii").partition(" ")
            pid = int(pid_text)
        except (OSError, ValueError):
            return False
        self._pid_path.unlink(missing_ok=True)
        began = _started_at(pid)
        if not began or began != started_at.strip():
            return False  # long gone; the number may belong to someone else by now
        _signal_group(pid, signal.SIGTERM)
        give_up = time.monotonic() + STOP_TIMEOUT_S
        while _started_at(pid) == began and time.monotonic() < give_up:
            time.sleep(0.1)
        _signal_group(pid, signal.SIGKILL)
        return True


def _signal_group(group: int, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, which)


def _started_at(pid: int) -> str:
    """The moment the process began, in clock ticks since boot; "" when it is gone or unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The command name, in parentheses, may contain anything; the fields are counted after it.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in {"Z", "X"} else fields[19]


class FolderLock:
    """Only one process at a time works in a folder; the lock ends with the process.

    Raises:
        ProcessError: On entering, when another process holds the lock.
    """

    def __init__(self, folder: Path, *, purpose: str) -> None:
        self._path = folder / ".lock"
        self._purpose = purpose
        self._file: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        """Takes the lock at once or says who has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            if error.errno not in {errno.EACCES, errno.EAGAIN}:
                raise
            raise ProcessError(
                f"{self._purpose} already runs in {self._path.parent} (process {holder}). Stop it "
                "with Ctrl-C where it runs, or use another folder."
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def wait_until(
    timeout_s: float, *, first_pause_s: float = 0.1, longest_pause_s: float = 1.0
) -> Iterator[float]:
    """Yields the seconds waited so far, with growing pauses, until the time is over.

    >>> [round(waited_s) for waited_s in wait_until(0.0)]
    [0]
    """
    started = time.monotonic()
    pause_s = first_pause_s
    while True:
        waited_s = time.monotonic() - started
        yield waited_s
        if waited_s >= timeout_s:
            return
        time.sleep(min(pause_s, max(0.0, timeout_s - waited_s)))
        pause_s = min(pause_s * 1.5, longest_pause_s)


@contextlib.contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """While inside, SIGTERM and SIGHUP end the work as Ctrl-C does, so that nothing is left."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
