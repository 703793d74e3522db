"""Tasks of Label Studio as the planner sees them: who drew which classes, and how well they agree.

Reads a stream once; measuring the pairs runs in workers, with the check `agreement`'s definitions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import numpy as np

from batch.plan_model import PlanTask
from qa_plugins.agreement import AgreementCheck
from qa_plugins.measurement import TaskMeasurement
from qa_plugins.raters import Rater, select_raters
from segstudio.compute import map_tasks
from segstudio.plugins import CheckContext
from segstudio.regions import Region
from segstudio.source import Source
from segstudio.tasks import Problem, Task
from segstudio.taxonomy import Taxonomy


def read_plan_tasks(
    source: Source,
    taxonomy: Taxonomy,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    label: str = "Reading",
) -> tuple[list[PlanTask], list[Problem]]:
    """Return every task of a source for the planner, and what could not be measured.

    Memory is some hundred bytes a task. A task that fails is left out and reported.
    """
    context = CheckContext(taxonomy, source.label_config)
    found: list[PlanTask] = []
    problems: list[Problem] = []
    results = map_tasks(
        functools.partial(plan_task, context=context),
        source.tasks(),
        workers=workers,
        cluster=cluster,
        label=label,
        total=source.count(),
    )
    for result in results:
        if result.value is not None:
            found.append(result.value)
        elif result.error is not None:
            problems.append(result.error)
    return found, [*source.problems, *problems]


def plan_task(task: Task, context: CheckContext) -> PlanTask:
    """Return one task for the planner; pairs are measured where there are any."""
    raters = sorted(select_raters(task).raters, key=_age)
    values: dict[str, float] = {}
    pair_variance = None
    if len(raters) > 1:
        measurement = AgreementCheck().measure(task, context)
        values = dict(measurement.entry["classes"])
        pair_variance = _pair_variance(measurement)
    times = [one.annotation.lead_time_s for one in raters if one.annotation.lead_time_s]
    return PlanTask(
        id=task.id,
        project_id=task.project_id,
        classes=_classes(task, raters, context.taxonomy),
        annotators=tuple(one.annotator_id for one in raters),
        asked=task.overlap or 1,
        cost_s=sum(times) / len(times) if times else None,
        values=values,
        pair_variance=pair_variance,
    )


def _classes(task: Task, raters: list[Rater], taxonomy: Taxonomy) -> frozenset[str] | None:
    """The classes of the first annotation, else of the newest prediction; None for neither."""
    if raters:
        return class_names(raters[0].annotation.regions, taxonomy)
    predictions = [one for one in task.predictions if one.regions]
    if not predictions:
        return None
    newest = max(predictions, key=lambda one: one.id or 0)
    return class_names(newest.regions, taxonomy)


def class_names(regions: Iterable[Region], taxonomy: Taxonomy) -> frozenset[str]:
    """Return the scored classes that regions with an area carry."""
    found = (
        taxonomy.by_label(label)
        for region in regions
        if region.kind != "keypoint"
        for label in region.labels
    )
    return frozenset(one.name for one in found if one is not None and not one.ignore)


def _pair_variance(measurement: TaskMeasurement) -> float | None:
    """Variance between the pairs' mean IoU on a task that three or more drew."""
    values = list(_pair_values(measurement))
    return float(np.var(values, ddof=1)) if len(values) >= 3 else None


def _pair_values(measurement: TaskMeasurement) -> Iterator[float]:
    for image in measurement.images:
        for row in image.overlap.iou():
            known = row[~np.isnan(row)]
            if len(known):
                yield float(known.mean())


def _age(rater: Rater) -> tuple[datetime, int]:
    """When somebody began the task: who was first is who drew it before it was asked for again."""
    text = rater.annotation.created_at
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        moment = None
    if moment is None:
        moment = datetime.max
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware, rater.annotation.id or 0
