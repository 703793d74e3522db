"""What is known of a batch before it is planned: tasks, cells of alike tasks, intervals so far.

The sampling model (docs/batch-loop.md has the formulas). The batch is the population. Tasks with
the same classes and the same first annotator are alike and form a cell; within a cell those that
two people drew count as drawn by lot. A domain is what is to be known: the mean IoU of a class, or
the mean agreement of an annotator, over the tasks that it appears on.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
DomainKind = Literal["class", "annotator"]
Domain = tuple[DomainKind, str | int]


@dataclass(frozen=True, slots=True)
class PlanTask:
    """One task as the planner sees it.

    Attributes:
        id: the task.
        project_id: its project on the server.
        classes: the classes on it, by its first annotation or a prediction; None: not known.
        annotators: who submitted, the first one first.
        asked: how many annotations it is to get by now (its overlap).
        cost_s: what one more annotation takes, in seconds; None: not known.
        values: of each class, the mean IoU over the pairs of its annotators; empty below two.
        pair_variance: variance of the pairs' mean IoU where three or more drew it.
    """

    id: int
    project_id: int | None = None
    classes: frozenset[str] | None = None
    annotators: tuple[int, ...] = ()
    asked: int = 1
    cost_s: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    pair_variance: float | None = None

    @property
    def is_double(self) -> bool:
        """Whether two people or more have drawn it."""
        return len(self.annotators) >= 2

    @property
    def is_due(self) -> bool:
        """Whether two people drew it or have been asked to."""
        return max(len(self.annotators), self.asked) >= 2

    @property
    def value(self) -> float | None:
        """The mean over its classes' values."""
        return sum(self.values.values()) / len(self.values) if self.values else None


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be known, and what is assumed where nothing is.

    Attributes:
        half_width: of the interval around every mean.
        confidence: of the interval.
        prior_sd: standard deviation of a class's IoU between tasks, where it is not known.
        first_tasks: doubly annotated tasks that a class needs before its spread counts as known.
        common_tasks: tasks that an annotator is to share with others, for a connected graph.
        beyond_batch: the means are to hold for further tasks like these, not for this batch only.
        at_once: plan everything from `prior_sd`, with no look at a few tasks first.
        seed: of the lots that are drawn.
    """

    half_width: float = 0.03
    confidence: float = 0.95
    prior_sd: float = 0.15
    first_tasks: int = 8
    common_tasks: int = 3
    beyond_batch: bool = False
    at_once: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DomainState:
    """What is known of one class or annotator.

    `tasks` of `population` are doubly annotated; `mean` and `half_width` are None below two,
    `sd` is the spread between tasks (of an annotator: around what the tasks' classes let expect).
    """

    kind: DomainKind
    name: str | int
    population: float
    tasks: int
    mean: float | None
    sd: float | None
    half_width: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """Alike tasks, by their positions in the list."""

    key: tuple[str, ...]
    members: tuple[int, ...]


def build_cells(tasks: Sequence[PlanTask], least: int | Callable[[int], int]) -> list[Cell]:
    """Group tasks by (classes, first annotator); groups below `least` are merged with others.

    First with those of the same rarest class and annotator, then of that class, then all.

    Args:
        tasks: the batch.
        least: the least size of a group, or how it follows from the number of tasks that show the
            group's rarest class: of a rare class a larger share is drawn, and smaller groups do.
    """
    present = Counter(name for task in tasks for name in task.classes or ())
    levels: list[list[tuple[str, ...]]] = []
    sizes: list[int] = []
    for task in tasks:
        first = str(task.annotators[0]) if task.annotators else "-"
        names = sorted(task.classes or ())
        rarest = min(names, key=lambda name: (present[name], name), default="")
        share = present[rarest] if rarest else len(tasks)
        sizes.append(least if isinstance(least, int) else least(share))
        if task.classes is None:
            levels.append([("?", first), ("?",), ()])
            continue
        levels.append([(*names, first, ""), (rarest, first), (rarest,), ()])
    waiting = list(range(len(tasks)))
    cells: list[Cell] = []
    for level in range(4):
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for index in waiting:
            keys = levels[index]
            groups[keys[min(level, len(keys) - 1)]].append(index)
        waiting = []
        for key, members in sorted(groups.items()):
            if len(members) >= min(sizes[index] for index in members) or level == 3:
                cells.append(Cell((str(level), *key), tuple(members)))
            else:
                waiting += members
    return cells


def measure(tasks: Sequence[PlanTask], goal: Goal, cells: Sequence[Cell]) -> list[DomainState]:
    """Return what the tasks drawn twice say of every class and annotator, with intervals.

    A task counts by how many of its cell stand behind it. The interval is Student's, with the
    finite population correction unless the goal is beyond the batch.
    """
    weight = np.zeros(len(tasks))
    rate = np.zeros(len(tasks))
    for cell in cells:
        done = [index for index in cell.members if tasks[index].values]
        for index in done:
            weight[index] = len(cell.members) / len(done)
            rate[index] = len(done) / len(cell.members)
    return [
        *_class_states(tasks, goal, weight, rate),
        *_annotator_states(tasks, goal, weight, rate),
    ]


def _class_states(
    tasks: Sequence[PlanTask], goal: Goal, weight: FloatArray, rate: FloatArray
) -> list[DomainState]:
    rates = presence_rates(tasks)
    found: dict[str, list[int]] = defaultdict(list)
    sizes: dict[str, float] = defaultdict(float)
    for index, task in enumerate(tasks):
        for name in task.values:
            found[name].append(index)
        if task.classes is None and not task.values:
            for name, share in rates.items():
                sizes[name] += share
        else:
            for name in {*(task.classes or ()), *task.values}:
                sizes[name] += 1
    states = []
    for name in sorted(sizes):
        members = found[name]
        values = np.array([tasks[index].values[name] for index in members])
        mean, sd, half = _interval(values, weight[members], rate[members], goal)
        states.append(DomainState("class", name, sizes[name], len(members), mean, sd, half))
    return states


def _annotator_states(
    tasks: Sequence[PlanTask], goal: Goal, weight: FloatArray, rate: FloatArray
) -> list[DomainState]:
    expected = class_means(tasks, weight)
    drawn: dict[int, list[int]] = defaultdict(list)
    for index, task in enumerate(tasks):
        for person in set(task.annotators):
            drawn[person].append(index)
    states = []
    for person, members in sorted(drawn.items()):
        done = [index for index in members if tasks[index].values]
        residuals = np.array([residual(tasks[index], expected) for index in done])
        # Of what somebody drew as the second, all is known: each stands for itself.
        second = np.array([tasks[index].annotators[0] != person for index in done], bool)
        weights = np.where(second, 1.0, weight[done])
        rates = np.where(second, 1.0, rate[done])
        offset, sd, half = _interval(residuals, weights, rates, goal)
        base = [expected_value(tasks[index], expected) for index in members]
        known = [one for one in base if one is not None]
        mean = None if offset is None or not known else offset + sum(known) / len(known)
        states.append(DomainState("annotator", person, len(members), len(done), mean, sd, half))
    return states


def class_means(tasks: Sequence[PlanTask], weight: FloatArray) -> dict[str, float]:
    """Return the weighted mean of each class's values."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for index, task in enumerate(tasks):
        for name, value in task.values.items():
            sums[name][0] += weight[index] * value
            sums[name][1] += weight[index]
    return {name: total / count for name, (total, count) in sums.items() if count}


def expected_value(task: PlanTask, means: Mapping[str, float]) -> float | None:
    """Return the mean agreement that the classes of a task let expect."""
    known = [means[name] for name in (task.values or task.classes or ()) if name in means]
    return sum(known) / len(known) if known else None


def residual(task: PlanTask, means: Mapping[str, float]) -> float:
    """Return how far a task's agreement is from what its classes let expect."""
    value, base = task.value, expected_value(task, means)
    return 0.0 if value is None or base is None else value - base


def presence_rates(tasks: Sequence[PlanTask]) -> dict[str, float]:
    """Return on which share of the tasks with known classes each class is."""
    known = [task.classes for task in tasks if task.classes is not None]
    counts = Counter(name for classes in known for name in classes)
    return {name: count / len(known) for name, count in sorted(counts.items())}


def student(tasks: FloatArray | float, confidence: float) -> FloatArray:
    """Return Student's quantile for an interval from so many tasks (one degree of freedom less)."""
    from scipy.special import stdtrit

    freedom = np.maximum(np.asarray(tasks, dtype=np.float64) - 1, 1.0)
    return np.asarray(stdtrit(freedom, 0.5 + confidence / 2), dtype=np.float64)


def _interval(
    values: FloatArray, weight: FloatArray, rate: FloatArray, goal: Goal
) -> tuple[float | None, float | None, float | None]:
    """Weighted mean, spread, and half width of the interval of the mean."""
    count = len(values)
    if count == 0:
        return None, None, None
    total = weight.sum()
    mean = float((weight * values).sum() / total)
    if count == 1:
        return mean, None, None
    errors = values - mean
    spread = math.sqrt(float((weight * errors**2).sum() / total) * count / (count - 1))
    left = np.ones(count) if goal.beyond_batch else 1 - rate
    variance = count / (count - 1) * float((left * (weight * errors) ** 2).sum()) / total**2
    return mean, spread, float(student(count, goal.confidence)) * math.sqrt(variance)
