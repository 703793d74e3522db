"""The digest of what was compared: it changes with the drawing, and with nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qa_plugins.freshness import annotations_digest, recorded_digest
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, raw_task

FULL = np.ones((6, 6))
HALF = np.vstack([np.ones((3, 6)), np.zeros((3, 6))])
TASK = raw_task(
    1,
    [
        annotation(10, 1, [("car", FULL)], lead_time=3.0),
        annotation(11, 2, [("car", HALF)]),
        annotation(12, 3, [("car", HALF)], was_cancelled=True),
    ],
)


def redraw(task: dict[str, Any]) -> None:
    task["annotations"][0] = annotation(10, 1, [("car", HALF)])


def relabel(task: dict[str, Any]) -> None:
    task["annotations"][0] = annotation(10, 1, [("road", FULL)])


def delete(task: dict[str, Any]) -> None:
    del task["annotations"][1]


def add(task: dict[str, Any]) -> None:
    task["annotations"].append(annotation(13, 4))


def submit_the_skipped(task: dict[str, Any]) -> None:
    task["annotations"][2]["was_cancelled"] = False


def take_longer(task: dict[str, Any]) -> None:
    task["annotations"][0]["lead_time"] = 30.0


def reorder(task: dict[str, Any]) -> None:
    task["annotations"].reverse()


def redraw_the_skipped(task: dict[str, Any]) -> None:
    task["annotations"][2] = annotation(12, 3, [("sky", FULL)], was_cancelled=True)


def write_columns(task: dict[str, Any]) -> None:
    task["data"]["qa_miou"] = 0.5


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        (redraw, True),
        (relabel, True),
        (delete, True),
        (add, True),
        (submit_the_skipped, True),
        (take_longer, False),
        (reorder, False),
        (redraw_the_skipped, False),
        (write_columns, False),
    ],
)
def test_the_digest_changes_with_what_is_compared_alone(
    change: Callable[[dict[str, Any]], None], is_other: bool
) -> None:
    changed = copy.deepcopy(TASK)
    change(changed)
    digests = [annotations_digest(parse_task(one)) for one in (TASK, changed)]
    assert (digests[0] != digests[1]) is is_other


@pytest.mark.parametrize(
    ("meta", "digest"),
    [
        ({}, None),
        ({"segstudio": {"other": 1}}, None),
        ({"segstudio": {"agreement": {"miou": 1.0}}}, ""),
        ({"segstudio": {"agreement": {"digest": "0123"}}}, "0123"),
    ],
)
def test_the_digest_of_a_record(meta: dict[str, Any], digest: str | None) -> None:
    assert recorded_digest(parse_task({**TASK, "meta": meta})) == digest
