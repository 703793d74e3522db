"""Random surfaces: noise with the spectra of natural images, stripes, cells, relief.

Everything is numpy and OpenCV, seeded, and float32 in 0..1 unless said otherwise.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["emboss", "noise_field", "random_colour", "surface"]

Image = NDArray[np.float32]
BANK_SIDE_PX = 512
# Spectral slopes: 0 is white noise, 1 is what photographs have, 2 is clouds.
BANK_SLOPES = (0.0, 0.5, 0.8, 1.0, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.4, 3.0)


@lru_cache(maxsize=1)
def _noise_bank() -> Image:
    """Twelve fixed tiles of 1/f^slope noise, shape (12, 512, 512), each of mean 0.5."""
    rng = np.random.default_rng(20261120)
    side = BANK_SIDE_PX
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    radius[0, 0] = 1.0 / side
    tiles = []
    for slope in BANK_SLOPES:
        spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * radius**-slope
        spectrum[0, 0] = 0.0
        tile = np.fft.irfft2(spectrum, s=(side, side))
        tiles.append(np.clip(0.5 + tile / (5.0 * tile.std()), 0.0, 1.0))
    return np.stack(tiles).astype(np.float32)


def noise_field(rng: np.random.Generator, height_px: int, width_px: int) -> Image:
    """A random crop of coloured noise at a random zoom and stretch, shape (height, width)."""
    tile = _noise_bank()[rng.integers(len(BANK_SLOPES))]
    zoom_y = 2.0 ** rng.uniform(-1.5, 1.5)
    zoom_x = zoom_y * (2.0 ** rng.uniform(-2, 2) if rng.random() < 0.2 else 1.0)
    rows = int(np.clip(height_px / zoom_y, 4, BANK_SIDE_PX))
    columns = int(np.clip(width_px / zoom_x, 4, BANK_SIDE_PX))
    top = rng.integers(BANK_SIDE_PX - rows + 1)
    left = rng.integers(BANK_SIDE_PX - columns + 1)
    crop = tile[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        crop = crop[::-1]
    return cv2.resize(np.ascontiguousarray(crop), (width_px, height_px)).astype(np.float32)


def random_colour(rng: np.random.Generator) -> Image:
    """A colour, shape (3,): mostly muted, sometimes vivid, as in photographs."""
    value = rng.uniform(0.03, 0.97)
    saturation = rng.beta(1.2, 2.2)
    hue = rng.uniform(0, 1) + np.array([0.0, 1 / 3, 2 / 3])
    tint = 0.5 + 0.5 * np.cos(2 * np.pi * hue)
    return np.asarray(value * (1 - saturation * tint), np.float32)


def emboss(rng: np.random.Generator, height: Image, strength: float) -> Image:
    """Light a height map from a random side: shading around 0, same shape."""
    angle = rng.uniform(0, 2 * np.pi)
    gradient_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3)
    gradient_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3)
    shading = np.cos(angle) * gradient_x + np.sin(angle) * gradient_y
    return np.asarray(np.clip(strength * shading, -0.6, 0.6), np.float32)


def _waves(rng: np.random.Generator, height_px: int, width_px: int) -> Image:
    """Stripes or checks of random pitch and direction, sometimes wavy, sometimes hard-edged."""
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    pitch_px = 2.0 ** rng.uniform(1.3, 5)
    along = np.cos(angle) * x + np.sin(angle) * y
    if rng.random() < 0.4:
        along = along + pitch_px * rng.uniform(0.5, 3) * noise_field(rng, height_px, width_px)
    wave = np.sin(2 * np.pi * along / pitch_px)
    if rng.random() < 0.3:
        across = -np.sin(angle) * x + np.cos(angle) * y
        wave = wave * np.sin(2 * np.pi * across / (pitch_px * rng.uniform(0.5, 2)))
    if rng.random() < 0.4:
        wave = np.clip(wave * rng.uniform(2, 8), -1, 1)
    return np.asarray(0.5 + 0.5 * wave, np.float32)


def _cells(rng: np.random.Generator, height_px: int, width_px: int) -> Image:
    """Pebbles, tiles or spots: random grey cells from a coarse grid warped by noise."""
    pitch_px = 2.0 ** rng.uniform(2, 4.5)
    rows = int(height_px / pitch_px) + 2
    columns = int(width_px / pitch_px) + 2
    coarse = rng.random((rows, columns)).astype(np.float32)
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32) / np.float32(pitch_px)
    bend = rng.uniform(0, 2)
    x = x + bend * noise_field(rng, height_px, width_px)
    y = y + bend * noise_field(rng, height_px, width_px)
    how = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_LINEAR
    cells = cv2.remap(coarse, x, y, how, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cells, np.float32)


def surface(
    rng: np.random.Generator,
    height_px: int,
    width_px: int,
    contrast: float = 0.5,
    base: Image | None = None,
) -> Image:
    """A textured surface, shape (height, width, 3): one colour varied towards one or two others.

    `contrast` in 0..1 bounds how far the texture departs from the base colour (0 gives it flat);
    `base`, shape (3,), is drawn at random where not given.
    """
    base = random_colour(rng) if base is None else base
    out = np.broadcast_to(base, (height_px, width_px, 3)).astype(np.float32)
    for _ in range(rng.integers(1, 3)):
        kind = rng.choice(4, p=[0.62, 0.14, 0.12, 0.12])
        if kind == 0:
            pattern = noise_field(rng, height_px, width_px)
        elif kind == 1:
            pattern = _waves(rng, height_px, width_px)
        elif kind == 2:
            pattern = _cells(rng, height_px, width_px)
        else:
            threshold = rng.uniform(0.4, 0.65)
            soft = rng.uniform(0.02, 0.2)
            field = noise_field(rng, height_px, width_px)
            pattern = np.clip((field - threshold) / soft + 0.5, 0, 1)
        if rng.random() < 0.9:
            # The same hue, lighter or darker: most real surfaces vary in brightness first.
            other = np.clip(base * rng.uniform(0.4, 1.7), 0, 1)
        else:
            other = random_colour(rng)
        amount = contrast * rng.beta(1.3, 1.6)
        out = out + (pattern * np.float32(amount))[..., None] * (other - base).astype(np.float32)
    if rng.random() < 0.15:
        out = out + emboss(rng, noise_field(rng, height_px, width_px), contrast)[..., None]
    return np.asarray(np.clip(out, 0, 1), np.float32)
