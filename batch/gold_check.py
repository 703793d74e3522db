"""Whether gold is still what it was, in its file and on the server, and who has drawn on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from batch.gold_file import GoldFile, GoldTask, hash_of, is_gold_itself, user_of


@dataclass(frozen=True, slots=True)
class GoldFinding:
    """A sentence on one gold task; `is_tampering` where what decides figures was changed."""

    task_id: int
    text: str
    is_tampering: bool = False


@dataclass(frozen=True, slots=True)
class GoldProgress:
    """How far annotators have come with one gold task."""

    task_id: int
    overlap: int
    annotators: tuple[int, ...]
    in_stream: bool


def findings(gold: GoldFile, raw_tasks: Iterable[Mapping[str, Any]]) -> list[GoldFinding]:
    """Compare the gold with the project's tasks as they are now.

    Told are: gold annotations that were changed on the server (tampering), drawings of annotators
    that equal the gold to the last point (tampering: copied), gold in sight, gold annotations and
    tasks that are gone, and what makes gold tasks look different from the others.
    """
    wanted, found, others = gold.by_id(), list[GoldFinding](), list[Mapping[str, Any]]()
    there: dict[int, Mapping[str, Any]] = {}
    for raw in raw_tasks:
        task_id = int(raw["id"])
        light = {"data": raw.get("data") or {}, "meta": raw.get("meta") or {}}
        if task_id not in wanted:
            others.append(light)
            continue
        there[task_id] = light
        found += _of_task(wanted[task_id], raw)
    missing = [one for one in wanted if one not in there]
    found += [GoldFinding(one, f"Task {one} is no longer in the project.") for one in missing]
    return found + _giveaways(there, others)


def progress(gold: GoldFile, raw_tasks: Iterable[Mapping[str, Any]]) -> list[GoldProgress]:
    """Who has submitted what on the gold tasks, the gold itself left out."""
    wanted, rows = gold.by_id(), []
    for raw in raw_tasks:
        one = wanted.get(int(raw["id"]))
        if one is None:
            continue
        people = {
            user
            for annotation in _submitted(raw)
            if not is_gold_itself(one, annotation) and (user := user_of(annotation)) is not None
        }
        rows.append(
            GoldProgress(
                one.task_id,
                int(raw.get("overlap") or 1),
                tuple(sorted(people)),
                not raw.get("is_labeled"),
            )
        )
    return rows


def gold_in_project(one: GoldTask, raw: Mapping[str, Any]) -> list[GoldFinding]:
    """What is to be said of a task's gold annotation in the project itself.

    Gold that the file calls hidden is still there when hiding was cut short right before it was
    removed.

    Args:
        one: the gold.
        raw: its task's JSON as it is now.
    """
    mine = next((each for each in raw.get("annotations") or [] if is_gold_itself(one, each)), None)
    name = f"The gold annotation {one.on_server} of task {one.task_id}"
    if mine is not None and hash_of(mine) != one.drawing_hash:
        return [GoldFinding(one.task_id, change_of(one, mine), is_tampering=True)]
    if one.hidden and mine is not None:
        text = f"{name} was to be hidden and is still in the project: a call was cut short."
        return [GoldFinding(one.task_id, f"{text} Seed again with --hide.")]
    if one.hidden or one.on_server is None:
        return []
    if mine is None:
        text = f"{name} was removed. The file still has it."
    else:
        text = f"The gold of task {one.task_id} lies on the server, in sight of every annotator."
    return [GoldFinding(one.task_id, text)]


def change_of(one: GoldTask, there: Mapping[str, Any]) -> str:
    """Say that the gold annotation is another on the server than in the file.

    Args:
        one: the gold.
        there: the annotation as the server has it now.
    """
    who = _reference(there.get("updated_by"))
    when = str(there.get("updated_at") or "")[:19]
    text = (
        f"The gold annotation {one.on_server} of task {one.task_id} was changed on the server "
        f"({f'by user {who} ' if who else ''}at {when} UTC); the file has it as it was."
    )
    if one.hidden:
        text += (
            " It was to be hidden, which was cut short, and what somebody drew is not removed: "
            "look at it, and delete it by hand."
        )
    return text


def _of_task(one: GoldTask, raw: Mapping[str, Any]) -> list[GoldFinding]:
    found = gold_in_project(one, raw)
    task_id = one.task_id
    has_regions = bool(one.annotation.get("result"))
    for each in _submitted(raw):
        if is_gold_itself(one, each) or not has_regions:
            continue
        if hash_of(each) == one.drawing_hash:
            text = (
                f"Annotation {each.get('id')} of user {user_of(each)} on task {task_id} equals the "
                "gold to the last point: it was copied, or it is the one the gold was made from."
            )
            found.append(GoldFinding(task_id, text, is_tampering=True))
    if raw.get("is_labeled") and len(_submitted(raw)) < int(raw.get("overlap") or 1):
        text = f"Task {task_id} counts as labelled and is offered to nobody; seed it again."
        found.append(GoldFinding(task_id, text))
    return found


def _giveaways(
    there: Mapping[int, Mapping[str, Any]], others: list[Mapping[str, Any]]
) -> list[GoldFinding]:
    """What tells gold tasks from all others: a key that only they have, or only they lack."""
    if not others:
        return []
    found = []
    for part in ("data", "meta"):
        of_all = set.intersection(*(set(one[part]) for one in others))
        of_any = set.union(*(set(one[part]) for one in others))
        for task_id, raw in sorted(there.items()):
            extra, lacks = sorted(set(raw[part]) - of_any), sorted(of_all - set(raw[part]))
            for key in extra:
                text = f"Task {task_id} has the {part} key '{key}', which no other task has."
                found.append(GoldFinding(task_id, f"{text} It gives the gold away."))
            for key in lacks:
                text = f"Task {task_id} lacks the {part} key '{key}', which all other tasks have."
                found.append(GoldFinding(task_id, f"{text} It gives the gold away."))
    return found


def _submitted(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in raw.get("annotations") or [] if not one.get("was_cancelled")]


def _reference(found: Any) -> int | None:
    if isinstance(found, Mapping):
        found = found.get("id")
    return found if isinstance(found, int) else None
