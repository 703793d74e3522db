"""The check ``gold``: each annotator against a reference that the lead made.

Who is ready for production, class by class, and who drifts over time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qa_plugins.agreement import measure_image
from qa_plugins.clips import resampling_unit
from qa_plugins.drawing import Drawing, Place, draw, image_sizes
from qa_plugins.gold_reference import find_gold
from qa_plugins.gold_sums import GOLD_ID, GoldComparison, GoldSums, OutlineError
from qa_plugins.gold_void import void_of_gold, without
from qa_plugins.measurement import ImageMeasurement, TaskMeasurement, task_entry
from qa_plugins.metrics.average_precision import ImageObjects
from qa_plugins.metrics.outlines import compare_outlines, mean_outline_distance_px
from qa_plugins.object_deviations import match_drawings
from qa_plugins.raters import select_raters
from qa_plugins.subsets import subsets_of, wanted_subsets
from segstudio.errors import UsageError
from segstudio.images import ImageKey, regions_by_image
from segstudio.plugins import CheckContext
from segstudio.report_sections import Finding, NameOf, Section, Table
from segstudio.tasks import Problem, Region, Task


@dataclass(frozen=True, slots=True, eq=False)
class TaskGold:
    """What the gold says about one task."""

    task_id: int
    has_gold: bool
    comparisons: tuple[GoldComparison, ...]
    problems: tuple[Problem, ...]
    subsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GoldCheck:
    """Annotators against gold: the ground truth in Label Studio, or the option ``gold=FILE``.

    Options: ``ready_iou`` (0.84): the IoU that each class must reach with its lower 95% bound
    before an annotator counts as ready; ``ready_tasks`` (5): on at least so many gold tasks.
    """

    name: str = "gold"
    summary: str = "Annotators against gold: IoU, Dice, outline error, mask AP, readiness, drift."

    def measure(self, task: Task, context: CheckContext) -> TaskGold:
        """Compare every submitted annotation of the task with its gold."""
        gold = find_gold(task, context)
        if gold.annotation is None:
            return TaskGold(task.id, False, (), gold.problems)
        selection = select_raters(task)
        problems: list[Problem] = []
        comparisons = []
        reference = regions_by_image(gold.annotation)
        for rater in selection.raters:
            regions = regions_by_image(rater.annotation)
            sizes, unequal = _sizes(task, reference, regions, rater.annotator_id)
            problems += unequal
            images: list[ImageMeasurement] = []
            objects: list[ImageObjects] = []
            outlines: list[OutlineError] = []
            for key, size_px in sizes.items():
                both = reference.get(key, ()), regions.get(key, ())
                place = Place(task.id, gold.annotation.id)
                drawings = _draw_both(*both, size_px, place, context, problems)
                if drawings is None:
                    continue
                images.append(measure_image(key, (GOLD_ID, rater.annotator_id), drawings, size_px))
                objects.append(_objects(*drawings))
                outlines += _outline_errors(*drawings)
            if not images:
                continue
            compared = (GOLD_ID, rater.annotator_id)
            measurement = TaskMeasurement(
                task.id, compared, (rater.annotator_id,), tuple(images), {}, (),
                resampling_unit(task, context.options), task_entry(task.id, "", compared, images),
            )  # fmt: skip
            annotation = rater.annotation
            comparisons.append(
                GoldComparison(
                    rater.annotator_id,
                    measurement,
                    tuple(objects),
                    tuple(outlines),
                    annotation.created_at or annotation.updated_at or "",
                )
            )
        return TaskGold(
            task.id,
            True,
            tuple(comparisons),
            (*gold.problems, *problems),
            subsets_of(task, context.options),
        )

    def summarize(self, measurements: Iterable[TaskGold], context: CheckContext) -> dict[str, Any]:
        """Return each annotator's figures by class, readiness and drift."""
        ready_iou, ready_tasks = _options(context)
        wanted = wanted_subsets(context.options)
        whole, parts = GoldSums(), [GoldSums() for _ in wanted]
        problems: list[dict[str, Any]] = []
        for measurement in measurements:
            problems += [asdict(problem) for problem in measurement.problems]
            if measurement.has_gold:
                for sums in (whole, *(parts[index] for index in measurement.subsets)):
                    sums.add(measurement.comparisons)
        names = [one.name for one in context.taxonomy.scored_classes]
        return {
            "ready_iou": ready_iou,
            "ready_tasks": ready_tasks,
            **whole.as_json(names, ready_iou, ready_tasks),
            "subsets": [
                {"where": where, **part.as_json(names, ready_iou, ready_tasks)}
                for where, part in zip(wanted, parts, strict=True)
            ],
            "problems": problems,
        }

    def report(self, summary: dict[str, Any], names: NameOf) -> Section:
        """Return who is ready, who drifts, and everybody's figures by class."""
        people = summary["annotators"]
        findings = [_readiness(one, names, summary) for one in people]
        findings += [_drift(one, names) for one in people if one["drift"]["is_significant"]]
        findings += [
            Finding(one["message"], severity="error", action="Mend the gold.")
            for one in summary["problems"][:5]
        ]
        if not summary["gold_tasks"]:
            findings = [
                *findings,
                Finding(
                    "No task of this batch has gold.",
                    "Mark one annotation of some tasks as ground truth, or give --option "
                    "gold=FILE.",
                    "warning",
                ),
            ]
        columns = [
            "Annotator", "Class", "IoU", "per image", "95%", "Dice", "Outline off by (px)",
            "Wider by (px)", "AP 0.5", "AP 0.75", "AP 0.5–0.95", "Tasks",
        ]  # fmt: skip
        rows = [
            [
                names(person["id"]), one["name"], one["iou"]["accumulated"],
                one["iou"]["per_image"],
                _interval(one["iou"]["ci95"]),
                one["dice"], one["outline_distance_px"], one["offset_px"], one["ap"]["at_50"],
                one["ap"]["at_75"], one["ap"]["at_50_to_95"], one["tasks"],
            ]
            for person in people
            for one in person["classes"]
            if one["tasks"]
        ]  # fmt: skip
        return Section(
            title="Against gold",
            lead=f"{summary['gold_tasks']} tasks have gold. Ready means: every class that the gold "
            f"holds reaches an IoU of {summary['ready_iou']:g} with the lower end of its 95% "
            f"interval, on {summary['ready_tasks']} tasks or more.",
            findings=findings,
            tables=[Table(columns, rows)] if rows else [],
        )


