"""Masks of everything in an image, without a prompt: a grid of clicks, filtered and made unique.

The method of `segment_anything`'s `SamAutomaticMaskGenerator` (Kirillov et al., "Segment Anything",
2023, appendix B): every point of a grid is a click; of its three masks those stay whose predicted
IoU and whose stability are high; of masks with nearly the same box the best one stays; with crop
layers the same is done again on overlapping parts of the image, where small things are larger.

Written anew on runs: no mask is ever as large as the image, and the model is only asked in small
pieces that the caller schedules, so clicks pass between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ml_backend.engines.point_batches import PointBatch
from segstudio import runs as run_algebra
from segstudio.masks import Mask

__all__ = [
    "AutomaticMask",
    "AutomaticMasks",
    "AutomaticSettings",
    "Crop",
    "crops_of",
    "generate_masks",
    "point_grid",
    "without_small_parts",
]

_CROP_OVERLAP = 512 / 1500  # of the image's shorter side, as in the paper
_EDGE_PX = 20  # a mask this near to a crop's edge is probably cut off by it


@dataclass(frozen=True, slots=True)
class AutomaticSettings:
    """What to look for. The defaults are the reference's, meant for Meta's models.

    `clean_px`: holes and separate parts of a mask below so many pixels are filled and removed (0:
    none). `min_area_px`, `max_area_percent`: masks outside are dropped. `max_masks`: the best by
    predicted IoU stay.
    """

    points_per_side: int = 32
    min_predicted_iou: float = 0.88
    min_stability: float = 0.95
    stability_offset: float = 1.0
    max_box_iou: float = 0.7
    crop_layers: int = 0
    crop_points_divisor: int = 1
    clean_px: int = 0
    min_area_px: int = 0
    max_area_percent: float = 100.0
    max_masks: int = 256


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the image in pixels, ends excluded, and its layer: 0 is the whole image."""

    x0: int
    y0: int
    x1: int
    y1: int
    layer: int = 0

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0


@dataclass(frozen=True, slots=True)
class AutomaticMask:
    """One mask at the image's size, how sure the model is, and the click that it came from."""

    mask: Mask
    predicted_iou: float
    stability: float
    point_px: tuple[float, float]
    crop: Crop


@dataclass(frozen=True, slots=True)
class AutomaticMasks:
    """The masks, best first, and the best predicted IoU at each point of the whole image's grid.

    `found` counts the masks before the limit `max_masks`.
    """

    masks: tuple[AutomaticMask, ...]
    point_ious: NDArray[np.float32]
    found: int


@dataclass(slots=True)
class _Candidate:
    """A mask in its crop's own frame; `box` is (x0, y0, x1, y1), the last pixels included."""

    mask: Mask
    box: tuple[int, int, int, int]
    predicted_iou: float
    stability: float
    point: tuple[float, float]
    crop: Crop
    whole: bool = True  # whether cleaning left it as it was


Decode = Callable[[Crop, NDArray[np.float64]], Iterable[tuple[NDArray[np.float64], PointBatch]]]
"""Asks the model: a crop and its points in, the points again piece by piece with the answers out.
"""


