from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_jaccard_index, multiclass_jaccard_index
from torchmetrics.functional.segmentation import dice_score

from qa_plugins.metrics.boundary_iou import band_width_px, boundary_iou
from qa_plugins.metrics.overlap import OverlapCounts, mean_of_known
from segstudio.masks import Mask


def counts_of(a: np.ndarray, b: np.ndarray, classes: int) -> OverlapCounts:
    masks_a = np.stack([a == one for one in range(classes)])
    masks_b = np.stack([b == one for one in range(classes)])
    axes = (1, 2)
    return OverlapCounts(
        (masks_a & masks_b).sum(axis=axes), masks_a.sum(axis=axes), masks_b.sum(axis=axes)
    )


def test_half_covered_square_by_hand() -> None:
    a, b = np.array([[1, 1], [1, 1]]), np.array([[1, 1], [0, 0]])
    counts = counts_of(a, b, 3)
    assert counts.iou().tolist()[1] == 0.5
    assert counts.dice().tolist()[1] == 2 / 3
    assert np.isnan(counts.iou()[2])
    assert np.isnan(counts.dice()[2])


@pytest.mark.parametrize("seed", range(4))
def test_iou_and_dice_equal_torchmetrics(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 5, (2, 31, 29))
    counts = counts_of(a, b, 5)
    tensor_a, tensor_b = torch.tensor(a), torch.tensor(b)
    iou = multiclass_jaccard_index(tensor_a, tensor_b, 5, average=None)
    dice = dice_score(
        tensor_a[None],
        tensor_b[None],
        5,
        average=None,
        input_format="index",
        include_background=True,
    )
    assert np.allclose(counts.iou(), iou.numpy(), atol=1e-6)
    assert np.allclose(counts.dice(), dice[0].numpy(), atol=1e-6)


def test_counts_add_up_and_are_symmetric() -> None:
    random = np.random.default_rng(1)
    a, b = random.integers(0, 3, (2, 20, 11))
    whole = counts_of(a, b, 3)
    halves = counts_of(a[:7], b[:7], 3) + counts_of(a[7:], b[7:], 3)
    assert np.array_equal(whole.iou(), halves.iou())
    assert np.array_equal(whole.iou(), counts_of(b, a, 3).iou())


def test_mean_leaves_out_what_has_no_value() -> None:
    assert mean_of_known(np.array([np.nan, 1.0, 0.5])) == 0.75
    assert mean_of_known(np.array([np.nan])) is None


def reference_band(mask: np.ndarray, distance_px: int) -> np.ndarray:
    """boundary_iou's mask_to_boundary: zero-pad, erode 3 x 3 so many times, subtract."""
    from scipy import ndimage

    eroded = ndimage.binary_erosion(
        np.pad(mask, 1), structure=np.ones((3, 3)), iterations=distance_px
    )[1:-1, 1:-1]
    return mask & ~eroded


@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_equals_the_reference_erosion(seed: int) -> None:
    from scipy import ndimage

    random = np.random.default_rng(seed)
    a, b = (ndimage.gaussian_filter(random.random((2, 90, 70)), (0, 5, 5)) > 0.5)[:2]
    width = band_width_px(90, 70)
    band_a, band_b = reference_band(a, width), reference_band(b, width)
    expected = binary_jaccard_index(torch.tensor(band_a), torch.tensor(band_b.astype(int)))
    found = boundary_iou(Mask.from_dense(a), Mask.from_dense(b))
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_boundary_iou_of_two_empty_masks_is_no_number() -> None:
    assert boundary_iou(Mask.empty(8, 8), Mask.empty(8, 8)) is None
    assert boundary_iou(Mask.full(8, 8), Mask.empty(8, 8)) == 0.0


def test_boundary_iou_sees_a_wrong_outline_that_region_iou_hides() -> None:
    square = np.zeros((200, 200), dtype=bool)
    square[20:180, 20:180] = True
    wider = np.zeros((200, 200), dtype=bool)
    wider[16:184, 16:184] = True
    a, b = Mask.from_dense(square), Mask.from_dense(wider)
    region = (160 * 160) / (168 * 168)
    band = boundary_iou(a, b)
    assert region > 0.9
    assert band is not None
    assert band < 0.3
