"""Masks -> the regions that the project's controls hold, as Label Studio can open them.

The answer goes to a control with the same `toName` that holds the prompted label: brush first, then
bitmask, polygon, rectangle, unless the operator or the project prefers another kind. A plain shape
(`<Brush>`) takes its label from a `<Labels>` control for the same image; where there is none, it is
answered without a label. Label Studio stores wrong labels and control names without a word, so both
are checked here.

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
    "labels_control",
    "prediction",
    "region_items",
    "region_of_mask",
]

AnswerKind = Literal["brush", "bitmask", "polygon", "rectangle"]
_ORDER: tuple[AnswerKind, ...] = ("brush", "bitmask", "polygon", "rectangle")
_TAGS = frozenset({"BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels"})
_PLAIN_TAGS = frozenset({"Brush", "Bitmask", "Polygon", "Rectangle"})
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
    """Pick the control that the answer goes to. Raises AnswerError where there is none.

    An answer without labels fits plain shapes only, and only where no `<Labels>` could name it.
    """
    order = sorted(_ORDER, key=lambda kind: (kind != preferred, _ORDER.index(kind)))
    for kind in order:
        for control in config.controls_of(kind):
            if to_name not in control.to_names:
                continue
            if control.tag in _TAGS and labels and _offers(control, labels):
                return control
            if control.tag in _PLAIN_TAGS and (
                labels_control(config, labels, to_name) is not None
                if labels
                else not _labels_controls(config, to_name)
            ):
                return control
    if not labels:
        raise AnswerError("The prompt has no label: choose a label before clicking.")
    raise AnswerError(
        f"No BrushLabels, BitmaskLabels, PolygonLabels or RectangleLabels of {to_name!r} holds the "
        f"label {', '.join(map(repr, labels))}, and no Labels beside a plain shape does; add it to "
        f"the labelling interface."
    )


def labels_control(config: LabelConfig, labels: Sequence[str], to_name: str) -> Control | None:
    """The `<Labels>` control that names plain shapes of an image, if it holds all the labels."""
    return next(
        (one for one in _labels_controls(config, to_name) if labels and _offers(one, labels)), None
    )


def region_items(region: dict[str, Any], config: LabelConfig) -> list[dict[str, Any]]:
    """The items of a `result` list that a region of `region_of_mask` takes.

    One, or for a plain shape a second one of the same id that holds the labels.
    """
    control = config.control(region["from_name"])
    if control is None or control.tag in _TAGS:
        return [region]
    geometry = dict(region["value"])
    labels = geometry.pop("labels", [])
    shape = {**region, "value": geometry}
    naming = labels_control(config, labels, region["to_name"])
    if naming is None:
        return [shape]
    named = {**geometry, naming.value_key: labels}
    return [shape, {**region, "from_name": naming.name, "type": naming.value_key, "value": named}]


def _labels_controls(config: LabelConfig, to_name: str) -> list[Control]:
    return [one for one in config.controls_of("labels") if to_name in one.to_names]


def _offers(control: Control, labels: Sequence[str]) -> bool:
    return control.dynamic or set(labels) <= set(control.label_names)


def region_of_mask(
    mask: NDArray[np.bool_] | Mask,
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

    An empty mask gives None: Label Studio has no empty regions. The region of a plain shape carries
    its labels under "labels"; `region_items` gives them an item of their own.
    """
    height_px, width_px = size_px
    runs = mask if isinstance(mask, Mask) else Mask.from_dense(mask)
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
        "value": {**value, key if control.tag in _TAGS else "labels": list(labels)},
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
