"""Masks to the `value` of a Label Studio region: what predictions and corrections are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from segstudio import brush_rle
from segstudio.data_url import encode_mask_image
from segstudio.ellipses import mask_ellipse
from segstudio.masks import Mask
from segstudio.polygons import Ring, keyhole_ring, mask_polygons, mask_rectangle

ValueKind = Literal["brush", "bitmask", "polygon", "rectangle", "ellipse"]


def mask_to_value(
    mask: Mask,
    kind: ValueKind,
    labels: Sequence[str] | None = None,
    *,
    tolerance_px: float = 0.0,
) -> dict[str, Any]:
    """The `value` of a mask as a region of the given kind.

    Brush and bitmask hold any mask. A polygon holds any mask as well: Label Studio's polygons are
    one ring, so holes and further parts hang on it by bridges without width, which enclose no
    pixel; with `tolerance_px` 0 the polygon gives back the very mask. A rectangle is the mask's
    bounding box and an ellipse the one of the mask's centre, directions and area; they hold
    nothing else.

    Args:
        mask: the mask; its size is the region's original size.
        kind: what the project's control draws.
        labels: written under the key of the kind's label control, "brushlabels" and so on.
        tolerance_px: how far a simplified polygon may stray from the pixels' outline.

    Raises:
        ValueError: when the mask is empty (Label Studio has no empty regions) or the kind unknown.

    >>> mask_to_value(Mask.from_dense([[0, 1], [0, 1]]), "rectangle", ["Car"])
    {'x': 50.0, 'y': 0.0, 'width': 50.0, 'height': 100.0, 'rotation': 0, 'rectanglelabels': ['Car']}
    """
    if mask.is_empty:
        raise ValueError(f"An empty mask cannot be a {kind}: a region encloses at least one pixel.")
    value: dict[str, Any]
    if kind == "brush":
        value = {"format": "rle", "rle": brush_rle.encode(mask)}
    elif kind == "bitmask":
        value = {"imageDataURL": encode_mask_image(mask)}
    elif kind == "polygon":
        rings = [
            ring
            for exterior, holes in mask_polygons(mask, tolerance_px)
            for ring in (exterior, *holes)
        ]
        value = _polygon_value(keyhole_ring(rings), mask)
    elif kind == "rectangle":
        x_px, y_px, box_width_px, box_height_px = mask_rectangle(mask)
        value = {
            "x": 100.0 * x_px / mask.width_px,
            "y": 100.0 * y_px / mask.height_px,
            "width": 100.0 * box_width_px / mask.width_px,
            "height": 100.0 * box_height_px / mask.height_px,
            "rotation": 0,
        }
    elif kind == "ellipse":
        x_px, y_px, radius_x_px, radius_y_px, rotation_deg = mask_ellipse(mask)
        value = {
            "x": 100.0 * x_px / mask.width_px,
            "y": 100.0 * y_px / mask.height_px,
            "radiusX": 100.0 * radius_x_px / mask.width_px,
            "radiusY": 100.0 * radius_y_px / mask.height_px,
            "rotation": rotation_deg,
        }
    else:
        raise ValueError(
            f"A mask becomes a brush, bitmask, polygon, rectangle or ellipse, not {kind!r}."
        )
    if labels is not None:
        value[f"{kind}labels"] = list(labels)
    return value


def polygon_values(
    mask: Mask, labels: Sequence[str] | None = None, *, tolerance_px: float = 0.0
) -> list[dict[str, Any]]:
    """One polygon `value` for each part of a mask, holes filled; [] when it is empty.

    Simpler to edit by hand than `mask_to_value(mask, "polygon")`; what it loses are the holes.
    """
    values = [_polygon_value(ring, mask) for ring, _ in mask_polygons(mask, tolerance_px)]
    if labels is not None:
        for value in values:
            value["polygonlabels"] = list(labels)
    return values


def brush_value(mask: Mask, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """The brush `value` of a mask, see `mask_to_value`."""
    return mask_to_value(mask, "brush", labels)


def _polygon_value(ring: Ring, mask: Mask) -> dict[str, Any]:
    percent = ring * (100.0 / np.array([mask.width_px, mask.height_px]))
    return {"points": percent.tolist(), "closed": True}
