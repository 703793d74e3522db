import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa_plugins.boundary import BoundaryCheck
from qa_plugins.object_deviations import confirmed
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, context, raw_task

A, B, C = 71, 72, 73


def disc(x: int, y: int, radius_px: float) -> np.ndarray:
    rows, columns = np.mgrid[:90, :120]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius_px**2


def summary(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    check, given_context = BoundaryCheck(), context()
    measured = [check.measure(parse_task(raw), given_context) for raw in tasks]
    return check.summarize(measured, given_context)


def habits(tasks: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(one["kind"], one["annotator"], one["class"]) for one in summary(tasks)["habits"]]


def batch(draw: Any, people: tuple[int, ...] = (A, B, C), count: int = 10) -> list[dict[str, Any]]:
    """Tasks in which `draw(person, task number)` gives each person's (label, array) list."""
    return [
        raw_task(n, [annotation(100 * n + p, p, draw(p, n)) for p in people])
        for n in range(1, count + 1)
    ]


def cars(n: int, grow_px: float = 0, shift_px: int = 0, label: str = "car") -> list[Any]:
    rng = np.random.default_rng(n)
    spots = [(30, 30), (85, 55)]
    return [
        (label, disc(x + shift_px + int(rng.integers(-3, 4)), y, 14 + rng.integers(3) + grow_px))
        for x, y in spots
    ]


def test_a_dilation_of_three_pixels_is_reported_as_about_three() -> None:
    found = summary(batch(lambda person, n: cars(n, grow_px=3 if person == A else 0)))
    (habit,) = [one for one in found["habits"] if one["kind"] == "offset"]
    assert (habit["annotator"], habit["class"]) == (A, "car")
    assert habit["value"] == pytest.approx(3, abs=0.2)
    assert (habit["count"], habit["of"], habit["unit"]) == (10, 10, "task")
    assert "px too wide" in habit["text"]


def test_only_the_one_who_deviates_is_named() -> None:
    found = habits(batch(lambda person, n: cars(n, grow_px=-2 if person == C else 0)))
    assert {person for _, person, _ in found} == {C}


def test_a_shift_is_told_from_a_wide_outline() -> None:
    found = habits(batch(lambda person, n: cars(n, shift_px=2 if person == B else 0)))
    assert found == [("shift-x", B, "car")]


def test_of_two_people_both_sides_are_given_and_none_is_called_right() -> None:
    found = summary(batch(lambda p, n: cars(n, grow_px=2 if p == A else 0), people=(A, B)))
    offsets = {h["annotator"]: h["value"] for h in found["habits"] if h["kind"] == "offset"}
    assert offsets[A] == pytest.approx(-offsets[B]) == pytest.approx(2, abs=0.2)
    # The page says it once, and who is right is left open.
    section = BoundaryCheck().report(found, lambda person: f"annotator {'AB'[person - A]}")
    sides = [one.text for one in section.findings if "wider" in one.text or "narrow" in one.text]
    assert len(sides) == 1
    assert re.fullmatch(r"Annotator A draws “car” [12]\.\d px wider than annotator B\.", sides[0])


def test_chance_is_not_called_habit() -> None:
    def jitter(person: int, n: int) -> list[Any]:
        rng = np.random.default_rng([person, n])
        return cars(n, grow_px=float(rng.normal(0, 1.2)))

    assert habits(batch(jitter, count=14)) == []


def test_a_swapped_class_is_a_swap() -> None:
    def draw(person: int, n: int) -> list[Any]:
        return cars(n, label="road" if person == B and n % 2 else "car")

    found = summary(batch(draw, count=12))
    (habit,) = [one for one in found["habits"] if one["kind"] == "swap"]
    assert (habit["annotator"], habit["class"], habit["other_class"]) == (B, "car", "road")
    assert (habit["count"], habit["of"]) == (12, 24)


def test_a_class_habitually_left_out_is_missing() -> None:
    def draw(person: int, n: int) -> list[Any]:
        road = [] if person == C and n > 3 else [("road", disc(60, 80, 8))]
        return [*cars(n), *road]

    found = summary(batch(draw, count=12))
    (habit,) = found["habits"]
    assert (habit["kind"], habit["annotator"], habit["class"]) == ("missing", C, "road")
    assert (habit["count"], habit["of"]) == (9, 12)
    classes = {
        (person["id"], one["name"]): one
        for person in found["annotators"]
        for one in person["classes"]
    }
    assert classes[C, "road"]["missed"] == 9 and classes[A, "road"]["missed"] == 0


def test_what_only_one_of_two_draws_is_said_of_both() -> None:
    def draw(person: int, n: int) -> list[Any]:
        return [*cars(n), *([("sky", disc(60, 10, 6))] if person == A else [])]

    found = summary(batch(draw, people=(A, B), count=14))
    (habit,) = found["habits"]
    assert (habit["kind"], habit["annotator"], habit["versus"]) == ("only-one", A, B)
    assert "where annotator 72 draws nothing" in habit["text"]


def test_a_rougher_outline_is_told_from_a_wider_one() -> None:
    def draw(person: int, n: int) -> list[Any]:
        if person != A:
            return cars(n)
        stripes = np.indices((90, 120)).sum(0) % 6 < 3
        edge = [
            (label, cv2.dilate(m.astype(np.uint8), np.ones((3, 3))).astype(bool) & ~m)
            for label, m in cars(n)
        ]
        return [
            (label, m | (e & stripes)) for (label, m), (_, e) in zip(cars(n), edge, strict=True)
        ]

    assert ("outline-length", A, "car") in habits(batch(draw))


def test_a_batch_without_two_annotators_has_no_habit() -> None:
    found = summary([raw_task(1, [annotation(1, A, cars(1))])])
    assert found == {"annotators": [], "habits": []}
    section = BoundaryCheck().report(found, str)
    assert section.findings[0].text.startswith("No habit") and not section.tables


def test_the_section_names_people_as_told(tmp_path: Path) -> None:
    found = summary(batch(lambda person, n: cars(n, grow_px=3 if person == A else 0)))
    section = BoundaryCheck().report(found, lambda person: f"annotator {'ABC'[person - A]}")
    texts = [finding.text for finding in section.findings]
    assert any(text.startswith("Annotator A draws “car” 2.") or "3." in text for text in texts)
    assert all("71" not in text for text in texts)
    assert [row[0] for row in section.tables[0].rows] == [
        "annotator A",
        "annotator B",
        "annotator C",
    ]


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=6))
def test_a_confirmed_value_is_one_that_most_reach(values: list[float]) -> None:
    found = confirmed(values)
    assert confirmed([-value for value in values]) == -found
    if found:
        assert sum(value / found >= 1 for value in values) * 2 > len(values)
