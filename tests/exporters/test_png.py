import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exporters import png
from segstudio.masks import Mask


def read_png(data: bytes) -> np.ndarray:
    """A from-scratch reader of the three kinds of PNG we write, following the specification."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind, rest = data[position + 4 : position + 8], data[position + 8 :]
        payload = rest[:length]
        (crc,) = struct.unpack(">I", rest[length : length + 4])
        assert crc == zlib.crc32(kind + payload)
        chunks.append((kind, payload))
        position += 12 + length
    assert chunks[0][0] == b"IHDR" and chunks[-1] == (b"IEND", b"")
    width, height, depth, colour, *last = struct.unpack(">IIBBBBB", chunks[0][1])
    assert last == [0, 0, 0]
    assert depth == {2: 8, 3: 8, 0: 16}[colour]
    pixel_bytes = {2: 3, 3: 1, 0: 2}[colour]
    raw = zlib.decompress(b"".join(payload for kind, payload in chunks if kind == b"IDAT"))
    assert len(raw) == height * (1 + width * pixel_bytes)
    above, rows = np.zeros(width * pixel_bytes, np.uint8), []
    for y in range(height):
        line = raw[y * (1 + width * pixel_bytes) :][: 1 + width * pixel_bytes]
        assert line[0] == 2
        row = np.frombuffer(line[1:], np.uint8)
        above = row + above
        rows.append(above)
    flat = np.stack(rows)
    if colour == 2:
        return flat.reshape(height, width, 3)
    return flat if colour == 3 else flat.view(">u2").astype(np.uint16)


SIZES = [(1, 1), (1, 7), (5, 1), (33, 40)]


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_rgb_png_is_read_back_by_pillow_and_from_scratch(height_px: int, width_px: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    data = png.rgb_png(pixels)
    image = Image.open(io.BytesIO(data))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)
    assert np.array_equal(read_png(data), pixels)


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_indexed_png_keeps_indices_and_palette(height_px: int, width_px: int) -> None:
    indices = np.random.default_rng(1).integers(0, 3, (height_px, width_px), dtype=np.uint8)
    palette = [(0, 0, 0), (255, 1, 2), (3, 4, 255)]
    data = png.indexed_png(indices, palette)
    image = Image.open(io.BytesIO(data))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), indices)
    assert np.array_equal(read_png(data), indices)
    assert np.array_equal(np.asarray(image.convert("RGB")), np.array(palette, np.uint8)[indices])


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_grey16_png_keeps_values_above_255(height_px: int, width_px: int) -> None:
    values = np.random.default_rng(2).integers(0, 65536, (height_px, width_px), dtype=np.uint16)
    data = png.grey16_png(values)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), values)
    assert np.array_equal(read_png(data), values)


def test_a_picture_of_several_blocks_reads_back_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = np.random.default_rng(3).integers(0, 4, (97, 31, 3), dtype=np.uint8)
    monkeypatch.setattr(png, "_BLOCK_BYTES", 1000)
    assert np.array_equal(read_png(png.rgb_png(pixels)), pixels)


def test_the_same_picture_gives_the_same_bytes_whatever_its_memory_layout() -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert png.rgb_png(pixels) == png.rgb_png(np.asfortranarray(pixels))
    padded = np.zeros((20, 60, 3), np.uint8)
    padded[:, ::2] = pixels
    assert png.rgb_png(padded[:, ::2]) == png.rgb_png(pixels)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_any_index_image_survives(height_px: int, width_px: int, seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, top + 1, (height_px, width_px), dtype=np.uint8)
    data = png.indexed_png(indices, [(i, 0, 255 - i) for i in range(256)])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), indices)


@pytest.mark.parametrize(
    ("call", "part_of_sentence"),
    [
        (lambda: png.rgb_png(np.zeros((2, 2), np.uint8)), "true-colour PNG needs"),
        (lambda: png.rgb_png(np.zeros((0, 2, 3), np.uint8)), "at least one pixel"),
        (lambda: png.rgb_png(np.zeros((2, 2, 3), np.int32)), "int32"),
        (lambda: png.indexed_png(np.full((2, 2), 3, np.uint8), [(0, 0, 0)]), "index 3"),
        (lambda: png.indexed_png(np.zeros((2, 2), np.uint8), []), "1 to 256 colours"),
        (lambda: png.indexed_png(np.zeros((2, 2), np.uint16), [(0, 0, 0)]), "palette PNG needs"),
        (lambda: png.grey16_png(np.zeros((2, 2), np.uint8)), "16-bit PNG needs"),
    ],
)
def test_a_picture_that_does_not_fit_is_refused_in_a_sentence(call, part_of_sentence: str) -> None:
    with pytest.raises(ValueError, match=part_of_sentence):
        call()


@pytest.mark.parametrize("width_px", [1, 7, 8, 24, 129])
@pytest.mark.parametrize("count", [0, 1, 40, 300])
def test_coloured_runs_give_the_bytes_of_their_picture(
    width_px: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "_CACHED_BYTES", 1000)
    rng = np.random.default_rng(width_px)
    colors = rng.integers(0, 256, (count + 1, 3), dtype=np.uint8)
    colors[0] = 0
    small = rng.integers(0, count + 1, (20, -(-width_px // 3)))
    numbers = np.repeat(np.repeat(small, 3, axis=0), 3, axis=1)[:, :width_px]
    masks = [Mask.from_dense(numbers == number) for number in range(1, count + 1)]
    painted = [(mask.runs, color) for mask, color in zip(masks, colors[1:], strict=True)]
    assert png.painted_png(painted, 60, width_px) == png.rgb_png(colors[numbers])
