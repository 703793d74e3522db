"""Draws docs/pictures/propagation.png: key frames left and right, what is proposed between them.

    python -m benchmarks.draw_propagation [FILE]

The shapes are made up; nothing of it is a photo.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ml_backend.propagation import Interval
from segstudio.masks import Mask

HEIGHT_PX, WIDTH_PX, STEPS = 150, 200, 6
KEY, PROPOSED, GROUND = (42, 157, 143), (242, 100, 25), (244, 242, 238)


def figure(position: float) -> Mask:
    """A walker with two swinging legs."""
    dense = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    x = round(50 + 100 * position)
    swing = round(26 * np.cos(np.pi * position))

    def stroke(*points: tuple[int, int]) -> None:
        line: Any = np.array(points, np.int32)
        cv2.polylines(dense, [line], False, 1, 13)

    cv2.circle(dense, (x, 32), 14, 1, -1)
    stroke((x, 45), (x, 90))
    stroke((x, 88), (x + swing, 138))
    stroke((x, 88), (x - swing, 138))
    stroke((x, 55), (x - swing, 82))
    return Mask.from_dense(dense)


def panel(mask: Mask, color: tuple[int, int, int], words: str) -> NDArray[np.uint8]:
    pixels = np.full((HEIGHT_PX, WIDTH_PX, 3), GROUND, np.uint8)
    pixels[mask.to_dense()] = color
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX + 24), (255, 255, 255))
    image.paste(Image.fromarray(pixels), (0, 0))
    font = ImageFont.load_default(size=13)
    place = (WIDTH_PX / 2, HEIGHT_PX + 12)
    ImageDraw.Draw(image).text(place, words, fill=(30, 30, 30), font=font, anchor="mm")
    return np.asarray(image)


def main(target: Path) -> None:
    before, after = figure(0), figure(0.42)
    interval = Interval(before, after, STEPS)
    panels = [panel(before, KEY, "frame 0: annotated")]
    for step in (2, 4):
        found = interval.propose(step)
        assert found is not None
        panels.append(
            panel(found.mask, PROPOSED, f"frame {step}: proposed, score {found.score:.2f}")
        )
    panels.append(panel(after, KEY, f"frame {STEPS}: annotated"))
    between = np.full((HEIGHT_PX + 24, 6, 3), 255, np.uint8)
    row = [part for one in panels for part in (one, between)][:-1]
    Image.fromarray(np.hstack(row)).quantize(32).save(target, optimize=True)
    print(target)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "propagation.png"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
