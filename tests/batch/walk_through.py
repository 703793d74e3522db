"""Reads docs/walk-through.md: its sections, its files, its commands with the exit code each has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "walk-through.md"
_ENDS_WITH = re.compile(r"\s+# ends with (\d)\b.*$")


@dataclass(frozen=True)
class Command:
    """One command; `exit_code` is what the page says that it ends with."""

    text: str
    exit_code: int = 0


@dataclass(frozen=True)
class Step:
    """What follows on the page: a command, or what people do (a paragraph in italics)."""

    section: str
    command: Command | None = None
    people: str = ""


def files_of_page() -> dict[str, str]:
    """The files that the page shows: named by the first line, `gates.yaml` by its kind."""
    text = PAGE.read_text(encoding="utf-8")
    files = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\w+\.py):", block)
        assert name, f"The first line of a script names its file; this one is {block[:40]!r}"
        files[name[1]] = block
    [files["gates.yaml"]] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return files


def steps_of_page() -> list[Step]:
    """Everything that is to be done, in the order of the page.

    >>> parse_commands("a \\\\\\n  --b  # ends with 1: no\\nc")
    [Command(text='a --b', exit_code=1), Command(text='c', exit_code=0)]
    """
    text = PAGE.read_text(encoding="utf-8")
    steps: list[Step] = []
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        for found in re.finditer(r"```(\w+)\n(.*?)```|^\*(?!\*)(.+?)\*$", body, re.DOTALL | re.M):
            language, block, people = found.groups()
            if language == "sh":
                steps += [Step(title, command) for command in parse_commands(block)]
            elif people:
                steps.append(Step(title, people=people))
    return steps


def parse_commands(block: str) -> list[Command]:
    """The commands of a shell block, one a line; a line goes on after a backslash."""
    commands = []
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        if not line.strip():
            continue
        ends_with = _ENDS_WITH.search(line)
        code = int(ends_with[1]) if ends_with else 0
        commands.append(Command(_ENDS_WITH.sub("", line), code))
    return commands


class Shell:
    """Runs commands one by one in a folder; what one exports the next one finds.

    Everything is written to a log: commands, output, exit codes, seconds.
    """

    def __init__(self, folder: Path, environment: dict[str, str], log: Path) -> None:
        self._folder = folder
        self._environment = environment
        self._exports = folder / ".exports"
        self._exports.touch()
        self._log = log

    def run(self, command: Command) -> str:
        """Run one; return its output.

        Raises:
            AssertionError: it ends otherwise than the page says.
        """
        started_s = time.monotonic()
        script = (
            f". {self._exports}\n{command.text}\ncode=$?\nexport -p > {self._exports}\nexit $code"
        )
        done = subprocess.run(
            ["bash", "-c", script], cwd=self._folder, env=self._environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300,
        )  # fmt: skip
        seconds = time.monotonic() - started_s
        self.note(
            f"$ {command.text}\n{done.stdout.rstrip()}\n[exit {done.returncode}, {seconds:.1f} s]"
        )
        assert done.returncode == command.exit_code, f"{command.text}\n{done.stdout}"
        return done.stdout

    def value(self, name: str) -> str:
        """What a command exported under this name."""
        found = re.search(rf'^declare -x {name}="(.*)"$', self._exports.read_text(), re.MULTILINE)
        assert found, f"{name} has not been exported"
        return found[1]

    def has(self, name: str) -> bool:
        """Whether a command has exported this name."""
        return f"declare -x {name}=" in self._exports.read_text()

    def note(self, text: str) -> None:
        """Write something to the log."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(text + "\n\n")


def page_script() -> str:
    """The script of docs/delivery.md that checks a delivery, as it stands there."""
    page = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return str(script)


def path_with_this_python() -> str:
    """The folder of `python` and `segstudio`, before the rest of the PATH."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
