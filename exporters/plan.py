"""The first pass over the tasks: what will be exported, decided before anything is written.

Every task is read once, from the file or the server. What the policy takes of it is spooled to a
temporary file, so that the second pass needs neither the source again nor memory for it.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import IO, Any, NamedTuple

from exporters.answers import majority_answers
from exporters.names import StemNames
from exporters.problems import ProblemLog
from exporters.work_items import WorkItem, pack_head, pack_item, unpack_head, unpack_item
from segstudio.errors import SourceError
from segstudio.images import AnnotatedImage, ImageKey, annotated_images
from segstudio.label_config import LabelConfig
from segstudio.progress import ProgressLine
from segstudio.selection import Policy, Survey, annotator_folder
from segstudio.source import Source
from segstudio.source_description import utc_second
from segstudio.tasks import Annotation, Task

SizeOf = Callable[[int, str], tuple[int, int]]
"""(task id, reference) -> (height_px, width_px); may raise ValueError or OSError."""

_LENGTH = struct.Struct(">Q")


class Planned(NamedTuple):
    """A spooled image: where it belongs, itself without its regions, and the whole, packed."""

    folder: str
    image: AnnotatedImage
    packed: bytes

    def item(self) -> WorkItem:
        """Return the whole, under its final file stem."""
        return unpack_item(self.packed, self.image.file_stem)


@dataclass(slots=True)
class Plan:
    """What will be exported; `items` streams it, as often as asked."""

    survey: Survey
    names: StemNames = field(default_factory=StemNames)
    images: int = 0
    folders: dict[str, int] = field(default_factory=dict)
    annotators: dict[str, dict[int | None, int]] = field(default_factory=dict)
    last_change: str = ""
    spool: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def add(self, item: WorkItem, annotators: tuple[int | None, ...]) -> None:
        """Spool one image."""
        for blob in (pack_head(item), pack_item(item)):
            self.spool.write(_LENGTH.pack(len(blob)))
            self.spool.write(blob)
        self.images += 1
        self.folders[item.folder] = self.folders.get(item.folder, 0) + 1
        counts = self.annotators.setdefault(item.folder, {})
        for annotator in annotators:
            counts[annotator] = counts.get(annotator, 0) + 1

    def items(self) -> Iterator[Planned]:
        """Yield the images in task order, each under its final file stem."""
        self.spool.seek(0)
        while head := self._read():
            folder, image = unpack_head(head)
            stem = self.names.stem(image)
            yield Planned(folder, replace(image, file_stem=stem), self._read())

    def _read(self) -> bytes:
        length = self.spool.read(_LENGTH.size)
        return self.spool.read(*_LENGTH.unpack(length)) if length else b""

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the spooled items."""
        self.spool.close()


def make_plan(
    source: Source,
    policy: Policy,
    problems: ProblemLog,
    size_of: SizeOf | None = None,
    *,
    show_progress: bool = True,
) -> Plan:
    """Read all tasks and decide what is exported.

    Args:
        source: where the tasks come from.
        policy: which annotation of a task counts.
        problems: gets what could not be read of the annotations that count.
        size_of: tells the size of an image on which nobody drew anything.
        show_progress: on stderr.

    Raises:
        SelectionError: the policy leaves a choice open in some tasks, or fits none; worded over
            all tasks.
    """
    plan = Plan(Survey(policy))
    config = source.label_config
    try:
        with ProgressLine("reading" if show_progress else "", source.count()) as progress:
            for task in source.tasks():
                _add_task(plan, task, config, problems, size_of)
                progress.advance()
        problems.add(source.problems)
        _check(plan, source, problems)
    except BaseException:
        plan.close()
        raise
    return plan


def in_utc(time: str) -> str:
    """Return an ISO 8601 time in UTC; one that is so already, has no zone or is no time stays.

    >>> in_utc("2026-11-21T01:30:00.5+02:00"), in_utc("2026-11-21T01:30:00Z"), in_utc("noon")
    ('2026-11-20T23:30:00.500000Z', '2026-11-21T01:30:00Z', 'noon')
    """
    try:
        moment = datetime.fromisoformat(time)
        return utc_second(moment) if moment.utcoffset() else time
    except (ValueError, OverflowError):
        return time


def _moment(time: str) -> tuple[datetime, str]:
    """Order times as `in_utc` gives them; what is no time comes before all that are."""
    try:
        moment = datetime.fromisoformat(time).replace(tzinfo=None)
    except ValueError:
        moment = datetime.min
    return moment, time


def _check(plan: Plan, source: Source, problems: ProblemLog) -> None:
    """Stop where a choice is open or nothing is left to export."""
    error = plan.survey.error()
    if error is not None:
        raise error
    if not plan.survey.tasks:
        raise SourceError(
            f"There are no tasks in {source.description}, or none passes the filters."
        )
    if not plan.images:
        reason = problems.first[-1].message if problems.first else "no task names an image."
        raise SourceError(f"No image of {source.description} can be exported: {reason}")


def _add_task(
    plan: Plan, task: Task, config: LabelConfig, problems: ProblemLog, size_of: SizeOf | None
) -> None:
    choice = plan.survey.add(task)
    problems.add(task.problems)
    if not choice.annotations:
        return
    changes = (in_utc(one.updated_at or one.created_at or "") for one in choice.annotations)
    plan.last_change = max(plan.last_change, *changes, key=_moment)
    by_annotation = []
    for annotation in choice.annotations:
        problems.add(annotation.problems)
        images, found = annotated_images(task, annotation, config, _for_task(size_of, task.id))
        problems.add(found)
        by_annotation.append((annotation, {image.key: image for image in images}))
    keys = dict.fromkeys(key for _, images in by_annotation for key in images)
    for key in keys:
        plan.names.add(next(images[key] for _, images in by_annotation if key in images))
        _add_image(plan, key, by_annotation)


def _add_image(
    plan: Plan, key: ImageKey, by_annotation: list[tuple[Annotation, dict[ImageKey, Any]]]
) -> None:
    kind = plan.survey.policy.kind
    present = [(one, images[key]) for one, images in by_annotation if key in images]
    if kind == "consensus" and len(present) > 1:
        drawn = tuple(image.regions for _, image in present)
        answers, open_answers = majority_answers([image.answers for _, image in present])
        merged = replace(
            present[0][1], regions=(), annotation_id=None, annotator_id=None, answers=answers
        )
        annotators = tuple(annotation.completed_by for annotation, _ in present)
        losses = {"answers_without_majority": open_answers}
        plan.add(WorkItem("", merged, drawn, losses), annotators)
        return
    for annotation, image in present:
        folder = annotator_folder(annotation.completed_by) if kind == "all" else ""
        plan.add(WorkItem(folder, image), (annotation.completed_by,))


def _for_task(size_of: SizeOf | None, task_id: int) -> Callable[[str], tuple[int, int]] | None:
    if size_of is None:
        return None
    return lambda reference: size_of(task_id, reference)
