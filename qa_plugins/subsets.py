"""Subsets of a batch by task data, such as a stricter gate for the validation split.

The option ``subsets`` of a check is a JSON list of the values that the gates name; a check that can
be gated gives its figures for each of them under ``subsets``, in that order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from segstudio.tasks import Task

SUBSETS_OPTION = "subsets"


def wanted_subsets(options: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the values of task data that each subset asks for; [] where none was asked for."""
    wanted: list[dict[str, Any]] = json.loads(options.get(SUBSETS_OPTION, "[]"))
    return wanted


def subsets_of(task: Task, options: Mapping[str, str]) -> tuple[int, ...]:
    """Return the positions of the subsets whose values the task's data has."""
    return tuple(
        index
        for index, where in enumerate(wanted_subsets(options))
        if all(key in task.data and str(task.data[key]) == value for key, value in where.items())
    )
