"""Measure the small SAM: unseen generated scenes beside GrabCut, the coins photo, any photo.

    python -m ml_backend.weights.evaluate --scenes 100 --json figures.json

All figures are IoU at the picture's own resolution through `SamPredictor`, as a user gets them:
one click, on the pixel farthest from the object's outline, gives the mask with the best predicted
score of three; a box and three clicks give the single mask. The second and third click go where
the error is thickest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from segment_anything import SamPredictor

from ml_backend.engines.tiny_sam import load_tiny_sam
from ml_backend.weights.scenes import HELD_OUT_SEED, make_scene

__all__ = ["Figures", "coin_reference", "evaluate_coins", "evaluate_scenes", "mask_iou"]

Mask = NDArray[np.bool_]
OBJECTS_PER_SCENE = 3
# Objects below this share of the picture are not asked for; 0.5 % is 18 px square of 256.
MIN_AREA_SHARE = 0.005


@dataclass(frozen=True)
class Figures:
    """IoU of each object by each prompt, in the order of the objects; GrabCut may be left out."""

    one_click: list[float]
    three_clicks: list[float]
    box: list[float]
    grabcut_box: list[float]

    def summary(self) -> dict[str, float]:
        """Mean and median of each list that is not empty, rounded to four places."""
        out: dict[str, float] = {}
        for name, values in asdict(self).items():
            if values:
                out[f"{name}_mean"] = round(float(np.mean(values)), 4)
                out[f"{name}_median"] = round(float(np.median(values)), 4)
        return out


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two boolean masks of one shape; 1 for two empty ones."""
    union = int(np.count_nonzero(a | b))
    return float(np.count_nonzero(a & b)) / union if union else 1.0


