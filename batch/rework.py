"""Which tasks go back, to whom, and what to look at: pure decisions on a QA result.

A failed gate of `qa.json` names its worst tasks. Of each, the people whose objects most of the
others do not share are to fix it; where that is nobody in particular, all who drew it. What to
look at is worded without saying who drew what: everybody can read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from segstudio.errors import SourceError, UsageError
from segstudio.shapes import RegionShapeError, region_mask
from segstudio.tasks import Task

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

MODES: Final = ("fix", "fresh", "adjudicate")
DEFAULT_BELOW: Final = 0.84
_SHOWN_PLACES: Final = 5
_SAME_PLACE: Final = 0.5
_ADJUDICATOR: Final = "decide"
_WORDS: Final = {
    "missing": "drawn by some only",
    "extra": "drawn by some only",
    "mismatching_label": "named differently",
    "low_overlap": "outlined differently",
    "split": "in parts or as one",
    "merged": "in parts or as one",
    "covered": "drawn as part of a larger one by some",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a task has to reach: a class, or the mean over its classes where that is None."""

    class_name: str | None
    metric: str
    threshold: float
    against: str = "annotators"

    def value(self, task: Mapping[str, Any]) -> float | None:
        """The value of one entry of `tasks` of a QA result; None where it has none."""
        if self.class_name is None:
            found = task.get("mdice" if self.metric == "dice" else "miou")
        else:
            of_classes = task.get("classes_dice" if self.metric == "dice" else "classes") or {}
            found = of_classes.get(self.class_name)
        return None if found is None else float(found)

    def as_json(self) -> list[Any]:
        """The requirement as a round keeps it."""
        return [self.class_name, self.metric, self.threshold, self.against]


@dataclass(frozen=True, slots=True)
class Place:
    """One thing to look at: a class, what differs, and where (None: cannot be said)."""

    class_name: str
    what: str
    box: Box | None

    def __str__(self) -> str:
        if self.box is None:
            return f"{self.class_name} {self.what}"
        x, y, width, height = self.box
        return f"{self.class_name} {self.what} (x {x}–{x + width}, y {y}–{y + height} px)"


@dataclass(frozen=True, slots=True)
class FailedTask:
    """A task that a gate failed.

    Attributes:
        task_id: the task.
        value: the lowest value that failed, None where the task has none.
        class_name: the class of that value, None for a mean.
        requirements: what it has to reach.
        people: who is to fix it.
        drawn_by: all who were compared.
        places: what to look at, the largest first.
    """

    task_id: int
    value: float | None
    class_name: str | None
    requirements: tuple[Requirement, ...]
    people: tuple[int, ...] = ()
    drawn_by: tuple[int, ...] = ()
    places: tuple[Place, ...] = field(default=())


def failed_tasks(qa: Mapping[str, Any]) -> list[FailedTask]:
    """The tasks that the gates of a QA result failed, grouped by class, the worst first.

    Without gates, the tasks whose own verdict is rework. No failed gate gives none.

    Raises:
        SourceError: it is no result of `segstudio qa`.
    """
    try:
        batch, entries = qa["batch"], {int(one["id"]): one for one in qa["tasks"]}
        failures = _failures(batch, entries)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"This is no qa.json of `segstudio qa agreement`: {error!r}.") from error
    found: dict[int, FailedTask] = {}
    for task_id, value, class_name, requirement, person in failures:
        entry = entries.get(task_id, {})
        drawn_by = tuple(entry.get("annotators") or ())
        one = found.get(task_id)
        if one is None:
            people = (person,) if person is not None else _people(entry, class_name)
            found[task_id] = FailedTask(
                task_id, value, class_name, (requirement,), people, drawn_by
            )
            continue
        requirements = tuple(dict.fromkeys([*one.requirements, requirement]))
        added = (person,) if person is not None else _people(entry, class_name)
        people = tuple(sorted({*one.people, *added}))
        lower = value is not None and (one.value is None or value < one.value)
        found[task_id] = replace(
            one,
            requirements=requirements,
            people=people,
            value=value if lower else one.value,
            class_name=class_name if lower else one.class_name,
        )
    return _by_class(list(found.values()))


