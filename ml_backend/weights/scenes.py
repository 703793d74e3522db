"""Generated scenes with exact instance labels: all that the small SAM ever learns from.

Numpy and OpenCV only, no photo and no third party's picture, so the weights owe nobody a licence.
`make_scene(seed)` is a pure function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ml_backend.weights.shapes import OUTLINES, Contour, draw, outline, relief, shade
from ml_backend.weights.textures import noise_field, random_colour, surface

__all__ = ["HELD_OUT_SEED", "KINDS", "MIN_OBJECT_PX", "Scene", "make_scene"]

Image = NDArray[np.float32]
# Training counts seeds up from 0 and never gets near this one; evaluation counts up from it.
HELD_OUT_SEED = 1_000_000_000
# A smaller visible rest of an object becomes background: nobody could click on it.
MIN_OBJECT_PX = 60
# So does what others hide nearly whole.
MIN_VISIBLE_SHARE = 0.5
KINDS = {
    "coins": 0.20,
    "scatter": 0.36,
    "organs": 0.10,
    "fields": 0.08,
    "shelf": 0.10,
    "few": 0.16,
}


@dataclass(frozen=True)
class Scene:
    """A picture and the object every pixel belongs to.

    `image` is uint8 (height, width, 3) RGB; `labels` is int32 (height, width), 0 the background
    and 1..count one number an object, without gaps. Objects are disjoint: what occludes, owns.
    """

    kind: str
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]

    @property
    def count(self) -> int:
        """Number of objects."""
        return int(self.labels.max())


@dataclass
class _Canvas:
    """What is painted on: linear-ish RGB in 0..1 and the instance labels so far."""

    rgb: Image
    labels: NDArray[np.int32]
    count: int = 0
    painted_px: list[int] = field(default_factory=lambda: [0])

    def colour_at(self, centre_px: tuple[float, float]) -> Image:
        """The colour now at x, y (clipped into the picture): what a new object must differ from."""
        height_px, width_px = self.labels.shape
        x = int(np.clip(centre_px[0], 1, width_px - 2))
        y = int(np.clip(centre_px[1], 1, height_px - 2))
        return np.asarray(self.rgb[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1)), np.float32)

    def paint(
        self,
        rng: np.random.Generator,
        shape: list[list[Contour]],
        centre_px: tuple[float, float],
        base: Image,
        contrast: float,
        *,
        relief_px: float = 0.0,
        shadow: tuple[float, float, float, float] | None = None,
    ) -> None:
        """Put one object on top; `shadow` is (dx_px, dy_px, blur_px, depth)."""
        points = np.concatenate([contour for ring in shape for contour in ring])
        margin_px = 2 if shadow is None else 3 + int(2 * shadow[2] + max(map(abs, shadow[:2])))
        low = np.floor(points.min(axis=0) + centre_px).astype(int) - margin_px
        high = np.ceil(points.max(axis=0) + centre_px).astype(int) + margin_px
        height_px, width_px = self.labels.shape
        left, top = np.maximum(low, 0)
        right, bottom = np.minimum(high, (width_px, height_px))
        if right - left < 3 or bottom - top < 3:
            return
        rows, columns = int(bottom - top), int(right - left)
        centre = (centre_px[0] - float(left), centre_px[1] - float(top))
        coverage = draw(shape, centre, rows, columns)
        patch = self.rgb[top:bottom, left:right]
        if shadow is not None:
            cast = draw(shape, (centre[0] + shadow[0], centre[1] + shadow[1]), rows, columns)
            cast = np.asarray(cv2.GaussianBlur(cast, (0, 0), shadow[2]), np.float32)
            patch = patch * (1 - shadow[3] * cast)[..., None]
        skin = surface(rng, rows, columns, contrast, base) * shade(rng, coverage)[..., None]
        if relief_px > 0:
            whole = draw(shape, centre, rows, columns)
            skin = skin + relief(rng, whole, relief_px)[..., None] * (0.3 + skin)
        alpha = coverage[..., None]
        self.rgb[top:bottom, left:right] = patch * (1 - alpha) + np.clip(skin, 0, 1) * alpha
        self.count += 1
        self.labels[top:bottom, left:right][coverage > 0.5] = self.count
        self.painted_px.append(int((coverage > 0.5).sum()))


def _shadow(rng: np.random.Generator, size_px: float) -> tuple[float, float, float, float] | None:
    if rng.random() < 0.5:
        return None
    dx, dy = rng.normal(0, 0.12 * size_px + 1, 2)
    return float(dx), float(dy), float(rng.uniform(0.6, 1 + 0.12 * size_px)), rng.uniform(0.1, 0.5)


def _ground(rng: np.random.Generator, height_px: int, width_px: int) -> tuple[_Canvas, Image]:
    """A background and its mean colour: one surface, or several with ragged borders (clutter)."""
    base = random_colour(rng)
    rgb = surface(rng, height_px, width_px, rng.uniform(0, 0.35), base)
    if rng.random() < 0.05:
        for _ in range(rng.integers(1, 3)):
            field = noise_field(rng, height_px, width_px)
            edge = np.clip((field - rng.uniform(0.4, 0.65)) / rng.uniform(0.01, 0.1), 0, 1)
            rgb = rgb + (surface(rng, height_px, width_px, 0.5) - rgb) * edge[..., None]
    rgb = rgb * _lighting(rng, height_px, width_px)[..., None]
    labels = np.zeros((height_px, width_px), np.int32)
    return _Canvas(np.ascontiguousarray(rgb, np.float32), labels), base


def _lighting(rng: np.random.Generator, height_px: int, width_px: int) -> Image:
    """Slowly varying light over the whole picture, around 1."""
    small = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
    smooth = cv2.resize(small, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(1 + 0.4 * rng.beta(1, 2) * smooth, 0.25, 2.0), np.float32)


def _object_colour(rng: np.random.Generator, ground: Image) -> Image:
    """A colour for an object: mostly free, sometimes near the ground's (low contrast)."""
    if rng.random() < 0.92:
        tries = [random_colour(rng) for _ in range(6)]
        # Camouflage teaches little: some channel must tell the object from the ground.
        clear = (colour for colour in tries if float(np.abs(colour - ground).max()) > 0.35)
        return next(clear, max(tries, key=lambda colour: float(np.abs(colour - ground).max())))
    step = rng.uniform(0.22, 0.4) * _side(rng, ground)
    return np.asarray(np.clip(ground + step + rng.normal(0, 0.05, 3), 0.02, 0.98), np.float32)


