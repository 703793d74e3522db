"""The compiled loops against the same in plain numpy, on tables full of ties."""

from __future__ import annotations

import numpy as np
import pytest

from qa_plugins.metrics.instances_kernel import clear_partners, iou_table, parts_and_covers


def objects(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 6, 2)
    shared = random.integers(0, 6, (a, b)) * random.integers(0, 2, (a, b))
    areas_a = shared.max(axis=1, initial=0) + random.integers(0, 4, a)
    areas_b = shared.max(axis=0, initial=0) + random.integers(0, 4, b)
    return shared, areas_a, areas_b, random.integers(0, 2, a), random.integers(0, 2, b)


@pytest.mark.parametrize("seed", range(40))
def test_iou_is_0_where_nothing_is_drawn(seed: int) -> None:
    shared, areas_a, areas_b, _, _ = objects(seed)
    union = areas_a[:, None] + areas_b[None, :] - shared
    expected = np.where(union > 0, shared / np.maximum(union, 1), 0.0)
    assert np.array_equal(iou_table(shared, areas_a, areas_b), expected)


@pytest.mark.parametrize("is_same_class", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_partners_are_clear_where_no_row_or_column_has_two(seed: int, is_same_class: bool) -> None:
    shared, areas_a, areas_b, classes_a, classes_b = objects(seed)
    random = np.random.default_rng(seed)
    free_a, free_b = (random.random(len(one)) < 0.7 for one in (areas_a, areas_b))
    iou = iou_table(shared, areas_a, areas_b)
    fits = (iou >= 0.4) & ((classes_a[:, None] == classes_b) == is_same_class)
    fits &= free_a[:, None] & free_b
    found, is_clear = clear_partners(iou, classes_a, classes_b, free_a, free_b, is_same_class, 0.4)
    assert is_clear == bool((fits.sum(axis=0) <= 1).all() and (fits.sum(axis=1) <= 1).all())
    if is_clear:
        pairs = [[i, j] for i, j in enumerate(found.tolist()) if j >= 0]
        assert pairs == np.argwhere(fits).tolist()


@pytest.mark.parametrize("seed", range(40))
def test_parts_and_covers_of_one_class(seed: int) -> None:
    shared, areas_a, areas_b, classes_a, classes_b = objects(seed)
    own = np.where(classes_a[:, None] == classes_b, shared, 0)
    parts_of_a, parts_of_b, cover_of_a, cover_of_b = parts_and_covers(
        shared, areas_a, areas_b, classes_a, classes_b, 0.5, 0.8
    )
    for table, mine, other, parts, cover in (
        (own, areas_a, areas_b, parts_of_a, cover_of_a),
        (own.T, areas_b, areas_a, parts_of_b, cover_of_b),
    ):
        for item, row in enumerate(table):
            assert parts[item] == ((row > 0) & (row >= 0.5 * other)).sum()
            larger = np.flatnonzero((row > 0) & (other > mine[item]) & (row >= 0.8 * mine[item]))
            expected = larger[np.argmax(row[larger])] if len(larger) else -1
            assert cover[item] == expected
