"""Tasks of Label Studio: parsed once at the door into frozen values, from any of its JSON.

An export file, the tasks API and a webhook describe the same task in slightly different words
(`completed_by` is a number here and an object there); `parse_task` reads them all. What cannot be
read becomes a `Problem` with task, annotation and region id and never stops the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segstudio.regions import LOSS_KINDS, Problem, Region, RegionKind, is_number
from segstudio.result_lists import parse_result

__all__ = [
    "LOSS_KINDS",
    "Annotation",
    "Prediction",
    "Problem",
    "Region",
    "RegionKind",
    "Task",
    "TaskFormatError",
    "parse_annotation",
    "parse_prediction",
    "parse_task",
]


class TaskFormatError(ValueError):
    """JSON that is no task, annotation or prediction of Label Studio."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotator's work on a task; `answers` are those about the whole image.

    `was_cancelled` annotations were skipped by the annotator and are no work to count. Answers of
    page n of a `valueList` image have the key "control[n]" (n from 1; page 0 is "control").
    `updated_by` is who changed it last and `parent_annotation` the one it was copied from, where
    the source says so.
    """

    id: int | None
    regions: tuple[Region, ...]
    completed_by: int | None
    was_cancelled: bool
    ground_truth: bool
    created_at: str | None
    updated_at: str | None
    lead_time_s: float | None
    parent_prediction: int | None
    answers: Mapping[str, Any]
    unique_id: str | None
    problems: tuple[Problem, ...]
    updated_by: int | None = None
    parent_annotation: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model proposed for a task."""

    id: int | None
    model_version: str
    score: float | None
    regions: tuple[Region, ...]
    answers: Mapping[str, Any]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One task: its data, who annotated it how, and what a model proposed.

    `problems` are those of the task itself; `all_problems` has those of its annotations and
    predictions as well.
    """

    id: int
    data: Mapping[str, Any]
    meta: Mapping[str, Any]
    annotations: tuple[Annotation, ...]
    predictions: tuple[Prediction, ...]
    is_labeled: bool | None
    overlap: int | None
    project_id: int | None
    inner_id: int | None
    updated_at: str | None
    problems: tuple[Problem, ...]

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        """Every problem of the task, its annotations and its predictions, in that order."""
        of_annotations = (problem for one in self.annotations for problem in one.problems)
        of_predictions = (problem for one in self.predictions for problem in one.problems)
        return (*self.problems, *of_annotations, *of_predictions)


def parse_task(raw: Mapping[str, Any], default_id: int | None = None) -> Task:
    """Read a task of an export file, of the tasks API or of a webhook.

    Args:
        raw: the task's JSON. Predictions that are only ids (exports list them so) are skipped:
            there is nothing to read in them.
        default_id: the id of a task that has none yet (a file meant for import).

    Raises:
        TaskFormatError: when `raw` is no object, has no `data` object, or no id and no default.
    """
    if not isinstance(raw, Mapping):
        raise TaskFormatError(f"A task is a JSON object, not {type(raw).__name__}.")
    task_id = _int(raw.get("id"))
    if task_id is None:
        task_id = default_id
    if task_id is None:
        raise TaskFormatError(
            f"A task without an id cannot be read; its keys are {sorted(map(str, raw))}. Export the"
            " project as JSON (not JSON-MIN or CSV)."
        )
    data = raw.get("data")
    if not isinstance(data, Mapping):
        raise TaskFormatError(f"Task {task_id} has no 'data' object; it has {type(data).__name__}.")
    problems: list[Problem] = []
    annotations: list[Annotation] = []
    for position, item in enumerate(_items(raw, "annotations", task_id, problems)):
        try:
            annotations.append(parse_annotation(item, task_id))
        except TaskFormatError as error:
            message = f"Annotation {position} of task {task_id} is left out: {error}"
            problems.append(Problem("unreadable-annotation", message, task_id))
    predictions: list[Prediction] = []
    for position, item in enumerate(_items(raw, "predictions", task_id, problems)):
        if isinstance(item, int):
            continue
        try:
            predictions.append(parse_prediction(item, task_id))
        except TaskFormatError as error:
            message = f"Prediction {position} of task {task_id} is left out: {error}"
            problems.append(Problem("unreadable-prediction", message, task_id))
    meta = raw.get("meta")
    labeled = raw.get("is_labeled")
    return Task(
        id=task_id,
        data=data,
        meta=meta if isinstance(meta, Mapping) else {},
        annotations=tuple(annotations),
        predictions=tuple(predictions),
        is_labeled=labeled if isinstance(labeled, bool) else None,
        overlap=_int(raw.get("overlap")),
        project_id=_reference(raw.get("project")),
        inner_id=_int(raw.get("inner_id")),
        updated_at=_text(raw.get("updated_at")),
        problems=tuple(problems),
    )


def parse_annotation(raw: Any, task_id: int | None = None) -> Annotation:
    """Read one annotation, for example a webhook's.

    Raises:
        TaskFormatError: when it is no object or has no `result` list.
    """
    result = _result(raw, "annotation")
    annotation_id = _int(raw.get("id"))
    parsed = parse_result(result, task_id, annotation_id)
    problems = parsed.problems
    author = raw.get("completed_by")
    completed_by = _reference(author)
    if author is not None and completed_by is None:
        message = f"The annotator {author!r} of annotation {annotation_id} has no numeric id."
        problems = (*problems, Problem("unknown-annotator", message, task_id, annotation_id))
    return Annotation(
        id=annotation_id,
        regions=parsed.regions,
        completed_by=completed_by,
        was_cancelled=bool(raw.get("was_cancelled")),
        ground_truth=bool(raw.get("ground_truth")),
        created_at=_text(raw.get("created_at")),
        updated_at=_text(raw.get("updated_at")),
        lead_time_s=_float(raw.get("lead_time")),
        parent_prediction=_reference(raw.get("parent_prediction")),
        answers=parsed.answers,
        unique_id=_text(raw.get("unique_id")),
        problems=problems,
        updated_by=_reference(raw.get("updated_by")),
        parent_annotation=_reference(raw.get("parent_annotation")),
    )


def parse_prediction(raw: Any, task_id: int | None = None) -> Prediction:
    """Read one prediction.

    Raises:
        TaskFormatError: when it is no object or has no `result` list.
    """
    result = _result(raw, "prediction")
    parsed = parse_result(result, task_id)
    return Prediction(
        id=_int(raw.get("id")),
        model_version=_text(raw.get("model_version")) or "",
        score=_float(raw.get("score")),
        regions=parsed.regions,
        answers=parsed.answers,
        problems=parsed.problems,
    )


def _items(raw: Mapping[str, Any], key: str, task_id: int, problems: list[Problem]) -> list[Any]:
    items = raw.get(key)
    if items is None:
        return []
    if isinstance(items, list):
        return items
    message = f"The {key} of task {task_id} are {type(items).__name__}, not a list; none is read."
    problems.append(Problem(f"unreadable-{key[:-1]}", message, task_id))
    return []


def _result(raw: Any, what: str) -> list[Any]:
    if not isinstance(raw, Mapping):
        raise TaskFormatError(f"the {what} is {type(raw).__name__}, not an object.")
    result = raw.get("result")
    if not isinstance(result, list):
        raise TaskFormatError(f"{what} {raw.get('id')!r} has no 'result' list.")
    return result


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _float(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _reference(value: Any) -> int | None:
    """The id of something given as an id or as an object with one."""
    return _int(value.get("id")) if isinstance(value, Mapping) else _int(value)