def _side(rng: np.random.Generator, colour: Image) -> float:
    """Lighter (1) or darker (-1) than `colour`: by chance, but never towards the nearer end."""
    mean = float(colour.mean())
    if 0.4 < mean < 0.6:
        return float(rng.choice([-1, 1]))
    return 1.0 if mean < 0.5 else -1.0


def _coins(rng: np.random.Generator, height_px: int, width_px: int) -> _Canvas:
    """Many like objects on one ground, in rough rows or strewn: coins, cells, pills, fruit."""
    canvas, ground = _ground(rng, height_px, width_px)
    like = rng.random() < 0.65
    style = _object_colour(rng, ground)
    kind = "disc" if rng.random() < 0.7 else str(rng.choice(["blob", "box", "polygon", "ring"]))
    side = min(height_px, width_px)
    radius_px = side * rng.uniform(0.035, 0.13)
    pitch_px = 2 * radius_px * rng.uniform(1.05, 1.9)
    engraved = rng.random() < 0.7
    contrast = rng.uniform(0, 0.35)
    shadow = _shadow(rng, radius_px)
    if rng.random() < 0.6:
        rows = np.arange(pitch_px * 0.6, height_px, pitch_px)
        columns = np.arange(pitch_px * 0.6, width_px, pitch_px)
        spots = [(float(x), float(y)) for y in rows for x in columns if rng.random() < 0.9]
        wander_px = pitch_px * rng.uniform(0, 0.15)
    else:
        n = int(min(45, 0.5 * height_px * width_px / pitch_px**2))
        spots = [(rng.uniform(0, width_px), rng.uniform(0, height_px)) for _ in range(n)]
        wander_px = 0.0
    spread = rng.uniform(0, 0.35)
    for x, y in spots[:60]:
        size_px = radius_px * (1 + spread * rng.uniform(-1, 1))
        colour = style * rng.uniform(0.85, 1.15) if like else _object_colour(rng, ground)
        canvas.paint(
            rng,
            outline(rng, kind, size_px),
            (float(x + rng.normal(0, wander_px)), float(y + rng.normal(0, wander_px))),
            np.asarray(np.clip(colour, 0, 1), np.float32),
            contrast,
            relief_px=size_px if engraved else 0.0,
            shadow=shadow,
        )
    return canvas


