"""How the small SAM is shown a scene: augmentation, prompts, batched decoding and the loss.

The prompts mirror what `SamPredictor` sends, token for token: a click with its padding point, a
box's two corners, corrective clicks beside either, and the previous logits as a mask prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from unittest import mock

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam, image_encoder
from segment_anything.modeling.image_encoder import get_rel_pos as _get_rel_pos
from torch import Tensor
from torch.nn import functional

from ml_backend.weights.scenes import Scene

__all__ = [
    "Batch",
    "Example",
    "augment",
    "batch_of",
    "corrective_clicks",
    "decode",
    "encode",
    "fit",
    "losses",
    "mask_iou",
]

PAD, NEGATIVE, POSITIVE, CORNER_LOW, CORNER_HIGH = -1, 0, 1, 2, 3
# How deep inside an object first clicks lie: anywhere (0) to its innermost point (1), which is
# where evaluation clicks.
CLICK_DEPTHS = (0.0, 0.5, 1.0, 1.0, 1.0)
# Squared errors of scores are small beside the masks' losses; so much they count.
SCORE_WEIGHT = 4.0


@dataclass(frozen=True)
class Example:
    """One network input: `pixels` uint8 (side, side, 3), `labels` as a Scene's."""

    pixels: NDArray[np.uint8]
    inside: tuple[int, int]
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class Batch:
    """Images and prompts: B images, B*P prompts in image order, all coordinates in input pixels.

    `images` is float32 (B, 3, side, side), normalised and padded; `targets` float32
    (B*P, mask side, mask side) soft coverage; `points` float32 (B*P, 2, 2) with `point_labels`
    int64 (B*P, 2); `clicked` bool (B*P) tells first clicks from boxes.
    """

    images: Tensor
    targets: Tensor
    points: Tensor
    point_labels: Tensor
    clicked: Tensor


