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
    import cv2

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = np.zeros((*later.shape, 2), np.float32)
    found = search.calc(later, earlier, start)
    return Flow(np.asarray(found, np.float32)).resized(height_px, width_px)


def accumulated_flows(grays: Iterable[NDArray[np.uint8]]) -> Iterator[Flow]:
    """Yield the motion from the first frame to each later one, at the size of the grey photos.

    Motion is estimated from frame to frame and joined, so that a mask of the first frame is warped
    once, not once a frame. Fewer than two frames give nothing.

    Args:
        grays: grey photos of one size in the order to follow, uint8, `MIN_SIDE_PX` at least.
    """
    frames = iter(grays)
    before = next(frames, None)
    if before is None:
        return
    joined = Flow.still(*before.shape)
    for gray in frames:
        joined = estimate_flow(before, gray, *before.shape).after(joined)
        before = gray
        yield joined


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