def _scatter(rng: np.random.Generator, height_px: int, width_px: int) -> _Canvas:
    """Any shapes of any sizes over each other: a desk, a drawer, litter, leaves."""
    canvas, _ = _ground(rng, height_px, width_px)
    side = min(height_px, width_px)
    for _ in range(int(rng.integers(2, 10))):
        size_px = side * 0.35 * 2.0 ** -rng.uniform(0, 2.8)
        centre = (rng.uniform(0, width_px), rng.uniform(0, height_px))
        canvas.paint(
            rng,
            outline(rng, str(rng.choice(OUTLINES)), size_px),
            centre,
            _object_colour(rng, canvas.colour_at(centre)),
            rng.uniform(0, 0.3),
            relief_px=size_px if rng.random() < 0.2 else 0.0,
            shadow=_shadow(rng, size_px),
        )
    return canvas


def _organs(rng: np.random.Generator, height_px: int, width_px: int) -> _Canvas:
    """Smooth bodies with smooth organs inside them, often faint: scans, cells with nuclei."""
    canvas, _ = _ground(rng, height_px, width_px)
    if rng.random() < 0.7:
        canvas.rgb *= np.float32(rng.uniform(0.05, 0.5))
    side = min(height_px, width_px)
    bodies = int(rng.choice([1, 1, 2, 6]))
    for _ in range(bodies):
        size_px = side * rng.uniform(0.3, 0.5) / np.sqrt(bodies)
        centre = (
            width_px * (0.5 if bodies == 1 else rng.uniform(0.15, 0.85)) + rng.normal(0, 5),
            height_px * (0.5 if bodies == 1 else rng.uniform(0.15, 0.85)) + rng.normal(0, 5),
        )
        flesh = _object_colour(rng, canvas.colour_at(centre))
        canvas.paint(rng, outline(rng, "blob", size_px), centre, flesh, rng.uniform(0, 0.3))
        for _ in range(int(rng.integers(1, 6 if bodies < 3 else 2))):
            organ_px = size_px * rng.uniform(0.12, 0.45)
            away = rng.uniform(0, 0.6) * size_px
            angle = rng.uniform(0, 2 * np.pi)
            place = (centre[0] + away * np.cos(angle), centre[1] + 0.8 * away * np.sin(angle))
            step = rng.uniform(0.22, 0.45) * _side(rng, flesh)
            colour = np.asarray(np.clip(flesh + step + rng.normal(0, 0.03, 3), 0, 1), np.float32)
            kind = str(rng.choice(["blob", "disc", "rod"], p=[0.6, 0.25, 0.15]))
            canvas.paint(rng, outline(rng, kind, organ_px), place, colour, rng.uniform(0, 0.3))
    return canvas


