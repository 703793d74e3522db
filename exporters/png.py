"""PNG bytes of label images, fast: true colour, palette (8 bit) and 16-bit grey.

Label images are smooth down the columns, so every row is stored as its difference to the row
above (PNG's "Up" filter) and then deflated. Pillow and OpenCV try several filters per row, which
costs most of their time and gains nothing here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3
# zlib-ng's level 2 makes files as small as zlib's 4 in a fifth of the time; its 1 doubles them.
_LEVEL = 2
_BLOCK_BYTES = 16 << 20
_CACHED_BYTES = 1 << 18


def rgb_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return the PNG of a true-colour image.

    Args:
        pixels: (height, width, 3) uint8, red first.

    Raises:
        ValueError: another shape or dtype, or no pixel at all.

    >>> import io
    >>> from PIL import Image
    >>> picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    >>> bool((np.asarray(Image.open(io.BytesIO(rgb_png(picture)))) == picture).all())
    True
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"A true-colour PNG needs (height, width, 3) uint8, got {pixels.shape} {pixels.dtype}."
        )
    height_px, width_px = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height_px, width_px * 3)
    return _png(rows, width_px, bit_depth=8, colour_type=_RGB, palette=b"")


def painted_png(
    painted: Sequence[tuple[NDArray[np.int64], Sequence[int]]], height_px: int, width_px: int
) -> bytes:
    """Return the true-colour PNG of coloured runs on black; its picture is never made.

    Args:
        painted: runs as (n, 2) [start, stop) flat pixels, sorted, and their (red, green, blue);
            no two share a pixel.
        height_px: of the picture.
        width_px: of the picture.

    Raises:
        ValueError: no pixel at all.
    """
    colors = np.array([(0, 0, 0), *(color for _, color in painted)], dtype=np.uint8)
    blocks = _painted_blocks([runs for runs, _ in painted], colors, height_px, width_px)
    return _png_of(
        _deflate(blocks), width_px, height_px, bit_depth=8, colour_type=_RGB, palette=b""
    )


def indexed_png(indices: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> bytes:
    """Return the 8-bit palette PNG of an index image; every index must have a colour.

    Args:
        indices: (height, width) uint8.
        palette: up to 256 (red, green, blue), 0..255 each.

    Raises:
        ValueError: another shape or dtype, no pixel at all, or an index without a colour.
    """
    if indices.ndim != 2 or indices.dtype != np.uint8:
        raise ValueError(
            f"A palette PNG needs (height, width) uint8, got {indices.shape} {indices.dtype}."
        )
    if not 1 <= len(palette) <= 256:
        raise ValueError(f"A palette has 1 to 256 colours, got {len(palette)}.")
    if indices.size and int(indices.max()) >= len(palette):
        raise ValueError(
            f"The image uses index {int(indices.max())}, but the palette ends at "
            f"{len(palette) - 1}."
        )
    colours = b"".join(bytes(colour) for colour in palette)
    rows = np.ascontiguousarray(indices)
    return _png(rows, indices.shape[1], bit_depth=8, colour_type=_PALETTE, palette=colours)


def grey8_png(values: NDArray[np.uint8]) -> bytes:
    """Return the 8-bit grey PNG of a (height, width) uint8 image.

    Raises:
        ValueError: another shape or dtype, or no pixel at all.
    """
    if values.ndim != 2 or values.dtype != np.uint8:
        raise ValueError(
            f"An 8-bit PNG needs (height, width) uint8, got {values.shape} {values.dtype}."
        )
    rows = np.ascontiguousarray(values)
    return _png(rows, values.shape[1], bit_depth=8, colour_type=_GREY, palette=b"")


def grey16_png(values: NDArray[np.uint16]) -> bytes:
    """Return the 16-bit grey PNG of a (height, width) uint16 image.

    Raises:
        ValueError: another shape or dtype, or no pixel at all.
    """
    if values.ndim != 2 or values.dtype != np.uint16:
        raise ValueError(
            f"A 16-bit PNG needs (height, width) uint16, got {values.shape} {values.dtype}."
        )
    rows = np.ascontiguousarray(values.astype(">u2")).view(np.uint8)
    return _png(rows, values.shape[1], bit_depth=16, colour_type=_GREY, palette=b"")


def _png(
    rows: NDArray[np.uint8], width_px: int, *, bit_depth: int, colour_type: int, palette: bytes
) -> bytes:
    return _png_of(
        _deflate(_blocks(rows)), width_px, rows.shape[0], bit_depth=bit_depth,
        colour_type=colour_type, palette=palette,
    )  # fmt: skip


def _png_of(
    content: bytes, width_px: int, height_px: int, *, bit_depth: int, colour_type: int,
    palette: bytes,
) -> bytes:  # fmt: skip
    if height_px == 0 or width_px == 0:
        raise ValueError(f"A PNG needs at least one pixel, got {width_px} x {height_px}.")
    header = struct.pack(">IIBBBBB", width_px, height_px, bit_depth, colour_type, 0, 0, 0)
    chunks = [_SIGNATURE, _chunk(b"IHDR", header)]
    if palette:
        chunks.append(_chunk(b"PLTE", palette))
    chunks += [_chunk(b"IDAT", content), _chunk(b"IEND", b"")]
    return b"".join(chunks)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return b"".join(
        (struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", _crc(kind, payload)))
    )


def _crc(kind: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(kind))


def _deflate(blocks: Iterable[NDArray[np.uint8]]) -> bytes:
    """Deflate filtered rows block by block, so that memory stays bounded whatever the picture."""
    deflate = zlib_ng.compressobj(_LEVEL)
    parts = [deflate.compress(block) for block in blocks]
    return b"".join((*parts, deflate.flush()))


def _blocks(rows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    from exporters.paint_kernels import filter_up

    step = max(1, _BLOCK_BYTES // max(1, rows.shape[1]))
    above = np.zeros(rows.shape[1], np.uint8)
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step]
        yield filter_up(block, above)
        above = block[-1]


def _painted_blocks(
    layers: Sequence[NDArray[np.int64]], colors: NDArray[np.uint8], height_px: int, width_px: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the filtered rows in small buffers, which stay in the processor's cache."""
    from exporters.paint_kernels import filter_up_painted, paint_rows

    runs = np.concatenate([np.zeros((0, 2), np.int64), *layers])
    lengths = np.array([len(one) for one in layers], dtype=np.int64)
    ends = np.cumsum(lengths)
    at, numbers = ends - lengths, np.arange(1, len(colors))
    # Rows are padded, so that they can be compared eight bytes at a time.
    step = min(max(1, _CACHED_BYTES // (3 * width_px + 1)), max(1, height_px))
    rows = np.zeros((step + 1, -(-width_px // 8) * 8), np.uint8 if len(colors) < 256 else np.uint32)
    words = rows.reshape(-1).view(np.uint64)
    padded = width_px != rows.shape[1]
    plain = np.empty((step, width_px), rows.dtype) if padded else rows[1:]
    filtered = np.zeros((step, 3 * width_px + 1), np.uint8)
    filtered[:, 0] = 2
    touched, changed = np.empty(len(words), np.int64), 0
    for first in range(0, height_px, step):
        count = min(step, height_px - first)
        paint_rows(runs, ends, numbers, at, first, plain[:count])
        if padded:
            rows[1 : count + 1, :width_px] = plain[:count]
        used = words[: (count + 1) * (len(words) // (step + 1))]
        changed = filter_up_painted(rows[: count + 1], used, colors, filtered, touched, changed)
        yield filtered[:count]
        rows[0] = rows[count]
