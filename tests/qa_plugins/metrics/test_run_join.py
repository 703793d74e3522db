from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from qa_plugins.metrics.run_join import (
    intersections,
    intersections_reference,
    join_pairs,
    labelled_runs,
)
from segstudio.masks import Mask

STACKS = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.just(5), st.just(7)))


def runs_of(masks: np.ndarray) -> list[np.ndarray]:
    return [Mask.from_dense(mask).runs for mask in masks]


def test_literal_masks_share_the_pixels_one_can_count() -> None:
    a = labelled_runs(runs_of(np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]]])))
    b = labelled_runs(runs_of(np.array([[[1, 0, 0, 0]], [[0, 1, 1, 1]]])))
    assert intersections(a, b).tolist() == [[1, 1], [0, 2]]
    assert a.areas_px.tolist() == [2, 2]
    assert a.disjoint


@given(STACKS, STACKS)
@settings(max_examples=200, deadline=None)
def test_join_equals_dense_pixels_for_masks_that_overlap_each_other(
    a: np.ndarray, b: np.ndarray
) -> None:
    runs_a, runs_b = labelled_runs(runs_of(a)), labelled_runs(runs_of(b))
    shared, covered_a, covered_b = join_pairs([runs_a, runs_b])
    expected = np.einsum("ihw,jhw->ij", a.astype(int), b.astype(int))
    assert (shared[0] == expected).all()
    assert (intersections_reference(runs_a, runs_b) == expected).all()
    assert covered_a[0].tolist() == (a & b.any(axis=0)).sum(axis=(1, 2)).tolist()
    assert covered_b[0].tolist() == (b & a.any(axis=0)).sum(axis=(1, 2)).tolist()


def test_join_of_five_lists_gives_ten_pairs_in_the_order_of_combinations() -> None:
    masks = np.eye(5, dtype=bool).cumsum(axis=1).astype(bool)[:, None, None, :]
    lists = [labelled_runs(runs_of(mask)) for mask in masks]
    shared, _, _ = join_pairs(lists)
    assert shared[:, 0, 0].tolist() == [4, 3, 2, 1, 3, 2, 1, 2, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_join_equals_pycocotools_on_random_masks(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.random((2, 6, 40, 53)) < 0.4
    shared = intersections(labelled_runs(runs_of(a)), labelled_runs(runs_of(b)))
    areas_a, areas_b = a.sum(axis=(1, 2)), b.sum(axis=(1, 2))
    ours = shared / (areas_a[:, None] + areas_b[None, :] - shared)
    encoded = [
        [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in stack]
        for stack in (a, b)
    ]
    assert np.allclose(ours, coco.iou(*encoded, [False] * len(b)), atol=1e-6)


def test_no_mask_and_no_run_are_fine() -> None:
    nothing = labelled_runs([])
    empty = labelled_runs(runs_of(np.zeros((2, 3, 3), dtype=bool)))
    assert intersections(nothing, empty).shape == (0, 2)
    assert intersections(empty, empty).tolist() == [[0, 0], [0, 0]]
