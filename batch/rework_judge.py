"""What became of the tasks of a round: worked on or not, good enough or not, decided by what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from batch.rework import missed
from batch.rework_state import Round, RoundTask
from segstudio.annotation_hashes import annotation_hash, drawing_hash
from segstudio.shapes import RegionShapeError, region_mask
from segstudio.tasks import Annotation, Task


def judge(
    one: Round,
    tasks: Mapping[int, Task],
    measured: Mapping[int, Mapping[str, Sequence[Mapping[str, Any]]]],
    deleted: Mapping[int, Collection[int]] | None = None,
) -> dict[int, dict[str, Any]]:
    """Say what became of each task of a round.

    Args:
        one: the round.
        tasks: its tasks as they are now.
        measured: of each task, what it was measured against and the entries, see `missed`.
        deleted: of each task, the annotations of the round that are no longer on the server.

    Returns:
        By task id: `status` (passed; below: worked on and still short; waiting: not worked on;
        deleted: still short, and what it waits for was deleted or skipped; gone: the task was
        deleted), `short` (sentences), `changed`, `deleted` and `skipped` (annotation ids),
        `decided_by` (an annotation id, in the mode adjudicate) and `to_decision` (the mean IoU
        of each earlier drawing to the decision, by annotation id).
    """
    outcomes: dict[int, dict[str, Any]] = {}
    for task in one.tasks:
        now = tasks.get(task.task_id)
        if now is None:
            outcomes[task.task_id] = {"status": "gone", "short": [], "changed": []}
            continue
        drawings = drawings_of(now)
        changed = sorted(
            key for key, found in drawings.items() if _differs(task.drawings.get(key), found)
        )
        people = {int(drawings[key]["by"]) for key in changed if drawings[key]["by"] is not None}
        short = missed(measured.get(task.task_id, {}), task.requirements)
        found: dict[str, Any] = {"short": short, "changed": [int(key) for key in changed]}
        lost = {
            "deleted": sorted((deleted or {}).get(task.task_id, ())),
            "skipped": sorted(
                each.id
                for each in now.annotations
                if each.id is not None and each.was_cancelled and str(each.id) in task.drawings
            ),
        }
        found |= {key: ids for key, ids in lost.items() if ids}
        gone = {str(number) for ids in lost.values() for number in ids}
        if one.mode == "fix":
            waited_for = set(task.people) - people
            # Who has no drawing left has nothing to save: nobody is to wait for them.
            nothing_left = {person for person in waited_for if _had_only(task, person, gone)}
            if not short:
                found["status"] = "passed"
            elif waited_for - nothing_left:
                found["status"] = "waiting"
            else:
                found["status"] = "deleted" if nothing_left else "below"
        elif one.mode == "fresh":
            worked_on = bool(people - set(task.drawn_by))
            found["status"] = "waiting" if not worked_on else ("below" if short else "passed")
        else:
            decision = _decision(task, now, drawings)
            nothing_to_decide = bool(task.drawings) and set(task.drawings) <= gone
            found["status"] = "deleted" if nothing_to_decide else "waiting"
            found["status"] = found["status"] if decision is None else "passed"
            if decision is not None:
                found["decided_by"] = decision.id
                found["to_decision"] = _to_decision(now, decision, task)
        outcomes[task.task_id] = found
    return outcomes


def drawings_of(task: Task) -> dict[str, dict[str, Any]]:
    """Of each submitted annotation, by id: its user, its hashes, whether it is ground truth."""
    return {
        str(one.id): {
            "by": one.completed_by,
            "drawing": drawing_hash(one),
            "all": annotation_hash(one),
            "ground_truth": one.ground_truth,
        }
        for one in task.annotations
        if one.id is not None and not one.was_cancelled
    }


def _had_only(task: RoundTask, person: int, gone: Collection[str]) -> bool:
    """Whether all that a person had drawn when the round was opened is gone."""
    had = {key for key, found in task.drawings.items() if found["by"] == person}
    return bool(had) and had <= set(gone)


def _differs(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    return before is None or before["all"] != now["all"]


def _decision(
    task: RoundTask, now: Task, drawings: Mapping[str, Mapping[str, Any]]
) -> Annotation | None:
    """The annotation that decides: newly ground truth, else the newest of somebody new."""
    by_id = {str(one.id): one for one in now.annotations}
    before = task.drawings
    truths = [
        key
        for key, one in drawings.items()
        if one["ground_truth"] and not before.get(key, {}).get("ground_truth")
    ]
    fresh = [
        key for key, one in drawings.items() if key not in before and one["by"] not in task.drawn_by
    ]
    chosen = truths or fresh
    return by_id[max(chosen, key=int)] if chosen else None


def _to_decision(now: Task, decision: Annotation, task: RoundTask) -> dict[str, float | None]:
    """The mean over labels of the IoU of each earlier drawing to the decision."""
    target = _label_masks(decision)
    values: dict[str, float | None] = {}
    for one in now.annotations:
        if str(one.id) not in task.drawings or one.id == decision.id:
            continue
        masks = _label_masks(one)
        ious = [_iou(masks.get(key), target.get(key)) for key in sorted({*masks, *target})]
        values[str(one.id)] = sum(ious) / len(ious) if ious else None
    return values


def _label_masks(annotation: Annotation) -> dict[tuple[str, str, int], Any]:
    masks: dict[tuple[str, str, int], Any] = {}
    for region in annotation.regions:
        try:
            mask = region_mask(region)
        except RegionShapeError:
            continue
        for label in region.labels:
            key = (region.to_name, label, region.item_index)
            masks[key] = masks[key] | mask if key in masks else mask
    return masks


def _iou(a: Any, b: Any) -> float:
    if a is None or b is None:
        return 0.0
    union = (a | b).area_px
    return (a & b).area_px / union if union else 0.0
