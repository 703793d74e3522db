"""The planner against double-annotating random tasks, simulated from the DAVIS fixture.

    python -m benchmarks.bench_plan [REPETITIONS | --smoke]

498 frames, each segmented by two methods: their IoU on a frame is what a second annotation would
tell. Four simulated annotators each draw a quarter of the frames first, by lot; another one, by
lot, draws the second. The planner works in rounds, as a team would; random tasks are added three
at a time until the same intervals are as narrow (and so stop at the first lucky look). Both are
measured in the same way, by `batch.plan_model.measure`. Everything follows from the seed.

A frame shows one class only. So there is a second, generated batch: 1,000 tasks with 20 classes,
frequent and rare ones on one image, easy and hard images. Its numbers show how the saving grows
with rare classes; they are no measurement of any real project.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from batch.plan import make_plan
from batch.plan_allocation import cell_size
from batch.plan_model import DomainState, Goal, PlanTask, build_cells, measure
from benchmarks.harness import is_smoke
from segstudio.label_config import parse_label_config
from segstudio.plugins import CheckContext
from segstudio.source import open_source
from segstudio.taxonomy import derive_taxonomy

ANNOTATORS = 4
SECONDS_A_TASK = 60.0
_LOOK_EVERY = 3
_MOST_ROUNDS = 20


@dataclass(frozen=True)
class Outcome:
    """What one simulated project came to.

    `covered` of `means` are the true class and annotator means within their intervals.
    """

    double: int
    rounds: int
    widest: float
    covered: int
    means: int


def frame_values(fixtures: Path) -> dict[int, dict[str, float]]:
    """The IoU of the two methods on every frame, by task id and class."""
    from batch.plan_tasks import plan_task

    source = open_source(str(fixtures / "davis" / "project-8-sequences.json.gz"))
    context = CheckContext(
        derive_taxonomy(parse_label_config(source.label_config.xml)), source.label_config
    )
    return {task.id: dict(plan_task(task, context).values) for task in source.tasks()}


def generated_values(tasks: int = 1000, classes: int = 20) -> dict[int, dict[str, float]]:
    """IoU values of a batch with frequent and rare classes; hard images are hard for all."""
    random = np.random.default_rng(2026)
    present = np.clip(1 / np.arange(1, classes + 1), 0.04, 0.9)
    mean, spread = random.uniform(0.5, 0.95, classes), random.uniform(0.03, 0.2, classes)
    values = {}
    for task_id in range(1, tasks + 1):
        ease = random.normal()
        names = np.flatnonzero(random.random(classes) < present)
        noise = 0.5 * ease + 0.87 * random.normal(size=len(names))
        ious = np.clip(mean[names] + spread[names] * noise, 0, 1)
        if len(names):
            values[task_id] = {f"class {n}": float(x) for n, x in zip(names, ious, strict=True)}
    return values


def population(
    values: Mapping[int, Mapping[str, float]], seed: int
) -> tuple[list[PlanTask], dict[int, int]]:
    """The frames as first drawn, and who would draw each of them second."""
    random = np.random.default_rng(seed)
    tasks, seconds = [], {}
    for task_id, of_class in values.items():
        first = int(random.integers(ANNOTATORS))
        second = (first + 1 + int(random.integers(ANNOTATORS - 1))) % ANNOTATORS
        tasks.append(
            PlanTask(
                task_id, 1, frozenset(of_class), (first + 1,), cost_s=SECONDS_A_TASK
            )
        )  # fmt: skip
        seconds[task_id] = second + 1
    return tasks, seconds


def planned(values: Mapping[int, Mapping[str, float]], seed: int, goal: Goal) -> Outcome:
    """Plan, draw, plan again, until nothing more is asked for."""
    tasks, seconds = population(values, seed)
    for round_number in range(_MOST_ROUNDS):
        asked = {one.task_id for one in make_plan(tasks, replace(goal, seed=seed)).asked}
        if not asked:
            return _outcome(tasks, values, seconds, goal, round_number)
        tasks = [_drawn(one, values, seconds) if one.id in asked else one for one in tasks]
    raise RuntimeError(f"The planner still asked for tasks after {_MOST_ROUNDS} rounds.")


def by_lot(
    values: Mapping[int, Mapping[str, float]], seed: int, goal: Goal, look_every: int = _LOOK_EVERY
) -> Outcome:
    """Add random tasks until every interval is as narrow."""
    tasks, seconds = population(values, seed)
    cells = build_cells(tasks, cell_size(tasks, goal))
    order = np.random.default_rng([seed, 1]).permutation(len(tasks))
    for count, index in enumerate(order, start=1):
        tasks[index] = _drawn(tasks[index], values, seconds)
        if count % look_every == 0 and is_reached(measure(tasks, goal, cells), goal):
            break
    return _outcome(tasks, values, seconds, goal, 0)


def is_reached(states: Sequence[DomainState], goal: Goal) -> bool:
    """Whether every mean is known as well as the goal asks."""
    return all(
        one.half_width is not None
        and one.half_width <= goal.half_width
        and one.tasks >= min(goal.first_tasks, one.population)
        for one in states
    )


def _drawn(
    task: PlanTask, values: Mapping[int, Mapping[str, float]], seconds: Mapping[int, int]
) -> PlanTask:
    people = (*task.annotators, seconds[task.id])
    return replace(task, annotators=people, asked=2, values=values[task.id])


def _outcome(
    tasks: Sequence[PlanTask],
    values: Mapping[int, Mapping[str, float]],
    seconds: Mapping[int, int],
    goal: Goal,
    rounds: int,
) -> Outcome:
    cells = build_cells(tasks, cell_size(tasks, goal))
    states = [one for one in measure(tasks, goal, cells) if one.kind == "class"]
    everything = measure(tasks, goal, cells)
    truth: dict[str, list[float]] = {}
    for of_class in values.values():
        for name, value in of_class.items():
            truth.setdefault(name, []).append(value)
    covered = sum(
        one.mean is not None
        and one.half_width is not None
        and abs(one.mean - float(np.mean(truth[str(one.name)]))) <= one.half_width + 1e-12
        for one in states
    )
    return Outcome(
        sum(task.is_double for task in tasks),
        rounds,
        max(one.half_width or 0.0 for one in everything),
        covered,
        len(states),
    )


def compare(
    values: Mapping[int, Mapping[str, float]], goal: Goal, seeds: Sequence[int]
) -> list[tuple[Outcome, Outcome]]:
    """(planned, by lot) for each seed."""
    return [(planned(values, seed, goal), by_lot(values, seed, goal)) for seed in seeds]


def saving(outcomes: Sequence[tuple[Outcome, Outcome]]) -> float:
    """Which share of the random double annotations the plans did without, over all repetitions."""
    return 1 - sum(one.double for one, _ in outcomes) / sum(one.double for _, one in outcomes)


def main() -> None:
    """Print a table."""
    root = Path(__file__).resolve().parent.parent
    fixtures = Path(os.environ.get("SEGSTUDIO_FIXTURES", root.parent / "shared" / "fixtures"))
    if is_smoke():
        first = dict(list(frame_values(fixtures).items())[:80])
        goal = Goal(half_width=0.05)
        print_row(goal, compare(first, goal, range(1)))
        return
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    values = frame_values(fixtures)
    print(f"{len(values)} frames, {repetitions} repetitions, {ANNOTATORS} annotators")
    print("goal     planned  rounds  by lot  saved (least..most)  in interval: planned  by lot")
    for half_width in (0.02, 0.03, 0.04, 0.05):
        goal = Goal(half_width=half_width)
        print_row(goal, compare(values, goal, range(repetitions)))
    generated = generated_values()
    print(f"generated: {len(generated)} tasks with 20 classes, {repetitions // 4} repetitions")
    for half_width in (0.03, 0.05):
        goal = Goal(half_width=half_width)
        seeds = range(max(1, repetitions // 4))
        pairs = [(planned(generated, one, goal), by_lot(generated, one, goal, 10)) for one in seeds]
        print_row(goal, pairs)


def print_row(goal: Goal, outcomes: Sequence[tuple[Outcome, Outcome]]) -> None:
    """Print one line of the table."""
    single = sorted(1 - ours.double / theirs.double for ours, theirs in outcomes)
    rates = [
        sum(pair[side].covered for pair in outcomes) / sum(pair[side].means for pair in outcomes)
        for side in (0, 1)
    ]
    print(
        f"±{goal.half_width:.2f}  {np.mean([one.double for one, _ in outcomes]):8.0f}"
        f"  {np.mean([one.rounds for one, _ in outcomes]):6.1f}"
        f"  {np.mean([one.double for _, one in outcomes]):6.0f}"
        f"  {saving(outcomes):5.1%} ({single[0]:.1%}..{single[-1]:.1%})"
        f"  {rates[0]:19.1%}  {rates[1]:6.1%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
