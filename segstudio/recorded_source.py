"""A source whose tasks are recorded as they are read: what `--history FILE.sqlite` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from segstudio.label_config import LabelConfig
from segstudio.snapshots import SnapshotRecorder, SnapshotSummary
from segstudio.source import Source, TaskFilter, describe_selection
from segstudio.tasks import Problem, Task

if TYPE_CHECKING:
    from segstudio.client import Client


class RecordedSource:
    """Another source, of which the first whole pass is kept as a snapshot.

    Later passes (an export reads twice) record nothing: they are the same reading. `summary` is
    there once a pass has come to its end.
    """

    def __init__(self, source: Source, history: Path) -> None:
        self._source = source
        self._history = history
        self.summary: SnapshotSummary | None = None

    @property
    def description(self) -> str:
        """Say where the tasks come from."""
        return self._source.description

    @property
    def label_config(self) -> LabelConfig:
        """The labelling interface."""
        return self._source.label_config

    @property
    def taxonomy_path(self) -> Path | None:
        """The taxonomy beside an export file, if there is one."""
        return self._source.taxonomy_path

    @property
    def project_id(self) -> int | None:
        """The one project on the server."""
        return self._source.project_id

    @property
    def project_ids(self) -> tuple[int, ...]:
        """The projects on the server."""
        return self._source.project_ids

    @property
    def filters(self) -> TaskFilter:
        """Which tasks and annotations are handed out."""
        return self._source.filters

    @property
    def problems(self) -> list[Problem]:
        """What the latest pass could not read."""
        return self._source.problems

    @property
    def client(self) -> Client | None:
        """The server's client; None for a file."""
        found: Client | None = getattr(self._source, "client", None)
        return found

    def count(self) -> int | None:
        """Return how many tasks there are, or None where only a full pass would tell."""
        return self._source.count()

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks; of the first pass that comes to its end, keep a snapshot."""
        if self.summary is not None:
            return self._source.tasks()
        return self._recorded()

    def _recorded(self) -> Iterator[Task]:
        origin = "" if self.client is None else self.client.url
        where = describe_selection(self._source).text
        whole = self.client is not None and not self.filters.selects_annotations
        with SnapshotRecorder(self._history, where, origin=origin, tells_deleted=whole) as recorder:
            yield from recorder.watch(self._source.tasks())
        self.summary = recorder.summary