def with_places(one: FailedTask, entry: Mapping[str, Any], task: Task) -> FailedTask:
    """Add what to look at, the conflicts of the failed classes with their places in the task.

    Args:
        one: the failed task.
        entry: its entry of `tasks` of the QA result.
        task: with the annotations that the result compared.
    """
    if not one.people:
        drawn_by = tuple(sorted(_submitters(task)))
        one = replace(one, people=drawn_by, drawn_by=one.drawn_by or drawn_by)
    classes = {wanted.class_name for wanted in one.requirements}
    boxes = {
        region.id: _box(region)
        for annotation in task.annotations
        for region in annotation.regions
        if region.kind != "keypoint"
    }
    places: list[Place] = []
    for conflict in entry.get("conflicts") or ():
        names = [name for name in (conflict["class_a"], conflict["class_b"]) if name]
        if None not in classes and not classes & set(names):
            continue
        ids = [*conflict["regions_a"], *conflict["regions_b"]]
        box = _around([found for key in ids if (found := boxes.get(key)) is not None])
        label = " / ".join(dict.fromkeys(names)) or "an object"
        _add_place(places, Place(label, _WORDS.get(conflict["type"], conflict["type"]), box))
    places.sort(key=lambda place: -_area(place.box))
    if not places and one.class_name is not None:
        places = [Place(one.class_name, "outlined differently", None)]
    return replace(one, places=tuple(places))


def look_at(one: FailedTask, tags: Sequence[str]) -> str:
    """The text of the column `qa_look_at`: whose tabs show the task, then what to look at.

    >>> one = FailedTask(1, 0.5, "Car", (), places=(Place("Car", "outlined differently", None),))
    >>> look_at(one, ["A", "C"])
    '[A][C] Car outlined differently'
    """
    marks = "".join(f"[{tag}]" for tag in tags)
    shown = "; ".join(map(str, one.places[:_SHOWN_PLACES]))
    more = len(one.places) - _SHOWN_PLACES
    return f"{marks} {shown}{f'; and {more} more' if more > 0 else ''}".strip()


def tags_of(one: FailedTask, mode: str, codes: Mapping[int, str]) -> list[str]:
    """In whose tabs a task is to stand: the codes of its people, the adjudicator, or nobody's."""
    if mode == "fix":
        return sorted(codes[person] for person in one.people)
    return [_ADJUDICATOR] if mode == "adjudicate" else []


def new_codes(codes: Mapping[int, str], people: Iterable[int], order: Any) -> dict[int, str]:
    """Give a letter to everybody who has none; `order` (a `random.Random`) decides who gets which.

    >>> import random
    >>> sorted(new_codes({3: "A"}, [3, 9], random.Random(0)).items())
    [(3, 'A'), (9, 'B')]
    """
    given = dict(codes)
    fresh = sorted(set(people) - set(given))
    order.shuffle(fresh)
    for person in fresh:
        given[person] = _letters(len(given))
    return given


def missed(
    measured: Mapping[str, Sequence[Mapping[str, Any]]], requirements: Iterable[Requirement]
) -> list[str]:
    """What a task, measured again, still falls short of; a sentence each, none where it passes.

    Args:
        measured: entries of the task by what it was measured against ("annotators", "gold",
            "consensus"; the latter two have an entry for each annotator, of which the lowest
            counts). A class that nobody draws any more has nothing to reach; a task that could
            not be measured falls short.
        requirements: what it has to reach.
    """
    short = []
    for one in requirements:
        entries = [
            entry for entry in measured.get(one.against, ()) if entry.get("miou") is not None
        ]
        if not entries:
            short.append(f"it could not be measured against {one.against}")
            continue
        values = [value for entry in entries if (value := one.value(entry)) is not None]
        if values and min(values) < one.threshold:
            what = one.class_name or "the mean of its classes"
            short.append(f"{what} {min(values):.3f}, {one.threshold:g} is required")
    return list(dict.fromkeys(short))


