"""Generated scenes: seeded, exact labels, every kind; and their way into the network."""

from __future__ import annotations

import numpy as np
import pytest

from ml_backend.weights.scenes import HELD_OUT_SEED, KINDS, MIN_OBJECT_PX, make_scene
from ml_backend.weights.shapes import OUTLINES, draw, outline
from ml_backend.weights.textures import noise_field, surface

SEEDS = range(24)


def test_a_seed_gives_the_same_scene_twice() -> None:
    for seed in (0, 5, HELD_OUT_SEED):
        one, two = make_scene(seed), make_scene(seed)
        assert one.kind == two.kind
        assert np.array_equal(one.image, two.image)
        assert np.array_equal(one.labels, two.labels)


def test_seeds_differ() -> None:
    assert len({make_scene(seed).image.tobytes() for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_are_disjoint_gapless_and_large_enough_to_click(seed: int) -> None:
    scene = make_scene(seed)
    height_px, width_px = scene.labels.shape
    assert scene.image.dtype == np.uint8
    assert scene.image.shape == (height_px, width_px, 3)
    assert scene.labels.dtype == np.int32
    assert 192 <= min(height_px, width_px) <= max(height_px, width_px) <= 352
    numbers, areas = np.unique(scene.labels, return_counts=True)
    objects = numbers[numbers > 0]
    assert objects.tolist() == list(range(1, scene.count + 1))
    assert (areas[numbers > 0] >= MIN_OBJECT_PX).all()


def test_every_kind_appears_and_nearly_every_scene_has_objects() -> None:
    scenes = [make_scene(seed) for seed in range(100, 160)]
    assert {scene.kind for scene in scenes} == set(KINDS)
    assert sum(scene.count > 0 for scene in scenes) >= 58


def test_kinds_are_a_distribution() -> None:
    assert sum(KINDS.values()) == pytest.approx(1.0)


def test_grey_and_coloured_pictures_both_appear() -> None:
    grey = [bool((s.image == s.image[..., :1]).all()) for s in map(make_scene, range(12))]
    assert any(grey)
    assert not all(grey)


@pytest.mark.parametrize("kind", OUTLINES)
def test_outlines_stay_near_their_radius(kind: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        coverage = draw(outline(rng, kind, 30.0), (100.0, 100.0), 200, 200)
        assert coverage.dtype == np.float32
        assert coverage.min() >= 0.0
        assert coverage.max() == 1.0
        rows, columns = np.nonzero(coverage > 0.5)
        assert np.hypot(rows - 100, columns - 100).max() < 75


def test_surfaces_stay_in_range_and_flat_ones_are_flat() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        rgb = surface(rng, 40, 50, contrast=1.0)
        assert rgb.shape == (40, 50, 3)
        assert 0.0 <= rgb.min() <= rgb.max() <= 1.0
    base = np.array([0.2, 0.4, 0.6], np.float32)
    flat = surface(rng, 8, 8, contrast=0.0, base=base)
    assert np.allclose(flat, base, atol=1e-6)


def test_noise_fields_are_deterministic_and_bounded() -> None:
    one = noise_field(np.random.default_rng(4), 33, 57)
    assert one.shape == (33, 57)
    assert 0.0 <= one.min() < one.max() <= 1.0
    assert np.array_equal(one, noise_field(np.random.default_rng(4), 33, 57))
