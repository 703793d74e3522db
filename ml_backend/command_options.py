"""Options that the commands of the backend share, so that they read alike everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def image_access_options(command: Command) -> Command:
    """Add `--allow-host` and `--local-root`: where images may come from besides Label Studio."""
    local_root = click.option(
        "--local-root",
        "local_roots",
        multiple=True,
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder that tasks may name images in directly; may be repeated.",
    )
    allow_host = click.option(
        "--allow-host",
        "allowed_hosts",
        multiple=True,
        metavar="HOST",
        help="Another host that images may come from; may be repeated.",
    )
    return allow_host(local_root(command))
