"""The check ``agreement``: how much several people's masks of the same images agree.

``measure`` turns a task into counts (in a worker), ``summarize`` adds them up; the definitions are
those of `qa_plugins.agreement_sums`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qa_plugins.agreement_report import agreement_section
from qa_plugins.agreement_sums import AgreementSums
from qa_plugins.anchoring import is_assisted, measure_anchoring, shared_prelabels
from qa_plugins.clips import resampling_unit
from qa_plugins.disagreement import DEFAULT_NEAR_PX, split_disagreement
from qa_plugins.drawing import NOTHING, Drawing, Place, draw, image_sizes
from qa_plugins.measurement import ImageMeasurement, TaskMeasurement, task_entry
from qa_plugins.metrics.boundary_iou import band_width_px
from qa_plugins.metrics.confusion import pair_confusion
from qa_plugins.metrics.run_join import LabelledRuns, intersections, join_pairs, labelled_runs
from qa_plugins.object_conflicts import compare_objects
from qa_plugins.raters import MODEL_ID, UNREADABLE, Rater, model_policy, select_raters
from qa_plugins.subsets import subsets_of, wanted_subsets
from qa_plugins.supercategories import measure_supercategories, supercategories
from segstudio.errors import UsageError
from segstudio.images import ImageKey, image_references, regions_by_image
from segstudio.masks import union_all
from segstudio.plugins import CheckContext
from segstudio.regions import Problem, Region
from segstudio.report_sections import NameOf, Section
from segstudio.tasks import Annotation, Task
from segstudio.taxonomy import Taxonomy

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AgreementCheck:
    """Pixel agreement between distinct annotators.

    Options: ``seed`` of the bootstrap; ``resample_by``, a key of task data whose values name the
    unit that is resampled (the clip of a video) in place of the task; ``subsets``, a JSON list of
    {key of task data: value} that are measured by themselves as well; ``near_px`` (2): how far from
    the other's mask a disagreement is still one about the boundary; ``rater``
    ("prediction:VERSION"): a model that is compared like a person.
    """

    name: str = "agreement"
    summary: str = "Mask agreement between annotators: IoU per class, pair and task; conflicts."

    def measure(self, task: Task, context: CheckContext) -> TaskMeasurement:
        """Compare everybody who annotated the task with everybody else."""
        drawn = draw_task(task, context)
        extent = Extent(
            _near_px(context.options),
            tuple(shared_prelabels(task, drawn.annotations)),
            context.taxonomy,
        )
        images = tuple(
            measure_image(key, drawn.annotators, drawings, size_px, extent)
            for key, size_px, drawings in drawn.images
        )
        compared = drawn.annotators if images else ()
        return TaskMeasurement(
            task_id=task.id,
            compared=compared,
            seen=drawn.seen,
            images=images,
            kept_out=drawn.kept_out,
            problems=(*task.all_problems, *drawn.problems),
            unit=resampling_unit(task, context.options),
            entry=task_entry(task.id, _image_name(task, context), compared, images),
            subsets=subsets_of(task, context.options),
            seconds_per_object=_seconds_per_object(drawn) if images else (),
            assisted=tuple(
                None if person == MODEL_ID else is_assisted(one)
                for person, one in zip(compared, drawn.annotations, strict=bool(compared))
            ),
        )

    def summarize(
        self, measurements: Iterable[TaskMeasurement], context: CheckContext
    ) -> dict[str, Any]:
        """Add up the tasks; the keys are those of ``qa.json``."""
        seed = int(context.options.get("seed", "0"))
        names = [one.name for one in context.taxonomy.scored_classes]
        wanted = wanted_subsets(context.options)
        whole, parts = AgreementSums(seed=seed), [AgreementSums(seed=seed) for _ in wanted]
        members: list[list[int]] = [[] for _ in wanted]
        tasks: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for measurement in measurements:
            whole.add(measurement)
            for index in measurement.subsets:
                parts[index].add(measurement)
                members[index].append(measurement.task_id)
            tasks.append(measurement.entry)
            errors.extend(asdict(problem) for problem in measurement.problems)
        result = {**whole.as_json(names), "tasks": tasks, "errors": errors}
        result["subsets"] = [
            {"where": where, "task_ids": ids, **part.as_json(names)}
            for where, ids, part in zip(wanted, members, parts, strict=True)
        ]
        result["supercategories"] = whole.supercategories_json(supercategories(context.taxonomy))
        result["batch"]["disagreement"]["within_px"] = _near_px(context.options)
        return result

    def report(self, summary: dict[str, Any], names: NameOf) -> Section | None:
        """Return what the disagreement is made of."""
        return agreement_section(summary, names)


@dataclass(frozen=True, slots=True)
class DrawnTask:
    """The masks of everybody who is compared on a task; images in the order of their keys.

    ``annotations`` has an entry an annotator.
    """

    annotators: tuple[int, ...]
    images: tuple[tuple[ImageKey, tuple[int, int], tuple[Drawing, ...]], ...]
    seen: tuple[int, ...]
    kept_out: dict[str, int]
    problems: tuple[Problem, ...]
    annotations: tuple[Annotation, ...] = ()


_last: list[tuple[Task, CheckContext, DrawnTask]] = []


def draw_task(task: Task, context: CheckContext) -> DrawnTask:
    """Decode what each compared annotator drew; no image where fewer than two can be compared.

    The latest task is kept: in one pass several checks ask for the same one.
    """
    if not (_last and _last[0][0] is task and _last[0][1] is context):
        _last[:] = [(task, context, _draw_task(task, context))]
    return _last[0][2]


def _draw_task(task: Task, context: CheckContext) -> DrawnTask:
    selection = select_raters(task, model_policy(context.options))
    kept_out = dict(selection.kept_out)
    problems = list(selection.problems)
    seen = tuple(rater.annotator_id for rater in selection.raters)
    regions = {rater.annotator_id: regions_by_image(rater.annotation) for rater in selection.raters}
    sizes, unequal = _sizes(task, regions.values())
    problems += unequal
    drawings: dict[int, dict[ImageKey, Drawing]] = {}
    for rater in selection.raters:
        mine, found = _draw_annotation(rater, regions[rater.annotator_id], sizes, task, context)
        problems += found
        if mine is None:
            kept_out[UNREADABLE] = kept_out.get(UNREADABLE, 0) + 1
        else:
            drawings[rater.annotator_id] = mine
    annotators = tuple(sorted(drawings))
    if not sizes and not unequal:  # everybody submitted an empty annotation
        sizes = {ImageKey("", 0): (0, 0)}
    images = tuple(
        (key, sizes[key], tuple(drawings[person].get(key, NOTHING) for person in annotators))
        for key in sorted(sizes)
    )
    comparable = len(annotators) > 1
    annotations = {rater.annotator_id: rater.annotation for rater in selection.raters}
    return DrawnTask(
        annotators,
        images if comparable else (),
        seen,
        kept_out,
        tuple(problems),
        tuple(annotations[person] for person in annotators),
    )


def _draw_annotation(
    rater: Rater,
    regions: Mapping[ImageKey, Sequence[Region]],
    sizes: Mapping[ImageKey, tuple[int, int]],
    task: Task,
    context: CheckContext,
) -> tuple[dict[ImageKey, Drawing] | None, list[Problem]]:
    """One annotation's drawing of each image; None when a shape in it cannot be read."""
    place = Place(task.id, rater.annotation.id)
    drawings: dict[ImageKey, Drawing] = {}
    problems: list[Problem] = []
    for key, size_px in sizes.items():
        drawing, found = draw(regions.get(key, ()), context.taxonomy, *size_px, place)
        problems += found
        if drawing is None:
            return None, problems
        drawings[key] = drawing
    return drawings, problems


