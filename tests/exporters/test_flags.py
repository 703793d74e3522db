from typing import Any

import pytest

from exporters.flags import CROWD, is_flagged


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"iscrowd": ["yes"]}, True),
        ({"Crowd": "TRUE"}, True),
        ({"is_crowd": ["is_crowd"]}, True),
        ({"iscrowd": 1}, True),
        ({"iscrowd": ["no"]}, False),
        ({"iscrowd": 0}, False),
        ({"iscrowd": 5}, False),
        ({"truncated": ["yes"]}, False),
        ({}, False),
    ],
)
def test_a_flag_is_a_yes_under_one_of_its_names(attributes: dict[str, Any], expected: bool) -> None:
    assert is_flagged(attributes, CROWD) is expected