def _sizes(
    task: Task,
    reference: dict[ImageKey, tuple[Region, ...]],
    regions: dict[ImageKey, tuple[Region, ...]],
    person: int,
) -> tuple[dict[ImageKey, tuple[int, int]], list[Problem]]:
    sizes: dict[ImageKey, tuple[int, int]] = {}
    problems: list[Problem] = []
    for key in sorted({*reference, *regions}):
        found = image_sizes((*reference.get(key, ()), *regions.get(key, ())))
        if len(found) == 1:
            sizes[key] = found.pop()
        elif found:
            problems.append(
                Problem(
                    "size-mismatch",
                    f"Annotator {person} and the gold of task {task.id} disagree on the size of "
                    f"the image {key.to_name!r}, so it was not compared.",
                    task.id,
                )
            )
    return sizes, problems


def _draw_both(
    reference: Sequence[Region],
    regions: Sequence[Region],
    size_px: tuple[int, int],
    place: Place,
    context: CheckContext,
    problems: list[Problem],
) -> tuple[Drawing, Drawing] | None:
    """The gold's drawing of an image and the annotator's; None when either cannot be read.

    What is wrong with the gold is reported once, however many are compared with it. Annotators'
    faults are the business of the checks agreement and validation, but for what stops a comparison.
    """
    gold, of_gold = draw(reference, context.taxonomy, *size_px, place)
    mine, of_mine = draw(regions, context.taxonomy, *size_px, Place(place.task_id, None))
    problems += [one for one in of_gold if one not in problems]
    if gold is None or mine is None:
        problems += of_mine
        return None
    void = void_of_gold(reference, gold, context.taxonomy, size_px)
    return gold, without(mine, void)


def _objects(gold: Drawing, mine: Drawing) -> ImageObjects:
    return ImageObjects(
        tuple((one.class_name, one.mask) for one in gold.objects),
        tuple((one.class_name, one.mask) for one in mine.objects),
    )


def _outline_errors(gold: Drawing, mine: Drawing) -> list[OutlineError]:
    errors = []
    for at_mine, at_gold, _ in match_drawings(mine, gold).matches:
        drawn, reference = mine.objects[at_mine], gold.objects[at_gold]
        errors.append(
            OutlineError(
                drawn.class_name,
                mean_outline_distance_px(drawn.mask, reference.mask),
                compare_outlines(drawn.mask, reference.mask).offset_px,
            )
        )
    return errors


def _readiness(person: dict[str, Any], names: NameOf, summary: dict[str, Any]) -> Finding:
    who, found = names(person["id"]), person["readiness"]
    who = who[0].upper() + who[1:]
    evidence = f"{person['tasks']} gold tasks."
    if found["verdict"] == "ready":
        return Finding(f"{who} is ready.", evidence)
    if found["verdict"] == "not ready":
        return Finding(
            f"{who} is not ready: {', '.join(found['below'])} below {summary['ready_iou']:g}.",
            evidence,
            "warning",
            f"Train {names(person['id'])} on {', '.join(found['below'])}.",
        )
    if all(one["iou"]["per_image"] is None for one in person["classes"]):
        why = "no class of the taxonomy was drawn on their gold tasks"
    elif person["tasks"] < summary["ready_tasks"]:
        why = f"only {person['tasks']} of {summary['ready_tasks']} gold tasks are done"
    else:
        why = f"the interval of {', '.join(found['unsure'])} is too wide"
    return Finding(f"{who} cannot be judged yet: {why}.", evidence)


def _drift(person: dict[str, Any], names: NameOf) -> Finding:
    who, drift = names(person["id"]), person["drift"]
    better = drift["last_third"] > drift["first_third"]
    return Finding(
        f"{who[0].upper() + who[1:]} {'improves' if better else 'slackens'}: mean IoU "
        f"{drift['first_third']:.2f} on the first third, {drift['last_third']:.2f} on the last.",
        f"{drift['tasks']} gold tasks, p = {drift['p_value']:.3f}.",
        "note" if better else "warning",
        "" if better else f"Go through the latest tasks with {who}.",
    )


def _interval(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else "{:.3f} – {:.3f}".format(*bounds)


def _options(context: CheckContext) -> tuple[float, int]:
    try:
        ready_iou = float(context.options.get("ready_iou", "0.84"))
        ready_tasks = int(context.options.get("ready_tasks", "5"))
    except ValueError as error:
        raise UsageError(f"An option of the check gold is no number: {error}.") from error
    if not (0 < ready_iou <= 1 and ready_tasks >= 1):
        raise UsageError(
            f"The check gold cannot work with ready_iou={ready_iou}, ready_tasks={ready_tasks}."
        )
    return ready_iou, ready_tasks
