"""Masks as the low-resolution logits that a SAM takes back as a prompt."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_LOGIT: Final = 6.0


def logits_of(dense: NDArray[np.bool_], side: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Return a mask as the low-resolution logits that SAM takes back: float32 (1, side, side).

    Args:
        dense: the mask of the image.
        side: of the square of logits.
        rows: of them are the image's; what is below is padding.
        columns: as above.
    """
    import cv2

    small = cv2.resize(
        dense.astype(np.float32), (max(1, columns), max(1, rows)), interpolation=cv2.INTER_AREA
    )
    logits = np.full((1, side, side), -_LOGIT, np.float32)
    logits[0, :rows, :columns] = (2 * small - 1) * _LOGIT
    return logits
