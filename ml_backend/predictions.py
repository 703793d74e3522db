"""Masks -> the regions that the project's controls hold, as Label Studio can open them.

The answer goes to a control with the same `toName` that holds the prompted label: brush first, then
bitmask, polygon, rectangle, unless the operator or the project prefers another kind. Label Studio
stores wrong labels and control names without a word, so both are checked here.

A polygon of Label Studio has one outline: parts become regions of their own, holes are lost (and
counted in `Losses`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from segstudio import brush_rle
from segstudio.controls import Control
from segstudio.label_config import LabelConfig
from segstudio.masks import Mask

__all__ = [
    "AnswerError",
    "Losses",
    "choose_control",
    "empty_prediction",
    "prediction",
    "regions_of_mask",
]

AnswerKind = Literal["brush", "bitmask", "polygon", "rectangle"]
_ORDER: tuple[AnswerKind, ...] = ("brush", "bitmask", "polygon", "rectangle")
_TAGS = frozenset({"BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels"})
_MIN_PART_PX = 4


class AnswerError(ValueError):
    """No answer fits the project; the message says what its labelling interface lacks."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a kind of region could not hold: holes, and parts of a few pixels."""

    holes: int = 0
    dropped_parts: int = 0


def choose_control(
    config: LabelConfig, labels: Sequence[str], to_name: str, preferred: str | None = None
) -> Control:
    """Pick the control that the answer goes to. Raises AnswerError where there is none."""
    if not labels:
        raise AnswerError("The prompt has no label: choose a label before clicking.")
    order = sorted(_ORDER, key=lambda kind: (kind != preferred, _ORDER.index(kind)))
    for kind in order:
        for control in config.controls_of(kind):
            if (
                control.tag in _TAGS
                and to_name in control.to_names
                and (control.dynamic or set(labels) <= set(control.label_names))
            ):
                return control
    raise AnswerError(
        f"No BrushLabels, BitmaskLabels, PolygonLabels or RectangleLabels of {to_name!r} holds the "
        f"label {', '.join(map(repr, labels))}; add it to the labelling interface."
    )


def regions_of_mask(
    mask: NDArray[np.bool_],
    control: Control,
    labels: Sequence[str],
    *,
    to_name: str,
    size_px: tuple[int, int],
    score: float,
    item_index: int = 0,
    tolerance_px: float = 1.0,
) -> tuple[list[dict[str, Any]], Losses]:
    """Make the regions of one mask, at the size (height, width) that the editor draws on.

    An empty mask gives no region. Polygons have one region a part; other kinds have one in all.
    """
    height_px, width_px = size_px
    runs = Mask.from_dense(mask)
    if (runs.height_px, runs.width_px) != size_px:
        runs = runs.resize(height_px, width_px)
    if runs.is_empty:
        return [], Losses()
    values, losses = _values(runs, cast("AnswerKind", control.kind), tolerance_px)
    key = control.value_key
    return [
        {
            "id": uuid.uuid4().hex[:12],
            "from_name": control.name,
            "to_name": to_name,
            "type": key,
            "original_width": width_px,
            "original_height": height_px,
            "image_rotation": 0,
            "item_index": item_index,
            "origin": "prediction",
            "score": clip_score(score),
            "value": {**value, key: list(labels)},
        }
        for value in values
    ], losses


def prediction(
    regions: Sequence[dict[str, Any]], score: float | None, model_version: str
) -> dict[str, Any]:
    """Wrap regions as one prediction of one task."""
    return {
        "result": list(regions),
        "score": None if score is None else clip_score(score),
        "model_version": model_version,
    }


def empty_prediction(model_version: str) -> dict[str, Any]:
    """Answer nothing in a way that Label Studio can open."""
    return {"result": [], "score": 0.0, "model_version": model_version}


def clip_score(score: float) -> float:
    """Clip a predicted IoU to 0..1; a value that is no number counts as 0.

    >>> clip_score(1.03), clip_score(float("nan"))
    (1.0, 0.0)
    """
    return round(min(1.0, max(0.0, float(score))), 4) if np.isfinite(score) else 0.0


def _values(
    mask: Mask, kind: AnswerKind, tolerance_px: float
) -> tuple[list[dict[str, Any]], Losses]:
    if kind == "brush":
        return [{"format": "rle", "rle": brush_rle.encode(mask)}], Losses()
    from segstudio import shapes

    if kind != "polygon":
        return [dict(shapes.mask_to_value(mask, kind))], Losses()
    values = []
    holes = dropped = 0
    for exterior, inner in shapes.mask_polygons(mask, tolerance_px):
        holes += len(inner)
        outline = np.asarray(exterior, float)
        if len(outline) < 3 or _area_px(outline) < _MIN_PART_PX:
            dropped += 1
            continue
        percent = outline * [100 / mask.width_px, 100 / mask.height_px]
        values.append({"points": np.round(percent, 4).tolist(), "closed": True})
    return values, Losses(holes, dropped)


def _area_px(outline: NDArray[np.float64]) -> float:
    """Area of a simple polygon by the shoelace formula."""
    x, y = outline[:, 0], outline[:, 1]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
