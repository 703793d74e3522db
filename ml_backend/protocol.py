"""What Label Studio sends to `/predict` and `/setup`, read once at the door.

A body can be tens of megabytes (a whole selection with all annotations), and parsing JSON holds the
interpreter for as long as it takes, which would silence `/health`. So reading is one function of
bytes, free of everything heavy, that a helper process can run; it keeps only what predicting needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "PredictRequest",
    "PredictTask",
    "RequestError",
    "SetupRequest",
    "read_predict",
    "read_setup",
]

_BOX_TYPES = frozenset({"rectanglelabels", "rectangle", "ellipselabels", "ellipse"})
_BRUSH_TYPES = frozenset({"brushlabels", "brush"})
_SCRIBBLE_NOTE = "prompt"
_MAX_TASKS = 100_000


class RequestError(ValueError):
    """A body that is not what Label Studio sends; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PredictTask:
    """One task: its id, its data, and what its annotations or predictions hold to segment from.

    `boxes` are rectangles, ellipses, and brush regions marked as scribbles by the note "prompt";
    with them the `labels` items that name plain shapes.
    """

    id: int | None
    data: Mapping[str, Any]
    boxes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """The body of `/predict`. `prompts` is None where nobody clicked: a batch, an opening."""

    tasks: tuple[PredictTask, ...]
    project_id: str
    label_config: str
    prompts: tuple[Mapping[str, Any], ...] | None


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """The body of `/setup`, without the token, which the server neither needs nor keeps.

    `extra_params` is as it came; `ml_backend.project_settings` reads it.
    """

    project_id: str
    label_config: str
    extra_params: object = field(default_factory=dict)


def read_predict(body: bytes) -> PredictRequest:
    """Read the body of `/predict`. Raises RequestError."""
    raw = _object(body)
    tasks = raw.get("tasks")
    if not isinstance(tasks, list):
        raise RequestError("The body of /predict needs a list under 'tasks'.")
    if len(tasks) > _MAX_TASKS:
        raise RequestError(
            f"{len(tasks)} tasks in one request are too many (at most {_MAX_TASKS})."
        )
    params = raw.get("params")
    context = params.get("context") if isinstance(params, dict) else None
    if context is None:
        context = raw.get("context")  # as label-studio-ml's own tests send it
    result = context.get("result") if isinstance(context, dict) else None
    prompts = tuple(result) if isinstance(result, list) else None
    return PredictRequest(
        tasks=tuple(read_task(task, with_boxes=prompts is None) for task in tasks),
        project_id=project_id(raw.get("project")),
        label_config=str(raw.get("label_config") or ""),
        prompts=prompts,
    )


def read_task(raw: object, *, with_boxes: bool) -> PredictTask:
    """Read one task; anything that is not a task becomes one without data."""
    if not isinstance(raw, dict):
        return PredictTask(None, {})
    data = raw.get("data")
    task_id = raw.get("id")
    return PredictTask(
        id=task_id if isinstance(task_id, int) else None,
        data=data if isinstance(data, dict) else {},
        boxes=_boxes(raw) if with_boxes else (),
    )


def read_setup(body: bytes) -> SetupRequest:
    """Read the body of `/setup`. Raises RequestError."""
    raw = _object(body)
    return SetupRequest(
        project_id=project_id(raw.get("project")),
        label_config=str(raw.get("schema") or raw.get("label_config") or ""),
        extra_params=raw.get("extra_params"),
    )


def project_id(raw: object) -> str:
    """Return the project of Label Studio's `<id>.<creation time>`.

    >>> project_id("7.1795208019")
    '7'
    """
    return "" if raw is None else str(raw).partition(".")[0][:64]


def _object(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is no JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise RequestError(f"The body is a JSON {type(raw).__name__}, not an object.")
    return raw


def _boxes(task: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return what there is to segment from in the newest annotation, else the newest prediction."""
    for source in ("annotations", "predictions"):
        entries = task.get(source)
        for entry in reversed(entries if isinstance(entries, list) else []):
            if not isinstance(entry, dict) or entry.get("was_cancelled"):
                continue
            result = entry.get("result")
            items = [
                item
                for item in (result if isinstance(result, list) else [])
                if isinstance(item, dict) and isinstance(item.get("value"), dict)
            ]
            boxes = [item for item in items if _kind(item) in _BOX_TYPES or _is_scribble(item)]
            if boxes:
                names = [item for item in items if _kind(item) == "labels"]
                return (*boxes, *names)
    return ()


def _kind(item: Mapping[str, Any]) -> str:
    return str(item.get("type", "")).lower()


def _is_scribble(item: Mapping[str, Any]) -> bool:
    """Whether a brush region's note says that it is a prompt, not an answer."""
    meta = item.get("meta")
    text = meta.get("text") if isinstance(meta, dict) else None
    notes = text if isinstance(text, list) else [text]
    return _kind(item) in _BRUSH_TYPES and any(
        isinstance(note, str) and note.strip().lower() == _SCRIBBLE_NOTE for note in notes
    )
