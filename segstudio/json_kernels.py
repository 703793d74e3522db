"""Compiled reading of JSON lists of bytes; `segstudio.json_items` says what it is for."""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel

Bytes = NDArray[np.uint8]
Int64Array = NDArray[np.int64]


@kernel
def _is_blank(code: int) -> bool:
    return code == 32 or code == 10 or code == 13 or code == 9


@kernel
def _read_list(text: Bytes, start: int, out: Bytes, count: int) -> tuple[int, int]:
    """Read a JSON list of bytes whose bracket is before `start` to `out`, from `count` on.

    Returns where the list ends, behind its bracket, and the new count; -1 where it is no such list.
    """
    length = len(text)
    i = start
    # Nearly all lists: numbers of one to three digits, a comma, and a blank behind all or behind
    # none. No branch on the digits, which no processor can foresee; what differs ends it.
    gap = 1
    for k in range(start + 1, min(start + 4, length - 1)):
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
    is_first = i == start
    while True:
        while i < length and _is_blank(text[i]):
            i += 1
        if i == length:
            return -1, count
        if is_first and text[i] == 93:
            return i + 1, count
        is_first = False
        value = np.int64(text[i]) - 48
        if not 0 <= value <= 9:
            return -1, count
        i += 1
        while value > 0 and i < length and 48 <= text[i] <= 57:
            value = 10 * value + np.int64(text[i]) - 48
            i += 1
            if value > 255:
                return -1, count
        out[count] = value
        count += 1
        while i < length and _is_blank(text[i]):
            i += 1
        if i == length or (text[i] != 44 and text[i] != 93):
            return -1, count
        i += 1
        if text[i - 1] == 93:
            return i, count


@kernel
def streams_of_object(text: Bytes) -> tuple[Bytes, Int64Array]:
    """The lists of bytes under the key "rle" of some JSON.

    Returns all their numbers one behind the other, and (n, 3): where each list starts, where it
    ends, both with its brackets, and how many numbers there are up to its end.
    """
    out = np.empty(len(text) // 2 + 1, dtype=np.uint8)
    places = np.empty((64, 3), dtype=np.int64)
    found = count = 0
    length = len(text)
    i = 0
    while i + 7 < length:
        # "rle"
        if not (text[i] == 34 and text[i + 1] == 114 and text[i + 2] == 108):
            i += 1
            continue
        if not (text[i + 3] == 101 and text[i + 4] == 34):
            i += 1
            continue
        start = i + 5
        i += 1
        while start < length and _is_blank(text[start]):
            start += 1
        if start == length or text[start] != 58:  # the colon
            continue
        start += 1
        while start < length and _is_blank(text[start]):
            start += 1
        if start == length or text[start] != 91:  # the bracket
            continue
        stop, after = _read_list(text, start + 1, out, count)
        if stop < 0:
            continue
        if found == len(places):
            more = np.empty((2 * found, 3), dtype=np.int64)
            more[:found] = places
            places = more
        places[found, 0], places[found, 1], places[found, 2] = start, stop, after
        found += 1
        count = after
        i = stop
    return out[:count].copy(), places[:found].copy()
