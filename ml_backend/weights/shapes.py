"""Random outlines as antialiased masks, and the light that falls on them.

An outline is a list of contours, each float32 (n, 2) in x, y pixels; contours after the first are
holes or limbs. `draw` turns it into coverage, float32 in 0..1.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ml_backend.weights.textures import emboss, noise_field

__all__ = ["OUTLINES", "draw", "outline", "relief", "shade"]

Image = NDArray[np.float32]
Contour = NDArray[np.float32]
OUTLINES = ("disc", "blob", "box", "polygon", "ring", "rod", "branch", "compound")


def _turned(contour: Contour, angle: float) -> Contour:
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray(contour @ turn, np.float32)


def _ellipse(a_px: float, b_px: float, power: float = 2.0, n: int = 64) -> Contour:
    """A superellipse around the origin: power 2 an ellipse, above 4 nearly a box."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x, y = np.cos(t), np.sin(t)
    x = np.sign(x) * np.abs(x) ** (2 / power)
    y = np.sign(y) * np.abs(y) ** (2 / power)
    return np.stack([a_px * x, b_px * y], axis=1).astype(np.float32)


def _blob(rng: np.random.Generator, radius_px: float) -> Contour:
    """A smooth closed curve: a few random harmonics on a circle."""
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radius = np.ones_like(t)
    wild = rng.uniform(0.05, 0.45)
    for harmonic in range(2, rng.integers(4, 8)):
        radius += wild / harmonic**0.8 * np.cos(harmonic * t + rng.uniform(0, 2 * np.pi))
    radius = np.maximum(radius, 0.2) * radius_px
    stretch = rng.uniform(0.45, 1.0)
    points = np.stack([radius * np.cos(t), stretch * radius * np.sin(t)], axis=1)
    return points.astype(np.float32)


def _stroke(rng: np.random.Generator, length_px: float, width_px: float) -> Contour:
    """A bent band of varying width: a stem, a wire, a road, a limb."""
    n = 24
    s = np.linspace(-0.5, 0.5, n)
    heading = np.cumsum(rng.normal(0, 1, n)) * rng.uniform(0, 0.12)
    step = length_px / n
    spine = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * step, axis=0)
    spine -= spine.mean(axis=0)
    taper = 1 - rng.uniform(0, 0.8) * (s + 0.5)
    half = (width_px / 2 * taper)[:, None]
    normal = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
    sides = np.concatenate([spine + half * normal, (spine - half * normal)[::-1]])
    return np.asarray(sides, np.float32)


def outline(rng: np.random.Generator, kind: str, radius_px: float) -> list[list[Contour]]:
    """A random outline of a kind in OUTLINES around the origin, at most about `radius_px` wide.

    The outer list is united; within an inner list contours after the first are cut out (even-odd).
    """
    turn = rng.uniform(0, 2 * np.pi)
    if kind == "disc":
        shape = [[_ellipse(radius_px, radius_px * rng.uniform(0.75, 1.0))]]
        if rng.random() < 0.5:
            shape = [[_ellipse(radius_px, radius_px * rng.uniform(0.93, 1.0))]]
    elif kind == "blob":
        shape = [[_blob(rng, radius_px)]]
    elif kind == "box":
        side = radius_px * rng.uniform(0.25, 1.0)
        shape = [[_ellipse(radius_px, side, power=rng.choice([5.0, 12.0, 60.0]))]]
        turn = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.15)
    elif kind == "polygon":
        n = int(rng.integers(3, 9))
        t = np.sort(rng.uniform(0, 2 * np.pi, n))
        r = radius_px * rng.uniform(0.45, 1.0, n)
        shape = [[np.stack([r * np.cos(t), r * np.sin(t)], axis=1).astype(np.float32)]]
    elif kind == "ring":
        outer = _blob(rng, radius_px) if rng.random() < 0.3 else _ellipse(radius_px, radius_px)
        outer = outer * np.array([1, rng.uniform(0.6, 1)], np.float32)
        shape = [[outer, outer * np.float32(rng.uniform(0.35, 0.8))]]
    elif kind == "rod":
        shape = [[_stroke(rng, 2 * radius_px, radius_px * rng.uniform(0.1, 0.5))]]
    elif kind == "branch":
        shape = []
        for _ in range(rng.integers(2, 6)):
            limb = _stroke(
                rng, radius_px * rng.uniform(0.8, 1.8), radius_px * rng.uniform(0.1, 0.4)
            )
            shape.append([_turned(limb - limb[0], rng.uniform(0, 2 * np.pi))])
        shape.append([_blob(rng, radius_px * rng.uniform(0.2, 0.5))])
    else:
        shape = [[_ellipse(radius_px * 0.9, radius_px * rng.uniform(0.2, 0.6), power=6.0)]]
        for _ in range(rng.integers(1, 5)):
            kind = rng.choice(["disc", "blob", "box", "polygon"])
            part = outline(rng, kind, radius_px * rng.uniform(0.15, 0.5))[0][0]
            shift = rng.uniform(-0.65, 0.65, 2) * [radius_px, radius_px * 0.6]
            shape.append([part + shift.astype(np.float32)])
        turn = rng.choice([0.0, np.pi]) + rng.normal(0, 0.1)
    return [[_turned(contour, turn) for contour in ring] for ring in shape]


