from __future__ import annotations

import krippendorff
import numpy as np
import pytest

from qa_plugins.agreement import AgreementCheck
from qa_plugins.metrics.alpha import nominal_alpha
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import LABELS, annotation, context, raw_task

CHECK = AgreementCheck()


def test_the_two_observers_of_krippendorffs_paper() -> None:
    # Krippendorff (2011), section B: nominal data, two observers, alpha 0.692.
    pairs = zip("aabbdcccedda", "babbbccceddd", strict=True)
    matrix = np.zeros((5, 5))
    for one, other in pairs:
        matrix["abcde".index(one), "abcde".index(other)] += 1
    assert nominal_alpha(matrix + matrix.T) == pytest.approx(0.692, abs=5e-4)


@pytest.mark.parametrize("people", [2, 3])
def test_alpha_of_a_batch_is_that_of_all_its_pixels(people: int) -> None:
    random = np.random.default_rng(people)
    truth = random.integers(0, 4, (3, 5, 6))
    noise = random.random((people, 3, 5, 6)) < 0.4
    maps = np.where(noise, random.integers(0, 4, (people, 3, 5, 6)), truth)
    made, measured = context(), []
    for number in range(3):
        drawn = [
            annotation(9 * number + k, k, [(label, maps[k, number] == n) for n, label in
                                           enumerate(LABELS)])
            for k in range(people)
        ]  # fmt: skip
        measured.append(CHECK.measure(parse_task(raw_task(number, drawn)), made))
    result = CHECK.summarize(measured, made)
    values = maps.reshape(people, -1)
    expected = krippendorff.alpha(values, level_of_measurement="nominal", value_domain=range(4))
    assert result["batch"]["alpha"] == pytest.approx(expected)
    for n, label in enumerate(LABELS):
        alpha = next(one["alpha"] for one in result["classes"] if one["name"] == label)
        binary = (values == n).astype(int)
        assert alpha == pytest.approx(krippendorff.alpha(binary, level_of_measurement="nominal"))


def test_one_value_alone_can_not_be_confused() -> None:
    assert nominal_alpha(np.zeros((0, 0))) is None
    assert nominal_alpha([[4]]) is None