@dataclass(frozen=True, slots=True)
class Extent:
    """What is measured beside overlap: ``near_px`` and pre-labels (one a pair), see the check."""

    near_px: int
    prelabels: tuple[tuple[Region, ...] | None, ...]
    taxonomy: Taxonomy


def measure_image(
    key: ImageKey,
    annotators: Sequence[int],
    drawings: Sequence[Drawing],
    size_px: tuple[int, int],
    extent: Extent | None = None,
) -> ImageMeasurement:
    """Compare the drawings of one image, one an annotator; ``size_px`` is (height, width).

    With ``extent`` the disagreement is split by kind as well, and anchoring and supercategories
    are measured.
    """
    classes = tuple(sorted({name for drawing in drawings for name in drawing.class_masks}))
    pairs = list(combinations(range(len(annotators)), 2))
    lists = [_class_runs(drawing, classes) for drawing in drawings]
    shared, covered_first, covered_second = join_pairs(lists)
    bands = _boundary_runs(drawings, classes, band_width_px(*size_px))
    band_shared, _, _ = join_pairs(bands)
    diagonal = np.arange(len(classes))
    confusion = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    unlabelled_px = 0
    for row, (i, j) in enumerate(pairs):
        swapped = shared[row]
        if not (lists[i].disjoint and lists[j].disjoint):
            swapped = _drawn_for_each_other(drawings[i], drawings[j], classes)
            np.fill_diagonal(swapped, shared[row].diagonal())
            labelled_px = _labelled_px(drawings[i], drawings[j], size_px)
        else:
            labelled_px = int(lists[i].areas_px.sum() + lists[j].areas_px.sum() - shared[row].sum())
        unlabelled_px += size_px[0] * size_px[1] - labelled_px
        confusion += pair_confusion(
            swapped,
            lists[i].areas_px,
            lists[j].areas_px,
            covered_first[row],
            covered_second[row],
        )
    areas_px = np.stack([runs.areas_px for runs in lists])
    intersections_px = np.ascontiguousarray(shared[:, diagonal, diagonal])
    objects = compare_objects(key, annotators, drawings, classes)
    return ImageMeasurement(
        to_name=key.to_name,
        item_index=key.item_index,
        annotators=tuple(annotators),
        classes=classes,
        areas_px=areas_px,
        intersections_px=intersections_px,
        boundary_areas_px=np.stack([runs.areas_px for runs in bands]),
        boundary_intersections_px=np.ascontiguousarray(band_shared[:, diagonal, diagonal]),
        confusion_px=confusion,
        panoptic_counts=objects.counts,
        panoptic_iou=objects.ious,
        conflicts=objects.conflicts,
        unlabelled_px=unlabelled_px,
        disagreement=None
        if extent is None
        else split_disagreement(
            drawings,
            classes,
            areas_px,
            intersections_px,
            objects.lone,
            frozenset(one.name for one in extent.taxonomy.classes if not one.is_thing),
            extent.near_px,
        ),
        supercategories=None
        if extent is None
        else measure_supercategories(drawings, supercategories(extent.taxonomy), size_px),
        anchoring=None
        if extent is None
        else measure_anchoring(key, size_px, drawings, classes, extent.prelabels, extent.taxonomy),
    )


