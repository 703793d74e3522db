"""Masks that exports get wrong, and a project that has them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segstudio.export_file import FileSource
from tests.exporters.projects import annotation, box, brush, source_of, task

HEIGHT_PX, WIDTH_PX = 48, 64
Dense = NDArray[np.bool_]


def _pixels(rows: list[str]) -> Dense:
    dense = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    for y, row in enumerate(rows):
        dense[y + 1, 1 : 1 + len(row)] = [letter == "#" for letter in row]
    return dense


def _box(top: int, left: int, bottom: int, right: int) -> Dense:
    found: Dense = box(top, left, bottom, right, (HEIGHT_PX, WIDTH_PX))
    return found


def _turned() -> Dense:
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX] + 0.5
    u, v = (x - 32) * 0.8 + (y - 24) * 0.6, (y - 24) * 0.8 - (x - 32) * 0.6
    found: Dense = (abs(u) < 17) & (abs(v) < 6)
    return found


ONE_PART: dict[str, Dense] = {
    "box": _box(3, 4, 20, 30),
    "whole image": _box(0, 0, HEIGHT_PX, WIDTH_PX),
    "single pixel": _box(5, 5, 6, 6),
    "corner pixel": _box(HEIGHT_PX - 1, WIDTH_PX - 1, HEIGHT_PX, WIDTH_PX),
    "one-pixel row": _box(7, 0, 8, WIDTH_PX),
    "one-pixel column": _box(0, 63, HEIGHT_PX, 64),
    "turned": _turned(),
    "hole": _box(2, 2, 40, 50) & ~_box(10, 10, 30, 40),
    "thin ring": _box(2, 2, 20, 20) & ~_box(3, 3, 19, 19),
    "hole at a corner of another": _box(0, 0, 20, 20) & ~_box(4, 4, 8, 8) & ~_box(8, 8, 12, 12),
    "many holes": _box(0, 0, 30, 60) & ~_pixels(["", *["  # #  ## # #" * 3, ""] * 8]),
    "corner contact": _box(0, 0, 10, 10) | _box(10, 10, 20, 20),
    "chessboard": _pixels(["# # # ", " # # #"] * 3),
    "pinched hole": _pixels(["### ", "## #", "####"]),
    "comb": _pixels(["# # # #", "# # # #", "#######"]),
}
"""Masks of one 8-connected part."""

PARTS: dict[str, Dense] = {
    "two parts": _box(2, 2, 12, 12) | _box(25, 30, 40, 60),
    "parts and holes": (_box(2, 2, 20, 20) & ~_box(5, 5, 10, 10))
    | (_box(25, 30, 45, 60) & ~_box(30, 40, 35, 50)),
    "two pixels far apart": _box(0, 0, 1, 1) | _box(40, 60, 41, 61),
    "part inside a hole": (_box(2, 2, 40, 50) & ~_box(10, 10, 30, 40)) | _box(15, 15, 20, 20),
}
"""Masks of several parts."""

ALL = {**ONE_PART, **PARTS}


def hard_source(folder: Path, masks: dict[str, Dense] = ALL, label: str = "car") -> FileSource:
    """One image a mask, `<number>.jpg` in the masks' order, one region each."""
    tasks = [
        task(number, f"/data/{number}.jpg", annotation(number, 5, [brush("r", label, dense)]))
        for number, dense in enumerate(masks.values(), start=1)
    ]
    return source_of(folder, tasks)


def crowded() -> list[dict[str, Any]]:
    """Regions that touch, overlap and lie in each other, of things, stuff and VOID."""
    return [
        brush("ground", "road", _box(20, 0, HEIGHT_PX, WIDTH_PX)),
        brush("left", "car", _box(10, 4, 30, 20)),
        brush("touching", "car", _box(10, 20, 30, 36)),
        brush("over", "car", _box(25, 10, 40, 30)),
        brush("apart", "car", PARTS["two parts"]),
        brush("ring", "car", _box(0, 40, 16, 62) & ~_box(3, 44, 12, 58)),
        brush("inside", "car", _box(5, 48, 9, 54)),
        brush("void", "glare", _box(40, 40, 46, 60)),
        brush("line", "car", _box(46, 0, 47, WIDTH_PX)),
        brush("more ground", "road", _box(0, 0, 2, 30)),
    ]


def answer(region_id: str, name: str, *choices: str) -> dict[str, Any]:
    """A per-region choice as Label Studio stores it: one more item of the region's id."""
    return {
        "id": region_id, "type": "choices", "from_name": name, "to_name": "image",
        "original_width": WIDTH_PX, "original_height": HEIGHT_PX,
        "value": {"choices": list(choices)},
    }  # fmt: skip
