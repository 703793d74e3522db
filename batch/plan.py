"""Which tasks a second person should draw, for a stated goal at the least cost.

Pure: tasks in, plan out. The number of double annotations in each cell (`batch.plan_model`) is an
optimal allocation for several means at once (Bethel 1989; here by greedy steps with a pass that
takes back what is not needed); which tasks of a cell, is drawn by lot with a fixed seed, so that
the same call on the same batch plans the same and a later call only adds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from batch.plan_allocation import Allocation, cell_size, cost_s_of, usual_cost_s
from batch.plan_links import Links, links_of, unlinked
from batch.plan_model import (
    Cell,
    DomainState,
    FloatArray,
    Goal,
    PlanTask,
    build_cells,
    measure,
)


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task that gets one more annotator: how many annotations it is to have then."""

    task_id: int
    project_id: int | None
    overlap: int
    cost_s: float


@dataclass(frozen=True, slots=True)
class DomainPlan:
    """A class or annotator: what is known now, and what is expected once the plan is drawn.

    Attributes:
        now: what the tasks drawn twice say today.
        sd: the spread that was planned with.
        sd_is_prior: it is an assumption, or mostly so.
        planned_tasks: doubly annotated tasks of it once the plan is drawn.
        half_width: expected then; None where the first look only counts tasks.
        is_reached: the goal is reached today.
        looks_first: its spread is not known, and this plan only finds it out.
    """

    now: DomainState
    sd: float
    sd_is_prior: bool
    planned_tasks: float
    half_width: float | None
    is_reached: bool
    looks_first: bool


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What to do, what it costs, and what it will tell.

    Attributes:
        goal: what was asked for.
        tasks: how many tasks the batch has.
        double: how many two people have drawn.
        pending: how many two people were asked to draw and have not yet.
        asked: the tasks that get one more annotator, by id.
        hours: what they cost.
        known_costs: share of the tasks whose cost is known from lead times.
        domains: classes, then annotators.
        random_tasks: how many tasks drawn by lot would be expected to tell the same; None where
            not even all would.
        links: how the annotators hang together now and once it is drawn.
    """

    goal: Goal
    tasks: int
    double: int
    pending: int
    asked: tuple[PlannedTask, ...]
    hours: float
    known_costs: float
    domains: tuple[DomainPlan, ...]
    random_tasks: int | None
    links: Links

    @property
    def is_final(self) -> bool:
        """Whether the plan is expected to reach the goal, with no further look needed."""
        return not any(one.looks_first for one in self.domains) and all(
            one.is_reached
            or (one.half_width is not None and one.half_width <= self.goal.half_width * 1.0001)
            for one in self.domains
        )


def make_plan(tasks: Sequence[PlanTask], goal: Goal) -> BatchPlan:
    """Plan the double annotations of a batch; an empty batch asks for none."""
    due = sum(task.is_due for task in tasks)
    least = cell_size(tasks, goal)
    cells = build_cells(tasks, least)
    states = measure(tasks, goal, cells)
    problem = Allocation(tasks, cells, states, goal)
    linking = _linking_tasks(tasks, goal)
    counts = problem.solve(_floor(tasks, cells, linking))
    asked = _draw(tasks, cells, counts, linking, goal)
    if goal.beyond_batch:
        asked += _thirds(tasks, cells, problem, counts, goal, {one.task_id for one in asked})
    halves = problem.half_widths(counts)
    planned = problem.tasks_in(counts)
    domains = tuple(
        DomainPlan(
            state,
            sd=float(problem.sd[row]),
            sd_is_prior=bool(problem.is_prior[row]),
            planned_tasks=float(planned[row]),
            half_width=float(halves[row]),
            is_reached=bool(problem.is_reached[row]),
            looks_first=bool(problem.looks_first[row]),
        )
        for row, state in enumerate(states)
    )
    known = sum(task.cost_s is not None for task in tasks)
    return BatchPlan(
        goal=goal,
        tasks=len(tasks),
        double=sum(task.is_double for task in tasks),
        pending=due - sum(task.is_double for task in tasks),
        asked=tuple(sorted(asked, key=lambda one: one.task_id)),
        hours=sum(one.cost_s for one in asked) / 3600,
        known_costs=known / len(tasks) if tasks else 0.0,
        domains=domains,
        random_tasks=problem.random_tasks(),
        links=links_of(tasks, {one.task_id for one in asked}, seed=goal.seed),
    )


def _draw(
    tasks: Sequence[PlanTask],
    cells: Sequence[Cell],
    counts: FloatArray,
    linking: Collection[int],
    goal: Goal,
) -> list[PlannedTask]:
    """Draw the tasks of each cell by lot, after those that link annotators.

    The lots depend on seed and task id alone.
    """
    usual = usual_cost_s(tasks)
    asked = []
    for cell, count in zip(cells, counts, strict=True):
        free = [tasks[index] for index in cell.members if not tasks[index].is_due]
        more = round(count) - (len(cell.members) - len(free))
        free.sort(key=lambda one: (one.id not in linking, _lot(one.id, goal.seed)))
        for task in free[: max(0, more)]:
            asked.append(PlannedTask(task.id, task.project_id, 2, cost_s_of(task, usual)))
    return asked


def _thirds(
    tasks: Sequence[PlanTask],
    cells: Sequence[Cell],
    problem: Allocation,
    counts: FloatArray,
    goal: Goal,
    asked: set[int],
) -> list[PlannedTask]:
    """Third annotators where two on every task do not tell enough of tasks like these.

    A third makes the rater's part of a task's variance two thirds of what it is (three raters in
    place of two: the leading term of a mean over pairs is 4 / raters). Where nobody has drawn a
    task as the third, that part is not known and no third is asked for.
    """
    known = [task.pair_variance for task in tasks if task.pair_variance is not None]
    if len(known) < goal.first_tasks:
        return []
    within = sum(known) / len(known)
    wanted = np.zeros(len(cells))
    halves = problem.half_widths(counts)
    for row in np.flatnonzero(~problem.is_satisfied(counts) & ~problem.looks_first):
        part = min(1.0, within / max(float(problem.sd[row]) ** 2, 1e-12))
        excess = 1 - (goal.half_width / max(float(halves[row]), 1e-12)) ** 2
        wanted = np.maximum(wanted, np.where(problem.shares[row] > 0, 3 * excess / part, 0))
    usual = usual_cost_s(tasks)
    found = []
    for cell, share in zip(cells, np.minimum(wanted, 1), strict=True):
        members = sorted(
            (tasks[index] for index in cell.members), key=lambda one: _lot(one.id, goal.seed)
        )
        for task in members[: int(np.ceil(share * len(members)))]:
            if task.id not in asked and max(task.asked, len(task.annotators)) == 2:
                found.append(PlannedTask(task.id, task.project_id, 3, cost_s_of(task, usual)))
    return found


def _linking_tasks(tasks: Sequence[PlanTask], goal: Goal) -> set[int]:
    """Tasks, by lot, of the annotators who share too few with others."""
    lacking = unlinked(tasks, goal.common_tasks)
    free: dict[int, list[int]] = defaultdict(list)
    for task in tasks:
        if task.annotators and task.annotators[0] in lacking and not task.is_due:
            free[task.annotators[0]].append(task.id)
    return {
        task_id
        for person, ids in free.items()
        for task_id in sorted(ids, key=lambda one: _lot(one, goal.seed))[: lacking[person]]
    }


def _floor(
    tasks: Sequence[PlanTask], cells: Sequence[Cell], linking: Collection[int]
) -> FloatArray:
    """Counts of the cells with what is due and what links annotators."""
    return np.array(
        [
            sum(tasks[index].is_due or tasks[index].id in linking for index in cell.members)
            for cell in cells
        ],
        dtype=np.float64,
    )


def _lot(task_id: int, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{task_id}".encode()).digest()
