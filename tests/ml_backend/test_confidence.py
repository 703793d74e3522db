from __future__ import annotations

import numpy as np
import pytest

from ml_backend.confidence import automatic_confidence, prompted_confidence


@pytest.mark.parametrize(
    ("ious", "confidence"),
    [([], 0.0), ([0.9, 0.5], 0.7), ([1.4, -0.2], 0.5), ([float("nan"), 0.5], 0.25)],
)
def test_prompted_masks_count_alike(ious, confidence):
    assert prompted_confidence(ious) == pytest.approx(confidence)


def test_an_image_full_of_what_the_model_cannot_outline_scores_lower_than_an_easy_one():
    easy, hard = np.full(64, 0.9, np.float32), np.full(64, 0.3, np.float32)
    hard[:3] = 0.95  # a few good masks
    assert automatic_confidence(hard) < automatic_confidence(easy) == pytest.approx(0.9)
    assert automatic_confidence(np.zeros(0, np.float32)) == 0.0
