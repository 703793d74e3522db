"""Options that several commands share, so that they read alike everywhere.

A command that reads tasks takes `@source_options` and gets one `SourceOptions`:

    @click.command()
    @source_options
    @compute_options
    def qa(source: SourceOptions, workers: int | None, cluster: str | None) -> None:
        for task in source.open().tasks(): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from segstudio.errors import UsageError

if TYPE_CHECKING:
    from segstudio.client import Client
    from segstudio.source import Source

P = ParamSpec("P")
R = TypeVar("R")

_READABLE_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Where tasks come from and which of them: what the shared options said."""

    spec: str
    url: str | None = None
    api_key: str | None = None
    ca_bundle: str | None = None
    insecure: bool = False
    label_config: Path | None = None
    taxonomy: Path | None = None
    batch: str | None = None
    task_ids: tuple[int, ...] = ()
    annotators: tuple[int, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    min_annotations: int = 0
    tab: int | None = None
    only_complete: bool = False

    def open(self, history: Path | None = None) -> Source:
        """Open the source with every filter applied; see `segstudio.source.open_source`.

        Args:
            history: where to keep a snapshot of what is read (`segstudio.snapshots`).
        """
        from segstudio.source import TaskFilter, open_source

        source = open_source(
            self.spec,
            label_config=self.label_config,
            url=self.url,
            api_key=self.api_key,
            ca_bundle=self.ca_bundle,
            insecure=self.insecure,
            filters=TaskFilter(
                task_ids=frozenset(self.task_ids) or None,
                annotators=frozenset(self.annotators) or None,
                since=self.since,
                until=self.until,
                batch=self.batch,
                min_annotations=self.min_annotations,
                tab=self.tab,
                only_complete=self.only_complete,
            ),
        )
        if history is None:
            return source
        from segstudio.recorded_source import RecordedSource

        return RecordedSource(source, history)

    def connect(self) -> Client:
        """Connect to the server that the options name; see `segstudio.client.connect`."""
        from segstudio.client import connect

        return connect(self.url, self.api_key, ca_bundle=self.ca_bundle, insecure=self.insecure)


def source_argument(command: Callable[P, R]) -> Callable[P, R]:
    """Add SOURCE: an export file, `project:ID`, or several as `project:3,project:4`."""
    return click.argument("source", metavar="SOURCE")(command)


def server_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add --url, --api-key, --ca-bundle and --insecure."""
    options = (
        click.option(
            "--url", envvar="LABEL_STUDIO_URL", help="Label Studio's URL [LABEL_STUDIO_URL]."
        ),
        click.option(
            "--api-key",
            envvar="LABEL_STUDIO_API_KEY",
            help="A personal access token or a legacy token; better given in "
            "LABEL_STUDIO_API_KEY than on the command line, which other users can see.",
        ),
        click.option(
            "--ca-bundle",
            envvar="LABEL_STUDIO_CA_BUNDLE",
            help="A file of certificates to trust for https [LABEL_STUDIO_CA_BUNDLE].",
        ),
        click.option("--insecure", is_flag=True, help="Do not check https certificates."),
    )
    return _apply(command, *options)


def label_config_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add --label-config."""
    return click.option(
        "--label-config",
        type=_READABLE_FILE,
        help="The labelling interface (XML) of an export file that has none beside it.",
    )(command)


def taxonomy_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add --taxonomy."""
    return click.option(
        "--taxonomy",
        type=_READABLE_FILE,
        help="The taxonomy (YAML); without it the one beside the export file, "
        "else one derived from the labelling interface.",
    )(command)


def batch_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add --batch."""
    return click.option(
        "--batch",
        metavar="KEY=VALUE",
        help="Only tasks whose data has this value, e.g. batch=7.",
    )(command)


def filter_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add --task, --annotator, --since, --until, --min-annotations, --complete and --tab."""
    when = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
    options = (
        click.option("--task", "task_ids", type=int, multiple=True, help="Only this task id."),
        click.option(
            "--annotator", "annotators", type=int, multiple=True, help="Only this user's work."
        ),
        click.option("--since", type=when, help="Only annotations changed at or after (UTC)."),
        click.option("--until", type=when, help="Only annotations changed before (UTC)."),
        click.option(
            "--min-annotations",
            type=click.IntRange(min=0),
            default=0,
            help="Only tasks with at least so many submitted annotations.",
        ),
        click.option(
            "--complete",
            "only_complete",
            is_flag=True,
            help="Only tasks that have all the annotations they are to get.",
        ),
        click.option("--tab", type=int, help="Only the tasks of this Data Manager tab (server)."),
    )
    return _apply(command, *options)


def source_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add SOURCE with all options above; the command gets `source: SourceOptions`."""

    @wraps(command)
    def with_source(*args: Any, source: str, **values: Any) -> R:
        mine = {
            field.name: values.pop(field.name)
            for field in fields(SourceOptions)
            if field.name != "spec"
        }
        for key in ("since", "until"):
            if mine[key] is not None:
                mine[key] = mine[key].replace(tzinfo=UTC)
        return command(*args, source=SourceOptions(spec=source, **mine), **values)

    return _apply(
        with_source,
        source_argument,
        server_options,
        label_config_option,
        taxonomy_option,
        batch_option,
        filter_options,
    )


def compute_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add --workers and --cluster."""
    options = (
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            envvar="SEGSTUDIO_WORKERS",
            help="Processes to use; by default one per core.",
        ),
        click.option(
            "--cluster",
            metavar="ADDRESS",
            help="Run on the Ray cluster at this address ('local' starts one here).",
        ),
    )
    return _apply(command, *options)


def _apply(
    command: Callable[P, R], *decorators: Callable[[Callable[P, R]], Callable[P, R]]
) -> Callable[P, R]:
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def parse_key_values(texts: Iterable[str]) -> dict[str, str]:
    """Read the values of a repeated ``--option KEY=VALUE``; of a key given twice the last counts.

    Raises:
        UsageError: a text without a key or without an equals sign.

    >>> parse_key_values(["min_px=20", "where=a=b"])
    {'min_px': '20', 'where': 'a=b'}
    """
    parsed: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--option takes KEY=VALUE, not '{text}'.")
        parsed[key] = value
    return parsed
