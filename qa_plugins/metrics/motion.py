"""Motion between two frames of a video, and masks carried along with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask

MAX_SIDE_PX: Final = 512
"""Photos are scaled down to this before their motion is estimated."""


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Where each pixel of the later frame was in the earlier one: float32 (height, width, 2)."""

    displacement_px: NDArray[np.float32]

    def warp(self, mask: Mask) -> Mask:
        """Carry a mask of the earlier frame into the later one, nearest neighbour."""
        import cv2

        height_px, width_px = self.displacement_px.shape[:2]
        rows, columns = np.mgrid[:height_px, :width_px].astype(np.float32)
        moved = cv2.remap(
            mask.to_dense().astype(np.uint8),
            columns + self.displacement_px[..., 0],
            rows + self.displacement_px[..., 1],
            cv2.INTER_NEAREST,
        )
        return Mask.from_dense(moved)

    def speed_px(self, mask: Mask) -> float:
        """Return the median motion inside a mask in pixels a frame; 0 for an empty mask."""
        inside = self.displacement_px[mask.to_dense()]
        return float(np.median(np.hypot(inside[:, 0], inside[:, 1]))) if len(inside) else 0.0


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
        earlier: grey photo, uint8 (h, w), at least 16 pixels a side.
        later: of the same size.
        height_px: size of the masks to be warped; the motion is scaled to it.
        width_px: as above.
    """
    import cv2

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = np.zeros((*later.shape, 2), np.float32)
    found = search.calc(later, earlier, start)
    ratio = np.array([width_px / later.shape[1], height_px / later.shape[0]], np.float32)
    large = cv2.resize(found, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return Flow(np.asarray(large * ratio, np.float32))


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