def _fields(rng: np.random.Generator, height_px: int, width_px: int) -> _Canvas:
    """A plane cut into plots, each an object: farmland, roofs, floors; roads may part them."""
    canvas, ground = _ground(rng, height_px, width_px)
    crops = [ground]
    n = int(rng.integers(3, 11))
    seeds = rng.uniform(0, 1, (n, 2)) * [width_px, height_px]
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    bend_px = rng.uniform(0, 25) if rng.random() < 0.5 else 0.0
    x = x + bend_px * noise_field(rng, height_px, width_px)
    y = y + bend_px * noise_field(rng, height_px, width_px)
    stretch = rng.uniform(0.5, 2)
    distance = np.stack([(x - a) ** 2 + stretch * (y - b) ** 2 for a, b in seeds])
    nearest = distance.argmin(axis=0)
    road_px = rng.uniform(0, 5) if rng.random() < 0.6 else 0.0
    for index in range(n):
        plot = (nearest == index).astype(np.uint8)
        if road_px > 0:
            plot = (cv2.distanceTransform(plot, cv2.DIST_L2, 3) > road_px).astype(np.uint8)
        if plot.sum() < MIN_OBJECT_PX or rng.random() < 0.08:
            continue
        tries = [random_colour(rng) for _ in range(5)]
        base = max(tries, key=lambda colour: min(np.abs(colour - c).max() for c in crops))
        crops.append(base)
        skin = surface(rng, height_px, width_px, rng.uniform(0, 0.35), base)
        alpha = cv2.GaussianBlur(plot.astype(np.float32), (0, 0), 0.6)[..., None]
        canvas.rgb[:] = canvas.rgb * (1 - alpha) + skin * alpha
        canvas.count += 1
        canvas.labels[plot > 0] = canvas.count
        canvas.painted_px.append(int(plot.sum()))
    return canvas


def _shelf(rng: np.random.Generator, height_px: int, width_px: int) -> _Canvas:
    """Rows of boxes side by side, alike or not: shelves, books, windows, parked cars."""
    canvas, ground = _ground(rng, height_px, width_px)
    style = _object_colour(rng, ground)
    like = rng.random() < 0.35
    contrast = rng.uniform(0, 0.35)
    power = float(rng.choice([4.0, 10.0, 60.0]))
    top = rng.uniform(0, 0.1) * height_px
    rows = int(rng.integers(1, 6))
    row_px = (height_px - top) / rows
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    unit = np.stack([np.cos(t), np.sin(t)], axis=1)
    unit = np.sign(unit) * np.abs(unit) ** (2 / power)
    for row in range(rows):
        x = rng.uniform(-0.2, 0.1) * row_px
        wide = row_px * rng.uniform(0.25, 1.3)
        while x < width_px:
            box_px = wide * rng.uniform(0.7, 1.2)
            tall = row_px * rng.uniform(0.6, 0.95)
            half = np.array([box_px * 0.48, tall / 2])
            colour = style * rng.uniform(0.7, 1.3) if like else _object_colour(rng, ground)
            if rng.random() < 0.9:
                canvas.paint(
                    rng,
                    [[np.asarray(unit * half, np.float32)]],
                    (x + box_px / 2, top + (row + 1) * row_px - tall / 2),
                    np.asarray(np.clip(colour, 0, 1), np.float32),
                    contrast,
                    relief_px=min(half) if rng.random() < 0.3 else 0.0,
                )
            x += box_px * rng.uniform(1.0, 1.15)
    return canvas


