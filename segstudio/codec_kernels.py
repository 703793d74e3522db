"""Compiled codecs: Label Studio's brush bytes and COCO's counts, from and to runs.

`segstudio.runs` loads this module on first use; `segstudio.runs_reference` says in plain numpy what
each function does.
"""

# numba tells numpy scalars from ints; mypy need not:
# mypy: disable-error-code="no-any-return, assignment, return-value"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segstudio.jit import kernel
from segstudio.run_kernels import joined

Runs = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_HEADER_BITS = 53


@kernel
def _window(word: np.uint64, following: np.uint64, bit: int) -> np.uint64:
    """The 64 bits that start at `bit` of the stream, which lies in `word`."""
    rest = np.uint64(bit & 63)
    window = word << rest
    if rest:
        window |= following >> (np.uint64(64) - rest)
    return window


@kernel
def _big_endian_words(stream: Bytes) -> NDArray[np.uint64]:
    """The stream as words, and a spare one; zeros follow its last byte."""
    whole = len(stream) // 8
    words = np.zeros(whole + 2, dtype=np.uint64)
    for k in range(whole):
        word = np.uint64(0)
        for i in range(8):
            word = word << np.uint64(8) | np.uint64(stream[8 * k + i])
        words[k] = word
    for i in range(8 * whole, len(stream)):
        words[whole] |= np.uint64(stream[i]) << np.uint64(56 - 8 * (i & 7))
    return words


