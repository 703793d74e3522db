"""The module for label-studio-ml where that is not installed; test_model_servers.py runs it."""

from __future__ import annotations

import pytest

from segstudio.errors import SegstudioError


def test_without_label_studio_ml_a_sentence_says_what_to_do():
    from ml_backend.model import SegmentAnythingModel

    with pytest.raises(SegstudioError, match=r"needs label-studio-ml.*segstudio serve"):
        SegmentAnythingModel()
