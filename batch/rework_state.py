"""The rounds of rework in one file: what was sent back, why, how it was before, what became of it.

The file is written before anything on the server is, and after: a killed call leaves a round that
is `opening`, `closing` or `undoing`, and the same call again finishes it. Rounds are added and
never taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from batch.rework import Requirement
from batch.state_file import read_json, write_json
from segstudio.errors import SourceError, UsageError

FORMAT: Final = "segstudio-rework"
VERSION: Final = 1
UNFINISHED: Final = ("opening", "closing", "undoing")


@dataclass(frozen=True, slots=True)
class RoundTask:
    """A task of a round.

    Attributes:
        task_id: the task.
        project_id: its project.
        class_name: the class that failed worst, None for a mean.
        value: its value then.
        requirements: what it has to reach.
        people: who is to fix it (in the mode fix).
        drawn_by: all who had drawn it.
        look_at: the text that stands on the task, "" for none.
        before: `qa_round`, `qa_look_at`, `overlap` and `is_labeled` as they were.
        overlap: what `overlap` is raised to, None where it is left.
        drawings: of each annotation then its user, the hash of its drawing, the hash of all of
            it, and whether it was ground truth.
        outcome: what closing found: status (passed, below, waiting), short, changed, decided_by.
    """

    task_id: int
    project_id: int
    class_name: str | None
    value: float | None
    requirements: tuple[Requirement, ...]
    people: tuple[int, ...]
    drawn_by: tuple[int, ...]
    look_at: str
    before: Mapping[str, Any]
    overlap: int | None
    drawings: Mapping[str, Mapping[str, Any]]
    outcome: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The task as the file lists it."""
        return {**asdict(self), "requirements": [one.as_json() for one in self.requirements]}


@dataclass(frozen=True, slots=True)
class Round:
    """One round: `status` is opening, open, closing, closed, undoing or undone."""

    number: int
    mode: str
    status: str
    tasks: tuple[RoundTask, ...]
    verdict: str = ""
    opened_at: str = ""
    closed_at: str = ""

    @property
    def project_ids(self) -> tuple[int, ...]:
        """The projects that have tasks in the round."""
        return tuple(sorted({one.project_id for one in self.tasks}))

    def of_project(self, project_id: int) -> list[RoundTask]:
        """The round's tasks in a project."""
        return [one for one in self.tasks if one.project_id == project_id]

    def as_json(self) -> dict[str, Any]:
        """The round as the file lists it."""
        return {**asdict(self), "tasks": [one.as_json() for one in self.tasks]}


@dataclass(frozen=True, slots=True)
class ReworkState:
    """All rounds on one server. `codes` names people by letters, in tabs that all can read."""

    url: str
    codes: Mapping[int, str] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()

    @property
    def latest(self) -> Round | None:
        """The last round that was not undone."""
        return next((one for one in reversed(self.rounds) if one.status != "undone"), None)

    def with_round(self, one: Round) -> ReworkState:
        """The state with this round added, or in place of the one with its number."""
        kept = [each for each in self.rounds if each.number != one.number]
        return replace(self, rounds=tuple(sorted([*kept, one], key=lambda each: each.number)))

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "url": self.url,
            "codes": {str(person): code for person, code in sorted(self.codes.items())},
            "rounds": [one.as_json() for one in self.rounds],
        }


def write_state(path: Path, state: ReworkState) -> None:
    """Write the file in one step, readable by this user only: it names people."""
    write_json(path, state.as_json())


def read_state(path: Path, url: str) -> ReworkState:
    """Return the state of a server's rounds; a file that is not there gives one without rounds.

    Raises:
        UsageError: it is no such file, or belongs to another server.
        SourceError: it cannot be read.
    """
    if not path.exists():
        return ReworkState(url)
    raw = read_json(path, FORMAT, VERSION, "state of rework")
    if raw.get("url") != url:
        raise UsageError(
            f"The state {path} belongs to {raw.get('url')}, not to {url}; name another file."
        )
    try:
        codes = {int(person): str(code) for person, code in raw["codes"].items()}
        return ReworkState(url, codes, tuple(_round(one) for one in raw["rounds"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            f"The state {path} lacks something or has it in another form: {error!r}."
        ) from error


def utc_now() -> str:
    """The time of day in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_outcomes(one: Round, outcomes: Mapping[int, Mapping[str, Any]]) -> Round:
    """The round with what closing found of its tasks."""
    tasks = (replace(task, outcome=outcomes.get(task.task_id)) for task in one.tasks)
    return replace(one, tasks=tuple(tasks))


def _round(raw: Mapping[str, Any]) -> Round:
    return Round(**{**raw, "tasks": tuple(_task(one) for one in raw["tasks"])})


def _task(raw: Mapping[str, Any]) -> RoundTask:
    def ids(key: str) -> tuple[int, ...]:
        return tuple(int(one) for one in raw[key])

    needs: Iterable[Any] = raw["requirements"]
    return RoundTask(
        **{
            **raw,
            "requirements": tuple(Requirement(*one) for one in needs),
            "people": ids("people"),
            "drawn_by": ids("drawn_by"),
        }
    )
