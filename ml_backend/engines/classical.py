"""An engine without weights: GrabCut (Rother, Kolmogorov, Blake 2004) from a box or clicks.

It needs neither a download nor torch, so it serves as a fallback and as a rival to beat.
A click alone says nothing of the object's extent: a flood fill around it guesses the extent, and
GrabCut refines that guess inside a window around it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml_backend.engines import Embedding, MaskProposal, Prompt

__all__ = ["ClassicalEngine"]

_LONG_SIDE_PX = 640  # GrabCut is quadratic in patience: larger images are worked on reduced
_WINDOW_PX = 100_000  # pixels that GrabCut works on at most, a few seconds of a core at worst
_ITERATIONS = 4
_FLOOD_TOLERANCE = 12  # grey levels per channel between neighbours
_CLICK_RADIUS_PX = 3


class ClassicalEngine:
    """GrabCut in place of a network; the embedding is the reduced image itself."""

    name = "classical"
    model_version = "segstudio classical grabcut 0.1"
    cache_key = "classical-grabcut-1"
    notice: str | None = (
        "The classical engine knows no objects, only colours: draw boxes rather than clicks."
    )

    def encode(self, image_rgb: NDArray[np.uint8]) -> Embedding:
        """Keep the image, reduced to 640 px on its longer side."""
        import cv2

        height_px, width_px = image_rgb.shape[:2]
        scale = min(1.0, _LONG_SIDE_PX / max(height_px, width_px))
        size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        reduced = cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA)
        return Embedding({"image": np.ascontiguousarray(reduced)}, height_px, width_px)

    def predict(self, embedding: Embedding, prompt: Prompt) -> MaskProposal:
        """Segment by GrabCut; the score is the contrast of the mask's border, 0 to 1."""
        import cv2

        image = np.asarray(embedding.arrays["image"], np.uint8)
        height, width = image.shape[:2]
        scale = np.array([width / embedding.width_px, height / embedding.height_px])
        points = (np.asarray(prompt.points_px, float).reshape(-1, 2) + 0.5) * scale - 0.5
        pixels = np.clip(np.rint(points), 0, [width - 1, height - 1]).astype(int)
        positive = np.asarray(prompt.positive, bool)
        box = None
        if prompt.box_px is not None:
            corners = (np.asarray(prompt.box_px, float).reshape(2, 2) + 0.5) * scale
            low = np.clip(np.floor(corners[0]), 0, [width - 1, height - 1]).astype(int)
            high = np.clip(np.ceil(corners[1]), low + 1, [width, height]).astype(int)
            box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        seeds = _seed_labels(image, pixels, positive, box)
        window = _window(seeds)
        mask: NDArray[np.bool_] = np.zeros((height, width), np.bool_)
        mask[window] = _grab_cut_reduced(image[window], seeds[window])
        if positive.any():
            mask = _parts_at(mask, pixels[positive])
        score = _border_contrast(image[window], mask[window])
        full = cv2.resize(
            mask.astype(np.float32),
            (embedding.width_px, embedding.height_px),
            interpolation=cv2.INTER_LINEAR,
        )
        return MaskProposal(full > 0.5, score)


