"""How many tasks of each cell two people should draw: an optimal allocation for several means.

Many means at once, each to be known so well, at the least cost: Bethel (1989), "Sample allocation
in multivariate surveys"; here by greedy steps with a pass that takes back what is not needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batch.plan_model import (
    Cell,
    DomainState,
    FloatArray,
    Goal,
    PlanTask,
    class_means,
    presence_rates,
    residual,
    student,
)

DEFAULT_COST_S: Final = 120.0
"""Of an annotation where no lead time is known."""

_LEAST_CELL: Final = 8
_SURE_TASKS: Final = 20
_LEAST_MORE: Final = 2
_LEAST_GROWTH: Final = 0.08
_ROUND_TASKS: Final = 5
_ROUND_SHARE: Final = 0.01
_MOST_STEPS: Final = 4000


class Allocation:
    """The allocation: half widths of D domains as a function of the counts in G cells."""

    def __init__(
        self,
        tasks: Sequence[PlanTask],
        cells: Sequence[Cell],
        states: Sequence[DomainState],
        goal: Goal,
    ) -> None:
        self.goal = goal
        self.sizes = np.array([len(cell.members) for cell in cells], dtype=np.float64)
        self.due = np.array(
            [sum(tasks[index].is_due for index in cell.members) for cell in cells], np.float64
        )
        usual = usual_cost_s(tasks)
        self.cost_s = np.array(
            [np.mean([cost_s_of(tasks[index], usual) for index in cell.members]) for cell in cells]
        )
        self.shares = _shares(tasks, cells, states)  # (D, G): share of a cell in a domain
        # What somebody drew as the second is known already and in no cell of theirs.
        self.seconds = _seconds(tasks, states)
        self.totals = (self.shares * self.sizes).sum(axis=1) + self.seconds
        self.sd, self.is_prior = _spreads(tasks, states, goal)
        self.cautious_sd = self.sd * _caution(states, goal)
        enough = np.array(
            [one.tasks >= min(goal.first_tasks, one.population) for one in states], bool
        )
        self.is_reached = enough & np.array(
            [one.half_width is not None and one.half_width <= goal.half_width for one in states],
            bool,
        )
        # An interval measured a little wider than the formula has it is planned as it is measured.
        done = np.array(
            [sum(bool(tasks[index].values) for index in cell.members) for cell in cells], np.float64
        )
        measured = np.array([one.half_width or 0.0 for one in states])
        formula = self.half_widths(done)
        wider = enough & ~self.is_reached & (measured > formula) & (formula > 0)
        self.sd = np.where(wider, self.sd * measured / np.where(wider, formula, 1.0), self.sd)
        # A class whose spread is not known is looked at first; annotators wait for their classes.
        is_class = np.array([one.kind == "class" for one in states], bool)
        unknown = ~enough & (not goal.at_once)
        learning = bool((unknown & is_class).any())
        self.needed = np.where(unknown & is_class, np.minimum(goal.first_tasks, self.totals), 0.0)
        self.looks_first = unknown & (is_class | learning)
        # Single tasks are not worth a round: an open class gets some more than it has.
        drawn = self.tasks_in(done)
        more = np.maximum(_LEAST_MORE, _LEAST_GROWTH * drawn)
        self.grown = np.where(is_class, np.minimum(drawn + more, self.totals), 0.0)

    def tasks_in(self, counts: FloatArray) -> FloatArray:
        """Expected doubly annotated tasks of each domain."""
        drawn: FloatArray = (self.shares * counts).sum(axis=1) + self.seconds
        return drawn

    def half_widths(self, counts: FloatArray) -> FloatArray:
        """Expected half width of each domain (D,)."""
        quantile = student(self.tasks_in(counts), self.goal.confidence)
        found: FloatArray = quantile * np.sqrt(self._variances(counts))
        return found

    def _variances(self, counts: FloatArray) -> FloatArray:
        # A cell of which nothing is drawn counts as half a task: finite, and never enough.
        at_least = np.maximum(counts, 0.5)
        kept = 0.0 if self.goal.beyond_batch else 1.0
        each = self.sizes / at_least - kept
        found: FloatArray = (self.shares * self.sizes * np.maximum(each, 0)).sum(axis=1)
        return self._scale() * (found + self.seconds * (1 - kept))

    def _scale(self) -> FloatArray:
        return np.asarray((self.sd / np.maximum(self.totals, 1e-9)) ** 2, dtype=np.float64)

    def is_satisfied(self, counts: FloatArray) -> NDArray[np.bool_]:
        """Whether each domain has what it is to have."""
        enough = self.tasks_in(counts) >= self.needed - 1e-9
        narrow = self.half_widths(counts) <= self.goal.half_width
        narrow &= self.tasks_in(counts) >= self.grown - 1e-9
        met: NDArray[np.bool_] = self.is_reached | np.where(self.looks_first, enough, narrow)
        return met

    def solve(self, floor: FloatArray) -> FloatArray:
        """Return how many tasks of each cell are to be drawn twice, at least `floor`.

        What rests on the spread of few tasks is planned with the lower end of it: what was asked
        for too much is paid and gone, and the next plan, which knows more, asks for the rest.
        Where that saves a few tasks only, they are not worth a round.
        """
        start = np.minimum(np.maximum(self.due, floor), self.sizes)
        whole = self._solve(start)
        known, self.sd = self.sd, self.cautious_sd
        counts = self._solve(start)
        self.sd = known
        few = max(_ROUND_TASKS, _ROUND_SHARE * float(self.sizes.sum()))
        is_worth_it = (whole - counts).sum() > few and (counts > self.due).any()
        return counts if is_worth_it else whole

    def _solve(self, start: FloatArray) -> FloatArray:
        counts = start.copy()
        step = max(1.0, float(int(self.sizes.sum()) // 2000))
        for _ in range(_MOST_STEPS):
            met = self.is_satisfied(counts)
            open_cells = counts < self.sizes
            if met.all() or not open_cells.any():
                break
            gains = self._gains(counts, met) / self.cost_s
            gains[~open_cells] = -1.0
            best = int(np.argmax(gains))
            if gains[best] <= 0:
                break
            counts[best] = min(counts[best] + step, self.sizes[best])
        return self._without_surplus(counts, start)

    def _gains(self, counts: FloatArray, met: NDArray[np.bool_]) -> FloatArray:
        """What one more task of each cell closes of the open domains' gaps, added up."""
        wide = ~met & ~self.looks_first
        few = ~met & self.looks_first
        target = (self.goal.half_width / student(self.tasks_in(counts), self.goal.confidence)) ** 2
        gap = np.maximum(self._variances(counts) - target, 1e-12)
        here = np.maximum(counts, 0.5)
        closes = self.sizes * self.sizes * (1 / here - 1 / (here + 1))
        drop = self._scale()[:, None] * self.shares * closes / gap[:, None]
        lacking = np.maximum(self.needed - self.tasks_in(counts), 1e-12)
        fill = self.shares / lacking[:, None]
        gains: FloatArray = np.minimum(drop, 1)[wide].sum(axis=0) + np.minimum(fill, 1)[few].sum(
            axis=0
        )
        return gains

    def _without_surplus(self, counts: FloatArray, start: FloatArray) -> FloatArray:
        """Take back single tasks, the dearest cells first, as long as nothing is lost by it."""
        met = self.is_satisfied(counts)
        for cell in np.argsort(-self.cost_s, kind="stable"):
            while counts[cell] > start[cell]:
                fewer = counts.copy()
                fewer[cell] = max(start[cell], fewer[cell] - 1)
                if (self.is_satisfied(fewer) < met).any():
                    break
                counts = fewer
        return counts

    def random_tasks(self) -> int | None:
        """How many tasks more, drawn by lot from all, are expected to tell the same."""
        if not len(self.sd):
            return 0
        free = self.sizes - self.due
        lot = int(free.sum())
        if not self.is_satisfied(self.sizes).all():
            return None
        low, high = 0, lot
        while low < high:
            middle = (low + high) // 2
            counts = self.due + free * (middle / lot)
            low, high = (low, middle) if self.is_satisfied(counts).all() else (middle + 1, high)
        return low


