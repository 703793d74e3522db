"""The frames of a source's videos in their order, with the objects of those that are annotated.

Key frames wait in a file on disk; what stays in memory is a line a frame.
"""

from __future__ import annotations

import os
import pickle
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import IO, Any, Final

from ml_backend.key_objects import KeyObject, key_objects
from segstudio.errors import UsageError
from segstudio.images import ImageKey, image_references
from segstudio.progress import ProgressLine
from segstudio.regions import Problem
from segstudio.selection import Policy, Survey
from segstudio.source import Source

_KEPT_PROBLEMS: Final = 200
_TRUE: Final = frozenset({"true", "1", "yes"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video: its task, and where its key frame waits (None: it is none)."""

    task_id: int
    project_id: int | None
    video: str
    order: tuple[int, float, str]
    reference: str
    is_annotated: bool
    data_at: int
    key_at: int | None


@dataclass(slots=True)
class SequenceIndex:
    """All videos of a source. Use as a context manager: it holds a temporary file.

    `without_frame` counts tasks whose data name no video or no frame, `doubles` further tasks of a
    frame that is there already, which are left out.
    """

    tasks: int = 0
    without_frame: int = 0
    doubles: int = 0
    problems: list[Problem] = field(default_factory=list)
    problem_counts: Counter[str] = field(default_factory=Counter)
    frames: list[Frame] = field(default_factory=list)
    _spool: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __enter__(self) -> SequenceIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def videos(self) -> Iterator[tuple[str, list[Frame]]]:
        """Yield each video's frames in their order, a frame once."""
        self.frames.sort(key=attrgetter("video", "order", "task_id"))
        for video, group in groupby(self.frames, key=attrgetter("video")):
            ordered: list[Frame] = []
            for frame in group:
                if ordered and ordered[-1].order == frame.order:
                    self.doubles += 1
                else:
                    ordered.append(frame)
            yield video, ordered

    def objects(self, frame: Frame) -> tuple[KeyObject, ...]:
        """Return the objects of a key frame."""
        if frame.key_at is None:
            raise ValueError(f"The frame of task {frame.task_id} is no key frame.")
        found: tuple[KeyObject, ...] = self._read(frame.key_at)
        return found

    def data(self, frame: Frame) -> dict[str, Any]:
        """Return the data of a frame's task."""
        found: dict[str, Any] = self._read(frame.data_at)
        return found

    def keep(self, value: object) -> int:
        """Store a key frame's objects or a task's data; return where."""
        at = self._spool.seek(0, os.SEEK_END)
        pickle.dump(value, self._spool, pickle.HIGHEST_PROTOCOL)
        return at

    def _read(self, at: int) -> Any:
        self._spool.seek(at)
        return pickle.load(self._spool)  # noqa: S301 - written a moment ago by us

    def note(self, problem: Problem) -> None:
        """Count a problem, and keep the first ones."""
        self.problem_counts[problem.kind] += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            self.problems.append(problem)


def index_sequences(
    source: Source,
    policy: Policy,
    *,
    video_key: str = "video",
    frame_key: str = "frame",
    every: int | None = None,
    marked_only: bool = False,
    label: str = "",
) -> SequenceIndex:
    """Read a source once and return its videos. The caller closes the index.

    Args:
        source: the tasks.
        policy: whose annotation makes a key frame.
        video_key: of a task's data: which video a frame is of.
        frame_key: of a task's data: what orders the frames; numbers, or texts with a number.
        every: take only annotated frames whose number is a multiple of this as key frames.
        marked_only: take only annotated frames whose data have a true `key_frame`.
        label: of the progress bar; empty shows none.

    Raises:
        SelectionError: on some tasks several annotations could be meant, or none is there at all.
        UsageError: a policy that takes more than one annotation of a task.
    """
    if policy.kind in ("all", "consensus"):
        raise UsageError(
            f"A key frame has one annotation, and the policy '{policy}' takes several together; "
            "choose ground-truth, newest or user:ID."
        )
    index, survey = SequenceIndex(), Survey(policy)
    with ExitStack() as on_failure:
        on_failure.enter_context(index)
        with ProgressLine(label, source.count()) as progress:
            for task in source.tasks():
                index.tasks += 1
                progress.advance()
                video, number = task.data.get(video_key), task.data.get(frame_key)
                if video is None or number is None:
                    index.without_frame += 1
                    continue
                choice = survey.add(task)
                order = sort_key(number)
                is_key = bool(choice.annotations) and _is_wanted(
                    order, task.data.get("key_frame"), every, marked_only
                )
                key_at = None
                if is_key:
                    objects, problems = key_objects(choice.annotations[0].regions, task.id)
                    key_at = index.keep(objects)
                    for problem in problems:
                        index.note(problem)
                references = image_references(task, source.label_config)
                first = min(references, default=ImageKey("", 0))
                index.frames.append(
                    Frame(
                        task_id=task.id,
                        project_id=task.project_id,
                        video=str(video),
                        order=order,
                        reference=references.get(first, ""),
                        is_annotated=bool(choice.annotations),
                        data_at=index.keep(dict(task.data)),
                        key_at=key_at,
                    )
                )
        open_choice = survey.error()
        if open_choice is not None:
            raise open_choice
        on_failure.pop_all()
    for problem in source.problems:
        index.note(problem)
    return index


def sort_key(value: object) -> tuple[int, float, str]:
    """Order numbers by size and texts by the last number in them, as the check `temporal` does.

    >>> sorted(["frame10", "frame9"], key=sort_key)
    ['frame9', 'frame10']
    """
    text = str(value)
    found = re.findall(r"\d+(?:\.\d+)?", text)
    return (0, float(found[-1]), text) if found else (1, 0.0, text)


def _is_wanted(
    order: tuple[int, float, str], marked: Any, every: int | None, marked_only: bool
) -> bool:
    if marked_only and str(marked).lower() not in _TRUE:
        return False
    return every is None or (order[0] == 0 and order[1] % every == 0)