@kernel
def brush_decode(stream: Bytes, pixels: int) -> tuple[Runs, int, int]:
    """Runs of the pixels whose alpha is above 0, a status and a detail.

    Args:
        stream: at least a header long.
        pixels: how many pixels it must have.

    Status 0 is fine; 1: the stream ends early; 2: the header counts `detail` values, not four a
    pixel; 3: a run passes the last value by `detail`; 4: `detail` bytes follow the last value.
    """
    none = np.empty((0, 2), dtype=np.int64)
    words = _big_endian_words(stream)
    bits = 8 * len(stream)
    count = 0
    values = np.int64(words[0] >> np.uint64(32))
    if values != 4 * pixels:
        return none, 2, values
    sizes = _window(words[0], words[1], 32)
    word_bits = np.int64(sizes >> np.uint64(59)) + 1
    word_shift = np.uint64(64 - word_bits)
    run_bits = np.empty(4, dtype=np.int64)
    for i in range(4):
        run_bits[i] = np.int64((sizes >> np.uint64(55 - 4 * i)) & np.uint64(15)) + 1
    # A chunk or a literal pixel ends at most one run, and takes so many bits at least.
    least_bits = min(3 + run_bits.min() + word_bits, 4 * word_bits)
    runs = np.empty((min(bits // least_bits, pixels) + 2, 2), dtype=np.int64)
    bit = _HEADER_BITS
    value = 0  # index of the next RGBA value; a pixel's alpha is value 4 * pixel + 3
    start = stop = 0  # the run that is growing
    while value < values:
        if bit >= bits:
            return none, 1, bits >> 3
        # A flag, an index, a length and a word have at most 1 + 2 + 16 + 32 bits.
        window = _window(words[bit >> 6], words[(bit >> 6) + 1], bit)
        length_bits = run_bits[(window >> np.uint64(61)) & np.uint64(3)]
        length = np.int64((window << np.uint64(3)) >> np.uint64(64 - length_bits)) + 1
        after = value + length
        first, last = value >> 2, after >> 2  # pixels whose alpha lies in this chunk
        bit += 3 + length_bits
        end = bit + (word_bits if window >> np.uint64(63) else length * word_bits)
        if end > bits:
            return none, 1, bits >> 3
        if after > values:
            return none, 3, after - values
        if window >> np.uint64(63):
            if (window << np.uint64(3 + length_bits)) >> word_shift and first < last:
                if first > stop:
                    runs[count, 0] = start
                    runs[count, 1] = stop
                    count += 1
                    start = first
                stop = last
        else:
            alpha_bit = bit + (4 * first + 3 - value) * word_bits
            for pixel in range(first, last):
                at = alpha_bit >> 6
                if _window(words[at], words[at + 1], alpha_bit) >> word_shift:
                    if pixel > stop:
                        runs[count, 0] = start
                        runs[count, 1] = stop
                        count += 1
                        start = pixel
                    stop = pixel + 1
                alpha_bit += 4 * word_bits
        bit = end
        value = after
    used = (bit + 7) >> 3
    spare = (bits >> 3) - used
    after_last = words[used >> 3] << np.uint64(8 * (used & 7)) >> np.uint64(56)
    if spare > 1 or (spare == 1 and after_last):
        return none, 4, spare
    runs[count, 0] = start
    runs[count, 1] = stop
    count += 1
    # The run before the first pixel that is on is [0, 0), unless that is pixel 0.
    skip = 1 if runs[0, 0] == runs[0, 1] else 0
    return runs[skip:count].copy(), 0, 0


@kernel
def brush_encode(runs: Runs, pixels: int) -> Bytes:
    """The brush stream of a mask whose four channels are 255 where it is on."""
    # A chunk has at most 27 bits and holds up to 65536 values; there are 2n + 1 runs of values.
    chunks = 2 * len(runs) + 2 + 4 * pixels // 65536
    out = np.empty(9 + 27 * chunks // 8, dtype=np.uint8)
    out[0], out[1] = (4 * pixels) >> 24, ((4 * pixels) >> 16) & 255
    out[2], out[3] = ((4 * pixels) >> 8) & 255, (4 * pixels) & 255
    # Word size 8 and run sizes 3, 4, 8, 16, each less 1: 00111 0010 0011 0111 1111.
    out[4], out[5] = 0b00111001, 0b00011011
    size = 6
    held, held_bits = 0b11111, 5
    start = 0
    for i in range(2 * len(runs) + 1):
        stop = runs[i >> 1, i & 1] if i < 2 * len(runs) else pixels
        left = 4 * (stop - start)
        start = stop
        word = 255 * (i & 1)
        is_long = left > 256
        while left > 0:
            if is_long:
                length = min(left, 65536)
                held = (held << 27) | (7 << 24) | ((length - 1) << 8) | word
                held_bits += 27
            else:
                length = left
                if length <= 8:
                    held = (held << 14) | (4 << 11) | ((length - 1) << 8) | word
                    held_bits += 14
                elif length <= 16:
                    held = (held << 15) | (5 << 12) | ((length - 1) << 8) | word
                    held_bits += 15
                else:
                    held = (held << 19) | (6 << 16) | ((length - 1) << 8) | word
                    held_bits += 19
            left -= length
            while held_bits >= 8:
                held_bits -= 8
                out[size] = (held >> held_bits) & 255
                size += 1
            held &= (1 << held_bits) - 1
    # The SDK always pads, by a whole byte where none is needed.
    out[size] = held << (8 - held_bits)
    return out[: size + 1].copy()


@kernel
def coco_counts(columns: Runs, pixels: int) -> Bytes:
    """The compressed `counts` of column-major runs."""
    out = np.empty(14 * len(columns) + 14, dtype=np.uint8)
    size = 0
    position = before = before_that = 0  # the last count and the one before it
    total = 2 * len(columns) + 1
    if len(columns) and columns[-1, 1] == pixels:
        total -= 1
    for i in range(total):
        stop = columns[i >> 1, i & 1] if i < 2 * len(columns) else pixels
        length = stop - position
        position = stop
        value = length - before_that if i > 2 else length
        before_that, before = before, length
        more = True
        while more:
            five_bits = value & 31
            value >>= 5
            more = value != (-1 if five_bits & 16 else 0)
            out[size] = (five_bits | 32 if more else five_bits) + 48
            size += 1
    return out[:size].copy()


@kernel
def coco_runs(text: Bytes, pixels: int) -> tuple[Runs, bool]:
    """Column-major runs of compressed `counts`, and whether they are of so many pixels."""
    runs = np.empty((len(text) // 2 + 1, 2), dtype=np.int64)
    count = 0
    position = before = before_that = 0
    value = shift_bits = index = 0
    for i in range(len(text)):
        code = np.int64(text[i]) - 48
        if code < 0 or code > 63 or shift_bits > 45:
            return runs[:0].copy(), False
        value |= (code & 31) << shift_bits
        shift_bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift_bits
        if index > 2:
            value += before_that
        if value < 0 or value > pixels - position:
            return runs[:0].copy(), False
        if index & 1 and value > 0:
            runs[count, 0] = position
            runs[count, 1] = position + value
            count += 1
        position += value
        before_that, before = before, value
        value = shift_bits = 0
        index += 1
    if shift_bits or position != pixels:
        return runs[:0].copy(), False
    return joined(runs, count), True
