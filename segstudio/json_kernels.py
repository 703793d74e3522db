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
    # Nearly all lists: numbers of one to three digits, a comma, and a blank behind all or behind
    # none. No branch on the digits, which no processor can foresee; what differs ends it.
    gap = 1
    for k in range(1, min(4, length - 1)):
        if text[k] == 44:
            gap += np.int64(text[k + 1] == 32)
            break
    last = 32 if gap == 2 else 44
    while i + 4 < length:
        has_two = np.int64(text[i + 1] != 44)
        has_three = has_two & np.int64(text[i + 2] != 44)
        a, b, c = np.int64(text[i]) - 48, np.int64(text[i + 1]) - 48, np.int64(text[i + 2]) - 48
        two = 10 * a + b
        value = a + has_two * (two - a) + has_three * (9 * two + c)
        behind = i + 1 + has_two + has_three
        is_odd = np.int64(a < has_two) | np.int64(a > 9) | np.int64(value > 255)
        is_odd |= has_two & (np.int64(b < 0) | np.int64(b > 9))
        is_odd |= has_three & (np.int64(c < 0) | np.int64(c > 9) | np.int64(text[i + 3] != 44))
        if is_odd | np.int64(text[behind + gap - 1] != last):
            break
        out[count] = value
        count += 1
        i = behind + gap
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
