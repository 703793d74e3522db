"""The gold sidecar: the reference annotations of a batch, kept where annotators cannot see them.

One JSON object, which `segstudio qa gold --option gold=FILE` reads as an export file: its `tasks`
have the ids of the batch's tasks and one annotation each. A hash of every drawing and one of the
whole file show what was changed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from batch.state_file import canonical_digest, read_json, write_json
from segstudio.annotation_hashes import drawing_hash, utc_text
from segstudio.errors import SourceError, UsageError
from segstudio.tasks import LOSS_KINDS, Annotation, TaskFormatError, parse_annotation
from segstudio.writeback import StreamPlace

FORMAT: Final = "segstudio-gold"
VERSION: Final = 1
_KEPT_KEYS: Final = (
    "id", "result", "completed_by", "ground_truth", "was_cancelled", "created_at", "updated_at",
    "lead_time",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GoldTask:
    """The gold of one task.

    Attributes:
        task_id: the task in the batch's project.
        data: the task's data, for whom reads the file.
        annotation: the gold as Label Studio stores an annotation.
        drawing_hash: of the annotation, when it was made gold.
        on_server: the id of the same annotation in the batch's project; None where it came from
            elsewhere.
        before: overlap and state of the task before it was seeded; None of one imported as gold.
        hidden: the annotation was taken from the server so that annotators cannot see it.
    """

    task_id: int
    data: Mapping[str, Any]
    annotation: Mapping[str, Any]
    drawing_hash: str
    on_server: int | None = None
    before: StreamPlace | None = None
    hidden: bool = False

    @property
    def changed_in_file(self) -> bool:
        """Tell whether the drawing in the file is no longer the one that was made gold."""
        return hash_of(self.annotation) != self.drawing_hash

    def as_json(self) -> dict[str, Any]:
        """The task as the file lists it."""
        before = self.before
        gold = {
            "drawing_hash": self.drawing_hash,
            "on_server": self.on_server,
            "hidden": self.hidden,
            "before": before and {"overlap": before.overlap, "is_labeled": before.is_labeled},
        }
        return {
            "id": self.task_id,
            "data": dict(self.data),
            "annotations": [dict(self.annotation)],
            "gold": gold,
        }


@dataclass(frozen=True, slots=True)
class GoldFile:
    """The sidecar: whose tasks these are, how many people are to draw each, and the gold."""

    url: str
    project_id: int
    annotators: int
    tasks: tuple[GoldTask, ...]

    def by_id(self) -> dict[int, GoldTask]:
        """The gold by task id."""
        return {one.task_id: one for one in self.tasks}

    def with_tasks(self, tasks: Iterable[GoldTask]) -> GoldFile:
        """The same file with these tasks in place of those of the same ids, or beside them."""
        merged = {**self.by_id(), **{one.task_id: one for one in tasks}}
        return replace(self, tasks=tuple(merged[key] for key in sorted(merged)))

    def as_json(self) -> dict[str, Any]:
        """The whole file; `digest` is the hash of all the rest."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "url": self.url,
            "project": self.project_id,
            "annotators": self.annotators,
            "tasks": [one.as_json() for one in self.tasks],
        }
        return {**body, "digest": canonical_digest(body)}

    @property
    def digest(self) -> str:
        """The hash of the whole file, to be noted elsewhere."""
        return str(self.as_json()["digest"])


def write_gold(path: Path, gold: GoldFile) -> None:
    """Write the sidecar in one step, readable by this user only."""
    write_json(path, gold.as_json())


