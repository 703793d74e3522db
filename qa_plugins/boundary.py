"""The check ``boundary``: habits of annotators in where they draw outlines, what they miss or swap.

Every finding is a sentence with its evidence and is tested, so that chance is not called habit; see
`qa_plugins.object_deviations` for what is measured and `qa_plugins.habits` for the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qa_plugins.agreement import draw_task
from qa_plugins.habits import (
    OUTLINE_KINDS,
    Habit,
    HabitSums,
    find_habits,
    habit_weight,
    outline_test,
    outline_values,
)
from qa_plugins.metrics.overlap import mean_without_none
from qa_plugins.object_deviations import Deviations, image_deviations
from segstudio.plugins import CheckContext
from segstudio.report_sections import Finding, NameOf, Section, Table
from segstudio.tasks import Task

_MIN_OBJECTS = 3


@dataclass(frozen=True, slots=True)
class BoundaryCheck:
    """Systematic differences between annotators: drawn wider, shifted, rougher; missed, swapped.

    The others are the reference: on tasks of three or more annotators what most of them confirm,
    on tasks of two each other, where nobody can tell who is right.
    """

    name: str = "boundary"
    summary: str = "Habits: outlines drawn wide, narrow or shifted, classes missed or swapped."

    def measure(self, task: Task, context: CheckContext) -> tuple[int, Deviations]:
        """Compare the objects of everybody who annotated the task."""
        drawn = draw_task(task, context)
        found = Deviations()
        for _, _, drawings in drawn.images:
            found.add(image_deviations(drawn.annotators, drawings))
        return task.id, found

    def summarize(
        self, measurements: Iterable[tuple[int, Deviations]], context: CheckContext
    ) -> dict[str, Any]:
        """Add up the tasks; the habits, and each annotator's figures by class."""
        sums = HabitSums(Deviations(), [])
        for task_id, found in measurements:
            sums.add(task_id, found)
        people = _people(sums)
        everybody = [one["id"] for one in people]
        habits = find_habits(sums)
        return {
            "annotators": people,
            "habits": [
                {**one.as_json(), "text": _sentence(one, _user, everybody)} for one in habits
            ],
        }

    def report(self, summary: dict[str, Any], names: NameOf) -> Section:
        """Return the habits in sentences, and the offset of every annotator and class."""
        everybody = [one["id"] for one in summary["annotators"]]
        habits = _one_side([_habit(one) for one in summary["habits"]], everybody)
        habits.sort(key=lambda one: -habit_weight(one.kind, one.value, one.count, one.total))
        findings = [
            Finding(
                text=_sentence(habit, names, everybody),
                evidence=_evidence(habit),
                severity="warning",
                action=_action(habit, names),
            )
            for habit in habits
        ]
        rows = [
            [
                names(person["id"]),
                one["name"],
                one["objects"],
                one["offset_px"],
                one["shift_px"][0],
                one["shift_px"][1],
                one["length_ratio"],
                "–" if not one["agreed"] else f"{one['missed']} of {one['agreed']}",
            ]
            for person in summary["annotators"]
            for one in person["classes"]
            if one["objects"] >= _MIN_OBJECTS
        ]
        columns = [
            "Annotator", "Class", "Objects", "Wider by (px)", "To the right (px)", "Down (px)",
            "Outline length (ratio)", "Missed",
        ]  # fmt: skip
        table = Table(
            columns,
            rows,
            title="Against the other annotators",
            note="Means over objects that several people drew; below 0 is narrower, to the left, "
            "up. Of what three or more drew, a deviation counts that most of the others confirm.",
        )
        return Section(
            title="Habits of annotators",
            lead="Differences that come back again and again, beyond chance (5%, adjusted for all "
            "that was looked at).",
            findings=findings or [Finding("No habit was found that chance would not explain.")],
            tables=[table] if rows else [],
        )


