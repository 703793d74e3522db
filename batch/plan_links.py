"""Whether annotators can be compared at all: who shares tasks with whom, now and as planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from batch.plan_model import PlanTask

_DRAWS: Final = 400


@dataclass(frozen=True, slots=True)
class Links:
    """How the annotators hang together by tasks that two of them drew.

    Attributes:
        components: groups of annotators that share tasks, directly or along others; largest first.
        shared_tasks: how many tasks each annotator shares with another.
        connected_share: in how many of the ways in which the planned tasks may be taken by the
            others, as likely as they have drawn so far, all annotators end up in one group.
    """

    components: tuple[tuple[int, ...], ...]
    shared_tasks: dict[int, int]
    connected_share: float


def links_of(tasks: Sequence[PlanTask], asked: Collection[int], *, seed: int = 0) -> Links:
    """Return the links that are there and the chance of one group once `asked` is drawn.

    Tasks that were asked for earlier and are not drawn yet count as planned.
    """
    people = sorted({person for task in tasks for person in task.annotators})
    edges = _edges(tasks)
    components = connected_groups(people, edges)
    activity = Counter(task.annotators[0] for task in tasks if task.annotators)
    firsts = [
        task.annotators[0]
        for task in tasks
        if len(task.annotators) == 1 and (task.id in asked or task.is_due)
    ]
    return Links(components, shared_counts(tasks), _chance(people, edges, firsts, activity, seed))


def unlinked(tasks: Sequence[PlanTask], common_tasks: int) -> dict[int, int]:
    """Return the annotators who share too few tasks, or hang apart, and how many they lack."""
    people = sorted({person for task in tasks for person in task.annotators})
    if len(people) < 2:
        return {}
    shared = shared_counts(tasks)
    pending = Counter(
        task.annotators[0] for task in tasks if len(task.annotators) == 1 and task.is_due
    )
    components = connected_groups(people, _edges(tasks))
    main = set(components[0])
    lacking = {}
    for person in people:
        has = shared.get(person, 0) if person in main else 0
        missing = common_tasks - has - pending[person]
        if missing > 0:
            lacking[person] = missing
    return lacking


def shared_counts(tasks: Iterable[PlanTask]) -> dict[int, int]:
    """Return how many tasks each annotator shares with somebody."""
    counts: Counter[int] = Counter()
    for task in tasks:
        if len(set(task.annotators)) > 1:
            counts.update(set(task.annotators))
    return dict(sorted(counts.items()))


def connected_groups(
    people: Iterable[int], edges: Iterable[tuple[int, int]]
) -> tuple[tuple[int, ...], ...]:
    """Return the connected components, the largest first.

    >>> connected_groups([1, 2, 3, 4], [(3, 1), (1, 4)])
    ((1, 3, 4), (2,))
    """
    root = {person: person for person in people}

    def find(person: int) -> int:
        while root[person] != person:
            root[person] = root[root[person]]
            person = root[person]
        return person

    for one, other in edges:
        root[find(one)] = find(other)
    groups: dict[int, list[int]] = {}
    for person in sorted(root):
        groups.setdefault(find(person), []).append(person)
    return tuple(tuple(group) for group in sorted(groups.values(), key=lambda g: (-len(g), g)))


def _edges(tasks: Iterable[PlanTask]) -> set[tuple[int, int]]:
    return {
        pair for task in tasks for pair in combinations(sorted(set(task.annotators)), 2)
    }  # a set: thousands of tasks have few pairs


def _chance(
    people: Sequence[int],
    edges: set[tuple[int, int]],
    firsts: Sequence[int],
    activity: Counter[int],
    seed: int,
) -> float:
    """Share of random ways to take the planned tasks that leave one group."""
    if len(people) < 2 or len(connected_groups(people, edges)) == 1:
        return 1.0
    if not firsts:
        return 0.0
    random = np.random.default_rng(seed)
    others = {
        first: [person for person in people if person != first] for first in sorted(set(firsts))
    }
    odds = {
        first: np.array([activity[person] + 1.0 for person in rest])
        for first, rest in others.items()
    }
    counts = Counter(firsts)
    connected = 0
    for _ in range(_DRAWS):
        drawn = set(edges)
        for first, rest in others.items():
            picks = random.choice(len(rest), counts[first], p=odds[first] / odds[first].sum())
            drawn.update((first, rest[pick]) for pick in picks)
        connected += len(connected_groups(people, drawn)) == 1
    return connected / _DRAWS