def read_gold(path: Path) -> tuple[GoldFile, list[str]]:
    """Return the sidecar and a sentence for everything in it that was changed since.

    Raises:
        UsageError: there is no such file, or it is no gold file.
        SourceError: it cannot be read.
    """
    raw = read_json(path, FORMAT, VERSION, "gold file")
    body = {key: value for key, value in raw.items() if key != "digest"}
    try:
        gold = GoldFile(
            str(raw["url"]),
            int(raw["project"]),
            int(raw["annotators"]),
            tuple(_task(one) for one in raw["tasks"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SourceError(
            f"The gold file {path} lacks something or has it in another form ({error!r}); "
            "take a copy of it, or seed it anew."
        ) from error
    faults = [
        f"The gold of task {one.task_id} in {path} was changed since it was made gold."
        for one in gold.tasks
        if one.changed_in_file
    ]
    if raw.get("digest") != canonical_digest(body):
        faults.append(f"The gold file {path} was changed since it was written: its hash differs.")
    return gold, faults


def require_untouched(path: Path) -> GoldFile:
    """Return the sidecar.

    Raises:
        SourceError: it was changed since it was written.
    """
    gold, faults = read_gold(path)
    if faults:
        raise SourceError(f"{faults[0]} Restore it from a copy before anything builds on it.")
    return gold


def choose_gold(raw_task: Mapping[str, Any], wanted: str) -> dict[str, Any] | None:
    """Return the annotation of a task's JSON that is to be its gold, or None where it has none.

    Args:
        raw_task: a task of an export file or of the server.
        wanted: "ground-truth", "user:ID", or "only" (the only submitted annotation).

    Raises:
        UsageError: no such choice; several annotations fit; the one that fits cannot be read
            whole.
    """
    submitted = [one for one in raw_task.get("annotations") or [] if not one.get("was_cancelled")]
    if wanted == "ground-truth":
        fitting = [one for one in submitted if one.get("ground_truth")]
    elif wanted == "only":
        fitting = submitted
    elif wanted.startswith("user:") and wanted[5:].isdigit():
        fitting = [one for one in submitted if user_of(one) == int(wanted[5:])]
    else:
        raise UsageError(f"--from takes ground-truth, user:ID or only, not {wanted!r}.")
    task_id = raw_task.get("id")
    if len(fitting) > 1:
        raise UsageError(
            f"Task {task_id} has {len(fitting)} annotations that could be its gold ({wanted}); "
            "leave one. An import marks every annotation as ground truth."
        )
    if not fitting:
        return None
    kept = {key: fitting[0].get(key) for key in _KEPT_KEYS} | {"completed_by": user_of(fitting[0])}
    losses = [one for one in _parse(kept).problems if one.kind in LOSS_KINDS]
    if losses:
        raise UsageError(f"The gold of task {task_id} cannot be read whole: {losses[0].message}")
    return kept


def hash_of(annotation: Mapping[str, Any]) -> str:
    """The hash of what an annotation's JSON draws; "" for what is no annotation."""
    try:
        return drawing_hash(_parse(annotation))
    except TaskFormatError:
        return ""


def is_gold_itself(one: GoldTask, annotation: Mapping[str, Any]) -> bool:
    """Tell whether an annotation of the task is the one that was made gold, changed or not.

    Of gold that is hidden, author and time of creation decide too: servers give ids a second time,
    so that a drawing of an annotator may have the number that the gold had.
    """
    if one.on_server is None or annotation.get("id") != one.on_server:
        return False
    made = (user_of(one.annotation), utc_text(one.annotation.get("created_at")))
    return not one.hidden or (user_of(annotation), utc_text(annotation.get("created_at"))) == made


def _parse(annotation: Mapping[str, Any]) -> Annotation:
    return parse_annotation(annotation)


def user_of(annotation: Mapping[str, Any]) -> int | None:
    """The id of who made an annotation, given as a number or as an object; None where unknown."""
    found = annotation.get("completed_by")
    if isinstance(found, Mapping):
        found = found.get("id")
    return found if isinstance(found, int) else None


def _task(raw: Mapping[str, Any]) -> GoldTask:
    gold, before = raw["gold"], raw["gold"]["before"]
    task_id = int(raw["id"])
    return GoldTask(
        task_id,
        raw["data"],
        raw["annotations"][0],
        str(gold["drawing_hash"]),
        gold["on_server"],
        before and StreamPlace(task_id, int(before["overlap"]), bool(before["is_labeled"])),
        bool(gold["hidden"]),
    )
