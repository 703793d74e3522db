"""Which tasks belong together: neighbours in a video, or one unit of resampling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from segstudio.tasks import Task

NEAR_FRAMES: Final = 25
"""Frames of one video in the same run of so many count as neighbours: a second, mostly."""


def clip_place(task: Task, options: Mapping[str, str]) -> str:
    """Return a name that a task shares with its neighbours, its own where it has none.

    Neighbours are frames of one video (the options ``video`` and ``frame``, as for the check
    ``temporal``), else the tasks of one unit of ``resample_by``.
    """
    video = task.data.get(options.get("video", "video"))
    frame = task.data.get(options.get("frame", "frame"))
    numbers = re.findall(r"\d+", str(frame))
    if video is not None and numbers:
        return f"video={video}#{int(numbers[-1]) // NEAR_FRAMES}"
    return resampling_unit(task, options)


def resampling_unit(task: Task, options: Mapping[str, str]) -> str:
    """Return what intervals resample: the value of the option ``resample_by``, else the task."""
    key = options.get("resample_by")
    if key and task.data.get(key) is not None:
        return f"{key}={task.data[key]}"
    return f"task={task.id}"
