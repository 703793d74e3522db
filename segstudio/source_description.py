"""A source in words and as JSON: which project or file, and which of its tasks and annotations.

What every report, card and manifest says of where its numbers come from. Times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from segstudio.source import Source, TaskFilter

_NAMED_IDS: Final = 10


@dataclass(frozen=True, slots=True)
class Selection:
    """What a source hands out; see `describe_selection`.

    Attributes:
        source: "project 3 at http://localhost:8080", or a file's name without its folders.
        projects: the numbers of the projects, none for a file.
        server: the server's URL, None for a file.
        filters: the filters, each in words; none takes all.
        values: the filters as JSON values by option name; only those that are set.
    """

    source: str
    projects: tuple[int, ...]
    server: str | None
    filters: tuple[str, ...]
    values: dict[str, Any]

    @property
    def text(self) -> str:
        """All of it in one line, e.g. "project 3 at http://localhost:8080, batch=7"."""
        return ", ".join([self.source, *self.filters])

    def as_json(self) -> dict[str, Any]:
        """Return what cards, manifests and `qa.json` keep; times are UTC, ending in Z."""
        return {
            "text": self.text,
            "source": self.source,
            "server": self.server,
            "projects": list(self.projects),
            "filters": self.values,
        }


def describe_selection(source: Source) -> Selection:
    """Say which projects or file a source reads and what its filters keep.

    The order of ids given on the command line plays no part, nor does the folder of a file.
    """
    client = getattr(source, "client", None)
    words, values = _filters(getattr(source, "filters", None))
    return Selection(
        source=source_name(source.description),
        projects=tuple(getattr(source, "project_ids", ())),
        server=None if client is None else str(client.url),
        filters=words,
        values=values,
    )


def source_name(description: str) -> str:
    """Return a source's description without the folders of the machine that read it.

    >>> source_name("/data/team/export.json"), source_name("projects 3 and 4 at http://ls/")
    ('export.json', 'projects 3 and 4 at http://ls/')
    """
    if description.startswith(("project ", "projects ")):
        return description
    return description.replace("\\", "/").rstrip("/").rpartition("/")[2]


def utc_second(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC, e.g. "2026-11-21T06:00:00Z"."""
    text = moment.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"


def _filters(filters: TaskFilter | None) -> tuple[tuple[str, ...], dict[str, Any]]:
    words: list[str] = []
    values: dict[str, Any] = {}
    if filters is None:
        return (), values
    if filters.batch is not None:
        key, _, value = filters.batch.partition("=")
        words.append(f"{key.strip()}={value.strip()}")
        values["batch"] = words[-1]
    if filters.tab is not None:
        words.append(f"tab {filters.tab}")
        values["tab"] = filters.tab
    if filters.task_ids is not None:
        words.append(_listed("task", filters.task_ids))
        values["tasks"] = sorted(filters.task_ids)
    if filters.annotators is not None:
        words.append(f"annotations of {_listed('user', filters.annotators)}")
        values["annotators"] = sorted(filters.annotators)
    for name, word, moment in (
        ("since", "at or after", filters.since),
        ("until", "before", filters.until),
    ):
        if moment is not None:
            values[name] = utc_second(moment)
            words.append(f"annotations changed {word} {values[name]} (UTC)")
    if filters.min_annotations:
        words.append(f"tasks with {filters.min_annotations} or more annotations")
        values["min_annotations"] = filters.min_annotations
    if filters.only_complete:
        words.append("complete tasks")
        values["complete"] = True
    return tuple(words), values


def _listed(noun: str, ids: Iterable[int]) -> str:
    numbers = sorted(ids)
    shown = ", ".join(map(str, numbers[:_NAMED_IDS]))
    more = f" and {len(numbers) - _NAMED_IDS} more" if len(numbers) > _NAMED_IDS else ""
    return f"{noun}{'' if len(numbers) == 1 else 's'} {shown}{more}"
