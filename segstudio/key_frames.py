"""Which frames of a video are worth annotating: the key frames.

The rule `interval`: the first frame, then every N-th, and the last. The rule `motion`: the first
and the last frame, both frames at a cut, and a frame as soon as the picture has moved by
`MOTION_SHARE` of its diagonal since the last key frame, or N frames have passed. A cut is where
the grey values' histogram changes by more than `CUT_SHARE` from one frame to the next. How far the
picture moved is the sum of each step's motion, of which a quarter of the pixels move more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from segstudio.optical_flow import dense_search

KeyRule = Literal["interval", "motion"]

CUT_SHARE: Final = 0.35
MOTION_SHARE: Final = 0.06
_SIDE_PX: Final = 192
_BINS: Final = 32


@dataclass(slots=True)
class KeyFrameRule:
    """Decides frame by frame. `last_is_key` answers for the frame before, once this one is seen.

    Args:
        every: N of the rules, in frames that are taken.
        rule: see the module.
    """

    every: int = 10
    rule: KeyRule = "interval"
    _since: int = -1
    _moved: float = 0.0
    _before: NDArray[np.uint8] | None = None

    def add(self, small: NDArray[np.uint8] | None) -> tuple[bool, bool]:
        """Take the next frame; return (a cut lies before it, it is a key frame).

        Args:
            small: the frame as `thumbnail` makes it; needed by the rule `motion` only.
        """
        cut = False
        if self.rule == "motion" and small is not None:
            if self._before is not None:
                cut = self._before.shape != small.shape or histogram_change(self._before, small) > (
                    CUT_SHARE
                )
                if not cut:
                    self._moved += motion_share(self._before, small)
            self._before = small
        first = self._since < 0
        self._since += 1
        is_key = first or cut or self._since >= self.every or self._moved >= MOTION_SHARE
        if is_key:
            self._since, self._moved = 0, 0.0
        return cut and not first, is_key


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame as grey of at most 192 pixels a side."""
    import cv2

    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, _SIDE_PX / max(gray.shape))
    size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)


def histogram_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Return the share of pixels, 0..1, whose grey value has no counterpart in the other frame.

    >>> black, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    >>> histogram_change(black, black), histogram_change(black, white)
    (0.0, 1.0)
    """
    counts = [np.bincount(one.ravel() >> 3, minlength=_BINS) / one.size for one in (before, after)]
    return float(1 - np.minimum(counts[0], counts[1]).sum())


def motion_share(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Return how far a quarter of the pixels moves at least, as a share of the diagonal."""
    moved = dense_search(before, after).displacement_px
    lengths = np.hypot(moved[..., 0], moved[..., 1])
    height_px, width_px = after.shape
    return float(np.quantile(lengths, 0.75) / np.hypot(height_px, width_px))
