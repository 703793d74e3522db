"""From deviations of many objects to habits of people, each tested against chance.

Every class of every annotator is looked at, so the p-values are adjusted for their number
(Benjamini and Hochberg); a habit must also be large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from qa_plugins.metrics.significance import (
    LocationTest,
    adjust_p_values,
    location_test,
    lot_test,
    sign_test,
)
from qa_plugins.object_deviations import Deviations, ObjectDeviation

HabitKind = Literal["offset", "shift-x", "shift-y", "outline-length", "missing", "swap", "only-one"]

SIGNIFICANT: Final = 0.05
MIN_OFFSET_PX: Final = 0.5
MIN_LENGTH_RATIO: Final = 1.1
MIN_RATE: Final = 0.05
_LARGE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Habit:
    """What an annotator does with a class, again and again.

    `value` is in pixels for offset and shifts, the ratio of lengths for outline-length, a share for
    the rest. `count` of `total` cases (of `unit`) show it; `other` names the other class of a swap,
    `versus` the other annotator where only two can be compared.
    """

    kind: HabitKind
    annotator_id: int
    class_name: str
    value: float
    count: int
    total: int
    unit: str
    p_value: float
    other: str = ""
    versus: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the habit as ``qa.json`` lists it, p-value adjusted."""
        return {
            "kind": self.kind,
            "annotator": self.annotator_id,
            "class": self.class_name,
            "value": self.value,
            "count": self.count,
            "of": self.total,
            "unit": self.unit,
            "p_value": self.p_value,
            "other_class": self.other or None,
            "versus": self.versus,
        }


@dataclass(slots=True)
class HabitSums:
    """Deviations of a batch: `tasks` names the task of each entry of `deviations.objects`."""

    deviations: Deviations
    tasks: list[int]

    def add(self, task_id: int, deviations: Deviations) -> None:
        """Add one task."""
        self.deviations.add(deviations)
        self.tasks.extend([task_id] * len(deviations.objects))


def find_habits(sums: HabitSums) -> list[Habit]:
    """Return what is beyond chance and large enough, the surest first."""
    candidates = [*_outline_habits(sums), *_rate_habits(sums.deviations)]
    adjusted = adjust_p_values([one.p_value for one in candidates])
    habits = [
        replace(one, p_value=p_value)
        for one, p_value in zip(candidates, adjusted, strict=True)
        if p_value < SIGNIFICANT and _matters(one)
    ]
    return sorted(
        habits, key=lambda one: (one.p_value, one.annotator_id, one.class_name, one.kind, one.other)
    )


def habit_weight(kind: str, value: float, count: int, total: int) -> float:
    """How much a habit matters, to put the most important first: its size times how often.

    The size is in multiples of the least that matters, ten at most: a shift of 30 px means that
    another object was drawn, and is not worth ten outlines that are 3 px too wide.

    >>> habit_weight("offset", -3.0, 9, 10), habit_weight("shift-x", 40.0, 5, 10)
    (5.4, 5.0)
    """
    if kind == "outline-length":
        size = abs(math.log(value)) / math.log(MIN_LENGTH_RATIO)
    elif kind in {"offset", "shift-x", "shift-y"}:
        size = abs(value) / MIN_OFFSET_PX
    else:
        size = value / MIN_RATE
    return min(size, _LARGE) * count / total


def outline_values(
    sums: HabitSums,
) -> dict[tuple[int, str], list[tuple[int, ObjectDeviation]]]:
    """Group the objects by (annotator, class), each with its task."""
    groups: dict[tuple[int, str], list[tuple[int, ObjectDeviation]]] = {}
    for task, one in zip(sums.tasks, sums.deviations.objects, strict=True):
        groups.setdefault((one.annotator_id, one.class_name), []).append((task, one))
    return dict(sorted(groups.items()))


_OUTLINES: Final[Mapping[HabitKind, Callable[[ObjectDeviation], float | None]]] = {
    "offset": lambda one: one.offset_px,
    "shift-x": lambda one: one.shift_x_px,
    "shift-y": lambda one: one.shift_y_px,
    "outline-length": lambda one: one.log_length_ratio,
}


OUTLINE_KINDS: Final = frozenset(_OUTLINES)
"""Habits of the outline: of two people each has the other's, turned round."""


def outline_test(
    group: Sequence[tuple[int, ObjectDeviation]], kind: HabitKind
) -> LocationTest | None:
    """Test one kind of outline deviation of one annotator and class."""
    known = [(task, value) for task, one in group if (value := _OUTLINES[kind](one)) is not None]
    return location_test([value for _, value in known], [task for task, _ in known])


def _outline_habits(sums: HabitSums) -> Iterable[Habit]:
    for (person, name), group in outline_values(sums).items():
        for kind in _OUTLINES:
            found = outline_test(group, kind)
            if found is None:
                continue
            value = math.exp(found.mean) if kind == "outline-length" else found.mean
            yield Habit(
                kind, person, name, value, found.same_sign, found.units, found.unit, found.p_value
            )


def _rate_habits(found: Deviations) -> Iterable[Habit]:
    """What one leaves out or renames: more often the one who stands alone than by lot?"""
    for (person, name), count in sorted(found.missed.items()):
        yield _rate("missing", person, name, count, found)
    for (person, name, own), count in sorted(found.swapped.items()):
        yield _rate("swap", person, name, count, found, own)
    for (person, versus, name), more in sorted(found.only.items()):
        fewer = found.only[versus, person, name]
        if more > fewer:
            yield Habit(
                "only-one", person, name, more / (more + fewer), more, more + fewer, "object",
                sign_test(more, fewer), versus=versus,
            )  # fmt: skip


def _rate(
    kind: HabitKind, person: int, name: str, count: int, found: Deviations, other: str = ""
) -> Habit:
    key = person, name
    p_value = lot_test(count, found.dissents[key], found.by_chance[key])
    total = found.agreed[key]
    return Habit(kind, person, name, count / total, count, total, "object", p_value, other)


def _matters(habit: Habit) -> bool:
    if habit.kind == "outline-length":
        return max(habit.value, 1 / habit.value) >= MIN_LENGTH_RATIO
    if habit.kind in {"offset", "shift-x", "shift-y"}:
        return abs(habit.value) >= MIN_OFFSET_PX
    return habit.value >= MIN_RATE
