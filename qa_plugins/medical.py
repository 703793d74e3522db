"""The check ``medical``: organs on DICOM series, compared in millimetres and millilitres.

Dice, HD95 and surface Dice by organ between annotators or against gold, over whole volumes where
the slices lie at even distances; volumes of organs and how far annotators agree on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final

from qa_plugins.drawing import Place, draw
from qa_plugins.gold_reference import find_gold
from qa_plugins.medical_report import medical_section
from qa_plugins.medical_sums import GOLD_ID, MedicalSums
from qa_plugins.medical_volumes import RatedSlice, RatedVolume
from qa_plugins.raters import model_policy, select_raters
from segstudio.dicom_geometry import DicomGeometryError, DicomSlice, read_dicom
from segstudio.dicom_volumes import group_volumes
from segstudio.errors import UsageError
from segstudio.images import regions_by_image
from segstudio.masks import Mask
from segstudio.plugins import CheckContext
from segstudio.report_sections import NameOf, Section
from segstudio.tasks import Annotation, Problem, Task

_REFERENCES: Final = ("annotators", "gold")
_TOLERANCE_MM: Final = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class TaskSlice:
    """What one task says: its slice, and each rater's masks as compressed RLE counts by class."""

    task_id: int
    dicom: DicomSlice | None
    drawn: Mapping[int, Mapping[str, bytes]]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class MedicalCheck:
    """Organs on tasks that `segstudio dicom import` made.

    Options: ``against`` (annotators: every pair; gold: each annotator against it, with
    ``gold=FILE`` a sidecar), ``tolerance_mm`` of the surface Dice (2; ``2,Aorta:1`` for single
    organs), ``rater=prediction:VERSION`` (a model as one rater more).
    """

    name: str = "medical"
    summary: str = "Organs on DICOM: Dice, HD95 and surface Dice in mm, volumes in ml."

    def measure(self, task: Task, context: CheckContext) -> TaskSlice:
        """Read the slice of a task and what each rater drew on it; windows are joined."""
        against, _ = _options(context)
        try:
            dicom = read_dicom(task.data, task.id)
        except DicomGeometryError as error:
            problem = Problem("unreadable-dicom", str(error), task.id)
            return TaskSlice(task.id, None, {}, (problem,))
        if dicom is None:
            return TaskSlice(task.id, None, {}, ())
        selection = select_raters(task, model_policy(context.options))
        annotations = {one.annotator_id: one.annotation for one in selection.raters}
        problems = list(selection.problems)
        if against == "gold":
            gold = find_gold(task, context)
            problems += gold.problems
            if gold.annotation is not None:
                annotations[GOLD_ID] = gold.annotation
        drawn = {}
        for rater, annotation in sorted(annotations.items()):
            masks = _drawn(task, annotation, dicom, context, problems)
            if masks is not None:
                drawn[rater] = masks
        return TaskSlice(task.id, dicom, drawn, tuple(problems))

    def summarize(self, measurements: Iterable[TaskSlice], context: CheckContext) -> dict[str, Any]:
        """Return the figures by series, by class and of the batch."""
        against, tolerance_mm = _options(context)
        sums = MedicalSums(against, tolerance_mm)
        problems: list[dict[str, Any]] = []
        for rated, pairs in _volumes(measurements, sums, problems, against):
            sums.add(rated, pairs)
        return {**sums.as_json(), "problems": problems}

    def report(self, summary: dict[str, Any], names: NameOf) -> Section | None:
        """Return the organs, the agreement of volumes and the worst slices."""
        return medical_section(summary, names)


def _drawn(
    task: Task,
    annotation: Annotation,
    dicom: DicomSlice,
    context: CheckContext,
    problems: list[Problem],
) -> dict[str, bytes] | None:
    """Return the masks of one annotation over all windows of the slice; None where one is lost."""
    size = dicom.rows, dicom.columns
    joined: dict[str, Mask] = {}
    for regions in regions_by_image(annotation).values():
        drawing, found = draw(regions, context.taxonomy, *size, Place(task.id, annotation.id))
        if drawing is None:
            problems += found
            return None
        for name, mask in drawing.class_masks.items():
            joined[name] = joined[name] | mask if name in joined else mask
    return {
        name: mask.to_coco_rle()["counts"] for name, mask in joined.items() if not mask.is_empty
    }


def _volumes(
    measurements: Iterable[TaskSlice],
    sums: MedicalSums,
    problems: list[dict[str, Any]],
    against: str,
) -> Iterator[tuple[RatedVolume, list[tuple[int, int]]]]:
    """Gather the slices of each series; one is done as soon as all of its slices have come."""
    waiting: dict[tuple[str, str], list[TaskSlice]] = {}
    for one in measurements:
        problems += [asdict(problem) for problem in one.problems]
        sums.count(one.dicom)
        if one.dicom is None:
            continue
        key = one.dicom.series, one.dicom.series_uid
        waiting.setdefault(key, []).append(one)
        if len(waiting[key]) == one.dicom.slices:
            yield from _of_series(waiting.pop(key), problems, against)
    for slices in waiting.values():
        yield from _of_series(slices, problems, against)


def _of_series(
    slices: list[TaskSlice], problems: list[dict[str, Any]], against: str
) -> Iterator[tuple[RatedVolume, list[tuple[int, int]]]]:
    rated = [_rated(one) for one in slices]
    try:
        volumes = group_volumes([one.dicom for one in rated])
    except DicomGeometryError as error:
        problems.append(asdict(Problem("slices-shown-twice", str(error), rated[0].task_id)))
        return
    for volume in volumes:
        found = RatedVolume(volume, tuple(rated[at] for at in volume.members))
        raters = found.rater_ids
        if against == "gold":
            pairs = [(one, GOLD_ID) for one in raters if one != GOLD_ID and GOLD_ID in raters]
        else:
            pairs = list(combinations(raters, 2))
        yield found, pairs


def _rated(one: TaskSlice) -> RatedSlice:
    assert one.dicom is not None  # noqa: S101 - for mypy: others are not gathered
    size = [one.dicom.rows, one.dicom.columns]
    drawn = {
        rater: {
            name: Mask.from_coco_rle({"size": size, "counts": counts})
            for name, counts in masks.items()
        }
        for rater, masks in one.drawn.items()
    }
    return RatedSlice(one.task_id, one.dicom, drawn)


def _options(context: CheckContext) -> tuple[str, dict[str, float]]:
    """Return what is compared, and the tolerance of each class."""
    against = context.options.get("against", _REFERENCES[0])
    if against not in _REFERENCES:
        raise UsageError(
            f"The option against of the check medical is '{against}'; choose one of "
            f"{', '.join(_REFERENCES)}."
        )
    text = context.options.get("tolerance_mm", str(_TOLERANCE_MM))
    default, own = _TOLERANCE_MM, {}
    known = {one.name for one in context.taxonomy.classes}
    for part in text.split(","):
        name, colon, number = part.rpartition(":")
        name = name.strip()
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf") or (colon and name not in known):
            raise UsageError(
                f"The option tolerance_mm of the check medical has '{part}'; write millimetres, or "
                "CLASS:MM for a class of the taxonomy, as in tolerance_mm=2,Aorta:1."
            )
        if colon:
            own[name] = value
        else:
            default = value
    return against, {name: own.get(name, default) for name in known}
