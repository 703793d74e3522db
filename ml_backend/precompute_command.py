"""The command `segstudio precompute SOURCE`."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from ml_backend.command_options import image_access_options
from ml_backend.settings import default_cache_dir
from segstudio.cli_options import SourceOptions, compute_options, source_options
from segstudio.errors import EXIT_TROUBLE, MissingExtraError

if TYPE_CHECKING:
    from ml_backend.precompute import Failure, PrecomputeSummary

__all__ = ["precompute"]

_SHOWN_FAILURES = 20


@click.command()
@source_options
@click.option(
    "--model",
    default="tiny",
    show_default=True,
    help="The model that `serve` will use: tiny, classical, vit_b, vit_l, vit_h, or a path.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads of each process. [all cores, shared out among the processes]",
)
@click.option(
    "--embeddings-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that `serve` keeps embeddings in. [the user's cache folder]",
)
@click.option(
    "--disk-gb",
    default=8.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Disk for embeddings, as given to `serve`.",
)
@image_access_options
@click.option(
    "--failures",
    "failures_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every failure to this CSV file.",
)
@compute_options
@click.pass_context
def precompute(
    context: click.Context, source: SourceOptions, model: str, device: str, threads: int | None,
    embeddings_dir: Path | None, disk_gb: float, allowed_hosts: tuple[str, ...],
    local_roots: tuple[Path, ...], failures_path: Path | None, workers: int | None,
    cluster: str | None,
) -> None:  # fmt: skip
    """Encode all images of SOURCE, so that every first click is as fast as a second one.

    SOURCE is project:ID or an export file. Run it again after a stop: finished images are passed
    over. `segstudio serve` with the same model and folder finds the embeddings.
    """
    try:
        from ml_backend.embeddings import EmbeddingStore
        from ml_backend.precompute import PrecomputePlan, process_engine
        from ml_backend.precompute import precompute as run
    except ImportError as error:
        raise MissingExtraError("Encoding images", str(error.name), "sam") from error

    folder = (embeddings_dir or default_cache_dir() / "embeddings").resolve()
    opened = source.open()
    engine = process_engine(model, device)
    plan = PrecomputePlan(
        model=model,
        device=device,
        cache_key=engine.cache_key,
        threads=threads,
        url=source.url,
        api_key=source.api_key,
        ca_bundle=source.ca_bundle,
        insecure=source.insecure,
        local_roots=tuple(root.resolve() for root in local_roots),
        allowed_hosts=allowed_hosts,
    )
    store = EmbeddingStore(0, folder, int(disk_gb * (1 << 30)))
    file = failures_path.open("w", newline="", encoding="utf-8") if failures_path else None
    try:
        summary = run(
            opened, plan, store, workers=workers, cluster=cluster, on_failure=_failure_writer(file)
        )
    finally:
        if file is not None:
            file.close()
    serve = ["segstudio", "serve", "--model", model]
    serve += ["--embeddings-dir", str(folder)] if embeddings_dir else []
    serve += ["--disk-gb", f"{disk_gb:g}"] if disk_gb != 8.0 else []
    click.echo(
        _summary_text(
            summary, engine.model_version, folder, disk_gb, failures_path, shlex.join(serve)
        )
    )
    nothing_ready = summary.failed and not summary.done + summary.skipped
    context.exit(EXIT_TROUBLE if summary.is_full or nothing_ready else 0)


def _failure_writer(file: TextIO | None) -> Callable[[Failure], None]:
    if file is None:
        return lambda failure: None
    writer = csv.writer(file)
    writer.writerow(["task", "image", "reason"])

    def write(failure: Failure) -> None:
        writer.writerow([failure.task_id, failure.reference, failure.reason])
        file.flush()

    return write


def _summary_text(
    summary: PrecomputeSummary,
    version: str,
    folder: Path,
    disk_gb: float,
    failures_path: Path | None,
    serve: str,
) -> str:
    """What happened, where it is, and what to do next."""
    ready = summary.done + summary.skipped
    lines = [
        f"{ready} images of {summary.tasks} tasks are ready for {version}: "
        f"{summary.done} encoded, {summary.skipped} there already, {summary.failed} failed",
        f"  {summary.size_bytes / 1e6:.1f} MB in {folder}",
    ]
    for failure in summary.failures[:_SHOWN_FAILURES]:
        lines.append(f"  FAILED task {failure.task_id or '?'}: {failure.reason}")
    hidden = summary.failed - min(len(summary.failures), _SHOWN_FAILURES)
    if failures_path is not None:
        lines.append(f"  all failures are in {failures_path}")
    elif hidden:
        lines.append(f"  and {hidden} more; --failures FILE.csv lists them all")
    if summary.is_full:
        lines.append(
            f"The folder's limit of {disk_gb:g} GB is reached and the rest was left out. Run again "
            f"with a larger --disk-gb, and give `segstudio serve` the same."
        )
    if summary.failed:
        lines.append("Mend what failed and run the same command again: only that is left to do.")
    lines.append(f"Next: {serve}")
    return "\n".join(lines)
