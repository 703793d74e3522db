"""Simple photo-like scenes with objects whose pixels are known."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Scene:
    """RGB pixels, the mask of the object, and a point (x, y) on it."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    point_px: tuple[int, int]
    off_object_px: tuple[int, int]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        height_px, width_px = self.mask.shape
        return width_px, height_px


def ball_on_ground() -> Scene:
    """An orange ball, lit from the upper left, on a noisy green ground."""
    height_px, width_px = 480, 640
    noise = np.random.default_rng(7)
    y, x = np.mgrid[:height_px, :width_px]
    centre_x, centre_y, radius = 290, 225, 95
    distance = np.hypot(x - centre_x, y - centre_y)
    mask = distance <= radius
    ground = np.array([70.0, 105.0, 70.0]) + 12 * np.sin(x / 37.0)[:, :, np.newaxis]
    light = 1.0 - 0.25 * np.hypot(x - centre_x + 35, y - centre_y + 35) / radius
    ball = np.array([235.0, 130.0, 40.0]) * light[:, :, np.newaxis]
    pixels = np.where(mask[:, :, np.newaxis], ball, ground)
    pixels = pixels + noise.normal(0.0, 5.0, pixels.shape)
    rgb = pixels.clip(0, 255).astype(np.uint8)
    return Scene(rgb, mask, (centre_x + 20, centre_y + 15), (560, 400))


def two_balls(*, apart: bool) -> tuple[Scene, Scene]:
    """Two balls of one colour, each as a scene; a click takes them for one thing if they touch."""
    noise = np.random.default_rng(7)
    y, x = np.mgrid[:480, :640]
    small_x = 480 if apart else 380
    large = np.hypot(x - 260, y - 240) <= 80
    small = np.hypot(x - small_x, y - 240) <= 60
    ground = np.array([70.0, 105.0, 70.0]) + 12 * np.sin(x / 37.0)[:, :, np.newaxis]
    pixels = np.where((large | small)[:, :, np.newaxis], np.array([235.0, 130.0, 40.0]), ground)
    rgb = (pixels + noise.normal(0.0, 5.0, pixels.shape)).clip(0, 255).astype(np.uint8)
    return Scene(rgb, large, (260, 240), (560, 400)), Scene(
        rgb, small, (small_x + 30, 240), (560, 400)
    )


def encode(scene: Scene, *, orientation: int | None = None) -> bytes:
    """The scene as a PNG, or as a JPEG that looks the same when its EXIF orientation is heeded."""
    buffer = io.BytesIO()
    if orientation is None:
        Image.fromarray(scene.rgb).save(buffer, "PNG")
        return buffer.getvalue()
    stored = {6: np.rot90(scene.rgb, 1), 8: np.rot90(scene.rgb, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()
