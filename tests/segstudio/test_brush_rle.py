"""The brush codec against the SDK's, on good streams, odd streams and damaged ones."""

from __future__ import annotations

import os
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_studio_sdk.converter.brush import decode_rle, encode_rle, mask2rle
from numpy.typing import NDArray

from segstudio import runs, runs_reference
from segstudio.brush_rle import BrushRleError, decode, encode
from segstudio.masks import Mask

FUZZED_STREAMS = int(os.environ.get("SEGSTUDIO_FUZZED_STREAMS", "100000"))

shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))
images = shapes.flatmap(lambda shape: arrays(np.bool_, shape))


def rle_pack(
    values: list[int],
    word_bits: int,
    run_bits: tuple[int, int, int, int],
    chunks: list[tuple[bool, int, int]],
) -> list[int]:
    """A stream of `values` cut into chunks (repeat, index of run size, length), by the format."""
    bits = [f"{len(values):032b}", f"{word_bits - 1:05b}", *(f"{n - 1:04b}" for n in run_bits)]
    at = 0
    for repeat, index, length in chunks:
        assert length <= 1 << run_bits[index]
        bits.append(f"{repeat:b}{index:02b}{length - 1:0{run_bits[index]}b}")
        words = values[at : at + length]
        assert not repeat or len(set(words)) == 1
        bits += [f"{word:0{word_bits}b}" for word in (words[:1] if repeat else words)]
        at += length
    assert at == len(values)
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


@settings(deadline=None)
@given(images)
def test_streams_are_byte_for_byte_those_of_the_sdk(image: NDArray[np.bool_]) -> None:
    expected = mask2rle(image.astype(np.uint8) * 255)
    assert encode(Mask.from_dense(image)) == expected
    assert encode(image) == expected
    assert decode(expected, *image.shape) == Mask.from_dense(image)


@pytest.mark.parametrize("size", [(1, 1), (1, 16_384), (129, 127), (400, 300), (1, 100_000)])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.5, 1.0])
def test_streams_with_long_runs(size: tuple[int, int], density: float) -> None:
    image = np.random.default_rng(0).random(size) < density
    stream = mask2rle(image.astype(np.uint8) * 255)
    assert encode(image) == stream
    assert decode(stream, *size) == Mask.from_dense(image)


@settings(deadline=None)
@given(shapes.flatmap(lambda s: arrays(np.uint8, (*s, 4), elements=st.sampled_from([0, 1, 255]))))
def test_the_alpha_channel_is_the_mask(rgba: NDArray[np.uint8]) -> None:
    stream = encode_rle(rgba.ravel())
    assert (decode_rle(stream).reshape(rgba.shape) == rgba).all()
    assert decode(stream, *rgba.shape[:2]) == Mask.from_dense(rgba[..., 3])


@st.composite
def packed_streams(draw: st.DrawFn) -> tuple[list[int], NDArray[np.int64]]:
    """Any stream the header allows: any word size, any run sizes, chunks of any kind."""
    word_bits = draw(st.integers(1, 32))
    sizes = draw(st.tuples(*[st.integers(1, 16)] * 4))
    pixels = draw(st.integers(1, 40))
    values: list[int] = []
    chunks = []
    while len(values) < 4 * pixels:
        repeat, index = draw(st.booleans()), draw(st.integers(0, 3))
        length = draw(st.integers(1, min(1 << sizes[index], 4 * pixels - len(values))))
        word = st.sampled_from([0, 1, (1 << word_bits) - 1])
        values += [draw(word)] * length if repeat else [draw(word) for _ in range(length)]
        chunks.append((repeat, index, length))
    return rle_pack(values, word_bits, sizes, chunks), np.array(values)


