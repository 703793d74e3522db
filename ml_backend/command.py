"""The commands `segstudio serve` and `segstudio models`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ml_backend.command_options import image_access_options
from ml_backend.settings import ANSWER_KINDS, Settings, SettingsError, default_cache_dir
from segstudio.errors import MissingExtraError

__all__ = ["models", "serve"]


@click.command()
@click.option(
    "--model",
    default="tiny",
    show_default=True,
    help="tiny, classical, vit_b, vit_l, vit_h, or the path of a checkpoint or model folder.",
)
@click.option(
    "--port",
    default=9090,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; other than loopback needs authentication.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads that a model on the CPU computes with. [tiny: 1, others: all cores]",
)
@click.option(
    "--label-studio-url",
    envvar="LABEL_STUDIO_URL",
    help="Where the images come from. [env: LABEL_STUDIO_URL]",
)
@click.option(
    "--api-key",
    envvar="LABEL_STUDIO_API_KEY",
    help="Access token of Label Studio, either kind. [env: LABEL_STUDIO_API_KEY]",
)
@click.option(
    "--basic-auth",
    envvar="SEGSTUDIO_BASIC_AUTH",
    metavar="USER:PASSWORD",
    help="Demand this user and password. [env: SEGSTUDIO_BASIC_AUTH]",
)
@click.option(
    "--secret-path",
    envvar="SEGSTUDIO_SECRET_PATH",
    metavar="SECRET",
    help="Serve under http://HOST:PORT/SECRET only. [env: SEGSTUDIO_SECRET_PATH]",
)
@click.option(
    "--no-auth-i-know", is_flag=True, help="Listen beyond this machine without authentication."
)
@image_access_options
@click.option(
    "--answer",
    type=click.Choice(ANSWER_KINDS),
    help="Kind of region to answer with where the project has several. [brush]",
)
@click.option(
    "--polygon-tolerance-px",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="How far a polygon may be from the mask.",
)
@click.option(
    "--embeddings-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to keep embeddings in. [the user's cache folder]",
)
@click.option(
    "--memory-mb",
    default=512,
    show_default=True,
    type=click.IntRange(1),
    help="Memory for embeddings.",
)
@click.option(
    "--disk-gb",
    default=8.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Disk for embeddings; 0 keeps them in memory only.",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
)
def serve(
    model: str, port: int, host: str, device: str, threads: int | None,
    label_studio_url: str | None, api_key: str | None, basic_auth: str | None,
    secret_path: str | None, no_auth_i_know: bool,
    allowed_hosts: tuple[str, ...], local_roots: tuple[Path, ...], answer: str | None,
    polygon_tolerance_px: float, embeddings_dir: Path | None, memory_mb: int, disk_gb: float,
    log_level: str,
) -> None:  # fmt: skip
    """Serve a Segment Anything model to Label Studio as its ML backend.

    Connect it in the project's settings under Model, with interactive preannotations on.
    """
    folder = None
    if disk_gb > 0:
        folder = embeddings_dir or default_cache_dir() / "embeddings"
    settings = Settings(
        model=model,
        device=device,
        threads=threads,
        host=host,
        port=port,
        label_studio_url=label_studio_url,
        api_key=api_key,
        basic_auth=_split_basic_auth(basic_auth),
        secret_path=secret_path,
        no_auth=no_auth_i_know,
        allowed_hosts=allowed_hosts,
        local_roots=tuple(root.resolve() for root in local_roots),
        answer_kind=answer,
        polygon_tolerance_px=polygon_tolerance_px,
        embeddings_dir=folder,
        memory_limit_bytes=memory_mb << 20,
        disk_limit_bytes=int(disk_gb * (1 << 30)),
    )
    try:
        from ml_backend.serving import run_server
    except ImportError as error:
        raise MissingExtraError("The server", str(error.name), "sam") from error
    run_server(settings, log_level, say=lambda line: click.echo(line, err=True))


@click.group()
def models() -> None:
    """List the models and download Meta's checkpoints."""


@models.command("list")
def list_models() -> None:
    """List what `serve --model` takes, and what is on this machine."""
    from ml_backend.checkpoints import CHECKPOINTS, models_dir
    from ml_backend.engines.registry import has_tiny_weights

    rows = [
        ("tiny", "built in" if has_tiny_weights() else "no weights", "-", "small SAM, for demos"),
        ("classical", "built in", "-", "GrabCut, no weights"),
    ]
    for name, checkpoint in CHECKPOINTS.items():
        path = models_dir() / checkpoint.file_name
        here = path.is_file() and path.stat().st_size == checkpoint.size_bytes
        rows.append(
            (name, "downloaded" if here else "not here", f"{checkpoint.size_bytes / 1e6:.0f} MB",
             f"Segment Anything {name[4:].upper()}, {checkpoint.file_name}")
        )  # fmt: skip
    for row in rows:
        click.echo("{:<10} {:<11} {:>8}  {}".format(*row))
    click.echo(f"Folder of downloaded models: {models_dir()}")


@models.command("download")
@click.argument("name")
def download_model(name: str) -> None:
    """Download a checkpoint: vit_b, vit_l or vit_h. Goes on where an earlier try stopped."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from ml_backend.checkpoints import CHECKPOINTS, download

    if name not in CHECKPOINTS:
        if name in {"tiny", "classical"}:
            click.echo(f"The model {name} is built in; there is nothing to download.")
            return
        raise SettingsError(
            f"There is no model {name!r} to download; choose one of {', '.join(CHECKPOINTS)}."
        )
    checkpoint = CHECKPOINTS[name]
    console = Console(stderr=True)
    with Progress(
        "{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=console, disable=not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        job = bar.add_task(checkpoint.file_name, total=checkpoint.size_bytes)
        path = download(
            checkpoint, progress=lambda done_bytes: bar.update(job, completed=done_bytes)
        )
    click.echo(f"{path} is there and its SHA-256 is right. Run: segstudio serve --model {name}")


def _split_basic_auth(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not colon:
        raise SettingsError("--basic-auth needs USER:PASSWORD, with a colon between.")
    return user, password
