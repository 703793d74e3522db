"""`segstudio doctor`: what is installed, reachable or misconfigured, and how to mend it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any, Final, Literal

import click

from segstudio.cli_options import server_options
from segstudio.errors import EXIT_TROUBLE, SegstudioError

State = Literal["ok", "note", "trouble"]

_EXTRAS: Final = {
    "sam": ("torch", "torchvision", "segment-anything", "safetensors", "starlette", "uvicorn"),
    "dicom": ("pydicom",),
    "scale": ("ray",),
    "demo": ("scikit-image",),
}
_PURPOSES: Final = {
    "sam": "SAM assist (segstudio serve)",
    "dicom": "DICOM",
    "scale": "running on a Ray cluster",
    "demo": "the demo's photos",
}
_GROUPS: Final = ("segstudio.commands", "segstudio.exporters", "segstudio.checks")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table; `mend` says what to do where the state is not "ok"."""

    subject: str
    state: State
    detail: str
    mend: str = ""


@click.command()
@server_options
@click.option("--project", type=int, help="Look at this project too: interface and ML backends.")
@click.option(
    "--ml-backend",
    default="http://127.0.0.1:9090",
    show_default=True,
    help="The ML backend to look for.",
)
def doctor(
    url: str | None,
    api_key: str | None,
    ca_bundle: str | None,
    insecure: bool,
    project: int | None,
    ml_backend: str,
) -> None:
    """Say what is installed, reachable or misconfigured, and how to mend it.

    Exit code 3 when something that is configured does not work; what is merely absent is a note.
    """
    findings = [
        *installed(),
        *plugins(),
        *server(url, api_key, ca_bundle, insecure, project),
        backend(ml_backend),
    ]
    _print_table(findings)
    if any(one.state == "trouble" for one in findings):
        raise click.exceptions.Exit(EXIT_TROUBLE)


def installed() -> Iterator[Finding]:
    """Yield what is installed: Python, segstudio, the SDK, and each extra."""
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.system()}")
    for package in ("segstudio", "label-studio-sdk", "numpy", "numba"):
        found = _version(package)
        if found is None:
            mend = "pip install segstudio (or, in its source folder: make install)"
            yield Finding(package, "trouble", "not installed", mend)
        else:
            yield Finding(package, "ok", found)
    for extra, packages in _EXTRAS.items():
        missing = [package for package in packages if _version(package) is None]
        if missing:
            detail = f"{', '.join(missing)} not installed; needed for {_PURPOSES[extra]}"
            yield Finding(f"extra {extra}", "note", detail, f"pip install 'segstudio[{extra}]'")
        else:
            detail = ", ".join(f"{package} {_version(package)}" for package in packages)
            yield Finding(f"extra {extra}", "ok", detail)


def plugins() -> Iterator[Finding]:
    """Yield how many commands, formats and checks are there, and names that clash."""
    for group in _GROUPS:
        what = group.partition(".")[2]
        by_name: dict[str, list[str]] = {}
        for entry in entry_points(group=group):
            owner = entry.dist.name if entry.dist is not None else "unknown"
            by_name.setdefault(entry.name, []).append(owner)
        if not by_name:
            mend = "pip install segstudio again, so that its metadata is found"
            yield Finding(what, "trouble", "none found", mend)
            continue
        yield Finding(what, "ok", ", ".join(sorted(by_name)))
        for name, owners in sorted(by_name.items()):
            if len(owners) > 1:
                detail = f"'{name}' comes from {' and '.join(sorted(owners))}"
                yield Finding(what, "note", detail, "rename or remove one; segstudio's own wins")


def server(
    url: str | None,
    api_key: str | None,
    ca_bundle: str | None,
    insecure: bool,
    project_id: int | None,
) -> Iterator[Finding]:
    """Yield whether Label Studio answers, who we are there, and what the project looks like."""
    from segstudio.client import connect
    from segstudio.label_config import parse_label_config

    if not url:
        mend = "set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, or run: segstudio demo"
        yield Finding("Label Studio", "note", "no address given", mend)
        return
    subject = "Label Studio"
    try:
        # The version needs no token; a placeholder lets the address be tried without one.
        with connect(url, api_key or "none", ca_bundle=ca_bundle, insecure=insecure) as client:
            if api_key:
                user = client.get_json("/api/current-user/whoami", what="this user")
                yield Finding("token", "ok", f"{client.token_kind}, of {user.get('email')}")
            else:
                mend = "make one under Account & Settings and set LABEL_STUDIO_API_KEY"
                yield Finding("token", "trouble", "none given", mend)
            release = client.get_json("/api/version", what="the version").get("release", "?")
            yield Finding(subject, "ok", f"{release} at {client.url}")
            if project_id is None or not api_key:
                return
            subject = f"project {project_id}"
            project = client.project(project_id)
            config = parse_label_config(project["label_config"])
            labels = ", ".join(config.label_names) or "no labels that mark pixels"
            yield Finding(subject, "ok", f"{project.get('title')!r}: {labels}")
            yield from _connected_backends(client, project_id)
    except (SegstudioError, ValueError) as error:
        yield Finding(subject, "trouble", str(error), "see left")


def backend(url: str) -> Finding:
    """Return whether an ML backend answers at the URL."""
    import httpx

    try:
        response = httpx.get(f"{url.rstrip('/')}/health", timeout=2.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        detail = f"nothing answers at {url} ({type(error).__name__})"
        return Finding("ML backend", "note", detail, "start it: segstudio serve --model tiny")
    if response.is_success:
        return Finding("ML backend", "ok", f"{url}: {' '.join(response.text.split())[:80]}")
    detail = f"{url}/health answered {response.status_code}"
    return Finding("ML backend", "trouble", detail, "see its log, or give --ml-backend URL")


def _connected_backends(client: Any, project_id: int) -> Iterator[Finding]:
    backends = client.get_json("/api/ml/", what="ML backends", project=project_id)
    if not backends:
        mend = "connect it under Settings > Model, with 'Use for interactive preannotations'"
        yield Finding("connected models", "note", "none", mend)
    for one in backends:
        works = one.get("state") == "CO"
        interactive = "interactive" if one.get("is_interactive") else "not interactive"
        yield Finding(
            "connected models",
            "ok" if works else "trouble",
            f"{one.get('title')} at {one.get('url')}, {interactive}",
            "" if works else "start it, or correct its URL under Settings > Model",
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("what", "state", "found", "how to mend it"):
        table.add_column(title, overflow="fold")
    styles = {"ok": "green", "note": "yellow", "trouble": "red"}
    for one in findings:
        state = Text(one.state, style=styles[one.state])
        table.add_row(Text(one.subject), state, Text(one.detail), Text(one.mend))
    Console().print(table)