def _shares(
    tasks: Sequence[PlanTask], cells: Sequence[Cell], states: Sequence[DomainState]
) -> FloatArray:
    """Share of each cell's tasks in each domain, (D, G); unknown presence counts by frequency."""
    rows = {(state.kind, state.name): row for row, state in enumerate(states)}
    rates = presence_rates(tasks)
    shares = np.zeros((len(states), len(cells)))
    for column, cell in enumerate(cells):
        for index in cell.members:
            task = tasks[index]
            present = (
                {**dict.fromkeys(task.classes or (), 1.0), **dict.fromkeys(task.values, 1.0)}
                if task.classes is not None or task.values
                else rates
            )
            for name, share in present.items():
                shares[rows["class", name], column] += share
            if task.annotators:
                shares[rows["annotator", task.annotators[0]], column] += 1
        shares[:, column] /= len(cell.members)
    return shares


def _seconds(tasks: Sequence[PlanTask], states: Sequence[DomainState]) -> FloatArray:
    """How many tasks each annotator drew as the second or later, (D,); 0 for classes."""
    counts = Counter(person for task in tasks for person in set(task.annotators[1:]))
    return np.array(
        [float(counts[int(one.name)]) if one.kind == "annotator" else 0.0 for one in states]
    )


def _spreads(
    tasks: Sequence[PlanTask], states: Sequence[DomainState], goal: Goal
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The spread to plan with of each domain, and where it rests on the prior.

    One's own deviations once there are enough; before, these and one further observation of the
    prior; of an annotator, of the deviations of all annotators together.
    """
    weight = np.ones(len(tasks))
    means = class_means(tasks, weight)
    residuals = [residual(task, means) for task in tasks if task.values]
    together = goal.prior_sd
    if len(residuals) >= goal.first_tasks:
        together = float(np.std(residuals, ddof=1)) if len(residuals) > 1 else goal.prior_sd
    found, prior = [], []
    for state in states:
        base = goal.prior_sd if state.kind == "class" else together
        count = state.tasks if state.sd is not None else 0
        squares = (count - 1) * state.sd**2 if state.sd is not None else 0.0
        few = count < min(goal.first_tasks, state.population)
        own = squares / max(count - 1, 1)
        found.append(((base**2 + squares) / max(count, 1) if few else own) ** 0.5)
        prior.append(few)
    return np.array(found), np.array(prior, bool)


def _caution(states: Sequence[DomainState], goal: Goal) -> FloatArray:
    """By how much a spread known from few tasks may be too large: its lower quartile, about."""
    counts = np.array([max(state.tasks, 2) for state in states], dtype=np.float64)
    sure = (counts >= _SURE_TASKS) | goal.at_once
    return np.where(sure, 1.0, 1 - 0.67 / np.sqrt(2 * (counts - 1)))


def cell_size(tasks: Sequence[PlanTask], goal: Goal) -> Callable[[int], int]:
    """Return how large a cell must be, by the number of tasks that show its rarest class.

    So large that the share that such a class is likely to need drawn is two tasks of it.
    """
    quantile = float(student(max(len(tasks), 2), goal.confidence))
    endless = (quantile * goal.prior_sd / goal.half_width) ** 2

    def least(present: int) -> int:
        return max(_LEAST_CELL, int(np.ceil(2 * (1 + present / endless))))

    return least


def usual_cost_s(tasks: Sequence[PlanTask]) -> float:
    """Return the median of the known costs, or a stated guess."""
    known = [task.cost_s for task in tasks if task.cost_s is not None]
    return float(np.median(known)) if known else DEFAULT_COST_S


def cost_s_of(task: PlanTask, usual_s: float) -> float:
    """A task's own cost, at most ten times the usual one: who went to lunch drew no longer."""
    return max(1.0, min(task.cost_s if task.cost_s is not None else usual_s, 10 * usual_s))
