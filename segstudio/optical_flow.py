"""Motion between two frames of a video: dense optical flow, and masks carried along with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask

MAX_SIDE_PX: Final = 512
"""Photos are scaled down to this before their motion is estimated."""

MIN_SIDE_PX: Final = 16
"""Smaller photos have no motion to estimate."""


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Where each pixel of the later frame was in the earlier one: float32 (height, width, 2)."""

    displacement_px: NDArray[np.float32]

    @classmethod
    def still(cls, height_px: int, width_px: int) -> Flow:
        """No motion at all."""
        return cls(np.zeros((height_px, width_px, 2), np.float32))

    def warp(self, mask: Mask) -> Mask:
        """Carry a mask of the earlier frame into the later one, nearest neighbour."""
        return Mask.from_dense(self._sample(mask.to_dense().astype(np.uint8), nearest=True))

    def warp_field(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry a field of numbers (height, width) or (height, width, n) along, bilinear.

        What comes in from outside the image has the value of the nearest pixel of its border.
        """
        return np.asarray(self._sample(field, nearest=False), np.float32)

    def after(self, earlier: Flow) -> Flow:
        """Return the motion of `earlier` and then this one, as one.

        >>> one = Flow(np.full((4, 6, 2), [-1, 0], np.float32))
        >>> one.after(one).displacement_px[0, 3].tolist()
        [-2.0, 0.0]
        """
        carried = self.warp_field(earlier.displacement_px)
        return Flow(self.displacement_px + carried)

    def resized(self, height_px: int, width_px: int) -> Flow:
        """Return the same motion for images of another size."""
        import cv2

        height, width = self.displacement_px.shape[:2]
        if (height, width) == (height_px, width_px):
            return self
        ratio = np.array([width_px / width, height_px / height], np.float32)
        large = cv2.resize(
            self.displacement_px, (width_px, height_px), interpolation=cv2.INTER_LINEAR
        )
        return Flow(np.asarray(large * ratio, np.float32))

    def scaled(self, share: float) -> Flow:
        """Return a share of the motion, where everything moves in a straight line."""
        return Flow(self.displacement_px * np.float32(share))

    def speed_px(self, mask: Mask) -> float:
        """Return the median motion inside a mask in pixels a frame; 0 for an empty mask."""
        inside = self.displacement_px[mask.to_dense()]
        return float(np.median(np.hypot(inside[:, 0], inside[:, 1]))) if len(inside) else 0.0

    def _sample(self, values: NDArray[Any], *, nearest: bool) -> NDArray[Any]:
        import cv2

        height_px, width_px = self.displacement_px.shape[:2]
        rows, columns = np.mgrid[:height_px, :width_px].astype(np.float32)
        sampled: NDArray[Any] = cv2.remap(
            values,
            columns + self.displacement_px[..., 0],
            rows + self.displacement_px[..., 1],
            cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT if nearest else cv2.BORDER_REPLICATE,
        )
        return sampled


def small_gray(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an RGB photo as grey of `MAX_SIDE_PX` at most."""
    import cv2

    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, MAX_SIDE_PX / max(gray.shape))
    if scale < 1:
        size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(gray, np.uint8)


def estimate_flow(
    earlier: NDArray[np.uint8], later: NDArray[np.uint8], height_px: int, width_px: int
) -> Flow:
    """Estimate the motion by dense inverse search (Kroeger et al. 2016; OpenCV's DIS).

    Args:
        earlier: grey photo, uint8 (h, w), at least `MIN_SIDE_PX` a side.
        later: of the same size.
        height_px: size of the masks to be warped; the motion is scaled to it.
        width_px: as above.
    """
    return dense_search(earlier, later).resized(height_px, width_px)


def dense_search(earlier: NDArray[np.uint8], later: NDArray[np.uint8]) -> Flow:
    """Return the motion between two grey pictures of one size, at that size.

    Pictures below `MIN_SIDE_PX` a side, which OpenCV cannot search, have no motion.
    """
    import cv2

    if min(later.shape) < MIN_SIDE_PX:
        return Flow.still(*later.shape)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = np.zeros((*later.shape, 2), np.float32)
    return Flow(np.asarray(search.calc(later, earlier, start), np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Carrying:
    """The motion from a first frame to a later one, and how far it can be trusted there.

    `trust` is 0..1, float32, of the flow's size: 1 where the motion there and back again meet.
    """

    flow: Flow
    trust: NDArray[np.float32]


def carry_along(pairs: Iterable[tuple[Flow, Flow]]) -> Iterator[Carrying]:
    """Yield the motion from the first of a row of frames to each later one.

    Motions are joined, so that a mask of the first frame is warped once, not once a frame. A pixel
    whose motion is not undone by the motion back (covered, uncovered, wrongly found) loses trust,
    and loses it for all frames to come: `exp(-e^2 / (1 + 0.01 m^2))`, where e is the gap between
    there and back and m^2 the sum of the squares of both motions, in pixels (the terms of
    Sundaram, Brox and Keutzer 2010).

    Args:
        pairs: for each step, the motion to the next frame and the one back, of one size.
    """
    joined: Flow | None = None
    trust: NDArray[np.float32] | None = None
    for there, back in pairs:
        height_px, width_px = there.displacement_px.shape[:2]
        returned = there.warp_field(back.displacement_px)
        gap = ((there.displacement_px + returned) ** 2).sum(axis=-1)
        length = (there.displacement_px**2 + returned**2).sum(axis=-1)
        certain = np.exp(-gap / (1.0 + 0.01 * length)).astype(np.float32)
        if joined is None or trust is None:
            joined, trust = Flow.still(height_px, width_px), np.ones_like(certain)
        joined = there.after(joined)
        trust = certain * there.warp_field(trust)
        yield Carrying(joined, trust)


def align_centres(earlier: Mask, later: Mask) -> Mask:
    """Return the earlier mask moved by whole pixels so that the centres of both agree.

    >>> one = Mask.from_dense([[1, 0, 0]])
    >>> align_centres(one, one.shift(2, 0)).to_dense().astype(int).tolist()
    [[0, 0, 1]]
    """
    if earlier.is_empty or later.is_empty:
        return earlier
    (x_from, y_from), (x_to, y_to) = centre_px(earlier), centre_px(later)
    return earlier.shift(round(x_to - x_from), round(y_to - y_from))


def centre_px(mask: Mask) -> tuple[float, float]:
    """Return the centre (x, y) of a mask that is not empty."""
    x, y, width, height = mask.bbox
    rows, columns = np.nonzero(mask.to_dense()[y : y + height, x : x + width])
    return float(columns.mean()) + x, float(rows.mean()) + y