def fit(image: NDArray[np.uint8], labels: NDArray[np.int32], side_px: int) -> Example:
    """Resize a picture and its labels to the network's input, longest side first, and pad."""
    scale = side_px / max(labels.shape)
    height_px, width_px = (max(1, round(n * scale)) for n in labels.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels = np.zeros((side_px, side_px, 3), np.uint8)
    pixels[:height_px, :width_px] = cv2.resize(
        np.ascontiguousarray(image), (width_px, height_px), interpolation=how
    )
    padded = np.zeros((side_px, side_px), np.int32)
    padded[:height_px, :width_px] = cv2.resize(
        np.ascontiguousarray(labels), (width_px, height_px), interpolation=cv2.INTER_NEAREST
    )
    return Example(pixels, (height_px, width_px), padded)


def augment(
    rng: np.random.Generator, scene: Scene, side_px: int, smallest_crop: float = 0.5
) -> Example:
    """Crop, flip, turn, recolour and resize a scene to the network's input."""
    image, labels = scene.image, scene.labels
    if rng.random() < 0.7:
        height_px, width_px = labels.shape
        rows, columns = (int(n * rng.uniform(smallest_crop, 1)) for n in (height_px, width_px))
        top, left = rng.integers(height_px - rows + 1), rng.integers(width_px - columns + 1)
        image = image[top : top + rows, left : left + columns]
        labels = labels[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    turns = int(rng.integers(4))
    example = fit(np.rot90(image, turns), np.rot90(labels, turns), side_px)
    rows, columns = example.inside
    colours = example.pixels[:rows, :columns].astype(np.float32)
    if rng.random() < 0.15:
        colours = np.repeat(colours.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.3:
        colours = colours[..., rng.permutation(3)]
    if rng.random() < 0.1:
        colours = 255 - colours
    if rng.random() < 0.5:
        colours = colours * rng.uniform(0.7, 1.3) + rng.uniform(-25, 25)
    example.pixels[:rows, :columns] = np.clip(colours, 0, 255)
    return example


def _inner_point(
    rng: np.random.Generator, mask: NDArray[np.bool_], depth: float
) -> tuple[float, float]:
    """A random x, y of `mask` at least `depth` (0..1) of the way to its innermost pixel."""
    if depth > 0:
        padded = np.pad(mask.astype(np.uint8), 1)
        inside = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
        mask = inside >= depth * inside.max()
    choice = np.flatnonzero(mask)[rng.integers(np.count_nonzero(mask))]
    return float(choice % mask.shape[1]), float(choice // mask.shape[1])


def _box(rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A hand-drawn box around `mask`: corners (2, 2), each side off by a few per cent."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    corners = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], np.float32)
    slack = np.clip(0.06 * (corners[1] - corners[0]), 1.0, 8.0) * rng.uniform(0, 1)
    corners += rng.normal(0, 1, (2, 2)).astype(np.float32) * slack
    return np.clip(corners, 0, mask.shape[0])


def batch_of(
    rng: np.random.Generator,
    examples: list[Example],
    prompts: int,
    sam: Sam,
    click_share: float = 0.6,
    min_area_px: int = 40,
) -> Batch:
    """Draw `prompts` objects and first prompts for each example (which must hold an object)."""
    side_px = examples[0].labels.shape[0]
    mask_side_px = 4 * side_px // sam.image_encoder.patch_embed.proj.stride[0]
    targets, points, point_labels = [], [], []
    for example in examples:
        areas = np.bincount(example.labels.ravel()).astype(float)
        areas[0] = 0
        weight = np.where(areas >= min_area_px, np.sqrt(areas) + np.sqrt(areas.max()) * 0.3, 0)
        if weight.sum() == 0:
            weight = areas
        numbers = rng.choice(len(areas), prompts, p=weight / weight.sum())
        for number in numbers:
            mask = example.labels == number
            size = (mask_side_px, mask_side_px)
            targets.append(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA))
            if rng.random() < click_share:
                at = _inner_point(rng, mask, rng.choice(CLICK_DEPTHS))
                points.append([at, (0.0, 0.0)])
                point_labels.append([POSITIVE, PAD])
            else:
                points.append(_box(rng, mask).tolist())
                point_labels.append([CORNER_LOW, CORNER_HIGH])
    images = torch.zeros(len(examples), 3, side_px, side_px)
    for index, example in enumerate(examples):
        rows, columns = example.inside
        pixels = torch.from_numpy(example.pixels[:rows, :columns]).permute(2, 0, 1).float()
        images[index, :, :rows, :columns] = (pixels - sam.pixel_mean) / sam.pixel_std
    first = torch.tensor(point_labels)
    return Batch(
        images,
        torch.from_numpy(np.stack(targets)),
        torch.tensor(points, dtype=torch.float32),
        first,
        first[:, 0] == POSITIVE,
    )


def corrective_clicks(
    rng: np.random.Generator, logits: Tensor, targets: Tensor, side_px: int
) -> tuple[Tensor, Tensor]:
    """One click each in the larger error (missed or spilt): points (n, 1, 2), labels (n, 1)."""
    scale = side_px / targets.shape[-1]
    points, point_labels = [], []
    for guess, truth in zip((logits > 0).numpy(), (targets > 0.5).numpy(), strict=True):
        missed, spilt = truth & ~guess, guess & ~truth
        positive = missed.sum() >= spilt.sum()
        wrong = missed if positive else spilt
        if not wrong.any():
            wrong, positive = (truth, True) if truth.any() else (~truth, False)
        x, y = _inner_point(rng, wrong, rng.choice([0.0, 0.5, 1.0]))
        points.append([[(x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5]])
        point_labels.append([POSITIVE if positive else NEGATIVE])
    return torch.tensor(points, dtype=torch.float32), torch.tensor(point_labels)


def _centred_rel_pos(query_size: int, key_size: int, table: Tensor) -> Tensor:
    """SAM's look-up of relative positions, cut (not squeezed) to a smaller grid of tokens."""
    extra = table.shape[0] - (2 * max(query_size, key_size) - 1)
    centre = table[extra // 2 : table.shape[0] - extra // 2]
    return torch.as_tensor(_get_rel_pos(query_size, key_size, centre))


def encode(sam: Sam, images: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """Embed images (n, 3, side, side) that fill the canvas or a square part of it.

    `corner` is the (row, column) token where the part lies. Training on parts of a quarter of the
    area costs a quarter; positions keep their meaning, so that whole canvases can follow.
    """
    encoder = sam.image_encoder
    row, column = corner
    x = encoder.patch_embed(images)
    count = x.shape[1]
    x = x + encoder.pos_embed[:, row : row + count, column : column + count]
    with mock.patch.object(image_encoder, "get_rel_pos", _centred_rel_pos):
        for block in encoder.blocks:
            x = block(x)
    return torch.as_tensor(encoder.neck(x.permute(0, 3, 1, 2)))


def decode(
    sam: Sam,
    embeddings: Tensor,
    points: Tensor,
    point_labels: Tensor,
    mask_input: Tensor | None,
    corner: tuple[int, int] = (0, 0),
) -> tuple[Tensor, Tensor]:
    """All four masks of every prompt at once: logits (n, 4, side, side) and scores (n, 4).

    The same arithmetic as `Sam`'s prompt encoder and mask decoder, which take one image at a time.
    `corner` is as for `encode`; points are in pixels of the image given there.
    """
    encoder, decoder = sam.prompt_encoder, sam.mask_decoder
    count = points.shape[0]
    size = encoder.input_image_size
    patch_px = size[0] // encoder.image_embedding_size[0]
    offset = torch.tensor([corner[1], corner[0]]) * patch_px + 0.5
    encoded = encoder.pe_layer.forward_with_coords(points + offset, size)
    kinds = torch.cat([embedding.weight for embedding in encoder.point_embeddings])
    padding = (point_labels == PAD)[..., None]
    sparse = torch.where(
        padding, encoder.not_a_point_embed.weight, encoded + kinds[point_labels.clamp(min=0)]
    )
    if mask_input is None:
        dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    else:
        dense = encoder.mask_downscaling(mask_input)
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output.expand(count, -1, -1), sparse], dim=1)
    source = embeddings.repeat_interleave(count // embeddings.shape[0], dim=0) + dense
    rows, columns = embeddings.shape[-2:]
    position = encoder.get_dense_pe()[
        :, :, corner[0] : corner[0] + rows, corner[1] : corner[1] + columns
    ]
    hidden, source = decoder.transformer(source, position.expand(count, -1, -1, -1), tokens)
    grid = source.transpose(1, 2).reshape(count, -1, rows, columns)
    upscaled = decoder.output_upscaling(grid)
    if upscaled.requires_grad:
        # GELU's backward pass is ten times slower on a transposed gradient.
        upscaled.register_hook(lambda gradient: gradient.contiguous())
    weights = torch.stack(
        [mlp(hidden[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    logits = (weights @ upscaled.flatten(2)).reshape(count, -1, *upscaled.shape[-2:])
    return logits, decoder.iou_prediction_head(hidden[:, 0])


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of thresholded logits (..., h, w) with soft targets cut at a half, shape (...)."""
    guess, truth = logits > 0, targets > 0.5
    union = (guess | truth).sum(dim=(-2, -1))
    return (guess & truth).sum(dim=(-2, -1)) / union.clamp(min=1)


def _mask_loss(logits: Tensor, targets: Tensor, balance: float) -> Tensor:
    """Dice plus cross-entropy that weighs an object by its area; shape (n, masks).

    `balance` 1 gives object and background the same weight, which starts the training; 0 counts
    wrong pixels alike, relative to the object's area, which sharpens the outline.
    """
    targets = targets.expand_as(logits)
    pixels = float(logits.shape[-1] * logits.shape[-2])
    probability = logits.sigmoid()
    overlap = (probability * targets).sum(dim=(-2, -1))
    area = targets.sum(dim=(-2, -1))
    dice = 1 - (2 * overlap + 1) / (probability.sum(dim=(-2, -1)) + area + 1)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    on = (entropy * targets).sum(dim=(-2, -1))
    off = entropy.sum(dim=(-2, -1)) - on
    even = on / area.clamp(min=1) + off / (pixels - area).clamp(min=1)
    plain = (on + off) / (area + 0.01 * pixels)
    return dice + balance * even + (1 - balance) * 0.5 * plain


def losses(
    logits: Tensor, scores: Tensor, targets: Tensor, ambiguous: Tensor, balance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """SAM's loss: (mean loss, chosen logits (n, 1, h, w) to refine, their IoU (n)).

    A lone click (`ambiguous`) trains the best of the three masks, the one of them that the scores
    choose (what a user gets) and, half as much, the single one; any other prompt trains the single
    mask first. The scores learn the IoU of all four.
    """
    per_mask = _mask_loss(logits, targets[:, None], balance)
    three, single = per_mask[:, 1:], per_mask[:, 0]
    rows = torch.arange(len(scores))
    favourite = scores[:, 1:].detach().argmax(dim=1)
    best = 0.45 * three.min(dim=1).values + 0.5 * three[rows, favourite] + 0.05 * three.mean(dim=1)
    mask_loss = torch.where(ambiguous, best + 0.5 * single, single + 0.25 * best)
    with torch.no_grad():
        iou = mask_iou(logits, targets[:, None])
        pick = torch.where(ambiguous, 1 + favourite, torch.zeros_like(favourite))
    score_loss = functional.mse_loss(scores, iou, reduction="none").mean(dim=1)
    chosen = logits[rows, pick].detach()[:, None]
    return (mask_loss + SCORE_WEIGHT * score_loss).mean(), chosen, iou[rows, pick]
