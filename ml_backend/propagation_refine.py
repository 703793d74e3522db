"""A propagated mask sharpened by the model, and kept only where it agrees with what was carried."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_backend.engines import Embedding, Engine, Prompt
from segstudio.masks import Mask, iou

ACCEPT_IOU: Final = 0.8
"""A refined mask is taken where its overlap with the carried one is at least this."""

POINTS: Final = 3
_MARGIN: Final = 0.03
_MIN_AREA_PX: Final = 16


def refine(engine: Engine, embedding: Embedding, mask: Mask) -> Mask | None:
    """Return the model's outline of a carried mask; None where it is not to be taken.

    The prompt is the mask's box with a margin of 3 %, up to three points deep inside, and, where
    the engine takes one, the mask itself. What the model then outlines is taken where it overlaps
    the carried mask by `ACCEPT_IOU`: it may draw an edge better, but not choose another thing.

    Args:
        engine: the model.
        embedding: of the frame's photo.
        mask: of the photo's size; one of another size, or below 16 px, is not refined.
    """
    if (mask.height_px, mask.width_px) != (embedding.height_px, embedding.width_px):
        return None
    if mask.area_px < _MIN_AREA_PX:
        return None
    prompt = mask_prompt(mask)
    as_logits: Any = getattr(engine, "mask_logits", None)
    if as_logits is not None:
        prompt = prompt.with_mask(as_logits(mask.to_dense()))
    found = Mask.from_dense(engine.predict(embedding, prompt).mask)
    return found if (iou(found, mask) or 0.0) >= ACCEPT_IOU else None


def mask_prompt(mask: Mask) -> Prompt:
    """Return the box and the inner points of a mask that is not empty."""
    x, y, width, height = mask.bbox
    margin_x, margin_y = width * _MARGIN, height * _MARGIN
    box = (
        max(0.0, x - margin_x),
        max(0.0, y - margin_y),
        min(mask.width_px - 1.0, x + width - 1 + margin_x),
        min(mask.height_px - 1.0, y + height - 1 + margin_y),
    )
    points = inner_points(mask.to_dense()[y : y + height, x : x + width])
    shifted = tuple((float(column + x), float(row + y)) for column, row in points)
    return Prompt(shifted, (True,) * len(shifted), box)


def inner_points(dense: NDArray[np.bool_], count: int = POINTS) -> list[tuple[int, int]]:
    """Return up to so many (column, row) inside, each as far as it can be from edges and others.

    >>> inner_points(np.ones((3, 3), bool), 1)
    [(1, 1)]
    """
    import cv2

    padded = np.pad(dense.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    rows, columns = np.mgrid[: dense.shape[0], : dense.shape[1]]
    points: list[tuple[int, int]] = []
    while len(points) < count:
        row, column = np.unravel_index(int(distance.argmax()), distance.shape)
        if distance[row, column] <= 0 or (points and distance[row, column] < 2):
            break
        points.append((int(column), int(row)))
        distance = np.minimum(distance, np.hypot(rows - row, columns - column))
    return points
