"""What is in some of the photos, segmented by classical methods: the simulated annotators' model.

None of it was drawn by hand. The methods are named beside the photos so that nobody takes these
masks for more than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolImage = NDArray[np.bool_]
RgbImage = NDArray[np.uint8]

SMALLEST_COIN_PX = 500


@dataclass(frozen=True, slots=True, eq=False)
class DrawnObject:
    """One object on a photo: its label and its (height, width) mask."""

    label: str
    mask: BoolImage


@dataclass(frozen=True, slots=True)
class Reference:
    """How a photo's objects are found, in words and as a function of its RGB pixels."""

    method: str
    segment: Callable[[RgbImage], tuple[DrawnObject, ...]]


def segment_coins(rgb: RgbImage) -> tuple[DrawnObject, ...]:
    """Every coin an object: watershed of the edge strength from dark and bright seeds."""
    from scipy import ndimage
    from skimage import filters, segmentation

    # Typed or not depending on the version of scikit-image.
    edge_strength: Callable[..., Any] = filters.sobel
    watershed: Callable[..., Any] = segmentation.watershed
    grey = rgb[:, :, 0]
    seeds = np.zeros(grey.shape, dtype=np.int32)
    seeds[grey < 30] = 1
    seeds[grey > 150] = 2
    inside = ndimage.binary_fill_holes(watershed(edge_strength(grey), seeds) == 2)
    numbered, count = ndimage.label(inside)
    coins = (numbered == number for number in range(1, count + 1))
    return tuple(
        DrawnObject("Coin", coin) for coin in coins if np.count_nonzero(coin) >= SMALLEST_COIN_PX
    )


def segment_cup(rgb: RgbImage) -> tuple[DrawnObject, ...]:
    """The cup with its saucer."""
    return (DrawnObject("Cup", _grab_cut(rgb, x=75, y=0, width=405, height=375)),)


def segment_person(rgb: RgbImage) -> tuple[DrawnObject, ...]:
    """The man with the camera."""
    return (DrawnObject("Person", _grab_cut(rgb, x=0, y=60, width=345, height=450)),)


def segment_rocket(rgb: RgbImage) -> tuple[DrawnObject, ...]:
    """The rocket, and the sky: all that is clearly more blue than red."""
    rocket = _grab_cut(rgb, x=300, y=120, width=50, height=300)
    sky = rgb[:, :, 2].astype(np.int16) - rgb[:, :, 0] > 15
    return (DrawnObject("Sky", sky & ~rocket), DrawnObject("Rocket", rocket))


REFERENCES: Mapping[str, Reference] = {
    "coins": Reference("watershed of the edge strength", segment_coins),
    "coffee": Reference("GrabCut from a box", segment_cup),
    "camera": Reference("GrabCut from a box", segment_person),
    "rocket": Reference("GrabCut from a box; sky by a colour threshold", segment_rocket),
}
"""The photos that simulated annotators work on, in the order of the table."""


def _grab_cut(rgb: RgbImage, *, x: int, y: int, width: int, height: int) -> BoolImage:
    """The largest object that OpenCV's GrabCut finds in the box, without holes or whiskers."""
    import cv2
    from scipy import ndimage

    cv2.setRNGSeed(0)
    marks = np.zeros(rgb.shape[:2], dtype=np.uint8)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    box = (x, y, width, height)
    cv2.grabCut(bgr, marks, box, background, foreground, 5, cv2.GC_INIT_WITH_RECT)
    found = ndimage.binary_opening((marks & 1).astype(bool), iterations=2)
    numbered, count = ndimage.label(found)
    if count == 0:
        return np.asarray(found, dtype=bool)
    areas_px = np.bincount(numbered.ravel())[1:]
    largest = numbered == 1 + int(np.argmax(areas_px))
    return np.asarray(ndimage.binary_fill_holes(largest), dtype=bool)
