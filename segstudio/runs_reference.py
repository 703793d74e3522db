"""The run kernels once more in plain numpy: slow, short, and what the tests compare `runs` to.

Every function has the name, the arguments and the result of its twin in `segstudio.runs`.
Runs are an (n, 2) int64 array of [start, stop) flat row-major pixel indices, sorted, disjoint
and never adjacent. Most functions here go through a dense image on purpose: they share no
idea with the fast kernels, so that a mistake cannot hide in both.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int64]


def from_dense(flat: NDArray[np.bool_]) -> Runs:
    """Runs of the true pixels of a flat boolean array."""
    padded = np.zeros(flat.size + 2, dtype=np.int8)
    padded[1:-1] = flat
    changes = np.flatnonzero(np.diff(padded)).astype(np.int64)
    return changes.reshape(-1, 2)


def to_dense(runs: Runs, pixels: int) -> NDArray[np.bool_]:
    """The flat boolean array of `pixels` pixels that `runs` describes."""
    steps = np.zeros(pixels + 1, dtype=np.int8)
    np.add.at(steps, runs[:, 0], 1)
    np.add.at(steps, runs[:, 1], -1)
    return np.cumsum(steps[:-1], dtype=np.int8).astype(np.bool_)


def area(runs: Runs) -> int:
    """How many pixels there are."""
    return sum(stop - start for start, stop in runs.tolist())


def box(runs: Runs, width: int) -> tuple[int, int, int, int]:
    """The smallest (x, y, width, height) around the pixels, of which there is at least one."""
    height = -(-int(runs[-1, 1]) // width)
    rows, columns = np.nonzero(to_dense(runs, height * width).reshape(height, width))
    left, top = int(columns.min()), int(rows.min())
    return left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1


def grow_rows(runs: Runs, width: int, distance: int) -> Runs:
    """Runs that reach `distance` pixels further to both sides, as far as their row goes."""
    height = -(-int(runs[-1, 1]) // width) if len(runs) else 0
    dense = to_dense(runs, height * width).reshape(height, width)
    grown = dense.copy()
    for step in range(1, min(distance, width) + 1):
        grown[:, step:] |= dense[:, :-step]
        grown[:, :-step] |= dense[:, step:]
    return from_dense(grown.ravel())


def farther(a: Runs, b: Runs, height: int, width: int, distance: int) -> Runs:
    """The pixels of `a` that have none of `b` within `distance`, diagonals too."""
    padded = np.pad(to_dense(b, height * width).reshape(height, width), distance)
    far = to_dense(a, height * width).reshape(height, width)
    for y in range(2 * distance + 1):
        for x in range(2 * distance + 1):
            far &= ~padded[y : y + height, x : x + width]
    return from_dense(far.ravel())


def unite(runs: Runs, counts: NDArray[np.int64]) -> Runs:
    """The union of parts that lie one behind the other in `runs`, `counts` runs each."""
    pixels = int(runs[:, 1].max()) if len(runs) else 0
    dense = np.zeros(pixels, dtype=np.bool_)
    for part in np.split(runs, np.cumsum(counts)[:-1]):
        dense |= to_dense(part, pixels)
    return from_dense(dense)


def normalize(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Runs:
    """The union of arbitrary [start, stop) intervals, in any order, as proper runs."""
    keep = stops > starts
    order = np.argsort(starts[keep], kind="stable")
    merged: list[list[int]] = []
    for start, stop in zip(starts[keep][order].tolist(), stops[keep][order].tolist(), strict=True):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return np.asarray(merged, dtype=np.int64).reshape(-1, 2)


def _common_size(a: Runs, b: Runs) -> int:
    return int(max(a[-1, 1] if len(a) else 0, b[-1, 1] if len(b) else 0))


def intersection(a: Runs, b: Runs) -> Runs:
    """Pixels in both."""
    pixels = _common_size(a, b)
    return from_dense(to_dense(a, pixels) & to_dense(b, pixels))


def union(a: Runs, b: Runs) -> Runs:
    """Pixels in either."""
    pixels = _common_size(a, b)
    return from_dense(to_dense(a, pixels) | to_dense(b, pixels))


def difference(a: Runs, b: Runs) -> Runs:
    """Pixels in `a` and not in `b`."""
    pixels = _common_size(a, b)
    return from_dense(to_dense(a, pixels) & ~to_dense(b, pixels))


def symmetric_difference(a: Runs, b: Runs) -> Runs:
    """Pixels in exactly one of the two."""
    pixels = _common_size(a, b)
    return from_dense(to_dense(a, pixels) ^ to_dense(b, pixels))


def intersection_area(a: Runs, b: Runs) -> int:
    """How many pixels both have."""
    pixels = _common_size(a, b)
    return int(np.count_nonzero(to_dense(a, pixels) & to_dense(b, pixels)))


def _image(runs: Runs, height: int, width: int) -> NDArray[np.bool_]:
    return to_dense(runs, height * width).reshape(height, width)


def transpose(runs: Runs, height: int, width: int) -> Runs:
    """Runs of the transposed (width, height) image: the column-major runs of this one."""
    return from_dense(_image(runs, height, width).T.ravel())


def flip_rows(runs: Runs, height: int, width: int) -> Runs:
    """Runs of the image upside down."""
    return from_dense(_image(runs, height, width)[::-1].ravel())


def shift(runs: Runs, height: int, width: int, dx: int, dy: int) -> Runs:
    """Runs moved right by `dx` and down by `dy`; what leaves the image is cut off."""
    moved = np.zeros((height, width), dtype=np.bool_)
    ys, xs = np.nonzero(_image(runs, height, width))
    ys, xs = ys + dy, xs + dx
    inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
    moved[ys[inside], xs[inside]] = True
    return from_dense(moved.ravel())


def resize(runs: Runs, height: int, width: int, new_height: int, new_width: int) -> Runs:
    """Nearest neighbour: pixel (y, x) takes the source pixel that holds its centre."""
    ys = (2 * np.arange(new_height) + 1) * height // (2 * new_height)
    xs = (2 * np.arange(new_width) + 1) * width // (2 * new_width)
    return from_dense(_image(runs, height, width)[np.ix_(ys, xs)].ravel())


def shrink_rows(runs: Runs, height: int, width: int, distance: int) -> Runs:
    """Erosion by `distance` pixels to the left and right; outside the image is background."""
    image = np.pad(_image(runs, height, width), ((0, 0), (distance, distance)))
    kept = np.ones((height, width), dtype=np.bool_)
    for step in range(2 * distance + 1):
        kept &= image[:, step : step + width]
    return from_dense(kept.ravel())


def split_rows(runs: Runs, width: int) -> Runs:
    """The same pixels as segments that end where their row ends (so they may be adjacent)."""
    segments = [
        (max(int(start), row * width), min(int(stop), (row + 1) * width))
        for start, stop in runs
        for row in range(int(start) // width, (int(stop) - 1) // width + 1)
    ]
    return np.asarray(segments, dtype=np.int64).reshape(-1, 2)


def component_labels(segments: Runs, width: int, reach: int) -> NDArray[np.int64]:
    """Component number of every row segment, counted from 0 in order of the first segment.

    Segments of neighbouring rows touch when their columns overlap (`reach` 0, 4-connected) or
    come within one column of each other (`reach` 1, 8-connected).
    """
    labels = list(range(len(segments)))
    for i, (start, stop) in enumerate(segments.tolist()):
        for j, (other_start, other_stop) in enumerate(segments[:i].tolist()):
            if other_start // width != start // width - 1:
                continue
            if other_start + width < stop + reach and start < other_stop + width + reach:
                old, new = max(labels[i], labels[j]), min(labels[i], labels[j])
                labels = [new if label == old else label for label in labels]
    order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.asarray([order[label] for label in labels], dtype=np.int64)


def coco_counts(runs: Runs, height: int, width: int) -> bytes:
    """The compressed `counts` string of COCO's run-length encoding, as pycocotools writes it."""
    bounds = transpose(runs, height, width).ravel().tolist()
    pixels = height * width
    edges = [0, *bounds] if bounds and bounds[-1] == pixels else [0, *bounds, pixels]
    counts = [stop - start for start, stop in pairwise(edges)]
    text = bytearray()
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            five_bits = value & 0x1F
            value >>= 5
            done = value == (-1 if five_bits & 0x10 else 0)
            text.append((five_bits if done else five_bits | 0x20) + 48)
            if done:
                break
    return bytes(text)


