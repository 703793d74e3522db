"""Crops for a sheet to settle a rule on: one place, each annotator's outline of one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qa_plugins.edge_notes import EdgeNote
from qa_plugins.report.overlays import Panel, outline, to_panel, widen
from segstudio.masks import Mask

CROP_WIDTH_PX = 210
MIN_CROP_PX = 40
MAX_PEOPLE = 5
_GREY = 205

Box = tuple[int, int, int, int]
ImageArray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Crop:
    """One disputed place: its task, the disputed pixels, and a panel an annotator."""

    task_id: int
    disputed_px: int
    panels: tuple[Panel, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class RuleSheet:
    """What a team needs to settle where a class ends: its rule, the notes, the disputed places.

    ``doubts`` counts the answers to ``ambiguous`` on regions of the class, the most frequent first.
    """

    class_name: str
    rule: str
    crops: tuple[Crop, ...]
    doubts: tuple[tuple[str, int], ...] = ()
    notes: tuple[EdgeNote, ...] = ()


def crop_box(part: Mask) -> Box:
    """The box (x, y, width, height) to show a part of an image in, with some of its surroundings.

    At least ``MIN_CROP_PX`` on each side where the image has them, neither side less than 0.6 of
    the other, and within the image.

    >>> crop_box(Mask.from_runs(100, 100, [[50 * 100 + 50, 50 * 100 + 60]]))
    (35, 30, 40, 40)
    """
    x, y, width, height = part.bbox
    long_px = max(width, height) * 1.5
    box_width = min(part.width_px, round(max(MIN_CROP_PX, width * 1.5, 0.6 * long_px)))
    box_height = min(part.height_px, round(max(MIN_CROP_PX, height * 1.5, 0.6 * long_px)))
    left = min(max(0, x + width // 2 - box_width // 2), part.width_px - box_width)
    top = min(max(0, y + height // 2 - box_height // 2), part.height_px - box_height)
    return left, top, box_width, box_height


def crop_panels(
    drawings: Sequence[tuple[str, Mapping[str, NDArray[np.bool_]]]],
    class_name: str,
    color: tuple[int, int, int],
    box: Box,
    size_px: tuple[int, int],
    photo: ImageArray | None,
) -> tuple[Panel, ...]:
    """Draw one class of each annotator in a box, at most ``MAX_PEOPLE`` of them.

    Args:
        drawings: name of the annotator and the dense masks by class, each of ``size_px``.
        class_name: the class to draw.
        color: its colour, 0..255.
        box: what to show: x, y, width, height in pixels.
        size_px: height and width of the image.
        photo: RGB uint8 of any size, or None for grey.
    """
    import cv2

    x, y, width, height = box
    scale = CROP_WIDTH_PX / width
    target = CROP_WIDTH_PX, max(1, round(height * scale))
    base = _photo_part(photo, box, size_px, target)
    paint = np.array(color, dtype=np.float64)
    panels = []
    for who, masks in drawings[:MAX_PEOPLE]:
        picture = base.copy()
        mask = masks.get(class_name)
        part = None if mask is None else mask[y : y + height, x : x + width]
        if part is None or not part.any():
            panels.append(to_panel(f"{who}: nothing here", picture))
            continue
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        covered = cv2.resize(part.astype(np.float32), target, interpolation=method)
        inside = covered >= 0.5
        picture[inside] = picture[inside] * 0.75 + paint * 0.25
        line = outline(np.asarray(covered, dtype=np.float64))
        picture[widen(line)] = 255.0
        picture[line] = paint * 0.85
        panels.append(to_panel(who, picture))
    return tuple(panels)


def _photo_part(
    photo: ImageArray | None, box: Box, size_px: tuple[int, int], target: tuple[int, int]
) -> NDArray[np.float64]:
    if photo is None:
        return np.full((target[1], target[0], 3), float(_GREY))
    import cv2

    down, across = photo.shape[0] / size_px[0], photo.shape[1] / size_px[1]
    x, y, width, height = box
    top, left = int(y * down), int(x * across)
    bottom = max(top + 1, round((y + height) * down))
    right = max(left + 1, round((x + width) * across))
    part = photo[top:bottom, left:right]
    method = cv2.INTER_AREA if part.shape[1] > target[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, target, interpolation=method), dtype=np.float64)
