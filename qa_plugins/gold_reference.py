"""Where the gold of a task comes from: a sidecar file that annotators cannot see, or its mark.

Annotators can read and overwrite everything in their project, so a sidecar is the better place. It
is an export file of Label Studio whose tasks carry the ids of the batch's tasks and one annotation
each: the gold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from segstudio.errors import UsageError
from segstudio.plugins import CheckContext
from segstudio.source import open_source
from segstudio.tasks import LOSS_KINDS, Annotation, Problem, Task

GOLD_OPTION = "gold"


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold of a task, or none, with what kept it from being used."""

    annotation: Annotation | None
    problems: tuple[Problem, ...] = ()


def find_gold(task: Task, context: CheckContext) -> Gold:
    """Return the gold annotation of a task.

    With the option ``gold`` (a file) only the sidecar counts, else the annotations marked as ground
    truth. Two of either are a problem (``several-golds``) and never a choice: importing marks every
    annotation as ground truth by default. A gold that could not be read whole is none
    (``unreadable-gold``).

    Raises:
        UsageError: the sidecar cannot be read.
    """
    path = context.options.get(GOLD_OPTION)
    if path:
        found = _sidecar(path, Path(path).stat().st_mtime_ns if Path(path).exists() else 0).get(
            task.id, ()
        )
        place = "the gold file"
    else:
        found = tuple(one for one in task.annotations if one.ground_truth and not one.was_cancelled)
        place = "Label Studio"
    if len(found) > 1:
        return Gold(
            None,
            (
                Problem(
                    "several-golds",
                    f"Task {task.id} has {len(found)} gold annotations in {place}; leave one, the "
                    "others are not gold (an import marks every annotation as ground truth).",
                    task.id,
                ),
            ),
        )
    if not found:
        return Gold(None)
    losses = [problem for problem in found[0].problems if problem.kind in LOSS_KINDS]
    if losses:
        sentence = f"The gold of task {task.id} cannot be read whole: {losses[0].message}"
        return Gold(None, (Problem("unreadable-gold", sentence, task.id, found[0].id),))
    return Gold(found[0])


@lru_cache(maxsize=2)
def _sidecar(path: str, changed_ns: int) -> Mapping[int, tuple[Annotation, ...]]:
    """The submitted annotations of each task of a gold file, read once a process."""
    del changed_ns  # only makes a changed file another entry of the cache
    if not Path(path).is_file():
        raise UsageError(f"There is no gold file {path}; give an export file of Label Studio.")
    gold: dict[int, tuple[Annotation, ...]] = {}
    for task in open_source(path).tasks():
        submitted = tuple(one for one in task.annotations if not one.was_cancelled)
        gold[task.id] = (*gold.get(task.id, ()), *submitted)
    return gold
