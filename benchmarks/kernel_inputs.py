"""Masks and streams that the kernel benchmarks share: made from seeds, never stored."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def blob(height_px: int, width_px: int) -> NDArray[np.bool_]:
    """A smooth shape of about a quarter of the image."""
    y, x = np.mgrid[0:height_px, 0:width_px]
    angle = np.arctan2(y - height_px / 2, x - width_px / 2)
    radius = np.hypot((y - height_px / 2) / height_px, (x - width_px / 2) / width_px)
    return radius < 0.28 + 0.04 * np.sin(5 * angle)


def noisy_edge(height_px: int, width_px: int, seed: int = 0) -> NDArray[np.bool_]:
    """The same shape with an edge some dozen pixels wide that dissolves into single pixels."""
    y, x = np.mgrid[0:height_px, 0:width_px]
    radius = np.hypot((y - height_px / 2) / height_px, (x - width_px / 2) / width_px)
    noise = np.random.default_rng(seed).normal(0.0, 0.045, size=(height_px, width_px))
    return radius + noise < 0.28


def coloured_stream(height_px: int, width_px: int) -> tuple[list[int], NDArray[np.bool_]]:
    """A stream as old editors wrote it: a coloured brush, so pixels become literal values.

    The stream of the blob painted in (255, 99, 71, 128): stretches without paint are runs, painted
    ones literal chunks of four values a pixel, at most 2**16 values each.
    """
    mask = blob(height_px, width_px)
    flat = mask.ravel()
    bounds = [0, *(np.flatnonzero(np.diff(flat.astype(np.int8))) + 1).tolist(), flat.size]
    bits = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    pixel = "".join(f"{value:08b}" for value in (255, 99, 71, 128))
    for start, stop in pairwise(bounds):
        left = 4 * (stop - start)
        while left:
            length = min(left, 65536)
            left -= length
            if flat[start]:
                bits.append(f"011{length - 1:016b}" + pixel * (length // 4))
            else:
                bits.append(f"111{length - 1:016b}00000000")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big")), mask
