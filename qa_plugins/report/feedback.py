"""One page for one annotator: their figures beside the team's, their habits, three pictures.

It is for the person themselves: nobody else's name or figure is on it, nothing of gold, and the
words are kind. What others drew is shown as "the others" together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qa_plugins.habits import habit_weight
from qa_plugins.report.html import environment, shared_note
from qa_plugins.report.overlays import Panel

FEEDBACK_FOLDER: Final = "feedback"
_CLOSE: Final = 0.03
_GOOD: Final = 0.9
_HABITS: Final = 6
_HABITS_A_CLASS: Final = 2


@dataclass(frozen=True, slots=True)
class OwnPicture:
    """One of a person's tasks: what they drew, what the others did, where the two differ."""

    task_id: int
    image: str
    miou: float
    panels: tuple[Panel, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class ClassFigure:
    """A class as one person and the team have it; ``rule`` is where it ends."""

    name: str
    own: float
    team: float
    rule: str

    @property
    def word(self) -> str:
        """How the two compare, in a word."""
        if self.own >= self.team + _CLOSE:
            return "above the team"
        if self.own >= self.team - _CLOSE:
            return "like the team"
        return "worth a look"


def feedback_file(name: str) -> str:
    """The file name of a person's page.

    >>> feedback_file("Annotator A"), feedback_file("mira@example.org")
    ('annotator-a.html', 'mira-example.org.html')
    """
    slug = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-.")
    return f"{slug or 'annotator'}.html"


def render_feedback(
    result: Mapping[str, Any],
    person: int,
    name: str,
    *,
    title: str,
    rules: Mapping[str, str],
    pictures: Sequence[OwnPicture] = (),
) -> str:
    """Render the page of one annotator.

    Args:
        result: what ``qa.json`` holds.
        person: the annotator's id.
        name: what to call them.
        title: where the tasks came from.
        rules: the boundary rule of each class that has one.
        pictures: the tasks where they and the others differ most.
    """
    own = next((one for one in result["annotators"] if one["id"] == person), None)
    figures = class_figures(result, person, rules)
    habits = habit_sentences(result, person)
    page: str = (
        environment()
        .get_template("feedback.html.j2")
        .render(
            name=name,
            title=title,
            own=own,
            team=result["batch"]["miou"]["accumulated"],
            figures=figures,
            good=[one for one in figures if one.own >= max(_GOOD, one.team - _CLOSE)],
            habits=habits[:_HABITS],
            more_habits=len(habits[_HABITS:]),
            is_pair=_is_pair(result),
            habits_looked_for="boundary" in result["checks"],
            pictures=pictures,
            shared_note=shared_note(pictures),
        )
    )
    return page


def class_figures(
    result: Mapping[str, Any], person: int, rules: Mapping[str, str]
) -> list[ClassFigure]:
    """A person's IoU with the others by class, over their pairs by common tasks; lowest first."""
    team = {one["name"]: one["iou"]["accumulated"] for one in result["classes"]}
    sums: dict[str, list[float]] = {}
    for pair in result["pairs"]:
        if person not in (pair["a"], pair["b"]):
            continue
        for name, value in pair["classes"].items():
            if value is not None:
                total = sums.setdefault(name, [0.0, 0.0])
                total[0] += value * pair["tasks"]
                total[1] += pair["tasks"]
    found = [
        ClassFigure(name, total / tasks, team[name], rules.get(name, ""))
        for name, (total, tasks) in sums.items()
        if tasks and team.get(name) is not None
    ]
    return sorted(found, key=lambda one: (one.own, one.name))


def habit_sentences(result: Mapping[str, Any], person: int) -> list[tuple[str, str]]:
    """What the check ``boundary`` found of a person, said to them, each with its evidence.

    What matters most comes first, but for a third one of the same class, which waits its turn.
    """
    habits = result["checks"].get("boundary", {}).get("habits", [])
    own = [habit for habit in habits if habit["annotator"] == person]
    own.sort(key=lambda one: -habit_weight(one["kind"], one["value"], one["count"], one["of"]))
    first: list[Mapping[str, Any]] = []
    later: list[Mapping[str, Any]] = []
    of_class: Counter[str] = Counter()
    for habit in own:
        of_class[habit["class"]] += 1
        (first if of_class[habit["class"]] <= _HABITS_A_CLASS else later).append(habit)
    pair = _is_pair(result)
    return [
        (_to_them(habit, pair), f"{habit['count']} of {habit['of']} {habit['unit']}s")
        for habit in [*first, *later]
    ]


def _is_pair(result: Mapping[str, Any]) -> bool:
    """Whether two people were compared in all, so that "the team" is the two of them."""
    return sum(bool(one["tasks"]) for one in result["annotators"]) == 2


def _to_them(habit: Mapping[str, Any], is_pair: bool) -> str:
    what, value = f"“{habit['class']}”", habit["value"]
    kind = habit["kind"]
    theirs = "the other annotator’s" if is_pair else "the others’"
    they_draw = "the other annotator draws" if is_pair else "the others draw"
    they_call = "the other annotator calls" if is_pair else "the others call"
    if kind == "offset":
        side, back = ("wider", "inwards") if value > 0 else ("narrower", "outwards")
        text = f"Your outlines of {what} are about {abs(value):.1f} px {side} than {theirs}"
        return f"{text}; try them a little further {back}." if not is_pair else f"{text}."
    if kind in ("shift-x", "shift-y"):
        ways = ("right", "left") if kind == "shift-x" else ("down", "up")
        way = ways[0] if value > 0 else ways[1]
        return f"Your {what} lie about {abs(value):.1f} px further {way} than {theirs}."
    if kind == "outline-length":
        how = "rougher" if value > 1 else "smoother"
        return f"Your outlines of {what} are {how} than {theirs}; zooming in may help."
    if kind == "missing":
        return f"Some {what} that {they_draw} are easy to overlook: have a second look for it."
    if kind == "swap":
        return (
            f"What {they_call} {what} you often call “{habit['other_class']}”: worth settling "
            "together."
        )
    return f"You find {what} where others draw nothing: you may be right, so bring it up."
