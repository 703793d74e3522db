"""What `docker build` and `docker run` would do, in a folder instead of a container.

The Dockerfile's own steps are read and run in order, in a virtual environment that stands for the
image's Python: COPY takes files of the build context, RUN runs its line in a shell, ENV and WORKDIR
hold for the steps that follow. Two things differ, so that it takes seconds: what pip would download
is linked from the environment of the tests (only what the wheel declares, never more), and programs
that need to be the machine's root (`useradd`, `install -o`) are stood in for.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_STAND_INS = {
    # What is in the image's own folders is installed; `link_declared` brings the rest.
    "pip": 'sub="$1"; shift; exec "$IMAGE_ROOT/python/bin/python" -m pip "$sub" --no-deps -q "$@"',
    "useradd": 'mkdir -p "$IMAGE_ROOT/home"; echo "$@" >> "$IMAGE_ROOT/useradd.txt"',
    # install -d -o OWNER FOLDER: the folder exists; its owner is whoever runs this.
    "install": 'for last; do :; done; mkdir -p "$IMAGE_ROOT$last"',
}
_DROP_ALL_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


@dataclass(frozen=True)
class Step:
    """One instruction, such as RUN, and the rest of its line."""

    name: str
    rest: str

    def words(self) -> list[str]:
        """The JSON form's words, or a shell's."""
        found: list[str] = (
            json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)
        )
        return found


def read_steps(dockerfile: Path) -> list[Step]:
    """The instructions of a Dockerfile without comments; continued lines joined."""
    lines = dockerfile.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", text)
    pairs = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [Step(name.upper(), rest.strip()) for name, _, rest in pairs]


class Image:
    """A folder with what building the Dockerfile leaves behind."""

    def __init__(self, root: Path, context: Path) -> None:
        self.root = root
        self.context = context
        self.workdir = root
        self.environment: dict[str, str] = {}
        self.user = "root"
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.health_command: list[str] = []
        self.volumes: list[Path] = []
        self._python_bin = root / "python" / "bin"
        self._stand_ins = root / "stand-ins"

    def build(self, steps: Sequence[Step]) -> None:
        """Run every step in order. An instruction that is not known here is an AssertionError."""
        self._stand_ins.mkdir(parents=True)
        for name, script in _STAND_INS.items():
            program = self._stand_ins / name
            program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            program.chmod(0o755)
        for step in steps:
            handler = getattr(self, f"_do_{step.name.lower()}", None)
            assert handler is not None, f"The Dockerfile has a step of a new kind: {step}"
            handler(step)

    def run_environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """The environment of a process in the image, with only what docker itself would add."""
        return {
            "PATH": f"{self._stand_ins}:{self._python_bin}:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "LANG": "C.UTF-8",
            "IMAGE_ROOT": str(self.root),
            **self.environment,
            **extra,
        }

    def as_user(self, command: Sequence[str]) -> list[str]:
        """The command without the rights of root, to which write protection means nothing."""
        program = shutil.which(command[0], path=str(self._python_bin))
        assert program is not None, f"{command[0]} is not in the image"
        plain = [program, *command[1:]]
        return [*_DROP_ALL_CAPABILITIES, *plain] if os.geteuid() == 0 else plain

    def protect(self) -> None:
        """Take away the right to write anywhere but in the volumes, as an image's user finds it."""
        volumes = set(self.volumes)
        for folder, _, _ in os.walk(self.root):
            path = Path(folder)
            if path not in volumes and not volumes & set(path.parents):
                path.chmod(0o555)

    def unprotect(self) -> None:
        """Give the right back, so that the folder can be removed."""
        for folder, _, _ in os.walk(self.root):
            Path(folder).chmod(0o755)

    def inside(self, path: str) -> Path:
        """Where a path of the image lies."""
        return self.root / path.lstrip("/") if path.startswith("/") else self.workdir / path

    def _do_from(self, step: Step) -> None:
        subprocess.run([sys.executable, "-m", "venv", self.root / "python"], check=True)

    def _do_arg(self, step: Step) -> None:
        (name, _, value) = step.words()[0].partition("=")
        self.environment[name] = value

    def _do_env(self, step: Step) -> None:
        for word in step.words():
            name, _, value = word.partition("=")
            self.environment[name] = str(self.inside(value)) if value.startswith("/") else value

    def _do_workdir(self, step: Step) -> None:
        self.workdir = self.inside(step.rest)
        self.workdir.mkdir(parents=True, exist_ok=True)

    def _do_copy(self, step: Step) -> None:
        *sources, target = step.words()
        for source in sources:
            found = self.context / source
            assert found.exists(), f"COPY {source}: not in the build context"
            to = self.inside(target)
            if found.is_dir():
                shutil.copytree(found, to, ignore=self._ignored, dirs_exist_ok=True)
            else:
                shutil.copy2(found, to / found.name if to.is_dir() else to)

    def _do_run(self, step: Step) -> None:
        environment = self.run_environment(_way_to_the_package_index())
        finished = subprocess.run(
            ["/bin/sh", "-c", step.rest], cwd=self.workdir, env=environment, check=False,
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert finished.returncode == 0, f"RUN {step.rest}\n{finished.stdout}{finished.stderr}"

    def _do_user(self, step: Step) -> None:
        self.user = step.rest

    def _do_volume(self, step: Step) -> None:
        self.volumes += [self.inside(path) for path in step.words()]

    def _do_expose(self, step: Step) -> None:
        assert step.rest.isdigit()

    def _do_healthcheck(self, step: Step) -> None:
        self.health_command = json.loads(step.rest.partition(" CMD ")[2])

    def _do_entrypoint(self, step: Step) -> None:
        self.entrypoint = step.words()

    def _do_cmd(self, step: Step) -> None:
        self.command = step.words()

    def _ignored(self, folder: str, names: list[str]) -> set[str]:
        patterns = (self.context / ".dockerignore").read_text(encoding="utf-8").split()
        relative = Path(folder).relative_to(self.context)
        return {
            name
            for name in names
            if any(
                fnmatch(str(relative / name), pattern)
                or (pattern.startswith("**/") and fnmatch(name, pattern[3:]))
                for pattern in patterns
            )
        }

    def site_packages(self) -> Path:
        """Where the image's Python has its packages."""
        (found,) = (self.root / "python").glob("lib/python3*/site-packages")
        return found


def _way_to_the_package_index() -> dict[str, str]:
    """What pip is told on this machine, which the image's empty home says nothing of."""
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    found = {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    own = Path.home() / ".config" / "pip" / "pip.conf"
    return {"PIP_CONFIG_FILE": str(own), **found} if own.exists() else found


def declared(name: str, extras: Iterable[str] = ()) -> dict[str, importlib.metadata.Distribution]:
    """The distributions of this environment that one of them needs, however indirectly."""
    found: dict[str, importlib.metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()

    def follow(name: str, extras: Iterable[str]) -> None:
        distribution = importlib.metadata.distribution(name)
        found[canonicalize_name(name)] = distribution
        for extra in ("", *extras):
            if (canonicalize_name(name), extra) in seen:
                continue
            seen.add((canonicalize_name(name), extra))
            for line in distribution.requires or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    version = importlib.metadata.version(needed.name)
                    assert needed.specifier.contains(version, prereleases=True), (line, version)
                    follow(needed.name, needed.extras)

    follow(name, extras)
    return found


def link_declared(site_packages: Path, name: str, extras: Iterable[str]) -> int:
    """Link into an environment what a distribution declares, and not the distribution itself."""
    needed = declared(name, extras)
    del needed[canonicalize_name(name)]
    for distribution in needed.values():
        for top in _top_level(distribution):
            link = site_packages / top.name
            if not link.exists():
                link.symlink_to(top)
    return len(needed)


def _top_level(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    root = Path(str(distribution.locate_file("")))
    names = {file.parts[0] for file in distribution.files or () if not file.is_absolute()}
    for name in sorted(names - {"..", "__pycache__"}):
        yield root / name
