"""A simple photo-like scene with one object whose pixels are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scene:
    """RGB pixels, the mask of the object, and a point (x, y) on it."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    point_px: tuple[int, int]
    off_object_px: tuple[int, int]


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