def _failures(
    batch: Mapping[str, Any], entries: Mapping[int, Mapping[str, Any]]
) -> list[tuple[int, float | None, str | None, Requirement, int | None]]:
    """Each (task, value, class, requirement, only this person) that a gate or rule failed."""
    found: list[tuple[int, float | None, str | None, Requirement, int | None]] = []
    if not batch["gates"]:
        for task_id, entry in entries.items():
            if entry.get("verdict") == "rework":
                need = Requirement(None, "iou", DEFAULT_BELOW)
                found.append((task_id, entry["miou"], entry.get("worst_class"), need, None))
        return found
    for gate in batch["gates"]:
        if gate["verdict"] != "fail":
            continue
        metric = "dice" if "dice" in str(gate["metric"]) else "iou"
        of_class = str(gate["subject"]) if gate["scope"] == "class" else None
        person = int(gate["subject"]) if gate["scope"] == "annotator" else None
        against = str(gate.get("against") or "annotators")
        need = Requirement(of_class, metric, float(gate["threshold"]), against)
        for worst in gate.get("worst_tasks") or ():
            name = of_class or worst.get("class")
            found.append((int(worst["task"]), worst.get("value"), name, need, person))
    return found


def _people(entry: Mapping[str, Any], class_name: str | None) -> tuple[int, ...]:
    """Who differs from more than half of the others in the class, else all who drew the task."""
    everybody = sorted(set(entry.get("annotators") or ()))
    if len(everybody) < 3:
        return tuple(everybody)
    against: dict[int, set[int]] = {person: set() for person in everybody}
    for conflict in entry.get("conflicts") or ():
        if class_name is not None and class_name not in (conflict["class_a"], conflict["class_b"]):
            continue
        a, b = conflict["a"], conflict["b"]
        if a in against and b in against:
            against[a].add(b)
            against[b].add(a)
    half = (len(everybody) - 1) / 2
    alone = [person for person in everybody if len(against[person]) > half]
    return tuple(alone or everybody)


def _by_class(tasks: list[FailedTask]) -> list[FailedTask]:
    """Classes in the order of their worst task; within a class the worst first."""

    def badness(one: FailedTask) -> tuple[float, int]:
        return (-1.0 if one.value is None else one.value, one.task_id)

    worst: dict[str | None, tuple[float, int]] = {}
    for one in tasks:
        worst[one.class_name] = min(worst.get(one.class_name, badness(one)), badness(one))
    return sorted(tasks, key=lambda one: (worst[one.class_name], badness(one)))


def _add_place(places: list[Place], new: Place) -> None:
    """Add a place, or widen one that says the same of the same spot: pairs repeat each other."""
    for index, one in enumerate(places):
        same = (one.class_name, one.what) == (new.class_name, new.what)
        if same and (one.box == new.box or _overlap(one.box, new.box) >= _SAME_PLACE):
            boxes = [box for box in (one.box, new.box) if box is not None]
            places[index] = replace(one, box=_around(boxes))
            return
    places.append(new)


def _overlap(a: Box | None, b: Box | None) -> float:
    """The intersection of two boxes over the smaller one."""
    if a is None or b is None:
        return 0.0
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    smaller = min(_area(a), _area(b))
    return max(0, width) * max(0, height) / smaller if smaller else 0.0


def _around(boxes: Sequence[Box]) -> Box | None:
    if not boxes:
        return None
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right = max(box[0] + box[2] for box in boxes)
    bottom = max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _submitters(task: Task) -> set[int]:
    return {
        one.completed_by
        for one in task.annotations
        if one.completed_by is not None and not one.was_cancelled and not one.ground_truth
    }


def _area(box: Box | None) -> int:
    return 0 if box is None else box[2] * box[3]


def _box(region: Any) -> Box | None:
    try:
        mask = region_mask(region)
    except RegionShapeError:
        return None
    return None if mask.is_empty else mask.bbox


def _letters(number: int) -> str:
    """A, B, ... Z, AA, AB, ...: the column names of a spreadsheet."""
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def require_mode(mode: str) -> str:
    """Return the mode.

    Raises:
        UsageError: there is no such mode.
    """
    if mode not in MODES:
        raise UsageError(f"--mode is one of {', '.join(MODES)}, not {mode!r}.")
    return mode
