"""Several projects of one server as one source: a batch that is spread over projects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from segstudio.controls import Control
from segstudio.errors import UsageError
from segstudio.label_config import LabelConfig
from segstudio.server_source import ServerSource
from segstudio.source import TaskFilter
from segstudio.tasks import Problem, Task


class ProjectsSource:
    """Tasks of several projects, project after project in the order given.

    The projects must have the same labelling interface up to colours, hotkeys and layout. Task
    ids are unique on a server; `project_of` says whose a task is, for what is written back.
    """

    project_id: int | None = None
    taxonomy_path: Path | None = None

    def __init__(self, sources: Sequence[ServerSource]) -> None:
        self.client = sources[0].client
        self.filters: TaskFilter = sources[0].filters
        self.problems: list[Problem] = []
        self.project_ids: tuple[int, ...] = tuple(
            number for source in sources for number in source.project_ids
        )
        *first, last = map(str, self.project_ids)
        self.description = f"projects {', '.join(first)} and {last} at {self.client.url}"
        self._sources = tuple(sources)
        self._project_of: dict[int, int] = {}

    @cached_property
    def label_config(self) -> LabelConfig:
        """The labelling interface that the projects share: the first one's.

        Raises:
            UsageError: two projects differ in controls, labels or images; names the difference.
        """
        config = self._sources[0].label_config
        for source in self._sources[1:]:
            difference = interface_difference(config, source.label_config)
            if difference is not None:
                raise UsageError(
                    f"Projects {self.project_ids[0]} and {source.project_id} cannot be one source: "
                    f"{difference} Give the projects one labelling interface (Settings > Labeling "
                    "Interface), or run the command for each of them."
                )
        return config

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks that pass the filters.

        Raises:
            UsageError: the labelling interfaces differ.
            ServerError: see `ServerSource.tasks`.
        """
        self.problems.clear()
        _ = self.label_config
        return self._all_tasks()

    def count(self) -> int | None:
        """Return how many tasks there are, or None where only a full pass would tell."""
        if self.filters.task_ids is not None:
            return len(self.filters.task_ids)
        counts = [source.count() for source in self._sources]
        return None if None in counts else sum(one for one in counts if one is not None)

    def project_of(self, task_id: int) -> int | None:
        """Return the project of a task that has been handed out."""
        return self._project_of.get(task_id)

    def _all_tasks(self) -> Iterator[Task]:
        missing: Counter[int] = Counter()
        for source in self._sources:
            for task in source.tasks():
                if source.project_id is not None:
                    self._project_of[task.id] = source.project_id
                yield task
            for problem in source.problems:
                if problem.kind == "missing-task" and problem.task_id is not None:
                    missing[problem.task_id] += 1
                else:
                    self.problems.append(problem)
        # A task named by its number is in one of the projects at most.
        for task_id, times in sorted(missing.items()):
            if times == len(self._sources):
                self.problems.append(
                    Problem("missing-task", f"{self.description} have no task {task_id}.", task_id)
                )


def interface_difference(one: LabelConfig, other: LabelConfig) -> str | None:
    """Return a sentence on the first thing in which two interfaces store other data, or None.

    Colours, hotkeys, hints, the order of labels and the layout play no part.
    """
    for what, mine, theirs in (
        ("image", _images(one), _images(other)),
        ("control", _controls(one), _controls(other)),
    ):
        for name in [*mine, *(name for name in theirs if name not in mine)]:
            if name not in theirs:
                return f"only the first has the {what} '{name}'."
            if name not in mine:
                return f"only the second has the {what} '{name}'."
            if mine[name] != theirs[name]:
                return f"the {what} '{name}' is {mine[name]} in one, {theirs[name]} in the other."
    for control in one.controls:
        labels, others = _labels(control), _labels(other.control(control.name))
        lacking, extra = sorted(labels - others), sorted(others - labels)
        if lacking:
            return f"the control '{control.name}' of the second lacks the label '{lacking[0]}'."
        if extra:
            return f"the control '{control.name}' of the first lacks the label '{extra[0]}'."
    return None


def _images(config: LabelConfig) -> dict[str, str]:
    return {
        image.name: f"{'a list in ' if image.is_list else ''}'{image.value}'"
        for image in config.images
    }


def _controls(config: LabelConfig) -> dict[str, str]:
    return {
        control.name: f"a {control.tag} on {', '.join(sorted(control.to_names)) or 'nothing'}"
        for control in config.controls
    }


def _labels(control: Control | None) -> set[str]:
    return set() if control is None else {label.stored for label in control.labels}
