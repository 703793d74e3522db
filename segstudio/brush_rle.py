"""Label Studio's brush bytes to masks and back.

The stream is the rle-pack format of thi.ng/umbrella over the RGBA bytes of the canvas: a header
(count of values in 32 bits, word size - 1 in 5 bits, four run sizes - 1 in 4 bits each), then
chunks: a flag bit, a 2-bit index of the run size, the length - 1, and one word repeated (flag 1)
or that many words (flag 0). Chunks need not end where a pixel ends. The alpha channel is the
mask: a pixel is on when its alpha is above 0, whatever its colour; `label_studio_sdk`'s
`decode_rle` returns the raw values, of which `[..., 3] > 0` is the same mask. Decoding goes from
the stream to runs and never makes the image, so a header cannot ask for memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segstudio import runs as kernels
from segstudio.masks import Mask, MaskError, check_size

_HEADER_BYTES = 7


class BrushRleError(ValueError):
    """A brush stream that cannot be read; the message says why."""


def decode(rle: Sequence[int] | bytes | NDArray[np.uint8], height_px: int, width_px: int) -> Mask:
    """The mask of a brush stream: the pixels whose alpha is above 0.

    Args:
        rle: the stream as Label Studio's JSON has it, a list of ints 0..255, or as bytes.
        height_px: `original_height` of the region.
        width_px: `original_width` of the region.

    Raises:
        BrushRleError: when the values are not bytes, the size is above `masks.MAX_PIXELS` or
            differs from the header's, the stream ends early, a run passes the last pixel, or
            more than the one zero byte that the SDK pads with follows the last pixel.

    >>> decode([0, 0, 0, 4, 57, 27, 252, 127, 224], 1, 1)
    Mask(1 x 1 px, 1 px on, runs: 1)
    """
    try:
        check_size(height_px, width_px)
    except MaskError as error:
        raise BrushRleError(str(error)) from error
    data = _as_bytes(rle)
    if len(data) < _HEADER_BYTES:
        raise BrushRleError(
            f"A brush stream starts with a header of {_HEADER_BYTES} bytes; this one has"
            f" {len(data)} bytes in all."
        )
    runs, status, detail = kernels.brush_decode(data, height_px * width_px)
    if status:
        raise BrushRleError(_sentence(status, detail, height_px, width_px))
    return Mask(height_px, width_px, runs)


def encode(mask: Mask | NDArray[np.generic]) -> list[int]:
    """The brush stream of a mask, as a list of ints for Label Studio's JSON.

    On pixels get 255 in all four channels. The bytes are those of `label_studio_sdk`'s
    `mask2rle(255 * mask)`, its trailing pad byte included. A (height, width) array counts as on
    wherever it is not 0.

    Raises:
        BrushRleError: when the mask has more pixels than the header's 32 bits can count.

    >>> encode(Mask.full(1, 1))
    [0, 0, 0, 4, 57, 27, 252, 127, 224]
    """
    if not isinstance(mask, Mask):
        mask = Mask.from_dense(mask)
    pixels = mask.height_px * mask.width_px
    if 4 * pixels >= 1 << 32:
        raise BrushRleError(
            f"A brush stream counts its values in 32 bits, which ends below {1 << 30} pixels;"
            f" this mask has {pixels}."
        )
    return list(kernels.brush_encode(mask.runs, pixels))


def _as_bytes(rle: Any) -> bytes:
    if isinstance(rle, bytes):
        return rle
    if isinstance(rle, np.ndarray):
        rle = rle.tobytes() if rle.dtype == np.uint8 else rle.ravel().tolist()
    if isinstance(rle, str) or not isinstance(rle, Sequence):
        raise BrushRleError(
            f"A brush stream is a list of ints from 0 to 255, not {type(rle).__name__}."
        )
    try:
        return bytes(rle)
    except (TypeError, ValueError) as error:
        at, value = next(
            (i, v) for i, v in enumerate(rle) if not isinstance(v, int) or not 0 <= v <= 255
        )
        raise BrushRleError(
            f"A brush stream is a list of ints from 0 to 255; value {at} is {value!r}."
        ) from error


def _sentence(status: int, detail: int, height_px: int, width_px: int) -> str:
    size = f"{width_px} x {height_px} pixels ({4 * height_px * width_px} RGBA bytes)"
    if status == 2:
        return (
            f"The header of this brush stream counts {detail} values, but the region says {size}:"
            " original_width and original_height belong to another image, or the stream is damaged."
        )
    if status == 3:
        return f"A run of this brush stream passes the last of its {size} by {detail} values."
    if status == 4:
        return f"{detail} bytes follow the last pixel of this brush stream of {size}."
    return f"This brush stream ends after {detail} bytes, before the last of its {size}."
