"""Pictures of who drew what: one panel an annotator, and one of where they differ.

Masks are drawn on the photo, dimmed; on plain grey where the photo cannot be had, which changes
the picture and no number.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask

PANEL_WIDTH_PX = 440
MAX_PANELS = 6
_GREY = 205
_DIFFERENT = np.array([214, 40, 40], dtype=np.float64)
_AGREED = np.array([46, 139, 87], dtype=np.float64)

ImageArray = NDArray[np.uint8]
FloatArray = NDArray[np.float64]
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture as a data URI, with the text under it and its size in pixels."""

    caption: str
    uri: str
    width_px: int
    height_px: int


def disagreement_panels(
    drawings: Sequence[tuple[str, Mapping[str, Mask]]],
    colors: Mapping[str, Color],
    height_px: int,
    width_px: int,
    photo: ImageArray | None,
) -> list[Panel]:
    """Draw each annotator's class masks and where they differ.

    Args:
        drawings: name of the annotator and the masks by class, all of one size.
        colors: colour of each class, 0..255; grey where a class has none.
        height_px: height of the masks.
        width_px: width of the masks.
        photo: RGB uint8 (any size), or None to draw on grey.

    Returns:
        The panel of differences first, then one an annotator (at most ``MAX_PANELS`` together).
    """
    height, width = panel_size(height_px, width_px)
    base = _base(photo, height, width)
    names = sorted({name for _, masks in drawings for name in masks})
    drawn = {
        (who, name): _coverage(mask, height, width)
        for who, (_, masks) in enumerate(drawings)
        for name, mask in masks.items()
    }
    panels = [to_panel("Where they differ", _differences(base, drawn, names, len(drawings)))]
    for who, (caption, masks) in enumerate(drawings[: MAX_PANELS - 1]):
        picture = 0.55 * base + 0.45 * base.mean(axis=2, keepdims=True)
        for name in sorted(masks):
            color = np.array(colors.get(name, (128, 128, 128)), dtype=np.float64)
            coverage = drawn[who, name][..., None]
            picture = picture * (1 - 0.5 * coverage) + color * 0.5 * coverage
        for name in sorted(masks):
            color = np.array(colors.get(name, (128, 128, 128)), dtype=np.float64)
            line = outline(drawn[who, name])
            picture[widen(line)] = 255.0
            picture[line] = color * 0.85
        panels.append(to_panel(caption if masks else f"{caption}: drew nothing", picture))
    return panels


def panel_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Height and width of a panel: at most ``PANEL_WIDTH_PX`` wide and 1.2 times as high.

    >>> panel_size(480, 854), panel_size(4000, 1000)
    ((247, 440), (528, 132))
    """
    scale = min(PANEL_WIDTH_PX / width_px, 1.2 * PANEL_WIDTH_PX / height_px)
    return max(1, round(height_px * scale)), max(1, round(width_px * scale))


def _differences(
    base: FloatArray, drawn: Mapping[tuple[int, str], FloatArray], names: Sequence[str], raters: int
) -> FloatArray:
    """Red where annotators differ, stronger where more do; green where all drew the same."""
    differ = np.zeros(base.shape[:2])
    agreed = np.zeros(base.shape[:2])
    most = max(1, (raters // 2) * (raters - raters // 2))
    for name in names:
        votes = sum(
            (drawn[who, name] >= 0.5 for who in range(raters) if (who, name) in drawn),
            start=np.zeros(base.shape[:2]),
        )
        differ = np.maximum(differ, votes * (raters - votes) / most)
        agreed = np.maximum(agreed, votes == raters)
    grey: FloatArray = np.repeat(base.mean(axis=2, keepdims=True), 3, axis=2) * 0.55 + 0.45 * 235
    strength = np.where(differ > 0, 0.35 + 0.6 * differ, 0.0)[..., None]
    calm = np.where((agreed > 0) & (differ == 0), 0.3, 0.0)[..., None]
    picture = grey * (1 - calm) + _AGREED * calm
    result: FloatArray = picture * (1 - strength) + _DIFFERENT * strength
    return result


def _base(photo: ImageArray | None, height: int, width: int) -> FloatArray:
    if photo is None:
        return np.full((height, width, 3), float(_GREY))
    import cv2

    resized = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.float64)


def _coverage(mask: Mask, height: int, width: int) -> FloatArray:
    """Share of each panel pixel that the mask covers, 0..1."""
    import cv2

    dense = mask.to_dense().astype(np.float32)
    return np.asarray(
        cv2.resize(dense, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float64
    )


def outline(coverage: FloatArray) -> NDArray[np.bool_]:
    """Pixels of the mask that have a neighbour outside it."""
    inside = np.pad(coverage >= 0.5, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return inside[1:-1, 1:-1] & ~core


def widen(line: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """An outline and its neighbours to the left, right, top and bottom."""
    padded = np.pad(line, 1)
    return (
        padded[1:-1, 1:-1]
        | padded[:-2, 1:-1]
        | padded[2:, 1:-1]
        | padded[1:-1, :-2]
        | padded[1:-1, 2:]
    )


def to_panel(caption: str, picture: FloatArray) -> Panel:
    """An RGB picture (0..255, shape (height, width, 3)) as a JPEG inside the page."""
    from PIL import Image

    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=84, optimize=True, subsampling=0)
    uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return Panel(caption, uri, pixels.shape[1], pixels.shape[0])
