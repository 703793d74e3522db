import numpy as np
import pytest

from qa_plugins.metrics.volume_agreement import limits_of_agreement

# Bland and Altman 1986, Table 1: peak expiratory flow, first readings of the large Wright meter
# and of the mini one, in l/min; the paper gives -2.1 and 38.8.
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_the_example_of_the_paper() -> None:
    found = limits_of_agreement(LARGE, MINI)
    assert found is not None
    assert round(found.bias, 1) == -2.1
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.lower == pytest.approx(
        found.bias - 1.96 * np.std(np.subtract(LARGE, MINI), ddof=1)
    )
    assert found.upper is not None and found.lower is not None
    assert found.upper + found.lower == pytest.approx(2 * found.bias)


def test_one_pair_has_no_limits_and_none_has_nothing() -> None:
    found = limits_of_agreement([3.0], [1.0])
    assert found is not None
    assert (found.bias, found.sd, found.lower, found.upper) == (2.0, None, None, None)
    assert limits_of_agreement([], []) is None
    with pytest.raises(ValueError, match="2 measurements cannot be paired with 1"):
        limits_of_agreement([1, 2], [1])
