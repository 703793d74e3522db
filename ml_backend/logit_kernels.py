"""Compiled: a model's low-resolution logits -> the runs of its mask at the image's size.

Scaling logits to a photo and thresholding them makes millions of floats for a mask of some hundred
runs. Here nothing of the photo's size is ever made, and only the part of the image where anything
can be above the threshold is looked at; bilinear values never exceed those that they lie between.
"""

# mypy: disable-error-code="no-any-return, assignment"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

_FIRST_RUNS = 512


@kernel
def span(first: int, last: int, sources: int, targets: int) -> tuple[int, int]:
    """The first and the last target index that can take from the sources [first, last]."""
    scale = sources / targets
    low = int(np.floor((first - 0.5) / scale - 0.5))
    high = int(np.ceil((last + 1.5) / scale - 0.5))
    return max(low, 0), min(high, targets - 1)


@kernel
def taps(
    first: int, last: int, sources: int, targets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For the targets [first, last]: both sources, and the weight of the second one.

    Pixel centres are half a pixel from the edge, as in torch's `align_corners=False`.
    """
    scale = np.float32(sources) / np.float32(targets)
    near = np.empty(last - first + 1, np.int64)
    far = np.empty(last - first + 1, np.int64)
    weight = np.empty(last - first + 1, np.float32)
    for i in range(last - first + 1):
        at = scale * (np.float32(first + i) + np.float32(0.5)) - np.float32(0.5)
        at = max(at, np.float32(0))
        near[i] = min(int(at), sources - 1)
        far[i] = min(near[i] + 1, sources - 1)
        weight[i] = at - np.float32(near[i])
    return near, far, weight


@kernel
def scaled(
    values: NDArray[np.float32],
    rows: tuple[int, int],
    columns: tuple[int, int],
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """The part [rows] x [columns], ends included, of `values` scaled bilinearly to `size`."""
    near_y, far_y, weight_y = taps(rows[0], rows[1], values.shape[0], size[0])
    near_x, far_x, weight_x = taps(columns[0], columns[1], values.shape[1], size[1])
    out = np.empty((len(near_y), len(near_x)), np.float32)
    for i in range(len(near_y)):
        top, bottom, down = near_y[i], far_y[i], weight_y[i]
        up = np.float32(1) - down
        for j in range(len(near_x)):
            left, right, across = near_x[j], far_x[j], weight_x[j]
            back = np.float32(1) - across
            out[i, j] = up * (back * values[top, left] + across * values[top, right]) + down * (
                back * values[bottom, left] + across * values[bottom, right]
            )
    return out


@kernel
def extent(values: NDArray[np.float32], threshold: float) -> tuple[int, int, int, int]:
    """First and last row, first and last column above a threshold; (0, -1, 0, -1) for none."""
    top, bottom, left, right = values.shape[0], -1, values.shape[1], -1
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            if values[y, x] > threshold:
                top, bottom = min(top, y), max(bottom, y)
                left, right = min(left, x), max(right, x)
    return (0, -1, 0, -1) if bottom < 0 else (top, bottom, left, right)


@kernel
def mask_of_logits(
    low_res: NDArray[np.float32],
    canvas: tuple[int, int],
    content: tuple[int, int],
    size: tuple[int, int],
    threshold: float,
    offset: float,
) -> tuple[NDArray[np.int64], int, int]:
    """The runs above `threshold`, how many pixels are surely on, and how many are perhaps on.

    Surely: above `threshold + offset`; perhaps: above `threshold - offset`; on an image of `size`.
    `low_res` is scaled to `canvas`, whose top-left `content` is scaled to `size`; all (rows,
    columns), both bilinearly, as `Sam.postprocess_masks` does.
    """
    runs = np.empty((_FIRST_RUNS, 2), np.int64)
    top, bottom, left, right = extent(low_res, threshold - offset)
    if bottom < 0:
        return runs[:0], 0, 0
    rows = span(top, bottom, low_res.shape[0], canvas[0])
    columns = span(left, right, low_res.shape[1], canvas[1])
    rows = rows[0], min(rows[1], content[0] - 1)
    columns = columns[0], min(columns[1], content[1] - 1)
    if rows[1] < rows[0] or columns[1] < columns[0]:
        return runs[:0], 0, 0
    part = scaled(low_res, rows, columns, canvas)
    first_y, last_y = span(rows[0], rows[1], content[0], size[0])
    first_x, last_x = span(columns[0], columns[1], content[1], size[1])
    near_y, far_y, weight_y = taps(first_y, last_y, content[0], size[0])
    near_x, far_x, weight_x = taps(first_x, last_x, content[1], size[1])
    for i in range(len(near_x)):  # what lies beyond the part is below every threshold
        near_x[i] = min(max(near_x[i] - columns[0], 0), part.shape[1] - 1)
        far_x[i] = min(max(far_x[i] - columns[0], 0), part.shape[1] - 1)
    line = np.empty(part.shape[1], np.float32)
    count, above, below = 0, 0, 0
    sure, least = threshold + offset, threshold - offset
    for i in range(len(near_y)):
        if len(runs) - count < len(near_x) // 2 + 2:
            longer = np.empty((2 * len(runs) + len(near_x), 2), np.int64)
            longer[:count] = runs[:count]
            runs = longer
        a = min(max(near_y[i] - rows[0], 0), part.shape[0] - 1)
        b = min(max(far_y[i] - rows[0], 0), part.shape[0] - 1)
        down = weight_y[i]
        for j in range(len(line)):
            line[j] = (np.float32(1) - down) * part[a, j] + down * part[b, j]
        start = (first_y + i) * size[1] + first_x
        inside = False
        for j in range(len(near_x)):
            across = weight_x[j]
            value = (np.float32(1) - across) * line[near_x[j]] + across * line[far_x[j]]
            if value > least:
                below += 1
            if value > sure:
                above += 1
            if (value > threshold) != inside:
                inside = not inside
                if inside:
                    if count and runs[count - 1, 1] == start + j:
                        count -= 1
                    else:
                        runs[count, 0] = start + j
                else:
                    runs[count, 1] = start + j
                    count += 1
        if inside:
            runs[count, 1] = start + len(near_x)
            count += 1
    return runs[:count].copy(), above, below
