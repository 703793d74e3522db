"""Whether gold is still what it was, in its file and on the server, and who has drawn on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from batch.gold_file import GoldFile, GoldTask, hash_of


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
            if annotation.get("id") != one.on_server and (user := _user(annotation)) is not None
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


def _of_task(one: GoldTask, raw: Mapping[str, Any]) -> list[GoldFinding]:
    found = []
    task_id = one.task_id
    mine = next(
        (each for each in raw.get("annotations") or [] if each.get("id") == one.on_server), None
    )
    if one.on_server is not None and not one.hidden:
        if mine is None:
            text = f"The gold annotation {one.on_server} of task {task_id} was removed."
            found.append(GoldFinding(task_id, f"{text} The file still has it."))
        elif hash_of(mine) != one.drawing_hash:
            who = _reference(mine.get("updated_by"))
            when = str(mine.get("updated_at") or "")[:19]
            text = (
                f"The gold annotation {one.on_server} of task {task_id} was changed on the server"
                f" ({f'by user {who} ' if who else ''}at {when} UTC); the file has it as it was."
            )
            found.append(GoldFinding(task_id, text, is_tampering=True))
        else:
            text = f"The gold of task {task_id} lies on the server, in sight of every annotator."
            found.append(GoldFinding(task_id, text))
    has_regions = bool(one.annotation.get("result"))
    for each in _submitted(raw):
        if each.get("id") == one.on_server or not has_regions:
            continue
        if hash_of(each) == one.drawing_hash:
            text = (
                f"Annotation {each.get('id')} of user {_user(each)} on task {task_id} equals the "
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


def _user(annotation: Mapping[str, Any]) -> int | None:
    return _reference(annotation.get("completed_by"))


def _reference(found: Any) -> int | None:
    if isinstance(found, Mapping):
        found = found.get("id")
    return found if isinstance(found, int) else None
