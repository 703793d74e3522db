from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.detection import panoptic_quality

from qa_plugins.metrics.instances import (
    Conflict,
    PanopticCounts,
    match_instances,
    pairwise_iou,
    panoptic_counts,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("iou", "classes_a", "classes_b", "conflicts"),
    [
        ([[0.9]], ints(0), ints(0), []),
        ([[0.6]], ints(0), ints(0), [Conflict("low_overlap", 0, 0, 0.6)]),
        ([[0.9]], ints(0), ints(1), [Conflict("mismatching_label", 0, 0, 0.9)]),
        (
            [[0.3]],
            ints(0),
            ints(0),
            [Conflict("missing", 0, None, None), Conflict("extra", None, 0, None)],
        ),
        (np.zeros((1, 0)), ints(0), ints(), [Conflict("missing", 0, None, None)]),
        (np.zeros((0, 1)), ints(), ints(0), [Conflict("extra", None, 0, None)]),
        (np.zeros((0, 0)), ints(), ints(), []),
    ],
)
def test_conflicts_are_named(
    iou: object, classes_a: np.ndarray, classes_b: np.ndarray, conflicts: list[Conflict]
) -> None:
    assert list(match_instances(np.array(iou), classes_a, classes_b).conflicts) == conflicts


def test_the_same_class_is_matched_before_another_class_that_overlaps_more() -> None:
    iou = np.array([[0.5, 0.9]])
    result = match_instances(iou, ints(0), ints(0, 1))
    assert result.matches == ((0, 0, 0.5),)
    assert [one.kind for one in result.conflicts] == ["low_overlap", "extra"]


def test_the_hungarian_method_takes_the_best_total() -> None:
    iou = np.array([[0.6, 0.5], [0.55, 0.0]])
    matches = match_instances(iou, ints(0, 0), ints(0, 0)).matches
    assert [(i, j) for i, j, _ in matches] == [(0, 1), (1, 0)]


def test_panoptic_quality_needs_more_than_half() -> None:
    at_half = panoptic_counts(np.array([[0.5]]), ints(0), ints(0), 1)[0]
    above = panoptic_counts(np.array([[0.51]]), ints(0), ints(0), 1)[0]
    assert at_half == PanopticCounts(0, 1, 1, 0.0)
    assert above == PanopticCounts(1, 0, 0, 0.51)
    assert at_half.panoptic_quality == 0.0
    assert PanopticCounts().panoptic_quality is None


def objects(label_map: np.ndarray, instance_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = sorted(
        {(int(c), int(i)) for c, i in zip(label_map.flat, instance_map.flat, strict=True)}
    )
    masks = np.stack([(label_map == c) & (instance_map == i) for c, i in found])
    return masks, np.array([c for c, _ in found])


@pytest.mark.parametrize("seed", range(5))
def test_panoptic_quality_equals_torchmetrics(seed: int) -> None:
    random = np.random.default_rng(seed)
    classes = np.kron(random.integers(0, 3, (4, 4)), np.ones((8, 8), dtype=int))
    instances = np.kron(random.integers(0, 2, (4, 4)), np.ones((8, 8), dtype=int))
    moved = np.roll(classes, 2, axis=1), np.roll(instances, 2, axis=1)
    masks_a, classes_a = objects(classes, instances)
    masks_b, classes_b = objects(*moved)
    shared = np.einsum("ihw,jhw->ij", masks_a.astype(int), masks_b.astype(int))
    iou = pairwise_iou(shared, masks_a.sum(axis=(1, 2)), masks_b.sum(axis=(1, 2)))
    counts = panoptic_counts(iou, classes_a, classes_b, 3)
    ours = np.mean([one.panoptic_quality for one in counts if one.panoptic_quality is not None])
    theirs = panoptic_quality(
        torch.tensor(np.stack([classes, instances], axis=-1)[None]),
        torch.tensor(np.stack(moved, axis=-1)[None]),
        things={0, 1, 2},
        stuffs=set(),
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)