def _few(rng: np.random.Generator, height_px: int, width_px: int) -> _Canvas:
    """One to four large objects made of differing parts on clutter: animals, cars, people."""
    canvas, _ = _ground(rng, height_px, width_px)
    side = min(height_px, width_px)
    for _ in range(int(rng.integers(0, 5))):
        size_px = side * rng.uniform(0.03, 0.12)
        place = (rng.uniform(0, width_px), rng.uniform(0, height_px))
        kind = str(rng.choice(OUTLINES))
        canvas.paint(rng, outline(rng, kind, size_px), place, random_colour(rng), 0.3)
    for _ in range(int(rng.integers(1, 4))):
        size_px = side * rng.uniform(0.15, 0.36)
        centre = (width_px * rng.uniform(0.15, 0.85), height_px * rng.uniform(0.15, 0.85))
        kind = str(rng.choice(["compound", "blob", "branch", "box", "disc"]))
        shape = outline(rng, kind, size_px)
        colour = _object_colour(rng, canvas.colour_at(centre))
        contrast = rng.uniform(0.0, 0.3)
        canvas.paint(rng, shape, centre, colour, contrast, shadow=_shadow(rng, size_px))
        whole, number = canvas.labels == canvas.count, canvas.count
        # Parts belong to the object and never leave it: eyes, windows, stripes, handles.
        for _ in range(int(rng.integers(0, 3))):
            before = canvas.rgb.copy()
            part_px = size_px * rng.uniform(0.08, 0.22)
            spot = rng.normal(0, 0.35 * size_px, 2)
            place = (centre[0] + float(spot[0]), centre[1] + float(spot[1]))
            kind = str(rng.choice(["disc", "box", "blob", "rod"]))
            old = canvas.labels.copy()
            tint = np.asarray(
                colour + rng.uniform(0.2, 0.7) * (random_colour(rng) - colour), np.float32
            )
            canvas.paint(rng, outline(rng, kind, part_px), place, tint, 0.3)
            canvas.rgb[~whole] = before[~whole]
            canvas.labels, canvas.count = old, number
            del canvas.painted_px[number + 1 :]
    return canvas


def _photographed(rng: np.random.Generator, rgb: Image) -> NDArray[np.uint8]:
    """What a camera does: light, blur, contrast, colour or grey, noise, JPEG."""
    height_px, width_px = rgb.shape[:2]
    out = rgb
    if rng.random() < 0.5:
        out = out * _lighting(rng, height_px, width_px)[..., None]
    if rng.random() < 0.6:
        blur_px = float(rng.uniform(0.3, 1.1))
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), blur_px), np.float32)
    # Cameras expose for the scene: few pictures stay wholly dark.
    bright = float(np.percentile(out[::3, ::3], 98))
    out = out * max(1.0, rng.uniform(0.3, 1.0) / max(bright, 0.02))
    out = np.clip(out, 0, 1) ** rng.uniform(0.6, 1.5)
    if rng.random() < 0.2:
        low = rng.uniform(0, 0.3)
        out = low + out * rng.uniform(0.5, 1 - low)
    if rng.random() < 0.35:
        weights = rng.dirichlet([3, 5, 2]).astype(np.float32)
        out = np.repeat((out @ weights)[..., None], 3, axis=2)
        grain = rng.standard_normal((height_px, width_px, 1), np.float32)
    else:
        out = out * (1 + rng.normal(0, 0.06, 3)).astype(np.float32)
        grain = rng.standard_normal((height_px, width_px, 3), np.float32)
    if rng.random() < 0.7:
        out = out + grain * rng.uniform(0, 0.03) * (0.4 + out)
    pixels = np.clip(out * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = int(rng.integers(40, 95))
        coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        pixels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return pixels


_PAINTERS = {
    "coins": _coins,
    "scatter": _scatter,
    "organs": _organs,
    "fields": _fields,
    "shelf": _shelf,
    "few": _few,
}


def make_scene(seed: int) -> Scene:
    """Generate the scene of a seed: kind, size (192 to 352 px a side), objects and camera.

    >>> make_scene(7).image.shape == make_scene(7).labels.shape + (3,)
    True
    """
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    height_px, width_px = (int(side) for side in rng.integers(192, 353, 2))
    canvas = _PAINTERS[kind](rng, height_px, width_px)
    image = _photographed(rng, canvas.rgb)
    areas = np.bincount(canvas.labels.ravel(), minlength=canvas.count + 1)
    painted_px = np.array(canvas.painted_px)
    kept = (areas >= MIN_OBJECT_PX) & (areas >= MIN_VISIBLE_SHARE * painted_px)
    kept[0] = False
    renumber = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return Scene(kind, image, renumber[canvas.labels])