def depth_px(mask: Mask) -> NDArray[np.float32]:
    """Distance of each pixel of `mask` to its outside, the picture's border included."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def box_of(mask: Mask) -> NDArray[np.float32]:
    """The tight box of a mask as x0, y0, x1, y1 with exclusive ends; the mask must not be empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def innermost_point(mask: Mask) -> tuple[float, float]:
    """The x, y farthest from the mask's outside; the mask must not be empty.

    The click of Segment Anything's own evaluation: the maximum of the mask's interior distance
    transform (Kirillov et al. 2023, section 7.1). Of equal maxima the first in reading order.
    """
    choice = int(depth_px(mask).argmax())
    return float(choice % mask.shape[1]), float(choice // mask.shape[1])


def one_click(predictor: SamPredictor, at: tuple[float, float]) -> tuple[Mask, NDArray[Any]]:
    """Mask and low-resolution logits of a click: the best-scored of three."""
    masks, scores, logits = predictor.predict(np.array([at]), np.array([1]), multimask_output=True)
    best = int(scores.argmax())
    return masks[best].astype(bool), logits[best : best + 1]


def three_clicks(predictor: SamPredictor, truth: Mask, first: tuple[float, float]) -> Mask:
    """Mask after a first click and two that mend the thickest error, fed with the last logits."""
    points, labels = [first], [1]
    mask, logits = one_click(predictor, first)
    for _ in range(2):
        missed, spilt = depth_px(truth & ~mask), depth_px(mask & ~truth)
        positive = missed.max() >= spilt.max()
        worst = int((missed if positive else spilt).argmax())
        points.append((float(worst % truth.shape[1]), float(worst // truth.shape[1])))
        labels.append(int(positive))
        masks, _, logits = predictor.predict(
            np.array(points), np.array(labels), mask_input=logits, multimask_output=False
        )
        mask = masks[0].astype(bool)
    return mask


def box_mask(predictor: SamPredictor, box: NDArray[np.float32]) -> Mask:
    """Mask of a box: the single-mask output."""
    masks, _, _ = predictor.predict(box=box, multimask_output=False)
    return np.asarray(masks[0], bool)


def grabcut_mask(image: NDArray[np.uint8], box: NDArray[np.float32]) -> Mask:
    """The rival: OpenCV's GrabCut, five rounds from the same box; the box itself where it fails."""
    x0, y0, x1, y1 = (int(side) for side in box)
    marks = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    marks[y0:y1, x0:x1] = cv2.GC_PR_FGD
    if (marks == cv2.GC_PR_FGD).all():
        return np.ones(image.shape[:2], bool)
    cv2.setRNGSeed(0)
    colours: list[NDArray[np.float64]] = [np.zeros((1, 65)) for _ in range(2)]
    unused = (0, 0, 0, 0)
    cv2.grabCut(image, marks, unused, colours[0], colours[1], 5, cv2.GC_INIT_WITH_MASK)
    return np.asarray((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD))


def held_out_objects(scenes: int) -> Iterator[tuple[NDArray[np.uint8], list[Mask]]]:
    """Pictures with up to three of their objects, from seeds that training never draws."""
    for index in range(scenes):
        scene = make_scene(HELD_OUT_SEED + index)
        areas = np.bincount(scene.labels.ravel(), minlength=1)[1:]
        large = 1 + np.flatnonzero(areas >= MIN_AREA_SHARE * scene.labels.size)
        rng = np.random.default_rng([1, index])
        chosen = rng.permutation(large)[:OBJECTS_PER_SCENE]
        if len(chosen):
            yield scene.image, [scene.labels == number for number in chosen]


def evaluate_scenes(predictor: SamPredictor, scenes: int, grabcut: bool = True) -> Figures:
    """IoU of every prompt on the held-out scenes."""
    figures = Figures([], [], [], [])
    for image, objects in held_out_objects(scenes):
        predictor.set_image(image)
        for truth in objects:
            at, box = innermost_point(truth), box_of(truth)
            figures.one_click.append(mask_iou(one_click(predictor, at)[0], truth))
            figures.three_clicks.append(mask_iou(three_clicks(predictor, truth, at), truth))
            figures.box.append(mask_iou(box_mask(predictor, box), truth))
            if grabcut:
                figures.grabcut_box.append(mask_iou(grabcut_mask(image, box), truth))
    return figures


def coin_reference(coins: NDArray[np.uint8]) -> list[Mask]:
    """Masks of the 24 coins in `skimage.data.coins` by a classical method, left as it comes.

    Watershed of the gradient from sure coin (above 150) and sure ground (below 30), holes filled,
    pieces under 200 px dropped: scikit-image's own tutorial method.
    """
    from scipy import ndimage
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    markers = np.zeros(coins.shape, np.int32)
    markers[coins < 30] = 1
    markers[coins > 150] = 2
    filled = ndimage.binary_fill_holes(watershed(sobel(coins), markers) == 2)  # type: ignore[no-untyped-call]
    pieces, count = ndimage.label(filled)
    masks = [pieces == number for number in range(1, count + 1)]
    return [mask for mask in masks if mask.sum() >= 200]


def evaluate_coins(predictor: SamPredictor, grabcut: bool = True) -> Figures:
    """IoU on the 24 coins of a real photo: a click at each centre, and each coin's box."""
    from skimage import data

    coins = np.asarray(data.coins(), np.uint8)  # type: ignore[no-untyped-call]
    image = np.repeat(coins[..., None], 3, axis=2)
    predictor.set_image(image)
    figures = Figures([], [], [], [])
    for truth in coin_reference(coins):
        y, x = (float(side.mean()) for side in np.nonzero(truth))
        box = box_of(truth)
        figures.one_click.append(mask_iou(one_click(predictor, (x, y))[0], truth))
        figures.three_clicks.append(mask_iou(three_clicks(predictor, truth, (x, y)), truth))
        figures.box.append(mask_iou(box_mask(predictor, box), truth))
        if grabcut:
            figures.grabcut_box.append(mask_iou(grabcut_mask(image, box), truth))
    return figures


def overlay_photo(
    predictor: SamPredictor,
    photo: Path,
    points: list[tuple[float, float]],
    boxes: list[tuple[float, float, float, float]],
    out: Path,
) -> None:
    """Draw what each click and box gives on a photo that has no reference: to be looked at."""
    bgr = cv2.imread(str(photo), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"{photo} is not a picture that OpenCV reads.")
    predictor.set_image(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))
    panels = []
    for prompt in [*points, *boxes]:
        panel = bgr.copy()
        if len(prompt) == 2:
            mask = one_click(predictor, prompt)[0]
            cv2.circle(panel, (int(prompt[0]), int(prompt[1])), 16, (255, 255, 255), -1)
        else:
            mask = box_mask(predictor, np.array(prompt, np.float32))
            x0, y0, x1, y1 = (int(side) for side in prompt)
            cv2.rectangle(panel, (x0, y0), (x1, y1), (255, 255, 255), 6)
        panel[mask] = panel[mask] // 2 + np.array([0, 110, 0], np.uint8)
        scale = 640 / panel.shape[1]
        panels.append(cv2.resize(panel, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    out.parent.mkdir(parents=True, exist_ok=True)
    blank = [np.zeros_like(panels[0])] * (len(panels) % 2)
    panels += blank
    rows = [np.hstack(panels[i : i + 2]) for i in range(0, len(panels), 2)]
    cv2.imwrite(str(out), np.vstack(rows))


def table(figures: dict[str, dict[str, float]]) -> str:
    """The figures as a Markdown table, one row a set of pictures."""
    columns = ("one_click", "three_clicks", "box", "grabcut_box")
    lines = ["| set | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in figures.items():
        for kind in ("mean", "median"):
            cells = [f"{row[f'{c}_{kind}']:.3f}" if f"{c}_{kind}" in row else "" for c in columns]
            lines.append(f"| {name}, {kind} IoU | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def main() -> None:
    """Parse the command line, measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, help="safetensors file (default: the shipped one)")
    parser.add_argument("--scenes", type=int, default=100, help="held-out scenes (default 100)")
    parser.add_argument("--json", type=Path, help="write the summary here")
    parser.add_argument("--no-grabcut", action="store_true", help="leave the rival out")
    parser.add_argument("--photo", type=Path, help="also draw an overlay on this photo")
    parser.add_argument("--point", type=_numbers, action="append", default=[], help="X,Y")
    parser.add_argument("--box", type=_numbers, action="append", default=[], help="X0,Y0,X1,Y1")
    parser.add_argument("--overlay", type=Path, default=Path("overlay.jpg"))
    options = parser.parse_args()
    predictor = SamPredictor(load_tiny_sam(options.weights))
    began = time.monotonic()
    figures = {
        f"{options.scenes} held-out scenes": evaluate_scenes(
            predictor, options.scenes, not options.no_grabcut
        ).summary(),
        "24 coins (photo)": evaluate_coins(predictor, not options.no_grabcut).summary(),
    }
    print(table(figures))
    print(f"({time.monotonic() - began:.0f} s)")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.photo:
        overlay_photo(predictor, options.photo, options.point, options.box, options.overlay)
        print(f"Overlay of {options.photo.name}: {options.overlay}")


if __name__ == "__main__":
    main()