@settings(deadline=None, max_examples=200)
@given(packed_streams())
def test_every_word_size_run_size_and_chunk_is_read(
    packed: tuple[list[int], NDArray[np.int64]],
) -> None:
    stream, values = packed
    expected = Mask.from_dense(values.reshape(1, -1, 4)[..., 3])
    assert decode(stream, 1, len(values) // 4) == expected
    reference, status, _ = runs_reference.brush_decode(bytes(stream), len(values) // 4)
    assert status == 0
    np.testing.assert_array_equal(reference, expected.runs)


def test_chunks_may_end_within_a_pixel() -> None:
    values = [9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 7]
    chunks = [(True, 1, 7), (True, 0, 2), (False, 1, 3)]
    stream = rle_pack(values, 8, (3, 4, 8, 16), chunks)
    assert decode(stream, 1, 3).to_dense().tolist() == [[True, False, True]]


def test_streams_may_come_as_bytes_or_arrays() -> None:
    mask = Mask.from_dense([[0, 1, 1], [0, 0, 1]])
    stream = encode(mask)
    for form in (stream, tuple(stream), bytes(stream), np.array(stream), np.uint8(stream)):
        assert decode(form, 2, 3) == mask


@pytest.mark.parametrize(
    ("rle", "size", "sentence"),
    [
        ([], (1, 1), "header of 7 bytes; this one has 0"),
        ([0, 0, 0, 4, 57], (1, 1), "this one has 5"),
        ([0, 0, 0, 4, 57, 27, 252], (1, 1), "ends after 7 bytes, before the last of its 1 x 1"),
        (encode(Mask.full(2, 2)), (2, 3), r"counts 16 values, but the region says 3 x 2 pixels"),
        (encode(Mask.full(40, 40))[:-3], (40, 40), "ends after 8 bytes"),
        ([0, 0, 0, 4, 57, 27, 252, 255, 255, 255], (1, 1), r"passes the last of its .* by 4"),
        ([*encode(Mask.full(2, 2)), 1], (2, 2), "1 bytes follow the last pixel"),
        ([*encode(Mask.full(2, 2)), 0, 0], (2, 2), "2 bytes follow"),
        ([0, 0, 0, 4, 57, 27, 256], (1, 1), "value 6 is 256"),
        ([0, 0, 0, 4, 57, 27, -1], (1, 1), "value 6 is -1"),
        ([0, 0, 0, 4, 57, 27, 1.5], (1, 1), "value 6 is 1.5"),
        ([0, None], (1, 1), "value 1 is None"),
        ("AAAEORs=", (1, 1), "not str"),
        (7, (1, 1), "not int"),
        ([255] * 20, (65536, 65536), "65536 x 65536 pixels is above the limit of 1073741824"),
        ([255] * 20, (-1, 5), "cannot be 5 x -1"),
    ],
)
def test_damaged_streams_are_refused_in_a_sentence(
    rle: Any, size: tuple[int, int], sentence: str
) -> None:
    with pytest.raises(BrushRleError, match=sentence):
        decode(rle, *size)


def test_one_zero_byte_may_follow_as_the_sdk_pads() -> None:
    for width_px in range(1, 60):
        mask = Mask.from_dense(np.arange(width_px)[None] % 3 > 0)
        stream = encode(mask)
        assert decode(stream, 1, width_px) == mask
        if stream[-1] == 0:
            _, status, _ = runs.brush_decode(bytes(stream[:-1]), width_px)
            assert status in (0, 1)


def test_a_header_cannot_ask_for_memory() -> None:
    promise = [0xFF, 0xFF, 0xFF, 0xFC, 57, 27, *[255] * 30]  # a billion pixels in 36 bytes
    decode(encode(Mask.full(1, 1)), 1, 1)
    tracemalloc.start()
    with pytest.raises(BrushRleError, match="ends after 36 bytes"):
        decode(promise, 1, (1 << 30) - 1)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_a_mask_above_the_header_s_count_is_refused() -> None:
    with pytest.raises(BrushRleError, match="this mask has 1073741824"):
        encode(Mask.full(1 << 15, 1 << 15))


def test_fuzzed_streams_decode_or_are_refused() -> None:
    """Random and mutated bytes: never a crash or a hang, and always proper runs or a sentence.

    SEGSTUDIO_FUZZED_STREAMS sets how many (100,000 take some seconds).
    """
    chance = random.Random(2026)
    seeds = [
        (encode(np.random.default_rng(seed).random((h, w)) < 0.4), h, w)
        for seed, (h, w) in enumerate([(1, 1), (3, 5), (17, 13), (40, 30), (64, 64)])
    ]
    rgba = np.random.default_rng(9).integers(0, 3, (12, 9, 4)).astype(np.uint8)
    seeds.append((encode_rle(rgba.ravel()), 12, 9))
    outcomes = {"read": 0, "refused": 0}
    for number in range(FUZZED_STREAMS):
        stream, height_px, width_px = chance.choice(seeds)
        data = bytearray(stream)
        for _ in range(chance.randint(1, 4)):
            position = chance.randrange(7 if number % 3 else 0, len(data))
            change = chance.randrange(5)
            if change == 0:
                data[position] ^= 1 << chance.randrange(8)
            elif change == 1:
                data[position] = chance.randrange(256)
            elif change == 2:
                data[position:position] = chance.randbytes(chance.randint(1, 8))
            elif change == 3:
                del data[position : position + chance.randint(1, 8)]
            else:
                data[position:] = chance.randbytes(chance.randint(0, 40))
            if len(data) < 9:
                data += chance.randbytes(9)
        if number % 5 == 0:
            data = bytearray(chance.randbytes(chance.randint(0, 200)))
            data[:4] = (4 * height_px * width_px).to_bytes(4, "big")
        try:
            mask = decode(bytes(data), height_px, width_px)
        except BrushRleError as error:
            assert str(error).endswith((".", "damaged."))
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        bounds = mask.runs.ravel()
        assert (np.diff(bounds) > 0).all()
        assert not len(bounds) or 0 <= bounds[0] < bounds[-1] <= height_px * width_px
        if number % 50 == 0:
            expected, status, _ = runs_reference.brush_decode(bytes(data), height_px * width_px)
            assert status == 0
            np.testing.assert_array_equal(mask.runs, expected)
    assert outcomes["read"] > FUZZED_STREAMS // 100
    assert outcomes["refused"] > FUZZED_STREAMS // 10
