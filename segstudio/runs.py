"""Masks as runs: what `segstudio.masks` and `segstudio.brush_rle` are made of.

Runs are an (n, 2) int64 array of [start, stop) flat row-major pixel indices, sorted, disjoint and
never adjacent. The work is done by compiled kernels, which load on first use;
`segstudio.runs_reference` has every function of this module once more in plain numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segstudio.mask_kernels import area, box, grow_rows
    from segstudio.merge_kernels import farther, unite
    from segstudio.run_kernels import (
        component_labels,
        flip_rows,
        intersection_area,
        resize,
        shift,
        shrink_rows,
        split_rows,
        to_dense,
    )

__all__ = [
    "Runs",
    "area",
    "box",
    "brush_decode",
    "brush_encode",
    "coco_counts",
    "coco_runs",
    "component_labels",
    "difference",
    "farther",
    "flip_rows",
    "from_dense",
    "grow_rows",
    "intersection",
    "intersection_area",
    "normalize",
    "resize",
    "shift",
    "shrink_rows",
    "split_rows",
    "symmetric_difference",
    "to_dense",
    "transpose",
    "union",
    "unite",
]

Runs = NDArray[np.int64]

_MEASURES = ("area", "box", "grow_rows")
_OF_SEVERAL = ("farther", "unite")
_DENSE_BELOW = 24  # pixels a run


def __getattr__(name: str) -> Any:
    """Load a compiled kernel and keep it, so that numba is only imported when it works."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from segstudio import mask_kernels, merge_kernels, run_kernels

    of_several = merge_kernels if name in _OF_SEVERAL else run_kernels
    function = getattr(mask_kernels if name in _MEASURES else of_several, name)
    globals()[name] = function
    return function


def from_dense(flat: NDArray[np.bool_]) -> Runs:
    """Runs of the true pixels of a flat, contiguous boolean array."""
    from segstudio.run_kernels import scan_dense

    if flat.__array_interface__["data"][0] % 8:
        flat = flat.copy()
    data = flat.view(np.uint8)
    return scan_dense(data, data[: data.size // 8 * 8].view(np.uint64))


def normalize(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Runs:
    """The union of arbitrary [start, stop) intervals, in any order, as proper runs."""
    from segstudio.run_kernels import merge_sorted

    if (starts[1:] < starts[:-1]).any():
        order = np.argsort(starts, kind="stable")
        starts, stops = starts[order], stops[order]
    return merge_sorted(starts, stops)


def intersection(a: Runs, b: Runs) -> Runs:
    """Pixels in both."""
    from segstudio.run_kernels import combine

    return combine(a, b, 0b1000)


def union(a: Runs, b: Runs) -> Runs:
    """Pixels in either."""
    from segstudio.run_kernels import combine

    return combine(a, b, 0b1110)


def difference(a: Runs, b: Runs) -> Runs:
    """Pixels in `a` and not in `b`."""
    from segstudio.run_kernels import combine

    return combine(a, b, 0b0100)


def symmetric_difference(a: Runs, b: Runs) -> Runs:
    """Pixels in exactly one of the two."""
    from segstudio.run_kernels import combine

    return combine(a, b, 0b0110)


def transpose(runs: Runs, height: int, width: int) -> Runs:
    """Runs of the transposed (width, height) image: the column-major runs of this one."""
    from segstudio.run_kernels import to_dense, turn_dense, turn_runs

    # With that many runs the image is the shorter way (measured: benchmarks/bench_kernel.py).
    if _DENSE_BELOW * len(runs) > height * width:
        dense = to_dense(runs, height * width)
        return from_dense(turn_dense(dense, height, width))
    return turn_runs(runs, height, width)


def coco_counts(runs: Runs, height: int, width: int) -> bytes:
    """The compressed `counts` string of COCO's run-length encoding, as pycocotools writes it."""
    from segstudio import codec_kernels

    columns = transpose(runs, height, width)
    return codec_kernels.coco_counts(columns, height * width).tobytes()


def coco_runs(counts: bytes, pixels: int) -> Runs | None:
    """Column-major runs of a compressed `counts` string; None when it is not of `pixels` pixels."""
    from segstudio import codec_kernels

    runs, is_valid = codec_kernels.coco_runs(np.frombuffer(counts, dtype=np.uint8), pixels)
    return runs if is_valid else None


def brush_decode(data: bytes, pixels: int) -> tuple[Runs, int, int]:
    """Runs of the pixels whose alpha is above 0, with a status and a detail.

    Status 0 is fine; 1: the stream ends early; 2: the header counts `detail` values, not four a
    pixel; 3: a run passes the last value by `detail`; 4: `detail` bytes follow the last value.
    """
    # Not `from segstudio import ...`: of a package that takes longer, at every call.
    from segstudio.codec_kernels import brush_decode as decode

    return decode(np.frombuffer(data, np.uint8), pixels)


def brush_encode(runs: Runs, pixels: int) -> bytes:
    """The brush stream of a mask whose four channels are 255 where it is on."""
    from segstudio.codec_kernels import brush_encode as encode

    return encode(runs, pixels).tobytes()
