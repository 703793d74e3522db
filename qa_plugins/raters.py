"""Who is compared: the submitted annotations of distinct people, and nobody twice.

Kept out and counted: skipped annotations, ground truth (no peer), a further annotation by somebody
who has one already (the first created counts), annotations without an annotator (they cannot be
told apart) and annotations that could not be read whole (half an annotation would score falsely).
A submitted annotation without regions stays: it says that there is nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from segstudio.tasks import LOSS_KINDS, Annotation, Problem, Task

SKIPPED = "skipped"
GROUND_TRUTH = "ground_truth"
SECOND_BY_SAME_PERSON = "second_by_same_person"
NO_ANNOTATOR = "no_annotator"
UNREADABLE = "unreadable"


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


def select_raters(task: Task) -> Selection:
    """Choose the annotations of a task that are compared."""
    kept_out: Counter[str] = Counter()
    problems: list[Problem] = []
    chosen: dict[int, Annotation] = {}
    for annotation in sorted(task.annotations, key=_creation_key):
        reason = _reason_to_keep_out(annotation, chosen)
        if reason is None and annotation.completed_by is not None:
            chosen[annotation.completed_by] = annotation
            continue
        reason = reason or NO_ANNOTATOR
        kept_out[reason] += 1
        if reason in (SECOND_BY_SAME_PERSON, NO_ANNOTATOR, UNREADABLE):
            problems.append(_problem(task, annotation, reason))
    raters = tuple(Rater(person, chosen[person]) for person in sorted(chosen))
    return Selection(raters, dict(kept_out), tuple(problems))


def _reason_to_keep_out(annotation: Annotation, chosen: dict[int, Annotation]) -> str | None:
    if annotation.was_cancelled:
        return SKIPPED
    if annotation.ground_truth:
        return GROUND_TRUTH
    if annotation.completed_by is None:
        return NO_ANNOTATOR
    if annotation.completed_by in chosen:
        return SECOND_BY_SAME_PERSON
    if any(problem.kind in LOSS_KINDS for problem in annotation.problems):
        return UNREADABLE
    return None


def _creation_key(annotation: Annotation) -> tuple[bool, int, str]:
    """Label Studio numbers annotations as they are created; without a number, the time decides."""
    missing = annotation.id is None
    return missing, annotation.id or 0, annotation.created_at or ""


def _problem(task: Task, annotation: Annotation, reason: str) -> Problem:
    sentence = {
        SECOND_BY_SAME_PERSON: "is a further one by the same person and was not compared; delete "
        "the one that does not count",
        NO_ANNOTATOR: "names no annotator and was not compared",
        UNREADABLE: "could not be read whole and was not compared; see its other problems",
    }[reason]
    return Problem(
        f"kept-out-{reason.replace('_', '-')}",
        f"Annotation {annotation.id} of task {task.id} {sentence}.",
        task.id,
        annotation.id,
    )
