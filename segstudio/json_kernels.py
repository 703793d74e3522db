"""Compiled reading of JSON lists of bytes; `segstudio.json_items` says what it is for."""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Bytes = NDArray[np.uint8]

_NONE, _IN_NUMBER, _BEHIND_NUMBER = 0, 1, 2


@kernel
def bytes_of_list(text: Bytes) -> tuple[Bytes, bool]:
    """The numbers between the brackets of a JSON list, and whether they are all bytes."""
    out = np.empty(len(text) // 2 + 1, dtype=np.uint8)
    count = 0
    value = 0
    state = _NONE
    for i in range(len(text)):
        code = np.int64(text[i])
        if 48 <= code <= 57:
            if state == _NONE:
                value = code - 48
                state = _IN_NUMBER
            elif state == _IN_NUMBER and value > 0:
                value = 10 * value + code - 48
                if value > 255:
                    return out[:0].copy(), False
            else:
                return out[:0].copy(), False
        elif code == 44:
            if state == _NONE:
                return out[:0].copy(), False
            out[count] = value
            count += 1
            state = _NONE
        elif code == 32 or code == 10 or code == 13 or code == 9:
            if state == _IN_NUMBER:
                state = _BEHIND_NUMBER
        else:
            return out[:0].copy(), False
    if state != _NONE:
        out[count] = value
        count += 1
    elif count:
        return out[:0].copy(), False
    return out[:count].copy(), True
