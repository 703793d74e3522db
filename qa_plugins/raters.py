"""Who is compared: the submitted annotations of distinct people, and nobody twice.

Kept out and counted: skipped annotations, ground truth (no peer), a further annotation by somebody
who has one already (the one changed last counts, as `segstudio.selection` has it for exports too),
annotations without an annotator (they cannot be told apart) and annotations that could not be read
whole (half an annotation would score falsely; an older one is not what that person stands by). A
submitted annotation without regions stays: it says that there is nothing. A model can be a rater
too, where it is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from segstudio.errors import UsageError
from segstudio.selection import choose, newest_by_annotator, parse_policy
from segstudio.tasks import LOSS_KINDS, Annotation, Problem, Task

SKIPPED = "skipped"
GROUND_TRUTH = "ground_truth"
SECOND_BY_SAME_PERSON = "second_by_same_person"
NO_ANNOTATOR = "no_annotator"
UNREADABLE = "unreadable"
SEVERAL_MODELS = "several_models"
MODEL_ID = -1
"""The annotator id of a model; people's ids start at 1."""


@dataclass(frozen=True, slots=True)
class Rater:
    """One person's annotation of a task that takes part in the comparison."""

    annotator_id: int
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class Selection:
    """The raters of one task by annotator id, who else was kept out, and why."""

    raters: tuple[Rater, ...]
    kept_out: dict[str, int]
    problems: tuple[Problem, ...]


def select_raters(task: Task, model: str | None = None) -> Selection:
    """Choose the annotations of a task that are compared.

    Args:
        task: the task.
        model: a policy "predictions" or "predictions:VERSION" of `segstudio.selection`: that
            model's newest prediction is one more rater, `MODEL_ID`. Where several models fit and
            none is named, none is taken.
    """
    kept_out: Counter[str] = Counter()
    problems: list[Problem] = []
    candidates: list[Annotation] = []
    for annotation in task.annotations:
        if annotation.was_cancelled:
            kept_out[SKIPPED] += 1
        elif annotation.ground_truth:
            kept_out[GROUND_TRUTH] += 1
        elif annotation.completed_by is None:
            kept_out[NO_ANNOTATOR] += 1
            problems.append(_problem(task, annotation, NO_ANNOTATOR))
        else:
            candidates.append(annotation)
    newest = newest_by_annotator(candidates)
    if model is not None:
        predicted = choose(task, parse_policy(model))
        newest.update((MODEL_ID, one) for one in predicted.annotations)
        if predicted.open_choice is not None:
            kept_out[SEVERAL_MODELS] += 1
            problems.append(_several_models(task))
    for annotation in candidates:
        if newest[annotation.completed_by] is not annotation:
            kept_out[SECOND_BY_SAME_PERSON] += 1
            problems.append(_problem(task, annotation, SECOND_BY_SAME_PERSON))
    raters = []
    for person, annotation in newest.items():
        if any(problem.kind in LOSS_KINDS for problem in annotation.problems):
            kept_out[UNREADABLE] += 1
            problems.append(_problem(task, annotation, UNREADABLE))
        elif person is not None:
            raters.append(Rater(person, annotation))
    raters.sort(key=lambda rater: rater.annotator_id)
    return Selection(tuple(raters), dict(kept_out), tuple(problems))


def _several_models(task: Task) -> Problem:
    versions = ", ".join(sorted({f"'{one.model_version}'" for one in task.predictions}))
    return Problem(
        "kept-out-several-models",
        f"Task {task.id} has predictions of several models ({versions}) and none was compared; "
        "name one with --rater prediction:VERSION.",
        task.id,
    )


def _problem(task: Task, annotation: Annotation, reason: str) -> Problem:
    sentence = {
        SECOND_BY_SAME_PERSON: "is an older one by the same person and was not compared; the one "
        "changed last counts",
        NO_ANNOTATOR: "names no annotator and was not compared",
        UNREADABLE: "could not be read whole and was not compared; see its other problems",
    }[reason]
    return Problem(
        f"kept-out-{reason.replace('_', '-')}",
        f"Annotation {annotation.id} of task {task.id} {sentence}.",
        task.id,
        annotation.id,
    )


def model_policy(options: Mapping[str, str]) -> str | None:
    """Return the policy of the option ``rater`` of a check, for `select_raters`; None without one.

    Raises:
        UsageError: it is neither ``prediction`` nor ``prediction:VERSION``.
    """
    rater = options.get("rater")
    if rater is None:
        return None
    kind, colon, version = rater.partition(":")
    if kind not in ("prediction", "predictions") or (colon and not version):
        raise UsageError(
            f"A rater beside the annotators is prediction:VERSION or prediction, not {rater!r}."
        )
    return f"predictions{colon}{version}"
