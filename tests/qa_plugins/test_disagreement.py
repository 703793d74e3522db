from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qa_plugins.agreement import AgreementCheck
from qa_plugins.agreement_sums import AgreementSums
from qa_plugins.disagreement import sentence
from segstudio.errors import UsageError
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import LABELS, annotation, context, raw_task

CHECK = AgreementCheck()


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    array = np.zeros((40, 40), dtype=bool)
    array[top : top + height, left : left + width] = True
    return array


def two(drawn_a: list[Any], drawn_b: list[Any], **of_a: Any) -> dict[str, Any]:
    return raw_task(1, [annotation(1, 1, drawn_a, **of_a), annotation(2, 2, drawn_b)])


def summary(*tasks: dict[str, Any], **options: str) -> dict[str, Any]:
    made = context(options)
    return CHECK.summarize([CHECK.measure(parse_task(task), made) for task in tasks], made)


def of_car(result: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in result["classes"] if one["name"] == "car")["disagreement"]


CAR = ("car", box(10, 10, 10, 10))


@pytest.mark.parametrize(
    ("theirs", "kind"),
    [
        ([("car", box(8, 8, 14, 14))], "boundary"),  # 2 px wider on all sides
        ([], "missed"),
        ([("road", CAR[1])], "mislabelled"),
        # The car has no counterpart under any name: the road behind it is no other name for it.
        ([("road", box(0, 0, 40, 40))], "missed"),
    ],
)
def test_a_deviation_of_one_kind_is_reported_as_that_kind(theirs: list[Any], kind: str) -> None:
    found = of_car(summary(two([CAR], theirs)))
    shares = {name: found[name] for name in ("boundary", "missed", "mislabelled", "shape")}
    assert shares == {name: float(name == kind) for name in shares}


def test_what_lies_farther_off_than_the_limit_is_shape_and_the_limit_is_an_option() -> None:
    # IoU 60 / 100: matched; the part that only one drew is 4 wide, 2 of it near.
    task = two([CAR], [("car", box(10, 10, 10, 6))])
    assert (of_car(summary(task))["boundary"], of_car(summary(task))["shape"]) == (0.5, 0.5)
    assert of_car(summary(task, near_px="4"))["boundary"] == 1.0
    with pytest.raises(UsageError, match="near_px"):
        summary(task, near_px="wide")


def test_parts_of_one_class_add_up_in_pixels_over_both_directions() -> None:
    mine = [CAR, ("car", box(30, 30, 5, 5))]
    theirs = [("car", box(10, 11, 10, 10))]  # shifted by 1: 10 pixels on either side
    found = of_car(summary(two(mine, theirs)))
    assert found["pixels"] == 45
    assert (found["boundary"], found["missed"]) == (pytest.approx(20 / 45), pytest.approx(25 / 45))


def test_rework_is_the_share_of_lead_time_of_the_missed_objects() -> None:
    drawn = [CAR, ("car", box(30, 30, 5, 5)), ("road", box(0, 0, 5, 40))]
    found = of_car(summary(two(drawn, [CAR, drawn[2]], lead_time=300)))
    assert (found["missed_objects"], found["untimed_objects"]) == (1, 0)
    assert found["rework_s"] == pytest.approx(100)


def test_an_object_that_two_others_lack_is_not_paid_for_twice() -> None:
    people = [annotation(1, 1, [CAR], lead_time=60), annotation(2, 2), annotation(3, 3)]
    found = of_car(summary(raw_task(1, people)))
    assert (found["missed_objects"], found["rework_s"]) == (2, pytest.approx(60))


def test_without_lead_times_no_time_is_claimed() -> None:
    found = of_car(summary(two([CAR], [])))
    assert (found["rework_s"], found["untimed_objects"]) == (None, 1)
    assert "no lead time is known" in sentence(found, 2)


def test_two_halves_of_a_batch_are_the_whole() -> None:
    made = context()
    measured = [
        CHECK.measure(parse_task(task), made)
        for task in (two([CAR], [], lead_time=60), two([CAR], [("car", box(9, 9, 12, 12))]))
    ]
    whole, left, right = AgreementSums(), AgreementSums(), AgreementSums()
    for one in measured:
        whole.add(one)
    left.add(measured[0])
    right.add(measured[1])
    left.merge(right)
    assert left.as_json(LABELS) == whole.as_json(LABELS)


def test_the_section_has_a_sentence_a_class_that_says_what_to_do() -> None:
    result = summary(two([CAR], [("car", box(9, 10, 11, 10)), ("road", box(30, 0, 5, 5))]))
    section = CHECK.report(result, str)
    assert section is not None
    assert [one.text for one in section.findings] == [
        "2 of 2 annotators measured, 1 of 1 pairs.",
        "“road”: 100% missed objects: rework (no lead time is known).",
        "“car”: 100% within 2 px of the outline: a rule to write.",
    ]
    assert [one.severity for one in section.findings] == ["note", "warning", "note"]


def test_nothing_compared_gives_no_section() -> None:
    assert CHECK.report(summary(raw_task(1, [annotation(1, 1, [CAR])])), str) is None
