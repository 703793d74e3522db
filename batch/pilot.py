"""What a pilot tells: how well people agree, on what they do not, and what production will take.

Pure: the checks' result and the planner's tasks in, one summary out. A pilot speaks about images
like these, so its intervals have no finite population correction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from batch.plan import make_plan
from batch.plan_allocation import usual_cost_s
from batch.plan_model import DomainState, Goal, PlanTask, build_cells, measure, student

Matter = Literal["boundary", "blunder", "shape", "none"]
_BLUNDER_SHARE: Final = 0.25  # missed and mislabelled, as the agreement check warns
_LEAST_IMAGES: Final = 5
_REPLICA_ID: Final = 1 << 40
_SIZES: Final = (100, 300, 1000, 3000)


@dataclass(frozen=True, slots=True)
class PilotClass:
    """One class of the pilot.

    Attributes:
        name: the class.
        tasks: on how many of the pilot's images two people or more could be compared.
        share_of_images: on which share of the images it is.
        mean: mean IoU over images and pairs.
        interval: of the mean, for images like these; None below two images.
        sd: spread between images.
        matter: what most of the disagreement is about.
        shares: of the disagreeing pixels, by kind.
        advice: "boxes", "polygons", "pixels" or "too few".
        vertices: that half of its objects need, None over 100 or unknown.
        object_s: seconds an object took, None where unknown.
        cost_ratio: of that to the same as a polygon; None where either is unknown.
        images_needed: images like these, all drawn twice, to know the mean as well as the goal
            asks; None where fewer than five images tell its spread.
    """

    name: str
    tasks: int
    share_of_images: float
    mean: float | None
    interval: tuple[float, float] | None
    sd: float | None
    matter: Matter
    shares: Mapping[str, float]
    advice: str
    vertices: float | None
    object_s: float | None
    cost_ratio: float | None
    images_needed: int | None


@dataclass(frozen=True, slots=True)
class Production:
    """What a batch of so many images takes, with the pilot's classes and people.

    `random` is how many double annotations drawn by lot would be expected to tell the same;
    `is_reached` says whether the goal can be reached at all with two people a task.
    """

    images: int
    double: int
    first_hours: float
    double_hours: float
    random: int | None
    is_reached: bool


@dataclass(frozen=True, slots=True)
class Pilot:
    """The whole: who and how many, class by class, and batch sizes."""

    goal: Goal
    tasks: int
    compared: int
    annotators: tuple[int, ...]
    usual_s: float
    times_known: bool
    classes: tuple[PilotClass, ...]
    production: tuple[Production, ...]
    images: int


def summarize_pilot(
    result: Mapping[str, Any], tasks: Sequence[PlanTask], goal: Goal, images: int
) -> Pilot:
    """Put a pilot's figures together.

    Args:
        result: of the checks agreement, boundary and polygons (`qa.json`).
        tasks: the same tasks as the planner sees them; those drawn once do not count.
        goal: how well production is to know its classes and annotators.
        images: how many images the production batch has.
    """
    double = [task for task in tasks if task.values]
    beyond = replace(goal, beyond_batch=True, at_once=True)
    states = {
        str(one.name): one
        for one in measure(double, beyond, build_cells(double, max(1, len(double))))
        if one.kind == "class"
    }
    present = Counter(name for task in double for name in {*(task.classes or ()), *task.values})
    shapes = {one["name"]: one for one in result["checks"].get("polygons", {}).get("classes", [])}
    found = {one["name"]: one for one in result["classes"]}
    classes = tuple(
        _class(name, states[name], present[name] / len(double), found.get(name, {}),
               shapes.get(name, {}), beyond)
        for name in sorted(states, key=lambda name: (_mean_or_one(states[name]), name))
    )  # fmt: skip
    sizes = sorted({*(size for size in _SIZES if size > len(double)), max(images, len(double))})
    people = sorted({person for task in double for person in task.annotators})
    return Pilot(
        goal=goal,
        tasks=len(tasks),
        compared=len(double),
        annotators=tuple(people),
        usual_s=usual_cost_s(double),
        times_known=any(task.cost_s is not None for task in double),
        classes=classes,
        production=tuple(production(double, goal, size) for size in sizes) if double else (),
        images=max(images, len(double)),
    )


def production(double: Sequence[PlanTask], goal: Goal, images: int) -> Production:
    """Plan a batch of so many images that are like the pilot's, which count among them."""
    people = sorted({task.annotators[0] for task in double})
    more = [
        PlanTask(
            _REPLICA_ID + number,
            classes=double[number % len(double)].classes,
            annotators=(people[number % len(people)],),
            cost_s=double[number % len(double)].cost_s,
        )
        for number in range(images - len(double))
    ]
    plan = make_plan([*double, *more], replace(goal, beyond_batch=False, at_once=True))
    usual_s = usual_cost_s(double)
    return Production(
        images=images,
        double=len(double) + len(plan.asked),
        first_hours=images * usual_s / 3600,
        double_hours=len(double) * usual_s / 3600 + plan.hours,
        random=None if plan.random_tasks is None else len(double) + plan.random_tasks,
        is_reached=plan.is_final,
    )


def _class(
    name: str,
    state: DomainState,
    share: float,
    found: Mapping[str, Any],
    shape: Mapping[str, Any],
    goal: Goal,
) -> PilotClass:
    shares = _shares(found.get("disagreement"))
    interval = None
    if state.mean is not None and state.half_width is not None:
        low, high = state.mean - state.half_width, state.mean + state.half_width
        interval = (max(0.0, float(low)), min(1.0, float(high)))
    drawn_s, polygon_s = shape.get("lead_time_s"), shape.get("polygon_time_s")
    return PilotClass(
        name=name,
        tasks=state.tasks,
        share_of_images=share,
        mean=None if state.mean is None else float(state.mean),
        interval=interval,
        sd=state.sd,
        matter=_matter(shares),
        shares=shares,
        advice=str(shape.get("advice", "too few")),
        vertices=shape.get("vertices_needed"),
        object_s=drawn_s,
        cost_ratio=drawn_s / polygon_s if drawn_s and polygon_s else None,
        images_needed=(
            _images_needed(state.sd, share, goal) if state.tasks >= _LEAST_IMAGES else None
        ),
    )


def _images_needed(sd: float | None, share: float, goal: Goal) -> int | None:
    """Smallest n with t(n - 1) sd / sqrt(n) within the goal, by how often the class is there."""
    if sd is None or share <= 0:
        return None
    low, high = 2, 1 << 24
    while low < high:
        middle = (low + high) // 2
        half = float(student(middle, goal.confidence)) * sd / math.sqrt(middle)
        low, high = (low, middle) if half <= goal.half_width else (middle + 1, high)
    return math.ceil(low / share)


def _shares(found: Mapping[str, Any] | None) -> dict[str, float]:
    if not found or not found.get("pixels"):
        return {}
    return {kind: float(found[kind]) for kind in ("boundary", "shape", "missed", "mislabelled")}


def _matter(shares: Mapping[str, float]) -> Matter:
    if not shares:
        return "none"
    if shares["missed"] + shares["mislabelled"] >= _BLUNDER_SHARE:
        return "blunder"
    return "boundary" if shares["boundary"] >= shares["shape"] else "shape"


def _mean_or_one(state: DomainState) -> float:
    return 1.0 if state.mean is None else float(state.mean)
