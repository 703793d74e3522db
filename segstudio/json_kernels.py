"""Compiled reading of JSON lists of bytes; `segstudio.json_items` says what it is for."""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Bytes = NDArray[np.uint8]


@kernel
def _is_blank(code: int) -> bool:
    return code == 32 or code == 10 or code == 13 or code == 9


@kernel
def bytes_of_list(text: Bytes) -> tuple[Bytes, bool]:
    """The numbers between the brackets of a JSON list, and whether they are all bytes."""
    out = np.empty(len(text) // 2 + 1, dtype=np.uint8)
    count = 0
    length = len(text)
    i = 0
    while True:
        while i < length and _is_blank(text[i]):
            i += 1
        if i == length:  # behind a comma, unless there is nothing at all
            return out[:0].copy(), count == 0
        value = np.int64(text[i]) - 48
        if not 0 <= value <= 9:
            return out[:0].copy(), False
        i += 1
        while value > 0 and i < length and 48 <= text[i] <= 57:
            value = 10 * value + np.int64(text[i]) - 48
            i += 1
            if value > 255:
                return out[:0].copy(), False
        out[count] = value
        count += 1
        while i < length and _is_blank(text[i]):
            i += 1
        if i == length:
            return out[:count].copy(), True
        if text[i] != 44:
            return out[:0].copy(), False
        i += 1
