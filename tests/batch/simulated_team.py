"""A batch of drawn still lifes, and three annotators whose deviations from them are known."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from demo.annotators import Deviation, Objects, as_reference, both, dilated, mislabelled, shifted
from demo.project import SimulatedAnnotation, regions
from demo.references import DrawnObject

HEIGHT_PX, WIDTH_PX = 120, 160
COLORS = {"Sky": (150, 190, 230), "Table": (140, 100, 70), "Coin": (220, 180, 60),
          "Cup": (200, 80, 90)}  # fmt: skip


def _all_but_first_pixel(objects: Objects) -> Objects:
    changed = []
    for one in objects:
        mask = one.mask.copy()
        mask.flat[np.flatnonzero(mask)[:1]] = False
        changed.append(DrawnObject(one.label, mask))
    return tuple(changed)


GOLD = as_reference()
CAREFUL = Deviation("all but a pixel of each object", _all_but_first_pixel)
STEADY = shifted(1)
HASTY = both(dilated(4), mislabelled("Cup", "Coin"))
HASTY_AFTER_REWORK = dilated(1)
"""What the third one draws in a hurry, and what after being told."""


def still_life(number: int) -> tuple[DrawnObject, ...]:
    """Sky, a table, two coins and, on two images of three, a cup; each number another scene."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    horizon = 40 + 6 * np.sin(x / 25 + number)
    taken = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    objects = []
    for place in range(2):
        radius_px = random.integers(11, 15)
        center_x = 28 + 38 * place + random.integers(-4, 5)
        coin = (y - random.integers(78, 92)) ** 2 + (x - center_x) ** 2 <= radius_px**2
        objects.append(DrawnObject("Coin", coin))
        taken |= coin
    if number % 3:
        left, top = 104 + random.integers(-4, 5), 62 + random.integers(-4, 5)
        cup = (x >= left) & (x < left + 30) & (y >= top) & (y < top + 36)
        objects.append(DrawnObject("Cup", cup))
        taken |= cup
    sky = (y < horizon) & ~taken
    return DrawnObject("Sky", sky), DrawnObject("Table", ~sky & ~taken), *objects


def photo(number: int) -> bytes:
    """The scene as a noisy PNG."""
    random = np.random.default_rng(1000 + number)
    rgb = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.float64)
    for one in still_life(number):
        rgb[one.mask] = COLORS[one.label]
    rgb *= random.uniform(0.7, 1.1)
    rgb += random.normal(0, 6, rgb.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def drawn(number: int, person_id: int, deviation: Deviation) -> list[dict[str, Any]]:
    """What a person draws of a scene, as Label Studio stores it; no two regions overlap."""
    objects: list[DrawnObject] = []
    taken = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    for one in reversed(deviation.apply(still_life(number))):
        objects.append(DrawnObject(one.label, one.mask & ~taken))
        taken |= one.mask
    wanted = SimulatedAnnotation(
        f"scene-{number}", person_id, tuple(reversed(objects)), deviation.words
    )
    return regions(wanted)
