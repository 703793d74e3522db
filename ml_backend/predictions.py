"""Masks -> the regions that the project's controls hold, as Label Studio can open them.

The answer goes to a control with the same `toName` that holds the prompted label: brush first, then
bitmask, polygon, rectangle, unless the operator or the project prefers another kind. Label Studio
stores wrong labels and control names without a word, so both are checked here.

A polygon of Label Studio has one outline: further parts and holes hang on it by bridges without
width, so nothing is lost but specks of a few pixels, which are counted.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from segstudio.controls import Control
from segstudio.label_config import LabelConfig
from segstudio.masks import Mask, union_all

__all__ = [
    "AnswerError",
    "Losses",
    "choose_control",
    "empty_prediction",
    "prediction",
    "region_of_mask",
]

AnswerKind = Literal["brush", "bitmask", "polygon", "rectangle"]
_ORDER: tuple[AnswerKind, ...] = ("brush", "bitmask", "polygon", "rectangle")
_TAGS = frozenset({"BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels"})
_SPECK_PX = 16


class AnswerError(ValueError):
    """No answer fits the project; the message says what its labelling interface lacks."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a polygon leaves out: holes and parts of a few pixels."""

    holes: int = 0
    parts: int = 0


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


def region_of_mask(
    mask: NDArray[np.bool_],
    control: Control,
    labels: Sequence[str],
    *,
    to_name: str,
    size_px: tuple[int, int],
    score: float,
    item_index: int = 0,
    image_rotation_deg: float = 0,
    tolerance_px: float = 1.0,
) -> tuple[dict[str, Any] | None, Losses]:
    """Make the region of one mask, at the size (height, width) that the editor draws on.

    An empty mask gives None: Label Studio has no empty regions.
    """
    height_px, width_px = size_px
    runs = Mask.from_dense(mask)
    if (runs.height_px, runs.width_px) != size_px:
        runs = runs.resize(height_px, width_px)
    if runs.is_empty:
        return None, Losses()
    value, losses = _value(runs, cast("AnswerKind", control.kind), tolerance_px)
    key = control.value_key
    region = {
        "id": uuid.uuid4().hex[:12],
        "from_name": control.name,
        "to_name": to_name,
        "type": key,
        "original_width": width_px,
        "original_height": height_px,
        "image_rotation": image_rotation_deg,
        "item_index": item_index,
        "origin": "prediction",
        "score": clip_score(score),
        "value": {**value, key: list(labels)},
    }
    return region, losses


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


def _value(mask: Mask, kind: AnswerKind, tolerance_px: float) -> tuple[dict[str, Any], Losses]:
    from segstudio.shapes import mask_to_value

    if kind != "polygon":
        return mask_to_value(mask, kind), Losses()
    clean, losses = without_specks(mask)
    return mask_to_value(clean, kind, tolerance_px=tolerance_px), losses


def without_specks(mask: Mask) -> tuple[Mask, Losses]:
    """Drop parts and fill holes below 16 px and below a thousandth of the mask.

    Every one of them would be a bridge and a handful of points for the annotator to tidy up.
    """
    limit_px = max(_SPECK_PX, mask.area_px // 1000)
    parts = mask.components()
    largest = max(part.area_px for part in parts)
    kept = [part for part in parts if part.area_px >= min(limit_px, largest)]
    clean = union_all(kept, mask.height_px, mask.width_px)
    filled = 0
    for gap in clean.complement().components(connectivity=4):
        x, y, width, height = gap.bbox
        inside = x > 0 and y > 0 and x + width < mask.width_px and y + height < mask.height_px
        if inside and gap.area_px < limit_px:
            clean, filled = clean | gap, filled + 1
    return clean, Losses(holes=filled, parts=len(parts) - len(kept))
