"""How one outline lies against another of the same object: offset, shift, length.

Lengths and areas are in pixels. What runs along the border of the image is the image's edge and no
outline that somebody drew: it has no length here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OutlineComparison:
    """How outline a lies against outline b; swapping a and b turns every sign.

    `offset_px`: how much wider a is drawn, the mean over its outline; None where both masks meet
    nothing but the image's border. `shift_px`: (dx, dy) from the centre of b to that of a.
    `log_length_ratio`: natural logarithm of length a over length b, positive where a's outline is
    the longer, rougher one; None where a length is 0.
    """

    offset_px: float | None
    shift_px: tuple[float, float]
    log_length_ratio: float | None


def compare_outlines(a: Mask, b: Mask) -> OutlineComparison:
    """Compare two masks of one object, neither of them empty.

    The offset is the difference of the areas over the mean of the lengths: a shape grown by d on
    all sides gains length times d plus pi d squared (Steiner's formula), so that the quotient is d.

    Raises:
        ValueError: one of the masks is empty, or their sizes differ.

    >>> disc = np.hypot(*(np.mgrid[:99, :99] - 49.0))
    >>> wide, small = Mask.from_dense(disc < 33), Mask.from_dense(disc < 30)
    >>> round(compare_outlines(wide, small).offset_px, 1)
    3.0
    """
    if a.is_empty or b.is_empty:
        raise ValueError("An empty mask has no outline to compare.")
    if (a.height_px, a.width_px) != (b.height_px, b.width_px):
        raise ValueError("Masks of different images have no outlines to compare.")
    (length_a, x_a, y_a), (length_b, x_b, y_b) = _outline(a), _outline(b)
    length_px = (length_a + length_b) / 2
    return OutlineComparison(
        offset_px=(a.area_px - b.area_px) / length_px if length_px else None,
        shift_px=(x_a - x_b, y_a - y_b),
        log_length_ratio=math.log(length_a / length_b) if length_a and length_b else None,
    )


def mean_outline_distance_px(a: Mask, b: Mask) -> float | None:
    """Return how far two outlines lie apart on average: the mean symmetric surface distance.

    From every inner outline pixel of each mask to the nearest one of the other, Euclidean, both
    ways pooled; outline pixels at the border of the image are nobody's. None where one has none.
    The definition is MONAI's symmetric average surface distance, in pixels, but for the image's
    border. (DeepMind's surface-distance lets outlines run between the pixels and weighs them by
    length, which comes within some percent of it.)

    >>> disc = np.hypot(*(np.mgrid[:99, :99] - 49.0))
    >>> wide, small = Mask.from_dense(disc < 33), Mask.from_dense(disc < 30)
    >>> round(mean_outline_distance_px(wide, small), 1)
    2.9
    """
    from scipy import ndimage

    if a.is_empty or b.is_empty:
        return None
    x, y, right, bottom = _common_box(a, b)
    edges = []
    for mask in (a, b):
        dense = mask.to_dense()
        edge = dense & ~ndimage.binary_erosion(dense, border_value=1)
        edges.append(edge[y:bottom, x:right])
    if not (edges[0].any() and edges[1].any()):
        return None
    there = ndimage.distance_transform_edt(~edges[1])[edges[0]]
    back = ndimage.distance_transform_edt(~edges[0])[edges[1]]
    return float(np.concatenate([there, back]).mean())


def _common_box(a: Mask, b: Mask) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) around two masks."""
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (a.bbox, b.bbox)]
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def outline_length_px(mask: Mask) -> float:
    """Return the length of a mask's outlines, holes included; 0 for an empty or a full mask.

    The number of pixel edges that lines in four directions cross (Cauchy and Crofton's formula, as
    in `skimage.measure.perimeter_crofton`), so that turning the mask changes little.
    """
    return 0.0 if mask.is_empty else _outline(mask)[0]


def _outline(mask: Mask) -> tuple[float, float, float]:
    """Length of the outline, and the centre of the pixels: (length, x, y)."""
    x, y, width, height = mask.bbox
    rows = slice(max(0, y - 1), min(mask.height_px, y + height + 1))
    columns = slice(max(0, x - 1), min(mask.width_px, x + width + 1))
    dense = mask.to_dense()[rows, columns]
    across = np.count_nonzero(dense[:, 1:] != dense[:, :-1])
    down = np.count_nonzero(dense[1:] != dense[:-1])
    falling = np.count_nonzero(dense[1:, 1:] != dense[:-1, :-1])
    rising = np.count_nonzero(dense[1:, :-1] != dense[:-1, 1:])
    length_px = math.pi / 8 * (across + down + (falling + rising) / math.sqrt(2))
    where_y, where_x = np.nonzero(dense)
    return length_px, float(where_x.mean()) + columns.start, float(where_y.mean()) + rows.start
