"""What went wrong with single tasks: counted, the first of them kept, an error if strict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from segstudio.errors import SegstudioError
from segstudio.tasks import LOSS_KINDS, Problem

STRICT_KINDS: Final = LOSS_KINDS | {
    "bad-task",
    "doubled-task",
    "image-not-copied",
    "missing-task",
    "no-label",
    "other-size",
    "task-failed",
    "unknown-image",
    "unknown-image-size",
    "unknown-label",
    "worker-died",
}
"""Kinds by which something that was annotated does not reach the export."""

_MAX_KEPT: Final = 1000


class ProblemLog:
    """Collects problems in bounded memory; with `strict` the first loss raises."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self.counts: Counter[str] = Counter()
        self.first: list[Problem] = []

    def add(self, problems: Iterable[Problem]) -> None:
        """Note problems.

        Raises:
            SegstudioError: strict, and something annotated was not read.
        """
        for problem in problems:
            self.counts[problem.kind] += 1
            if len(self.first) < _MAX_KEPT:
                self.first.append(problem)
            if self._strict and problem.kind in STRICT_KINDS:
                raise SegstudioError(
                    f"{place(problem)}{problem.message} (--strict stops at the first such "
                    "problem; mend it in Label Studio, or leave --strict out to skip and count it.)"
                )

    def as_json(self) -> dict[str, Any]:
        """Return the counts by kind and the first problems, as the card records them."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "first": [asdict(problem) for problem in self.first],
        }


def place(problem: Problem) -> str:
    """Return "Task 3, annotation 7: " as far as known and not said by the message."""
    parts = []
    if problem.task_id is not None and f"ask {problem.task_id}" not in problem.message:
        parts.append(f"task {problem.task_id}")
    if problem.annotation_id is not None:
        parts.append(f"annotation {problem.annotation_id}")
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}: " if text else ""
