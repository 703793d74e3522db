"""Where tasks come from: an export file or projects on a server; all stream the same Tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from segstudio.errors import UsageError
from segstudio.label_config import LabelConfig
from segstudio.source_description import Selection, describe_selection
from segstudio.tasks import Annotation, Problem, Task, TaskFormatError, parse_task

if TYPE_CHECKING:
    from segstudio.client import Client

__all__ = [
    "Selection",
    "Source",
    "TaskFilter",
    "describe_selection",
    "open_source",
    "parse_and_filter",
    "parse_projects",
]

_PROJECT_SPEC = re.compile(r"project:(\d+)")


class Source(Protocol):
    """A stream of tasks with the labelling interface they were drawn under.

    `problems` holds what could not be read in the latest pass of `tasks()`; problems inside a
    task are in the task.
    """

    @property
    def description(self) -> str:
        """Say where the tasks come from, e.g. "project 3 at http://localhost:8080"."""
        ...

    @property
    def label_config(self) -> LabelConfig:
        """The labelling interface."""
        ...

    @property
    def taxonomy_path(self) -> Path | None:
        """The taxonomy beside an export file, if there is one."""
        ...

    @property
    def project_id(self) -> int | None:
        """The one project on the server; None for a file and for several projects."""
        ...

    @property
    def project_ids(self) -> tuple[int, ...]:
        """The projects on the server, none for a file; each task says its own."""
        ...

    @property
    def filters(self) -> TaskFilter:
        """Which tasks and annotations are handed out; `describe_selection` words it."""
        ...

    @property
    def problems(self) -> list[Problem]:
        """What the latest pass could not read."""
        ...

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks that pass the filters; may be called again for another pass."""
        ...

    def count(self) -> int | None:
        """Return how many tasks there are, or None where only a full pass would tell."""
        ...


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks, and which of their annotations, a source hands out.

    Attributes:
        task_ids: only these tasks; None takes all.
        annotators: only these users' annotations; a task without one is left out.
        since: only annotations last changed at or after; aware datetime.
        until: only annotations last changed before; aware datetime.
        batch: "KEY=VALUE": only tasks whose `data[KEY]` is VALUE (as text or as JSON).
        min_annotations: only tasks with at least so many submitted annotations left.
        tab: only the tasks of this Data Manager tab (server only).
        only_complete: only tasks with all the annotations they are to get: those that Label
            Studio calls labelled, or, in files that do not say so, those with as many submitted
            annotations as their overlap (1 where that is not said either).
    """

    task_ids: frozenset[int] | None = None
    annotators: frozenset[int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    batch: str | None = None
    min_annotations: int = 0
    tab: int | None = None
    only_complete: bool = False

    def __post_init__(self) -> None:
        """Refuse a batch that is no KEY=VALUE and dates without a zone."""
        if self.batch is not None and not self.batch.partition("=")[0].strip():
            raise UsageError(f"--batch takes KEY=VALUE, such as batch=7, not {self.batch!r}.")
        if self.batch is not None and "=" not in self.batch:
            raise UsageError(f"--batch takes KEY=VALUE, such as batch=7, not {self.batch!r}.")
        for name, when in (("since", self.since), ("until", self.until)):
            if when is not None and when.tzinfo is None:
                raise UsageError(f"The date of '{name}' ({when}) must name its time zone.")

    @property
    def selects_annotations(self) -> bool:
        """Tell whether single annotations are left out of the tasks."""
        return not (self.annotators is None and self.since is None and self.until is None)

    def wants_raw(self, raw: Mapping[str, Any]) -> bool:
        """Tell from the JSON of a task, before the cost of parsing, whether it may pass."""
        if self.task_ids is not None and raw.get("id") not in self.task_ids:
            return False
        if self.batch is None:
            return True
        key, _, wanted = self.batch.partition("=")
        data = raw.get("data")
        value = data.get(key.strip()) if isinstance(data, Mapping) else None
        return value is not None and wanted.strip() in (str(value), json.dumps(value))

    def apply(self, task: Task) -> Task | None:
        """Return the task with the annotations that pass, or None when it does not pass."""
        if self.only_complete and not _is_complete(task):
            return None
        if self.selects_annotations:
            kept = tuple(one for one in task.annotations if self._wants_annotation(one))
            if not kept:
                return None
            if len(kept) < len(task.annotations):
                task = replace(task, annotations=kept)
        return task if _submitted(task) >= self.min_annotations else None

    def _wants_annotation(self, annotation: Annotation) -> bool:
        if self.annotators is not None and annotation.completed_by not in self.annotators:
            return False
        if self.since is None and self.until is None:
            return True
        changed = _parse_time(annotation.updated_at or annotation.created_at)
        if changed is None:
            return False
        too_early = self.since is not None and changed < self.since
        too_late = self.until is not None and changed >= self.until
        return not (too_early or too_late)


def _submitted(task: Task) -> int:
    return sum(not one.was_cancelled for one in task.annotations)


def _is_complete(task: Task) -> bool:
    if task.is_labeled is not None:
        return task.is_labeled
    return _submitted(task) >= max(1, task.overlap or 1)


def parse_projects(spec: str) -> tuple[int, ...]:
    """Return the project numbers of "project:3" or "project:3,project:4"; none for a file.

    Raises:
        UsageError: a project without a number, or named twice.

    >>> parse_projects("project:3, project:4"), parse_projects("export.json")
    ((3, 4), ())
    """
    if not spec.strip().startswith("project:"):
        return ()
    found = [_PROJECT_SPEC.fullmatch(part.strip()) for part in spec.split(",")]
    numbers = [int(one[1]) for one in found if one is not None]
    if len(numbers) < len(found):
        raise UsageError(
            "A project is named by its number, such as project:3, or several as "
            f"project:3,project:4; not {spec!r}."
        )
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"SOURCE {spec!r} names a project twice; name each project once.")
    return tuple(numbers)


def open_source(
    spec: str,
    *,
    label_config: Path | None = None,
    url: str | None = None,
    api_key: str | None = None,
    ca_bundle: str | None = None,
    insecure: bool = False,
    batch: str | None = None,
    filters: TaskFilter | None = None,
    client: Client | None = None,
) -> Source:
    """Open an export file or projects on a server.

    Args:
        spec: a path or fsspec URL of a .json, .json.gz or .jsonl file, "project:ID", or several
            as "project:3,project:4".
        label_config: the labelling interface of an export file; by default
            `X.label-config.xml` beside `X.json`.
        url: the server; default LABEL_STUDIO_URL.
        api_key: the token; default LABEL_STUDIO_API_KEY.
        ca_bundle: certificates to trust.
        insecure: do not check certificates.
        batch: shorthand for `TaskFilter(batch=...)`.
        filters: which tasks and annotations to hand out.
        client: a connection to use in place of url and api_key.

    Raises:
        UsageError: the spec or a filter does not fit.
        SourceError, ServerError: the file or project cannot be read.
    """
    filters = filters or TaskFilter()
    if batch is not None:
        filters = replace(filters, batch=batch)
    projects = parse_projects(spec)
    if projects:
        from segstudio.client import connect
        from segstudio.projects_source import ProjectsSource
        from segstudio.server_source import ServerSource

        if len(projects) > 1 and filters.tab is not None:
            raise UsageError("A tab belongs to one project: give --tab with one project:ID.")
        if client is None:
            client = connect(url, api_key, ca_bundle=ca_bundle, insecure=insecure)
        opened = [ServerSource(client, one, filters, label_config) for one in projects]
        return opened[0] if len(opened) == 1 else ProjectsSource(opened)
    if filters.tab is not None:
        raise UsageError("--tab names a tab of the Data Manager and needs SOURCE project:ID.")
    from segstudio.export_file import FileSource

    return FileSource(spec, filters, label_config)


def parse_and_filter(
    raw_tasks: Iterable[Any], filters: TaskFilter, problems: list[Problem], place: str
) -> Iterator[Task]:
    """Parse the JSON of tasks one by one; a task that cannot be read becomes a problem.

    Args:
        raw_tasks: decoded JSON values; one without an id gets its position, from 1.
        filters: what is handed out.
        problems: where to add what could not be read.
        place: where the tasks come from, for the problems' sentences.
    """
    seen = _IdSet()
    for position, raw in enumerate(raw_tasks, start=1):
        if not isinstance(raw, Mapping):
            found = type(raw).__name__
            problems.append(
                Problem("bad-task", f"Task {position} of {place} is a {found}, not an object.")
            )
            continue
        if raw.get("id") is None:
            raw = {**raw, "id": position}
        if not filters.wants_raw(raw):
            continue
        try:
            task = parse_task(raw)
        except TaskFormatError as error:
            bad_id = raw["id"] if isinstance(raw["id"], int) else None
            problems.append(Problem("bad-task", str(error), task_id=bad_id))
            continue
        if not seen.add(task.id):
            problems.append(
                Problem(
                    "doubled-task",
                    f"Task {task.id} is more than once in {place}; only the first is used.",
                    task_id=task.id,
                )
            )
            continue
        wanted = filters.apply(task)
        if wanted is not None:
            yield wanted


class _IdSet:
    """A set of task ids in about two bits an id where ids are dense, as a database's are."""

    _PAGE_BITS = 13

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, number: int) -> bool:
        """Add an id; False when it was there."""
        page_bytes = 1 << (self._PAGE_BITS - 3)
        page = self._pages.setdefault(number >> self._PAGE_BITS, bytearray(page_bytes))
        byte, bit = divmod(number & ((1 << self._PAGE_BITS) - 1), 8)
        if page[byte] >> bit & 1:
            return False
        page[byte] |= 1 << bit
        return True


def _parse_time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