def _seed_labels(
    image: NDArray[np.uint8],
    pixels: NDArray[np.int_],
    positive: NDArray[np.bool_],
    box: tuple[int, int, int, int] | None,
) -> NDArray[np.uint8]:
    """Make GrabCut's label image: sure and probable background and foreground."""
    import cv2

    height, width = image.shape[:2]
    seeds = np.full((height, width), cv2.GC_BGD, np.uint8)
    if box is not None:
        x0, y0, x1, y1 = box
        seeds[y0:y1, x0:x1] = cv2.GC_PR_FGD
    else:
        flood = np.zeros((height + 2, width + 2), np.uint8)
        for x, y in pixels[positive]:
            cv2.floodFill(
                image.copy(), flood, (int(x), int(y)), (0, 0, 0),
                (_FLOOD_TOLERANCE,) * 3, (_FLOOD_TOLERANCE,) * 3,
                cv2.FLOODFILL_MASK_ONLY | 4 | (1 << 8),
            )  # fmt: skip
        guess = flood[1:-1, 1:-1] > 0
        for x, y in pixels[positive]:
            reach = max(8, min(height, width) // 12)
            guess[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
        columns, rows = np.flatnonzero(guess.any(axis=0)), np.flatnonzero(guess.any(axis=1))
        if columns.size and rows.size:
            margin_x = max(6, int(np.ptp(columns)) // 4)
            margin_y = max(6, int(np.ptp(rows)) // 4)
            window = np.s_[
                max(0, rows[0] - margin_y) : rows[-1] + margin_y + 1,
                max(0, columns[0] - margin_x) : columns[-1] + margin_x + 1,
            ]
            seeds[window] = cv2.GC_PR_BGD
        seeds[guess] = cv2.GC_PR_FGD
    for (x, y), is_positive in zip(pixels, positive, strict=True):
        label = cv2.GC_FGD if is_positive else cv2.GC_BGD
        cv2.circle(seeds, (int(x), int(y)), _CLICK_RADIUS_PX, int(label), -1)
    return seeds


def _window(seeds: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The part of the image around all that may be foreground, with background to learn from."""
    import cv2

    rows = np.flatnonzero((seeds != cv2.GC_BGD).any(axis=1))
    columns = np.flatnonzero((seeds != cv2.GC_BGD).any(axis=0))
    if not rows.size:
        return np.s_[:, :]
    margin = 16 + max(int(np.ptp(rows)), int(np.ptp(columns))) // 4
    return np.s_[
        max(0, int(rows[0]) - margin) : int(rows[-1]) + margin + 1,
        max(0, int(columns[0]) - margin) : int(columns[-1]) + margin + 1,
    ]


def _grab_cut_reduced(image: NDArray[np.uint8], seeds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Run GrabCut on at most `_WINDOW_PX` pixels, so that a large box is answered in time too."""
    import cv2

    height, width = seeds.shape
    scale = (_WINDOW_PX / seeds.size) ** 0.5
    if scale >= 1:
        return _grab_cut(np.ascontiguousarray(image), seeds.copy())
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    small = _grab_cut(
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8),
        np.asarray(cv2.resize(seeds, size, interpolation=cv2.INTER_NEAREST), np.uint8),
    )
    return np.asarray(cv2.resize(small.astype(np.float32), (width, height)) > 0.5)


def _grab_cut(image: NDArray[np.uint8], seeds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Run GrabCut from the seeds; without both classes to learn from the seeds are the answer."""
    import cv2

    foreground = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
    if foreground.all():
        # A box around the whole image leaves no background to learn from: lend its rim.
        seeds[0, :] = seeds[-1, :] = cv2.GC_BGD
        seeds[:, 0] = seeds[:, -1] = cv2.GC_BGD
        foreground = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
    if not foreground.any() or foreground.all():
        return np.asarray(foreground)
    cv2.setRNGSeed(0)  # its k-means draws at random; the same click must give the same mask
    labels = seeds.copy()
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(image, labels, (0, 0, 0, 0), *models, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels of a class for its five Gaussians
        return np.asarray(foreground)
    mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return np.asarray(mask if mask.any() else foreground)


def _parts_at(mask: NDArray[np.bool_], pixels: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Keep the connected parts that hold a positive click; all of them where none does."""
    import cv2

    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    wanted = np.unique(parts[pixels[:, 1], pixels[:, 0]])
    wanted = wanted[wanted > 0]
    return np.asarray(np.isin(parts, wanted)) if wanted.size else mask


def _border_contrast(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Mean colour step across the mask's border over 64 grey levels, at most 1; 0 when empty."""
    import cv2

    inside = mask.astype(np.uint8)
    kernel = np.ones((5, 5), np.uint8)
    rim_in = mask & (cv2.erode(inside, kernel) == 0)
    rim_out = ~mask & (cv2.dilate(inside, kernel) > 0)
    if not rim_in.any() or not rim_out.any():
        return 0.0
    step = np.abs(image[rim_in].mean(axis=0) - image[rim_out].mean(axis=0)).max()
    return float(min(1.0, step / 64.0))