def generate_masks(
    height_px: int, width_px: int, settings: AutomaticSettings, decode: Decode
) -> AutomaticMasks:
    """Find the masks of an image of the given size. Whatever `decode` raises ends the search."""
    found: list[_Candidate] = []
    point_ious: list[NDArray[np.float32]] = []
    crops = crops_of(height_px, width_px, settings.crop_layers)
    for crop in crops:
        candidates: list[_Candidate] = []
        side = max(1, settings.points_per_side // settings.crop_points_divisor**crop.layer)
        height, width = crop.size_px
        for points, batch in decode(crop, point_grid(side) * (width, height)):
            if crop.layer == 0:
                point_ious.append(batch.scores.max(axis=1))
            candidates += _candidates(points, batch, crop, (height_px, width_px), settings)
        scores = [one.predicted_iou for one in candidates]
        order = _unique([one.box for one in candidates], scores, settings.max_box_iou)
        found += [_uncropped(candidates[i], height_px, width_px) for i in order]
    if len(crops) > 1:
        # A smaller crop sees more of a thing's outline.
        sizes = [1 / math.prod(one.crop.size_px) for one in found]
        found = [found[i] for i in _unique([one.box for one in found], sizes, settings.max_box_iou)]
    if settings.clean_px > 0:
        found = [_cleaned(one, settings.clean_px) for one in found]
        scores = [float(one.whole) for one in found]
        order = _unique([one.box for one in found], scores, settings.max_box_iou)
        found = [found[i] for i in order]
    largest_px = height_px * width_px * settings.max_area_percent / 100
    found = [one for one in found if settings.min_area_px <= one.mask.area_px <= largest_px]
    found.sort(key=lambda one: -one.predicted_iou)
    return AutomaticMasks(
        tuple(
            AutomaticMask(one.mask, one.predicted_iou, one.stability, one.point, one.crop)
            for one in found[: settings.max_masks]
        ),
        np.concatenate(point_ious) if point_ious else np.zeros(0, np.float32),
        len(found),
    )


def point_grid(points_per_side: int) -> NDArray[np.float64]:
    """(n * n, 2) points (x, y) in 0..1, row by row, half a step from the edges.

    >>> point_grid(2).tolist()
    [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    steps = (np.arange(points_per_side) + 0.5) / points_per_side
    x, y = np.meshgrid(steps, steps)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def crops_of(height_px: int, width_px: int, layers: int) -> list[Crop]:
    """The whole image, then for each layer n the 4 ** n overlapping crops.

    >>> [(crop.x0, crop.x1, crop.layer) for crop in crops_of(100, 200, 1)]
    [(0, 200, 0), (0, 117, 1), (0, 117, 1), (83, 200, 1), (83, 200, 1)]
    """
    crops = [Crop(0, 0, width_px, height_px)]
    for layer in range(1, layers + 1):
        amount = 2**layer
        overlap = int(_CROP_OVERLAP * min(height_px, width_px) * 2 / amount)
        width, height = (
            math.ceil((overlap * (amount - 1) + side) / amount) for side in (width_px, height_px)
        )
        for i, j in product(range(amount), repeat=2):
            x0, y0 = i * (width - overlap), j * (height - overlap)
            if x0 < width_px and y0 < height_px:
                crops.append(
                    Crop(x0, y0, min(x0 + width, width_px), min(y0 + height, height_px), layer)
                )
    return crops


def without_small_parts(mask: Mask, limit_px: int) -> Mask:
    """Fill holes and drop parts below `limit_px`; where all parts are, the largest one stays."""
    for gap in mask.complement().components():
        if gap.area_px < limit_px:
            mask |= gap
    parts = mask.components()
    small = [part for part in parts if part.area_px < limit_px]
    if parts and len(small) == len(parts):
        small.remove(max(parts, key=lambda part: part.area_px))
    for part in small:
        mask -= part
    return mask


def _candidates(
    points: NDArray[np.float64],
    batch: PointBatch,
    crop: Crop,
    image_px: tuple[int, int],
    settings: AutomaticSettings,
) -> Iterator[_Candidate]:
    """The masks of a batch that pass the filters; the cheap filters first."""
    from ml_backend.logit_kernels import mask_of_logits

    for i, j in np.argwhere(batch.scores > settings.min_predicted_iou):
        runs, above_px, below_px = mask_of_logits(
            batch.low_res[i, j], batch.canvas_px, batch.content_px, crop.size_px,
            batch.threshold, settings.stability_offset,
        )  # fmt: skip
        stability = above_px / below_px if below_px else 0.0
        if stability < settings.min_stability or not len(runs):
            continue
        mask = Mask(*crop.size_px, runs)
        box = _corners(mask)
        if _is_cut_off(box, crop, image_px):
            continue
        yield _Candidate(
            mask, box, float(batch.scores[i, j]), stability,
            (float(points[i, 0]), float(points[i, 1])), crop,
        )  # fmt: skip


def _corners(mask: Mask) -> tuple[int, int, int, int]:
    x, y, width, height = mask.bbox
    return x, y, x + width - 1, y + height - 1


def _is_cut_off(box: tuple[int, int, int, int], crop: Crop, image_px: tuple[int, int]) -> bool:
    """Whether a box lies near an edge of its crop that is not near the image's own edge."""
    height_px, width_px = image_px
    shifts = (crop.x0, crop.y0, crop.x0, crop.y0)
    crop_edges = (crop.x0, crop.y0, crop.x1, crop.y1)
    image_edges = (0, 0, width_px, height_px)
    return any(
        abs(side + shift - crop_edge) <= _EDGE_PX and abs(side + shift - image_edge) > _EDGE_PX
        for side, shift, crop_edge, image_edge in zip(
            box, shifts, crop_edges, image_edges, strict=True
        )
    )


def _uncropped(one: _Candidate, height_px: int, width_px: int) -> _Candidate:
    """The candidate in the frame of the whole image."""
    crop = one.crop
    if crop.size_px == (height_px, width_px):
        return one
    rows = run_algebra.split_rows(one.mask.runs, crop.size_px[1])
    y, x = np.divmod(rows[:, 0], crop.size_px[1])
    starts = (y + crop.y0) * width_px + x + crop.x0
    runs = np.stack([starts, starts + rows[:, 1] - rows[:, 0]], axis=1)
    mask = Mask.from_runs(height_px, width_px, runs)
    point = (one.point[0] + crop.x0, one.point[1] + crop.y0)
    return _Candidate(mask, _corners(mask), one.predicted_iou, one.stability, point, crop)


def _cleaned(one: _Candidate, limit_px: int) -> _Candidate:
    mask = without_small_parts(one.mask, limit_px)
    return _Candidate(mask, _corners(mask), one.predicted_iou, one.stability, one.point, one.crop,
                      whole=mask == one.mask)  # fmt: skip


def _unique(
    boxes: Sequence[tuple[int, int, int, int]], scores: Sequence[float], max_iou: float
) -> list[int]:
    """Indices of the boxes that stay, best score first: none overlaps a better one too much.

    Greedy non-maximum suppression, the earlier of equals first. Sides count as they do in the
    reference, without the last pixel; a box without area overlaps nothing.
    """
    if not boxes:
        return []
    corners = np.asarray(boxes, np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    areas = sides.prod(axis=1)
    waiting = np.argsort(-np.asarray(scores), kind="stable")
    kept: list[int] = []
    while len(waiting):
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        low = np.maximum(corners[waiting, :2], corners[best, :2])
        high = np.minimum(corners[waiting, 2:], corners[best, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        waiting = waiting[shared <= max_iou * (areas[waiting] + areas[best] - shared)]
    return kept
