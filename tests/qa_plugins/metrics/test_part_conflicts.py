from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qa_plugins.metrics.instances import Conflict, match_instances, pairwise_iou
from qa_plugins.metrics.part_conflicts import name_parts


def conflicts(a: list[Any], b: list[Any]) -> list[Conflict]:
    """Conflicts of objects on a line, each (class, from, to)."""
    masks = [
        np.array([[start <= x < stop for x in range(20)] for _, start, stop in side], dtype=bool)
        for side in (a, b)
    ]
    first, second = (mask.reshape(-1, 20).astype(np.int64) for mask in masks)
    shared = first @ second.T
    areas = first.sum(axis=1), second.sum(axis=1)
    kinds = [np.array([one[0] for one in side], dtype=np.int64) for side in (a, b)]
    matched = match_instances(pairwise_iou(shared, *areas), *kinds)
    return list(name_parts(matched, shared, *areas, *kinds))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([(0, 0, 10)], [(0, 0, 5), (0, 5, 10)], [Conflict("split", 0, None, 1.0, (0, 1))]),
        ([(0, 0, 3), (0, 3, 6), (0, 6, 9)], [(0, 0, 9)],
         [Conflict("merged", None, 0, 1.0, (0, 1, 2))]),
        # Parts of another class are no parts, and one piece is no split.
        ([(0, 0, 10)], [(1, 0, 3), (0, 5, 8)],
         [Conflict("missing", 0, None, None), Conflict("extra", None, 0, None),
          Conflict("covered", 0, 1, 0.3)]),
        # The whole is found well: the piece inside it is drawn twice, not a part of it.
        ([(0, 0, 10)], [(0, 0, 10), (0, 2, 5)], [Conflict("covered", 0, 1, 0.3)]),
        ([(0, 2, 5), (0, 0, 10)], [(0, 0, 10)], [Conflict("covered", 0, 0, 0.3)]),
        # Another object beside the parts stays what it is.
        ([(0, 0, 10)], [(0, 0, 6), (0, 6, 10), (0, 15, 18)],
         [Conflict("extra", None, 2, None), Conflict("split", 0, None, 1.0, (0, 1))]),
        ([(0, 0, 10)], [(0, 0, 6)], [Conflict("low_overlap", 0, 0, 0.6)]),
        ([], [(0, 0, 4), (0, 4, 8)],
         [Conflict("extra", None, 0, None), Conflict("extra", None, 1, None)]),
    ],
)  # fmt: skip
def test_objects_drawn_in_parts_are_one_conflict(
    a: list[Any], b: list[Any], expected: list[Conflict]
) -> None:
    found = conflicts(a, b)
    assert sorted(found, key=repr) == sorted(expected, key=repr)
