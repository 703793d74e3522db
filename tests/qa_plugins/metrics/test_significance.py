import numpy as np
import pytest

from qa_plugins.metrics.significance import adjust_p_values, location_test, lot_test, sign_test


def test_a_steady_offset_is_no_chance_and_noise_is() -> None:
    rng = np.random.default_rng(0)
    tasks = list(range(20))
    steady = location_test((3 + rng.normal(0, 0.5, 20)).tolist(), tasks)
    assert steady is not None and steady.p_value < 1e-4 and steady.same_sign == 20
    noise = [
        found.p_value
        for seed in range(200)
        if (found := location_test(np.random.default_rng(seed).normal(size=20).tolist(), tasks))
    ]
    assert np.mean(np.array(noise) < 0.05) < 0.1


def test_objects_of_one_task_do_not_pass_for_many() -> None:
    """Forty objects of six pictures, all off in one picture only: six units, no habit."""
    values = [2.0] * 35 + [0.1, -0.1, 0.1, -0.1, -0.1]
    found = location_test(values, [1] * 35 + [2, 3, 4, 5, 6])
    assert found is not None and (found.unit, found.units) == ("task", 6)
    assert found.p_value > 0.3


@pytest.mark.parametrize(
    ("values", "groups", "expected"),
    [
        ([], [], None),
        ([1.0] * 5, [1, 2, 3, 4, 5], None),
        ([1.0] * 6, [1] * 6, ("object", 6)),
        ([1.0] * 6, [1, 2, 3, 4, 5, 6], ("task", 6)),
    ],
)
def test_the_unit_is_the_task_where_there_are_enough(
    values: list[float], groups: list[int], expected: tuple[str, int] | None
) -> None:
    found = location_test(values, groups)
    assert (None if found is None else (found.unit, found.units)) == expected


def test_all_zero_is_no_effect() -> None:
    found = location_test([0.0] * 8, list(range(8)))
    assert found is not None and found.p_value == 1


@pytest.mark.parametrize(
    ("hits", "cases", "expected", "is_habit"),
    [(9, 9, 3.0, True), (4, 9, 3.0, False), (0, 0, 0.0, False), (2, 2, 2 / 3, False)],
)
def test_more_often_than_by_lot(hits: int, cases: int, expected: float, is_habit: bool) -> None:
    assert (lot_test(hits, cases, expected) < 0.05) == is_habit


def test_the_sign_test_is_symmetric() -> None:
    assert sign_test(12, 3) == sign_test(3, 12) < 0.05


def test_adjusted_p_values_keep_their_order_and_never_shrink() -> None:
    given = [0.2, 0.001, 0.04]
    adjusted = adjust_p_values(given)
    assert np.argsort(adjusted).tolist() == np.argsort(given).tolist()
    assert all(after >= before for after, before in zip(adjusted, given, strict=True))
    assert adjust_p_values([]) == []
