"""The tasks where one annotator and the others differ most, drawn for their feedback page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qa_plugins.agreement import draw_task
from qa_plugins.drawing import Drawing
from qa_plugins.pictures import PhotoLoader, load_or_none, most_disputed
from qa_plugins.report.feedback import OwnPicture
from qa_plugins.report.overlays import disagreement_panels
from segstudio.masks import Mask, union_all
from segstudio.plugins import CheckContext
from segstudio.tasks import Task


def own_pictures(
    kept: Sequence[tuple[Task, float]],
    person: int,
    result: Mapping[str, Any],
    context: CheckContext,
    load_photo: PhotoLoader,
) -> list[OwnPicture]:
    """Draw a person's masks beside what most of the others drew.

    Args:
        kept: tasks with the person's mean IoU on them.
        person: whose page it is.
        result: what ``qa.json`` holds.
        context: as the check had it.
        load_photo: gives the RGB pixels of a reference of a task; see `qa_plugins.pictures`.
    """
    colors = {one.name: one.color for one in context.taxonomy.classes}
    names = {task["id"]: task.get("image") or "" for task in result["tasks"]}
    pictures = []
    for task, miou in kept:
        drawn = draw_task(task, context)
        if person not in drawn.annotators or not drawn.images:
            continue
        who = drawn.annotators.index(person)
        key, size_px, drawings = most_disputed(drawn)
        photo, note = load_or_none(task, key, context, load_photo)
        own = drawings[who]
        others = [one for index, one in enumerate(drawings) if index != who]
        caption = "The other annotator" if len(others) == 1 else "Most of the others"
        both = [("You", own.class_masks), (caption, most_of(others, *size_px))]
        panels = disagreement_panels(both, colors, *size_px, photo)
        pictures.append(OwnPicture(task.id, names.get(task.id, ""), miou, tuple(panels), note))
    return pictures


def most_of(drawings: Sequence[Drawing], height_px: int, width_px: int) -> dict[str, Mask]:
    """For each class the pixels that at least half of the drawings have; {} for no drawing."""
    names = sorted({name for one in drawings for name in one.class_masks})
    found = {}
    for name in names:
        masks = [one.class_masks[name] for one in drawings if name in one.class_masks]
        mask = _at_least(masks, -(-len(drawings) // 2), height_px, width_px)
        if not mask.is_empty:
            found[name] = mask
    return found


def _at_least(masks: Sequence[Mask], count: int, height_px: int, width_px: int) -> Mask:
    """Pixels that at least `count` of the masks have."""
    nothing = union_all([], height_px, width_px)
    levels = [nothing] * count  # levels[n]: pixels in more than n of the masks so far
    for mask in masks:
        for level in range(count - 1, 0, -1):
            levels[level] = levels[level] | (levels[level - 1] & mask)
        levels[0] = levels[0] | mask
    return levels[-1]
