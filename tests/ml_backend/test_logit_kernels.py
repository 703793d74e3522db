from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from ml_backend.logit_kernels import mask_of_logits
from segstudio.masks import Mask


def by_torch(low_res, canvas, content, size):
    scaled = interpolate(
        torch.from_numpy(low_res)[None, None], canvas, mode="bilinear", align_corners=False
    )[..., : content[0], : content[1]]
    return interpolate(scaled, size, mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize(
    ("content", "size"),
    [((96, 64), (150, 100)), ((64, 96), (20, 31)), ((96, 96), (97, 301)), ((1, 96), (5, 480))],
    ids=["portrait", "reduced", "stretched", "one row"],
)
@pytest.mark.parametrize("patch", [(0, 24, 0, 24), (7, 9, 11, 20), (20, 24, 0, 3)])
def test_the_mask_is_that_of_scaling_and_thresholding(content, size, patch):
    rng = np.random.default_rng(patch[1])
    low_res = np.full((24, 24), -9, np.float32)
    top, bottom, left, right = patch
    low_res[top:bottom, left:right] = rng.normal(1, 3, (bottom - top, right - left))
    dense = by_torch(low_res, (96, 96), content, size)
    runs, sure_px, perhaps_px = mask_of_logits(low_res, (96, 96), content, size, 0.5, 1.0)
    found = Mask(*size, runs)
    assert found == Mask.from_runs(*size, runs)  # sorted, disjoint, never adjacent
    assert (found.to_dense() != (dense > 0.5)).sum() <= 2
    assert abs(sure_px - (dense > 1.5).sum()) <= 2
    assert abs(perhaps_px - (dense > -0.5).sum()) <= 2


def test_nothing_above_the_threshold_has_no_runs():
    low_res = np.full((8, 8), -9, np.float32)
    runs, sure_px, perhaps_px = mask_of_logits(low_res, (32, 32), (32, 20), (50, 40), 0.0, 1.0)
    assert (len(runs), sure_px, perhaps_px) == (0, 0, 0)


def test_a_mask_beyond_the_content_has_no_runs():
    low_res = np.full((8, 8), -9, np.float32)
    low_res[:, 7] = 5
    runs, _, _ = mask_of_logits(low_res, (32, 32), (32, 10), (50, 40), 0.0, 1.0)
    assert len(runs) == 0


def test_everything_on_is_one_run():
    runs, sure_px, perhaps_px = mask_of_logits(
        np.full((8, 8), 5, np.float32), (32, 32), (20, 32), (50, 40), 0.0, 1.0
    )
    assert (runs.tolist(), sure_px, perhaps_px) == ([[0, 2000]], 2000, 2000)


def test_more_runs_than_there_was_room_for_are_all_there():
    low_res = np.where(np.indices((64, 64)).sum(0) % 2, 5, -5).astype(np.float32)
    runs, _, _ = mask_of_logits(low_res, (64, 64), (64, 64), (64, 64), 0.0, 1.0)
    assert len(runs) == 64 * 32 - 32  # the end of a row meets the start of every second next one