def _people(sums: HabitSums) -> list[dict[str, Any]]:
    groups = outline_values(sums)
    found = sums.deviations
    keys = sorted({*groups, *found.agreed})
    people: dict[int, list[dict[str, Any]]] = {}
    for person, name in keys:
        objects = [one for _, one in groups.get((person, name), [])]
        offset = outline_test(groups.get((person, name), []), "offset")
        offsets = [one.offset_px for one in objects if one.offset_px is not None]
        ratios = [one.log_length_ratio for one in objects if one.log_length_ratio is not None]
        people.setdefault(person, []).append(
            {
                "name": name,
                "objects": len(objects),
                "offset_px": mean_without_none(offsets),
                "offset_p_value": None if offset is None else offset.p_value,
                "shift_px": [
                    mean_without_none([one.shift_x_px for one in objects]),
                    mean_without_none([one.shift_y_px for one in objects]),
                ],
                "length_ratio": None if not ratios else math.exp(sum(ratios) / len(ratios)),
                "agreed": found.agreed[person, name],
                "missed": found.missed[person, name],
                "swapped": {
                    own: count
                    for (who, theirs, own), count in sorted(found.swapped.items())
                    if (who, theirs) == (person, name)
                },
            }
        )
    return [{"id": person, "classes": classes} for person, classes in sorted(people.items())]


def _one_side(habits: list[Habit], everybody: Sequence[int]) -> list[Habit]:
    """Of two annotators the outline habits of one: the other's are the same, turned round."""
    if len(everybody) != 2:
        return habits
    return [
        one for one in habits if one.kind not in OUTLINE_KINDS or one.annotator_id == everybody[0]
    ]


def _sentence(habit: Habit, names: NameOf, everybody: Sequence[int]) -> str:
    """The habit; of two annotators beside the other one, since nobody knows who is right."""
    who, what, value = names(habit.annotator_id), f"“{habit.class_name}”", habit.value
    who = who[0].upper() + who[1:]
    other = next((one for one in everybody if one != habit.annotator_id), None)
    pair = len(everybody) == 2 and other is not None
    than = f" than {names(other)}" if pair and other is not None else ""
    if habit.kind == "offset":
        side = "wide" if value > 0 else "narrow"
        compared = "wider" if value > 0 else "narrower"
        how = f"{compared}{than}" if pair else f"too {side}"
        return f"{who} draws {what} {abs(value):.1f} px {how}."
    if habit.kind in ("shift-x", "shift-y"):
        ways = ("right", "left") if habit.kind == "shift-x" else ("down", "up")
        way = ways[0] if value > 0 else ways[1]
        how = f"further {way}{than}" if pair else f"too far {way}"
        return f"{who} draws {what} {abs(value):.1f} px {how}."
    if habit.kind == "outline-length":
        longer = value > 1
        how = f"{abs(value - 1):.0%} {'longer, rougher' if longer else 'shorter, smoother'}"
        return f"{who} draws {what} with outlines that are {how}{than or ' than the others’'}."
    if habit.kind == "missing":
        return f"{who} leaves out {what} that all others draw."
    if habit.kind == "swap":
        return f"{who} draws as “{habit.other}” what all others call {what}."
    versus = names(habit.versus) if habit.versus is not None else "the other"
    return f"{who} draws {what} where {versus} draws nothing."


def _evidence(habit: Habit) -> str:
    units = f"{habit.unit}s" if habit.total != 1 else habit.unit
    chance = "p < 0.001" if habit.p_value < 0.001 else f"p = {habit.p_value:.3f}"
    return f"{habit.count} of {habit.total} {units}, {chance}."


def _action(habit: Habit, names: NameOf) -> str:
    who = names(habit.annotator_id)
    if habit.kind == "only-one":
        return f"Settle with both whether these are “{habit.class_name}”."
    if habit.kind == "swap":
        return f"Show {who} how “{habit.class_name}” and “{habit.other}” differ."
    if habit.kind == "missing":
        return f"Remind {who} of “{habit.class_name}”."
    return f"Show {who} where “{habit.class_name}” ends."


def _habit(entry: dict[str, Any]) -> Habit:
    return Habit(
        entry["kind"], entry["annotator"], entry["class"], entry["value"], entry["count"],
        entry["of"], entry["unit"], entry["p_value"], entry["other_class"] or "", entry["versus"],
    )  # fmt: skip


def _user(person: int) -> str:
    return f"annotator {person}"
