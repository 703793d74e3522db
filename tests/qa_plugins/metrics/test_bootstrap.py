from __future__ import annotations

import numpy as np
import pytest

from qa_plugins.metrics.bootstrap import interval_95, unit_weights
from qa_plugins.metrics.overlap import ratio


def test_weights_depend_on_seed_and_unit_only() -> None:
    assert np.array_equal(unit_weights("task=1", seed=0), unit_weights("task=1", seed=0))
    assert not np.array_equal(unit_weights("task=1", seed=0), unit_weights("task=2", seed=0))
    assert not np.array_equal(unit_weights("task=1", seed=0), unit_weights("task=1", seed=1))


def test_interval_is_that_of_the_classical_bootstrap() -> None:
    values = np.random.default_rng(3).beta(8, 2, 200)
    weights = np.stack([unit_weights(f"task={i}", seed=0) for i in range(200)])
    low, high = interval_95(ratio(weights.T @ values, weights.sum(axis=0))) or (0.0, 0.0)
    error = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert low == pytest.approx(values.mean() - error, abs=error / 5)
    assert high == pytest.approx(values.mean() + error, abs=error / 5)


def test_replicates_without_a_value_are_left_out() -> None:
    assert interval_95(np.array([np.nan, 0.5, np.nan])) == (0.5, 0.5)
    assert interval_95(np.array([np.nan])) is None
