"""Every compiled kernel against its plain numpy twin, on any mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segstudio import runs, runs_reference

Dense = NDArray[np.bool_]


@st.composite
def images(draw: st.DrawFn, sides: tuple[int, int] = (1, 24)) -> Dense:
    """Images of all densities, from noise to thick stripes and solid blocks."""
    height, width = draw(st.integers(*sides)), draw(st.integers(*sides))
    seed, density = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0, 0.1, 0.5, 0.9, 1]))
    block = draw(st.integers(1, 6))
    small = np.random.default_rng(seed).random((height, width)) < density
    return np.repeat(np.repeat(small, block, 0), block, 1)[:height, :width]


def of(image: Dense) -> runs.Runs:
    return runs_reference.from_dense(image.ravel())


def assert_same(name: str, *arguments: Any) -> None:
    ours = getattr(runs, name)(*arguments)
    expected = getattr(runs_reference, name)(*arguments)
    np.testing.assert_array_equal(ours, expected, err_msg=name)


@settings(deadline=None)
@given(images())
def test_dense_images_become_runs_and_come_back(image: Dense) -> None:
    flat = image.ravel()
    assert_same("from_dense", flat)
    np.testing.assert_array_equal(runs.to_dense(of(image), flat.size), flat)


@settings(deadline=None)
@given(images())
def test_area_and_box_are_those_of_the_pixels(image: Dense) -> None:
    assert_same("area", of(image))
    if image.any():
        assert_same("box", of(image), image.shape[1])


@settings(deadline=None)
@given(images(), st.integers(0, 26))
def test_runs_grow_within_their_rows(image: Dense, distance: int) -> None:
    assert_same("grow_rows", of(image), image.shape[1], distance)


@pytest.mark.parametrize("offset", range(8))
def test_an_image_may_start_at_any_address(offset: int) -> None:
    flat = (np.random.default_rng(offset).random(1000) < 0.3)[offset:]
    assert_same("from_dense", flat)


def test_true_pixels_may_be_stored_as_any_byte() -> None:
    flat = np.array([0, 255, 2, 0, 0, 128, 1, 1, 0, 7], dtype=np.uint8).view(np.bool_)
    assert runs.from_dense(flat).tolist() == [[1, 3], [5, 8], [9, 10]]


def test_images_larger_than_one_block_of_the_scan() -> None:
    assert_same("from_dense", np.random.default_rng(1).random(300_001) < 0.5)


@settings(deadline=None)
@given(images(), st.integers(0, 2**32 - 1))
def test_set_operations_equal_those_on_pixels(image: Dense, seed: int) -> None:
    a, b = of(image), of(np.random.default_rng(seed).random(image.shape) < 0.5)
    for name in ("intersection", "union", "difference", "symmetric_difference"):
        assert_same(name, a, b)
    assert_same("intersection_area", a, b)


@settings(deadline=None)
@given(images(), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_parts_are_united(image: Dense, others: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [of(image), *(of(random.random(image.shape) < 0.3) for _ in range(others))]
    counts = np.array([len(part) for part in parts])
    assert_same("unite", np.concatenate(parts), counts)


@pytest.mark.parametrize("pixels", [2_000, 1 << 12, 1 << 23, 1 << 30])
@pytest.mark.parametrize("sizes", [(300, 0, 400), (1, 600), (200, 200, 0, 200, 200)])
def test_many_runs_of_parts_are_ordered_by_start(pixels: int, sizes: tuple[int, ...]) -> None:
    from segstudio.merge_kernels import order_of_parts

    random = np.random.default_rng(0)
    starts = np.concatenate([np.sort(random.integers(0, pixels, size)) for size in sizes])
    parts = np.stack([starts, starts + 1], axis=1)
    for runs_of_parts in (parts, parts - 5, np.sort(parts, axis=0)):
        found = order_of_parts(runs_of_parts, np.array(sizes))
        assert np.array_equal(found, np.argsort(runs_of_parts[:, 0], kind="stable"))


@settings(deadline=None)
@given(images(), st.integers(0, 6), st.sampled_from([0.003, 0.03, 0.5]), st.integers(0, 2**32 - 1))
def test_pixels_far_from_others_are_found(
    image: Dense, distance: int, density: float, seed: int
) -> None:
    others = of(np.random.default_rng(seed).random(image.shape) < density)
    assert_same("farther", of(image), others, *image.shape, distance)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9))))
def test_any_intervals_become_proper_runs(intervals: list[tuple[int, int]]) -> None:
    pairs = np.array(intervals, dtype=np.int64).reshape(-1, 2)
    starts, stops = pairs[:, 0].copy(), pairs.sum(axis=1)
    assert_same("normalize", starts, stops)


@settings(deadline=None)
@given(images(), st.integers(-26, 26), st.integers(-26, 26))
def test_geometry_equals_that_of_pixels(image: Dense, dx: int, dy: int) -> None:
    height, width = image.shape
    for name in ("transpose", "flip_rows", "coco_counts"):
        assert_same(name, of(image), height, width)
    assert_same("shift", of(image), height, width, dx, dy)
    assert_same("resize", of(image), height, width, abs(dx) + 1, abs(dy) + 1)
    assert_same("shrink_rows", of(image), height, width, abs(dx) % 5)
    assert_same("split_rows", of(image), width)


@settings(deadline=None)
@given(images())
def test_both_ways_to_transpose_agree(image: Dense) -> None:
    from segstudio import run_kernels

    height, width = image.shape
    expected = runs_reference.transpose(of(image), height, width)
    np.testing.assert_array_equal(run_kernels.turn_runs(of(image), height, width), expected)
    turned = run_kernels.turn_dense(image.ravel(), height, width)
    np.testing.assert_array_equal(runs.from_dense(turned), expected)


@settings(deadline=None)
@given(images(sides=(1, 12)), st.integers(0, 1))
def test_components_equal_those_of_the_quadratic_search(image: Dense, reach: int) -> None:
    segments = runs_reference.split_rows(of(image), image.shape[1])
    assert_same("component_labels", segments, image.shape[1], reach)


@settings(deadline=None)
@given(images())
def test_codecs_equal_the_bit_by_bit_ones(image: Dense) -> None:
    height, width = image.shape
    assert_same("brush_encode", of(image), image.size)
    stream = runs.brush_encode(of(image), image.size)
    for decode in (runs.brush_decode, runs_reference.brush_decode):
        decoded, status, _ = decode(stream, image.size)
        assert status == 0
        np.testing.assert_array_equal(decoded, of(image))
    counts = runs.coco_counts(of(image), height, width)
    assert_same("coco_runs", counts, image.size)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=20), st.integers(0, 40))
def test_damaged_coco_counts_are_told_from_good_ones(counts: bytes, pixels: int) -> None:
    text = bytes(48 + byte % 80 for byte in counts)
    ours, expected = runs.coco_runs(text, pixels), runs_reference.coco_runs(text, pixels)
    assert (ours is None) == (expected is None)
    if ours is not None and expected is not None:
        np.testing.assert_array_equal(ours, expected)


def test_an_unknown_kernel_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'erosion'"):
        _ = runs.erosion
