"""Compile every kernel now: `python -m segstudio.warm_up`, run by `make` and the Dockerfile.

The machine code stays on disk, so that the first mask of a fresh process costs no compilation.
"""

from __future__ import annotations

import numpy as np

from segstudio import brush_rle, shapes
from segstudio.masks import Mask, intersection_area, union_all


def warm_up() -> None:
    """Call every compiled function once on a small mask."""
    mask = Mask.from_dense(np.arange(600).reshape(20, 30) % 7 < 3)
    blob = shapes.ellipse_mask(15.0, 10.0, 9.0, 6.0, 20, 30, rotation_deg=20.0)
    stream = brush_rle.encode(blob)
    other = brush_rle.decode(stream, 20, 30)
    for each in (mask, other):
        Mask.from_coco_rle(each.to_coco_rle())
        each.rotate90().resize(7, 9).shift(1, 1).boundary(1).to_dense()
        each.components()
    intersection_area(mask, other)
    union_all([mask, other], 20, 30).farther_than(1, blob.dilate(1))
    shapes.mask_polygons(mask & other)
    shapes.polygon_mask([[(0.0, 0.0), (9.5, 1.0), (3.0, 8.0)]], 20, 30)


if __name__ == "__main__":
    warm_up()
