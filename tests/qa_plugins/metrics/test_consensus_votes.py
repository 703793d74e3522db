from typing import Any

import numpy as np
import pytest
import SimpleITK

from qa_plugins.metrics.consensus_votes import against_others, staple, vote_patterns
from qa_plugins.metrics.label_votes import vote_labels
from segstudio.masks import Mask


def noisy(share: float, errors: tuple[float, ...], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    truth = rng.random((30, 40)) < share
    return [truth ^ (rng.random(truth.shape) < error) for error in errors]


def images(arrays: list[Any]) -> list[Any]:
    return [SimpleITK.GetImageFromArray(np.asarray(one, np.uint8)) for one in arrays]


@pytest.mark.parametrize(
    "arrays",
    [
        noisy(0.3, (0.05, 0.2), 1),
        noisy(0.05, (0.05, 0.1, 0.2), 2),
        noisy(0.6, (0.02, 0.1, 0.3, 0.4, 0.05), 3),
        [np.eye(4), np.eye(4)],
        [np.eye(4), np.zeros((4, 4)), np.zeros((4, 4))],
        [np.eye(4), np.ones((4, 4)), np.eye(4)],
    ],
)
def test_staple_and_votes_equal_simpleitk(arrays: list[Any]) -> None:
    oracle = SimpleITK.STAPLEImageFilter()
    oracle.SetForegroundValue(1)
    expected = SimpleITK.GetArrayFromImage(oracle.Execute(images(arrays)))
    found = vote_patterns([Mask.from_dense(one) for one in arrays])
    estimate = staple(found.votes, found.counts_px)
    probability = np.repeat(estimate.probability[found.pattern_of], np.diff(found.bounds))
    np.testing.assert_allclose(probability, expected.ravel(), atol=1e-6)
    np.testing.assert_allclose(estimate.sensitivity, oracle.GetSensitivity(), atol=1e-6)
    np.testing.assert_allclose(estimate.specificity, oracle.GetSpecificity(), atol=1e-6)
    voting = SimpleITK.LabelVoting(images(arrays), 0)
    np.testing.assert_array_equal(
        found.mask(found.majority()).to_dense(), SimpleITK.GetArrayFromImage(voting)
    )


@pytest.mark.parametrize(
    ("value", "sensitivity", "specificity"), [(0, np.nan, 1.0), (1, 1.0, np.nan)]
)
def test_a_class_nobody_or_everybody_drew_everywhere_leaves_one_side_open(
    value: int, sensitivity: float, specificity: float
) -> None:
    found = vote_patterns([Mask.from_dense(np.full((3, 3), value))] * 3)
    estimate = staple(found.votes, found.counts_px)
    assert estimate.probability.tolist() == [float(value)]
    np.testing.assert_equal(estimate.sensitivity, [sensitivity] * 3)
    np.testing.assert_equal(estimate.specificity, [specificity] * 3)


def test_label_votes_equal_simpleitk_and_split_is_known_by_hand() -> None:
    rng = np.random.default_rng(5)
    maps = [rng.integers(0, 4, (20, 25)) for _ in range(4)]
    drawn = [{n: Mask.from_dense(m == i) for n, i in (("a", 1), ("b", 2), ("c", 3))} for m in maps]
    labels, entropy = vote_labels(drawn, {"a": 1, "b": 2, "c": 3}, 20, 25, 0, 9)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.LabelVoting(images(maps), 9))
    np.testing.assert_array_equal(labels, expected)
    distinct = np.array([len(set(column)) for column in np.stack(maps).reshape(4, -1).T])
    np.testing.assert_allclose(entropy.ravel()[distinct == 4], 1, atol=1e-6)
    np.testing.assert_allclose(entropy.ravel()[distinct == 1], 0, atol=1e-6)


def test_who_is_compared_with_the_others_is_not_among_them() -> None:
    rows = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    found = vote_patterns([Mask.from_dense([row]) for row in rows])
    # The first: the others agree on pixels 0 (yes), 2 and 3 (no), and are divided on pixel 1.
    assert against_others(found.votes, found.counts_px).tolist() == [[1, 2], [1, 1], [1, 2]]


@pytest.mark.parametrize(
    "masks", [[], [Mask.empty(2, 2)] * 63, [Mask.empty(2, 2), Mask.empty(3, 2)]]
)
def test_impossible_votes_are_refused(masks: list[Mask]) -> None:
    with pytest.raises(ValueError, match="consensus"):
        vote_patterns(masks)