def _labelled_px(a: Drawing, b: Drawing, size_px: tuple[int, int]) -> int:
    return union_all([*a.class_masks.values(), *b.class_masks.values()], *size_px).area_px


def _class_runs(drawing: Drawing, classes: Sequence[str]) -> LabelledRuns:
    nothing = np.zeros((0, 2), dtype=np.int64)
    masks = drawing.class_masks
    return labelled_runs([masks[name].runs if name in masks else nothing for name in classes])


def _drawn_for_each_other(a: Drawing, b: Drawing, classes: Sequence[str]) -> Int64Array:
    """Pixels that only a gave to class i and only b gave to class j, shape (classes, classes).

    Where one person's classes overlap, a pixel that both gave to both classes is no confusion.
    """
    only_a = labelled_runs([_without(a, b, name) for name in classes])
    only_b = labelled_runs([_without(b, a, name) for name in classes])
    return intersections(only_a, only_b)


def _without(drawing: Drawing, other: Drawing, name: str) -> Int64Array:
    mask, minus = drawing.class_masks.get(name), other.class_masks.get(name)
    if mask is None:
        return np.zeros((0, 2), dtype=np.int64)
    return mask.runs if minus is None else (mask - minus).runs


def _boundary_runs(
    drawings: Sequence[Drawing], classes: Sequence[str], width_px: int
) -> list[LabelledRuns]:
    nothing = np.zeros((0, 2), dtype=np.int64)
    return [
        labelled_runs(
            [
                drawing.class_masks[name].boundary(width_px).runs
                if name in drawing.class_masks
                else nothing
                for name in classes
            ]
        )
        for drawing in drawings
    ]


def _sizes(
    task: Task, people: Iterable[Mapping[ImageKey, Sequence[Region]]]
) -> tuple[dict[ImageKey, tuple[int, int]], list[Problem]]:
    """The size of each image that somebody drew on; an image of two sizes is a problem instead."""
    found: dict[ImageKey, set[tuple[int, int]]] = {}
    for images in people:
        for key, regions in images.items():
            found.setdefault(key, set()).update(image_sizes(regions))
    problems = []
    sizes = {}
    for key, candidates in found.items():
        if len(candidates) == 1:
            sizes[key] = next(iter(candidates))
        elif candidates:
            listed = ", ".join(f"{width} x {height}" for height, width in sorted(candidates))
            problems.append(
                Problem(
                    "size-mismatch",
                    f"The annotations of task {task.id} disagree on the size of the image "
                    f"{key.to_name!r} ({listed} pixels), so it was not compared.",
                    task.id,
                )
            )
    return sizes, problems


def _seconds_per_object(drawn: DrawnTask) -> tuple[float | None, ...]:
    """Each annotator's lead time over the number of their objects; None where one is missing."""
    counts = [
        sum(len(drawings[place].objects) for _, _, drawings in drawn.images)
        for place in range(len(drawn.annotators))
    ]
    return tuple(
        None if one.lead_time_s is None or not count else one.lead_time_s / count
        for one, count in zip(drawn.annotations, counts, strict=True)
    )


def _near_px(options: Mapping[str, str]) -> int:
    text = options.get("near_px", str(DEFAULT_NEAR_PX))
    if not text.isdecimal():
        raise UsageError(f"The option near_px is a whole number of pixels, not {text!r}.")
    return int(text)


def _image_name(task: Task, context: CheckContext) -> str:
    """The last part of the first image's address, so that people find the task again."""
    for reference in image_references(task, context.label_config).values():
        name = str(reference).partition("#")[0].rstrip("/").rpartition("/")[2]
        return name.partition("?d=")[2] or name.partition("?")[0] or name
    return ""
