from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qa_plugins.agreement import AgreementCheck
from qa_plugins.agreement_sums import AgreementSums
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, context, raw_task

CHECK = AgreementCheck()
TOP, LEFT = np.zeros((2, 4, 4), dtype=bool)
TOP[:2], LEFT[:, :2] = True, True
MADE = context()
CLASSES = tuple(
    replace(one, supercategory="ground" if one.name in ("car", "road") else "above")
    for one in MADE.taxonomy.classes
)
MADE = replace(MADE, taxonomy=replace(MADE.taxonomy, classes=CLASSES))
TASK = raw_task(1, [annotation(1, 1, [("car", TOP)]), annotation(2, 2, [("road", TOP)])])
OTHER = raw_task(2, [annotation(3, 1, [("road", TOP)]), annotation(4, 2, [("car", LEFT)])])


def test_two_names_for_one_thing_agree_one_level_up() -> None:
    result = CHECK.summarize(
        [CHECK.measure(parse_task(task), MADE) for task in (TASK, OTHER)], MADE
    )
    assert result["batch"]["miou"]["accumulated"] == 0.0
    assert result["supercategories"] == [
        {"name": "ground", "classes": ["car", "road"],
         "iou": {"accumulated": pytest.approx(12 / 20), "per_image": pytest.approx(2 / 3)},
         "dice": pytest.approx(24 / 32)}
    ]  # fmt: skip
    section = CHECK.report(result, str)
    assert section is not None
    assert section.tables[-1].rows == [["ground", pytest.approx(0.6), 0.0, "car, road"]]


def test_halves_of_a_batch_add_up() -> None:
    left, right = AgreementSums(), AgreementSums()
    left.add(CHECK.measure(parse_task(TASK), MADE))
    right.add(CHECK.measure(parse_task(OTHER), MADE))
    left.merge(right)
    ground = left.supercategories_json({"ground": ("car", "road")})[0]
    assert ground["iou"]["accumulated"] == pytest.approx(12 / 20)


def test_without_supercategories_there_is_nothing_to_measure() -> None:
    made = context()
    result = CHECK.summarize([CHECK.measure(parse_task(TASK), made)], made)
    assert result["supercategories"] == []