def coco_runs(counts: bytes, pixels: int) -> Runs | None:
    """Column-major runs of a compressed `counts` string; None when it is not of `pixels` pixels."""
    values: list[int] = []
    value = shift_bits = 0
    for byte in counts:
        code = byte - 48
        if not 0 <= code < 64 or shift_bits > 45:
            return None
        value |= (code & 0x1F) << shift_bits
        shift_bits += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift_bits
            if len(values) > 2:
                value += values[-2]
            values.append(value)
            value = shift_bits = 0
    if shift_bits or any(v < 0 for v in values) or sum(values) != pixels:
        return None
    stops = np.cumsum(values, dtype=np.int64)
    pairs = stops[: len(stops) // 2 * 2].reshape(-1, 2)
    return normalize(pairs[:, 0], pairs[:, 1])


def brush_decode(data: bytes, pixels: int) -> tuple[Runs, int, int]:
    """Runs of the pixels whose alpha is above 0, with a status and a detail (see `runs`)."""
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    position = 0

    def read(size: int) -> int:
        nonlocal position
        if position + size > bits.size:
            raise EOFError
        value = 0
        for bit in bits[position : position + size].tolist():
            value = value * 2 + bit
        position += size
        return value

    empty = np.empty((0, 2), dtype=np.int64)
    try:
        count = read(32)
        word_bits = read(5) + 1
        run_bits = [read(4) + 1 for _ in range(4)]
        if count != 4 * pixels:
            return empty, 2, count
        values = np.zeros(count, dtype=np.uint32)
        at = 0
        while at < count:
            is_run = read(1)
            length = 1 + read(run_bits[read(2)])
            if at + length > count:
                return empty, 3, at + length - count
            if is_run:
                values[at : at + length] = read(word_bits)
            else:
                for offset in range(length):
                    values[at + offset] = read(word_bits)
            at += length
    except EOFError:
        return empty, 1, len(data)
    spare = data[(position + 7) // 8 :]
    if len(spare) > 1 or any(spare):
        return empty, 4, len(spare)
    return from_dense(values[3::4] > 0), 0, 0


def brush_encode(runs: Runs, pixels: int) -> bytes:
    """The brush stream of a mask whose four channels are 255 where it is on."""
    bits = [f"{4 * pixels:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    edges = [0, *runs.ravel().tolist(), pixels]
    for index, (start, stop) in enumerate(pairwise(edges)):
        left = 4 * (stop - start)
        word = "11111111" if index % 2 else "00000000"
        if 0 < left <= 8:
            bits.append(f"100{left - 1:03b}{word}")
        elif 8 < left <= 16:
            bits.append(f"101{left - 1:04b}{word}")
        elif 16 < left <= 256:
            bits.append(f"110{left - 1:08b}{word}")
        elif left:
            while left > 65536:
                bits.append(f"111{65535:016b}{word}")
                left -= 65536
            bits.append(f"111{left - 1:016b}{word}")
    text = "".join(bits)
    text += "0" * (8 - len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
