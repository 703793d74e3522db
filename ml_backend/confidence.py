"""The score of a prediction: how sure the model is of a whole task, 0 to 1.

Label Studio's uncertainty sampling serves the lowest score first, so the score must be low where
the model is at a loss, not only where a kept mask is poor.

- Prompted masks (clicks, boxes, scribbles): the mean of their predicted IoUs.
- Automatic masks: the mean, over the points of the grid, of the best predicted IoU at the point.
  The masks that are kept have passed a threshold and say nothing of the rest of the image; the grid
  covers all of it, so an image full of things that the model cannot outline scores low although the
  few masks that are left look good.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["automatic_confidence", "prompted_confidence"]


def prompted_confidence(predicted_ious: Sequence[float]) -> float:
    """The mean of the predicted IoUs, each within 0..1; 0 without any.

    >>> prompted_confidence([0.5, 1.3])
    0.75
    """
    return _mean_clipped(np.asarray(predicted_ious, np.float64))


def automatic_confidence(point_ious: NDArray[np.float32]) -> float:
    """The mean over the grid of the best predicted IoU at each point; 0 without any."""
    return _mean_clipped(point_ious.astype(np.float64))


def _mean_clipped(values: NDArray[np.float64]) -> float:
    if not values.size:
        return 0.0
    return float(np.clip(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), 0, 1).mean())
