"""The one mask type of the project: a binary mask as sorted runs of pixels, never a dense image.

A mask of a photo has some thousand runs where it has millions of pixels, so set operations,
areas and encodings cost microseconds and a project of masks fits in memory. Dense arrays and
COCO's run-length encoding are conversions at the edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from segstudio import runs as kernels

MAX_PIXELS = 1 << 30
"""Largest mask accepted (1,073,741,824 pixels): as much as a brush stream's header can count."""


class MaskError(ValueError):
    """A mask that cannot be built: a bad size, bad runs, or two masks of different sizes."""


def check_size(height_px: int, width_px: int) -> None:
    """Refuse sizes below zero and above `MAX_PIXELS`.

    Raises:
        MaskError: with the size and the limit.
    """
    if height_px < 0 or width_px < 0:
        raise MaskError(
            f"A mask cannot be {width_px} x {height_px} pixels; width and height start at 0."
        )
    if height_px * width_px > MAX_PIXELS:
        raise MaskError(
            f"A mask of {width_px} x {height_px} pixels is above the limit of {MAX_PIXELS} pixels;"
            " scale the image down or cut it into tiles."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A binary mask of `height_px` x `width_px` pixels.

    `runs` is an (n, 2) int64 array of [start, stop) flat row-major pixel indices; sorted,
    disjoint, never adjacent, so that equal masks have equal runs. A run may pass the end of a
    row. The constructor trusts its runs; use the class methods for data from elsewhere.

    >>> mask = Mask.from_dense([[0, 1, 1], [1, 0, 0]])
    >>> mask.runs.tolist(), mask.area_px, mask.bbox
    ([[1, 4]], 3, (0, 0, 3, 2))
    >>> (mask & mask.shift(1, 0)).to_dense().astype(int).tolist()
    [[0, 0, 1], [0, 0, 0]]
    """

    height_px: int
    width_px: int
    runs: NDArray[np.int64]

    def __post_init__(self) -> None:
        check_size(self.height_px, self.width_px)

    @classmethod
    def empty(cls, height_px: int, width_px: int) -> Mask:
        """No pixel on."""
        return cls(height_px, width_px, np.empty((0, 2), dtype=np.int64))

    @classmethod
    def full(cls, height_px: int, width_px: int) -> Mask:
        """Every pixel on."""
        pixels = height_px * width_px
        runs = np.asarray([[0, pixels]] if pixels else [], dtype=np.int64)
        return cls(height_px, width_px, runs.reshape(-1, 2))

    @classmethod
    def from_dense(cls, array: ArrayLike) -> Mask:
        """The mask of a (height, width) array: every value but 0 is on.

        Raises:
            MaskError: when the array does not have two axes.
        """
        dense = np.asarray(array)
        if dense.ndim != 2:
            raise MaskError(
                f"A mask needs a (height, width) array; this one has the shape {dense.shape}."
            )
        height_px, width_px = dense.shape
        check_size(height_px, width_px)
        if dense.dtype != np.bool_:
            dense = dense != 0
        flat = np.ascontiguousarray(dense).reshape(-1)
        return cls(height_px, width_px, kernels.from_dense(flat))

    @classmethod
    def from_runs(cls, height_px: int, width_px: int, runs: ArrayLike) -> Mask:
        """The union of (n, 2) [start, stop) flat pixel indices in any order; they may overlap.

        Raises:
            MaskError: when a run ends before it starts or lies outside the image.
        """
        check_size(height_px, width_px)
        pairs = np.array(runs, dtype=np.int64).reshape(-1, 2)
        starts, stops = np.ascontiguousarray(pairs.T)
        if len(pairs) and (starts.min() < 0 or stops.max() > height_px * width_px):
            raise MaskError(
                f"Runs must lie within [0, {height_px * width_px}), the pixels of a"
                f" {width_px} x {height_px} mask; these reach from {starts.min()} to {stops.max()}."
            )
        if (stops < starts).any():
            at = int(np.argmax(stops < starts))
            raise MaskError(f"Run {at} ends ({stops[at]}) before it starts ({starts[at]}).")
        return cls(height_px, width_px, kernels.normalize(starts, stops))

    @classmethod
    def from_coco_rle(cls, rle: Mapping[str, Any]) -> Mask:
        """The mask of COCO's `{"size": [height, width], "counts": ...}`.

        `counts` is the compressed string (bytes or str) or the plain list of column-major run
        lengths, which starts with background.

        Raises:
            MaskError: when a key is missing or the counts do not fill the size exactly.
        """
        try:
            height_px, width_px = (int(side) for side in rle["size"])
            counts = rle["counts"]
        except (KeyError, TypeError, ValueError) as error:
            raise MaskError(
                f"A COCO RLE needs 'size': [height, width] and 'counts'; got {sorted(rle)}."
            ) from error
        check_size(height_px, width_px)
        pixels = height_px * width_px
        columns: NDArray[np.int64] | None
        if isinstance(counts, str | bytes):
            text = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
            columns = kernels.coco_runs(text, pixels)
        else:
            lengths = np.asarray(counts, dtype=np.int64)
            bounds = np.cumsum(lengths)
            total = int(bounds[-1]) if len(bounds) else 0
            if (lengths < 0).any() or total != pixels:
                columns = None
            else:
                pairs = bounds[: len(bounds) // 2 * 2].reshape(-1, 2)
                columns = kernels.normalize(pairs[:, 0].copy(), pairs[:, 1].copy())
        if columns is None:
            raise MaskError(
                f"The counts of this COCO RLE do not describe {width_px} x {height_px} pixels:"
                " the string is damaged or belongs to another size."
            )
        return cls(height_px, width_px, kernels.transpose(columns, width_px, height_px))

    @property
    def area_px(self) -> int:
        """How many pixels are on."""
        return kernels.area(self.runs)

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is on."""
        return len(self.runs) == 0

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """The smallest box (x, y, width, height) in pixels; (0, 0, 0, 0) when empty."""
        if self.is_empty:
            return 0, 0, 0, 0
        return kernels.box(self.runs, self.width_px)

    def to_dense(self) -> NDArray[np.bool_]:
        """The boolean (height, width) array."""
        flat = kernels.to_dense(self.runs, self.height_px * self.width_px)
        return flat.reshape(self.height_px, self.width_px)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("A mask holds runs; its dense array is always made anew.")
        dense = self.to_dense()
        return dense if dtype is None else dense.astype(dtype)

    def to_coco_rle(self) -> dict[str, Any]:
        """COCO's `{"size": [height, width], "counts": bytes}`, byte for byte as pycocotools."""
        counts = kernels.coco_counts(self.runs, self.height_px, self.width_px)
        return {"size": [self.height_px, self.width_px], "counts": counts}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self._size == other._size and np.array_equal(self.runs, other.runs)

    def __hash__(self) -> int:
        return hash((self.height_px, self.width_px, self.runs.tobytes()))

    def __repr__(self) -> str:
        return (
            f"Mask({self.width_px} x {self.height_px} px, {self.area_px} px on,"
            f" runs: {len(self.runs)})"
        )

    @property
    def _size(self) -> tuple[int, int]:
        return self.height_px, self.width_px

    def _with(self, runs: NDArray[np.int64]) -> Mask:
        return Mask(self.height_px, self.width_px, runs)

    def __and__(self, other: Mask) -> Mask:
        _check_same_size(self, other)
        return self._with(kernels.intersection(self.runs, other.runs))

    def __or__(self, other: Mask) -> Mask:
        _check_same_size(self, other)
        return self._with(kernels.union(self.runs, other.runs))

    def __sub__(self, other: Mask) -> Mask:
        _check_same_size(self, other)
        return self._with(kernels.difference(self.runs, other.runs))

    def __xor__(self, other: Mask) -> Mask:
        _check_same_size(self, other)
        return self._with(kernels.symmetric_difference(self.runs, other.runs))

    def complement(self) -> Mask:
        """Every pixel that is off here."""
        return Mask.full(self.height_px, self.width_px) - self

    def shift(self, dx_px: int, dy_px: int) -> Mask:
        """The mask moved right and down; what leaves the image is cut off."""
        return self._with(
            kernels.shift(self.runs, self.height_px, self.width_px, int(dx_px), int(dy_px))
        )

    def resize(self, height_px: int, width_px: int) -> Mask:
        """Nearest neighbour, exact: a pixel takes the source pixel that holds its centre.

        This is Pillow's NEAREST and OpenCV's INTER_NEAREST_EXACT, but for rounding where a centre
        lies exactly between two source pixels; here it takes the right or lower one.

        Raises:
            MaskError: when one of the two sizes has no pixels and the other has.
        """
        check_size(height_px, width_px)
        if height_px * width_px == 0:
            return Mask.empty(height_px, width_px)
        if self.height_px * self.width_px == 0:
            raise MaskError("A mask without pixels cannot be resized to one that has some.")
        scaled = kernels.resize(self.runs, self.height_px, self.width_px, height_px, width_px)
        return Mask(height_px, width_px, scaled)

    def rotate90(self, quarter_turns: int = 1) -> Mask:
        """Turned counter-clockwise by so many quarters, as `numpy.rot90`."""
        height_px, width_px, runs = self.height_px, self.width_px, self.runs
        if quarter_turns % 2:
            runs = kernels.transpose(runs, height_px, width_px)
            height_px, width_px = width_px, height_px
            runs = kernels.flip_rows(runs, height_px, width_px)
        if quarter_turns % 4 in (2, 3):
            runs = np.ascontiguousarray(height_px * width_px - runs[::-1, ::-1])
        return Mask(height_px, width_px, runs)

    def components(self, connectivity: int = 8) -> list[Mask]:
        """The connected parts, in order of their first pixel; [] when empty.

        Raises:
            MaskError: when `connectivity` is neither 4 nor 8.
        """
        if connectivity not in (4, 8):
            raise MaskError(f"Connectivity is 4 or 8, not {connectivity!r}.")
        if self.is_empty:
            return []
        segments = kernels.split_rows(self.runs, self.width_px)
        labels = kernels.component_labels(segments, self.width_px, 1 if connectivity == 8 else 0)
        order = np.argsort(labels, kind="stable")
        cuts = np.flatnonzero(np.diff(labels[order])) + 1
        return [
            self._with(kernels.normalize(part[:, 0].copy(), part[:, 1].copy()))
            for part in np.split(segments[order], cuts)
        ]

    def erode(self, distance_px: int) -> Mask:
        """The pixels whose whole square neighbourhood of `distance_px` is on.

        Outside the image is background, so the image border erodes as well.
        """
        height_px, width_px = self._size
        narrow = kernels.shrink_rows(self.runs, height_px, width_px, distance_px)
        turned = kernels.transpose(narrow, height_px, width_px)
        low = kernels.shrink_rows(turned, width_px, height_px, distance_px)
        return self._with(kernels.transpose(low, width_px, height_px))

    def dilate(self, distance_px: int) -> Mask:
        """The pixels of the image with a pixel that is on within `distance_px`, diagonals too.

        Nothing comes in from outside the image; 0 gives the mask itself.
        """
        height_px, width_px = self._size
        wide = kernels.grow_rows(self.runs, width_px, distance_px)
        turned = kernels.transpose(wide, height_px, width_px)
        high = kernels.grow_rows(turned, height_px, distance_px)
        return self._with(kernels.transpose(high, width_px, height_px))

    def farther_than(self, distance_px: int, other: Mask) -> Mask:
        """The pixels without one of the other mask within `distance_px`, diagonals too.

        The same as `self - other.dilate(distance_px)`, and much faster where little is left.

        Raises:
            MaskError: when the sizes differ.
        """
        alone = (self - other).runs
        far = kernels.farther(alone, other.runs, *self._size, distance_px)
        return self._with(far)

    def boundary(self, distance_px: int) -> Mask:
        """The inner band within `distance_px` (chessboard distance) of the outline.

        This is the band of Boundary IoU (Cheng et al. 2021, `mask_to_boundary`): the mask
        without its erosion, where the image border counts as outline.

        Raises:
            MaskError: when `distance_px` is below 1.
        """
        if distance_px < 1:
            raise MaskError(f"A boundary is at least 1 pixel wide, not {distance_px}.")
        return self - self.erode(distance_px)


def _check_same_size(a: Mask, b: Mask) -> None:
    if (a.height_px, a.width_px) != (b.height_px, b.width_px):
        raise MaskError(
            f"Masks of {a.width_px} x {a.height_px} and {b.width_px} x {b.height_px} pixels"
            " cannot be combined; resize one of them first."
        )


def intersection_area(a: Mask, b: Mask) -> int:
    """How many pixels both masks have.

    Raises:
        MaskError: when the sizes differ.
    """
    _check_same_size(a, b)
    return kernels.intersection_area(a.runs, b.runs)


def union_area(a: Mask, b: Mask) -> int:
    """How many pixels either mask has.

    Raises:
        MaskError: when the sizes differ.
    """
    return a.area_px + b.area_px - intersection_area(a, b)


def iou(a: Mask, b: Mask) -> float | None:
    """Intersection over union in 0..1; None when both masks are empty.

    Raises:
        MaskError: when the sizes differ.

    >>> iou(Mask.from_dense([[1, 1, 0]]), Mask.from_dense([[0, 1, 1]]))
    0.3333333333333333
    """
    intersection_px = intersection_area(a, b)
    union_px = a.area_px + b.area_px - intersection_px
    return intersection_px / union_px if union_px else None


def union_all(masks: Iterable[Mask], height_px: int, width_px: int) -> Mask:
    """The union of any number of masks of one size; the empty mask when there are none.

    Raises:
        MaskError: when a mask has another size.
    """
    result = Mask.empty(height_px, width_px)
    parts: list[Mask] = []
    for mask in masks:
        _check_same_size(result, mask)
        if not mask.is_empty:
            parts.append(mask)
    if len(parts) < 2:
        return parts[0] if parts else result
    counts = np.array([len(mask.runs) for mask in parts], dtype=np.int64)
    runs = np.ascontiguousarray(np.concatenate([mask.runs for mask in parts]))
    return Mask(height_px, width_px, kernels.unite(runs, counts))
