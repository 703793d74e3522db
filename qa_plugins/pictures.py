"""The pictures of the worst tasks: masks drawn again, and the photo where it can be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qa_plugins.agreement import DrawnTask, draw_task
from qa_plugins.drawing import Drawing
from qa_plugins.report.html import TaskPicture
from qa_plugins.report.overlays import disagreement_panels
from segstudio.errors import SegstudioError
from segstudio.images import ImageKey, image_references
from segstudio.masks import union_all
from segstudio.plugins import CheckContext
from segstudio.tasks import Task

PhotoLoader = Callable[[str, int], NDArray[np.uint8]]


def task_pictures(
    chosen: Sequence[tuple[Task, str]],
    context: CheckContext,
    people: Mapping[int, str],
    load_photo: PhotoLoader,
) -> list[TaskPicture]:
    """Draw each task's most disputed image.

    Args:
        chosen: tasks with the reason why they are shown.
        context: as the check had it.
        people: what to call each annotator.
        load_photo: gives the RGB pixels of a reference of a task (its id); a SegstudioError
            leaves the masks on grey.
    """
    colors = {one.name: one.color for one in context.taxonomy.classes}
    pictures = []
    for task, reason in chosen:
        drawn = draw_task(task, context)
        if not drawn.images:
            continue
        key, (height_px, width_px), drawings = most_disputed(drawn)
        photo, note = load_or_none(task, key, context, load_photo)
        by_person = zip(drawn.annotators, drawings, strict=True)
        panels = disagreement_panels(
            sorted(
                ((people[person], drawing.class_masks) for person, drawing in by_person),
                key=lambda item: (len(item[0]), item[0]),
            ),
            colors,
            height_px,
            width_px,
            photo,
        )
        pictures.append(TaskPicture(task.id, reason, tuple(panels), note))
    return pictures


def most_disputed(drawn: DrawnTask) -> tuple[ImageKey, tuple[int, int], tuple[Drawing, ...]]:
    """The image of a task on which the annotators differ most, with its size and drawings."""
    return max(drawn.images, key=lambda image: _disputed_share(image[1], image[2]))


def _disputed_share(size_px: tuple[int, int], drawings: Sequence[Drawing]) -> float:
    """Share of the image on which the annotators' classes differ from the first one's."""
    height_px, width_px = size_px
    if not height_px * width_px:
        return -1.0
    first, *others = drawings
    disputed = union_all([], height_px, width_px)
    for other in others:
        for name in {*first.class_masks, *other.class_masks}:
            a, b = first.class_masks.get(name), other.class_masks.get(name)
            if a is not None and b is not None:
                disputed = disputed | (a ^ b)
            else:
                only = a if a is not None else b
                disputed = disputed if only is None else disputed | only
    return disputed.area_px / (height_px * width_px)


def load_or_none(
    task: Task, key: ImageKey, context: CheckContext, load_photo: PhotoLoader
) -> tuple[NDArray[np.uint8] | None, str]:
    """The photo of an image of a task, or None with a sentence why it cannot be had."""
    reference = image_references(task, context.label_config).get(key)
    if not reference:
        return None, "The task names no photo, so the masks are drawn on grey. No number changes."
    try:
        return load_photo(reference, task.id), ""
    except SegstudioError as error:
        return (
            None,
            f"Drawn on grey, because the photo could not be had: {error} No number changes.",
        )
