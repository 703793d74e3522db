"""Virtual environments made and filled with pip, with progress and with sentences when it fails.

Standard library only, and runnable as a script, because `make` runs it with the machine's own
Python before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HEARTBEAT_S = 20.0
"""The longest silence while pip works."""

_ANNOUNCED_SIZE = re.compile(r"^\s*Downloading (\S+) \(([\d.]+) (MB|GB)\)")
_ANNOUNCED_MB = 20.0
_ERROR_LINE = re.compile(r"^\s*(ERROR|error|\w+Error): ")

Report = Callable[[str], None]


class EnvironmentFailedError(RuntimeError):
    """A sentence that says which environment could not be made, why, and what to do."""


def say(sentence: str) -> None:
    """Prints one line of progress at once, on standard error."""
    print(sentence, file=sys.stderr, flush=True)


def ensure_environment(
    venv_dir: Path,
    pip_arguments: Sequence[Sequence[str]],
    *,
    what: str,
    python: str = sys.executable,
    report: Report = say,
) -> Path:
    """Makes a virtual environment where there is none and runs pip in it; gives its Python.

    Args:
        venv_dir: The environment's folder; a half-made one is made again.
        pip_arguments: One `pip install` each, in order, such as `[["-e", ".[dev]"]]`.
        what: What is being installed, for the sentences ("segstudio and its tools").
        python: The interpreter that makes the environment.
        report: Receives the progress, a line at a time.

    Raises:
        EnvironmentFailedError: The environment could not be made or filled.
    """
    environment_python = venv_dir / "bin" / "python"
    log_path = venv_dir / "pip.log"
    started = time.monotonic()
    try:
        if not _runs(environment_python):
            report(f"Making the environment {venv_dir} ...")
            _make_venv(python, venv_dir)
        report(f"Installing {what} into {venv_dir} ...")
        log_path.write_text("", encoding="utf-8")
        for arguments in pip_arguments:
            _pip_install(environment_python, arguments, log_path, what=what, report=report)
    except OSError as error:
        raise EnvironmentFailedError(
            f"{what} could not be installed into {venv_dir}: {error.strerror or error}. "
            "Check that the folder can be written and that the disk has room."
        ) from error
    report(f"Installed {what} in {time.monotonic() - started:.0f} s.")
    return environment_python


def _runs(environment_python: Path) -> bool:
    """Whether the environment is whole: its Python starts and has pip."""
    if not environment_python.exists():
        return False
    finished = subprocess.run(  # noqa: S603 - our own interpreter
        [str(environment_python), "-c", "import pip"], capture_output=True, check=False
    )
    return finished.returncode == 0


def _make_venv(python: str, venv_dir: Path) -> None:
    finished = subprocess.run(  # noqa: S603 - the interpreter that make chose
        [python, "-m", "venv", "--clear", str(venv_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        detail = (finished.stdout + finished.stderr).strip() or f"exit code {finished.returncode}"
        raise EnvironmentFailedError(
            f"{python} could not make the virtual environment {venv_dir}: {detail}. On Debian and "
            "Ubuntu the package python3-venv is needed."
        )


def _pip_install(
    environment_python: Path,
    arguments: Sequence[str],
    log_path: Path,
    *,
    what: str,
    report: Report,
) -> None:
    command = [str(environment_python), "-m", "pip", "install", "--no-input"]
    # Compiling what is never imported takes longer than unpacking; Python compiles on import.
    command += ["--no-compile"]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--retries", "3"]
    process = subprocess.Popen(  # noqa: S603 - pip of our own environment
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    lines: list[str] = []
    try:
        with log_path.open("a", encoding="utf-8") as log:
            _follow(process, lines, log.write, report)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    if process.returncode != 0:
        raise EnvironmentFailedError(_explain(lines, what, log_path))


def _follow(
    process: subprocess.Popen[str],
    lines: list[str],
    write_log: Callable[[str], object],
    report: Report,
) -> None:
    """Keeps pip's output, reports the large downloads, and says every so often that it is alive."""
    incoming: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None  # noqa: S101 - opened with a pipe
        for line in process.stdout:
            incoming.put(line)
        incoming.put(None)

    threading.Thread(target=read, daemon=True).start()
    started = time.monotonic()
    last_report = started
    step = "resolving versions"
    while True:
        try:
            line = incoming.get(timeout=1.0)
        except queue.Empty:
            line = ""
        if line is None:
            return
        if line:
            lines.append(line)
            write_log(line)
            sized = _ANNOUNCED_SIZE.match(line)
            if line.startswith("Installing collected packages"):
                count = line.count(",") + 1
                step = f"unpacking {count} packages"
                report(f"  {step} ...")
                last_report = time.monotonic()
            elif sized:
                megabytes = float(sized[2]) * (1000 if sized[3] == "GB" else 1)
                step = f"downloading {sized[1].split('/')[-1]}"
                if megabytes >= _ANNOUNCED_MB:
                    report(f"  {step} ({sized[2]} {sized[3]}) ...")
                    last_report = time.monotonic()
        if time.monotonic() - last_report > HEARTBEAT_S:
            report(f"  {step} ({time.monotonic() - started:.0f} s so far) ...")
            last_report = time.monotonic()


def _explain(lines: Sequence[str], what: str, log_path: Path) -> str:
    """The reason pip failed, as a sentence."""
    text = "".join(lines)
    errors = [line.strip() for line in lines if _ERROR_LINE.match(line)]
    last = errors[-1] if errors else "pip gave no reason"
    unreachable = (
        "NewConnectionError",
        "NameResolutionError",
        "Temporary failure in name resolution",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "Max retries exceeded",
        "ProxyError",
    )
    if any(sign in text for sign in unreachable):
        reason = (
            "pip could not reach the package index; check the network, or a proxy or mirror in "
            "pip's own configuration"
        )
    elif "No space left on device" in text:
        reason = "the disk is full; with a CUDA build of torch about 7 GB are needed"
    else:
        reason = last.rstrip(".")
    return f"{what} could not be installed: {reason}. All of pip's output is in {log_path}."


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Makes .venv for `make`.")
    parser.add_argument("venv_dir", type=Path)
    parser.add_argument("--what", default="the packages")
    parser.add_argument("--first", default="", help="a pip install to run before the other")
    parser.add_argument("pip", nargs="+", help="what pip installs")
    options, unknown = parser.parse_known_args(argv)
    installs = [options.first.split()] if options.first.strip() else []
    installs.append([*options.pip, *unknown])
    try:
        ensure_environment(options.venv_dir, installs, what=options.what)
    except EnvironmentFailedError as error:
        say(f"Error: {error}")
        return 3
    except KeyboardInterrupt:
        say("Stopped; the next run goes on from here.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
