"""The most disputed places of each class, drawn from the few tasks that a run kept for it.

A disputed place is a connected part of the pixels that some annotators of an image gave to the
class and others did not, the largest first. Places that look alike in two tasks, as in
neighbouring frames, are shown once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qa_plugins.agreement import draw_task
from qa_plugins.drawing import Drawing
from qa_plugins.edge_notes import EdgeNotes
from qa_plugins.pictures import PhotoLoader, load_or_none
from qa_plugins.report.crops import MAX_PEOPLE, Box, Crop, RuleSheet, crop_box, crop_panels
from qa_plugins.worst import TasksByKey
from segstudio.masks import Mask, iou
from segstudio.plugins import CheckContext
from segstudio.tasks import Task

MAX_SHEETS: Final = 12
PER_IMAGE: Final = 3
SAME_PLACE_IOU: Final = 0.4
_MIN_DISPUTED_PX: Final = 12


def rule_sheets(
    kept: TasksByKey,
    notes: EdgeNotes,
    result: Mapping[str, Any],
    context: CheckContext,
    people: Mapping[int, str],
    load_photo: PhotoLoader,
    crops: int,
) -> list[RuleSheet]:
    """A sheet for each class that is disputed or has notes, the weakest first.

    Args:
        kept: tasks to look for disputed places in, by class.
        notes: what annotators wrote.
        result: what ``qa.json`` holds.
        context: as the check had it.
        people: what to call each annotator.
        load_photo: gives the RGB pixels of a reference of a task; see `qa_plugins.pictures`.
        crops: how many places a class; 0 gives no sheets.
    """
    if not crops:
        return []
    found: dict[str, list[tuple[Crop, Mask]]] = {}
    for task, classes in kept.by_task():
        for name, crop, part in _crops_of_task(task, classes, context, people, load_photo):
            best = found.setdefault(name, [])
            best.append((crop, part))
            best.sort(key=lambda one: (-one[0].disputed_px, one[0].task_id))
            best[:] = _without_repeats(best)[:crops]
    ious = {one["name"]: one["iou"]["accumulated"] for one in result["classes"]}
    names = sorted(
        {*found, *notes.of_class, *notes.doubts} & set(context.taxonomy.by_name),
        key=lambda name: (ious.get(name) is None, ious.get(name) or 0.0, name),
    )
    return [
        RuleSheet(
            name,
            context.taxonomy.by_name[name].boundary_rule,
            tuple(crop for crop, _ in found.get(name, ())),
            notes.doubts_of(name),
            tuple(notes.of_class.get(name, ())),
        )
        for name in names[:MAX_SHEETS]
    ]


def _without_repeats(places: Sequence[tuple[Crop, Mask]]) -> list[tuple[Crop, Mask]]:
    """Leave out what a place before it shows already: much the same part of another task."""
    chosen: list[tuple[Crop, Mask]] = []
    for crop, part in places:
        if not any(
            crop.task_id != other.task_id and _same_place(part, shown) for other, shown in chosen
        ):
            chosen.append((crop, part))
    return chosen


def _same_place(a: Mask, b: Mask) -> bool:
    same_size = (a.height_px, a.width_px) == (b.height_px, b.width_px)
    return same_size and (iou(a, b) or 0.0) >= SAME_PLACE_IOU


def disputed_parts(drawings: Sequence[Drawing], name: str) -> list[Mask]:
    """The connected parts that some gave to a class and others did not, the largest first.

    Parts of fewer than 12 pixels are left out; [] when nobody drew the class.
    """
    masks = [one.class_masks.get(name) for one in drawings]
    drawn = [mask for mask in masks if mask is not None]
    if not drawn:
        return []
    some = all_of_them = drawn[0]
    for mask in drawn[1:]:
        some, all_of_them = some | mask, all_of_them & mask
    disputed = some if len(drawn) < len(masks) else some - all_of_them
    parts = [one for one in disputed.components() if one.area_px >= _MIN_DISPUTED_PX]
    return sorted(parts, key=lambda one: (-one.area_px, one.bbox))


def _crops_of_task(
    task: Task,
    classes: Sequence[str],
    context: CheckContext,
    people: Mapping[int, str],
    load_photo: PhotoLoader,
) -> Iterator[tuple[str, Crop, Mask]]:
    drawn = draw_task(task, context)
    for key, size_px, drawings in drawn.images:
        parts = {name: _apart(disputed_parts(drawings, name)) for name in classes}
        if not any(parts.values()):
            continue
        photo, _ = load_or_none(task, key, context, load_photo)
        order = sorted(
            range(len(drawings)),
            key=lambda who: (len(people[drawn.annotators[who]]), people[drawn.annotators[who]]),
        )[:MAX_PEOPLE]
        for name, places in parts.items():
            dense: list[tuple[str, Mapping[str, NDArray[np.bool_]]]] = [
                (people[drawn.annotators[who]], _dense(drawings[who], name)) for who in order
            ]
            color = context.taxonomy.by_name[name].color
            for part, box in places:
                panels = crop_panels(dense, name, color, box, size_px, photo)
                left_out = len(drawings) - len(order)
                yield name, Crop(task.id, part.area_px, panels, left_out), part


def _dense(drawing: Drawing, name: str) -> dict[str, NDArray[np.bool_]]:
    mask = drawing.class_masks.get(name)
    return {} if mask is None else {name: mask.to_dense()}


def _apart(parts: Sequence[Mask]) -> list[tuple[Mask, Box]]:
    """At most ``PER_IMAGE`` parts with their boxes, none in the middle of a box shown already."""
    chosen: list[tuple[Mask, Box]] = []
    for part in parts:
        x, y, width, height = part.bbox
        middle_x, middle_y = x + width // 2, y + height // 2
        shown = any(
            left <= middle_x < left + across and top <= middle_y < top + down
            for _, (left, top, across, down) in chosen
        )
        if not shown:
            chosen.append((part, crop_box(part)))
        if len(chosen) == PER_IMAGE:
            break
    return chosen