def draw(
    shape: list[list[Contour]], centre_px: tuple[float, float], height_px: int, width_px: int
) -> Image:
    """Coverage of an outline placed at `centre_px` (x, y), shape (height, width), 0..1."""
    total: NDArray[np.uint8] = np.zeros((height_px, width_px), np.uint8)
    for ring in shape:
        points = [
            np.round((contour + np.asarray(centre_px, np.float32)) * 16).astype(np.int32)
            for contour in ring
        ]
        layer = np.zeros((height_px, width_px), np.uint8)
        cv2.fillPoly(layer, points, 255, lineType=cv2.LINE_AA, shift=4)
        total = np.asarray(np.maximum(total, layer), np.uint8)
    return np.asarray(total / np.float32(255), np.float32)


def relief(rng: np.random.Generator, coverage: Image, radius_px: float) -> Image:
    """Engraving inside an object, as on a coin: rim, figure, lettering; shading around 0."""
    height_px, width_px = coverage.shape
    height = np.zeros_like(coverage)
    centre = (width_px / 2, height_px / 2)
    if rng.random() < 0.7:
        inside = cv2.distanceTransform((coverage > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        rim_px = max(1.0, radius_px * rng.uniform(0.05, 0.2))
        height += (inside < rim_px) * np.float32(rng.uniform(0.3, 1))
    for _ in range(rng.integers(1, 5)):
        kind = str(rng.choice(["blob", "polygon", "rod", "branch", "ring", "compound"]))
        figure = outline(rng, kind, radius_px * rng.uniform(0.2, 0.7))
        offset = rng.normal(0, 0.2 * radius_px, 2)
        place = (centre[0] + float(offset[0]), centre[1] + float(offset[1]))
        height += rng.uniform(-1, 1) * draw(figure, place, height_px, width_px)
    if rng.random() < 0.5:
        text = "".join(rng.choice(list("ABDEGIMORSVX1358"), rng.integers(2, 6)))
        scale = max(0.2, radius_px / 60)
        at = (int(centre[0] - radius_px * 0.6), int(centre[1] + rng.uniform(-0.5, 0.6) * radius_px))
        layer = np.zeros(coverage.shape, np.uint8)
        cv2.putText(layer, text, at, cv2.FONT_HERSHEY_DUPLEX, scale, 255, 1, cv2.LINE_AA)
        height += layer.astype(np.float32) / 255 * np.float32(rng.uniform(-1, 1))
    height += rng.uniform(0, 0.6) * noise_field(rng, height_px, width_px)
    blur_px = float(rng.uniform(0.4, 1.0 + radius_px / 40))
    soft = np.asarray(cv2.GaussianBlur(height, (0, 0), blur_px), np.float32)
    strength = float(rng.uniform(0.05, 0.35))
    shading = emboss(rng, soft, strength)
    if rng.random() < 0.4:
        shading = shading + np.asarray((soft - soft.mean()) * rng.uniform(-0.2, 0.2), np.float32)
    return shading


def shade(rng: np.random.Generator, coverage: Image) -> Image:
    """Multiplicative light on one object: flat, a gradient, a sphere's, or a bevelled rim's."""
    height_px, width_px = coverage.shape
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    x = x / max(width_px, 1) - 0.5
    y = y / max(height_px, 1) - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * x + np.sin(angle) * y
    kind = rng.choice(4, p=[0.25, 0.35, 0.2, 0.2])
    light = np.ones_like(coverage)
    if kind == 1:
        light = 1 + ramp * rng.uniform(0.1, 0.7)
    elif kind == 2:
        off = (x - 0.25 * np.cos(angle)) ** 2 + (y - 0.25 * np.sin(angle)) ** 2
        light = 1.15 - off * rng.uniform(0.5, 1.8)
    elif kind == 3:
        inside = cv2.distanceTransform((coverage > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        rim_px = max(1.5, 0.15 * float(inside.max()))
        bevel = np.exp(-inside / rim_px)
        light = 1 + bevel * (rng.uniform(-0.3, 0.5) + 1.2 * rng.uniform(0, 1) * ramp)
    return np.asarray(np.clip(light, 0.25, 1.9), np.float32)
