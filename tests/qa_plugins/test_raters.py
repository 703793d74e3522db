from __future__ import annotations

import numpy as np
import pytest

from qa_plugins.raters import MODEL_ID, select_raters
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, raw_task

SQUARE = np.ones((2, 2))


@pytest.mark.parametrize(
    ("extra", "kept_out"),
    [
        ({"was_cancelled": True}, {"skipped": 1}),
        ({"ground_truth": True}, {"ground_truth": 1}),
        ({"completed_by": None}, {"no_annotator": 1}),
        ({"completed_by": 1}, {"second_by_same_person": 1}),
        ({"result": [{"id": "x", "type": "brushlabels", "from_name": "brush", "to_name": "image",
                      "original_width": 2, "original_height": 2, "value": "no object"}]},
         {"unreadable": 1}),
    ],
)  # fmt: skip
def test_what_is_no_peer_is_kept_out_and_counted(
    extra: dict[str, object], kept_out: dict[str, int]
) -> None:
    drawn = [("car", SQUARE)]
    task = raw_task(
        1,
        [annotation(1, 1, drawn), annotation(2, 2, drawn), {**annotation(3, 3, drawn), **extra}],
    )
    selection = select_raters(parse_task(task))
    assert [rater.annotator_id for rater in selection.raters] == [1, 2]
    assert selection.kept_out == kept_out


@pytest.mark.parametrize(
    ("updated_at", "counts", "kept_out"),
    [
        (None, 9, 4),  # without times the later id
        ("2026-03-02T10:00:00Z", 4, 9),
    ],
)
def test_of_two_by_one_person_the_one_changed_last_counts(
    updated_at: str | None, counts: int, kept_out: int
) -> None:
    first = annotation(4, 1, updated_at=updated_at)
    task = raw_task(1, [annotation(9, 1), first, annotation(5, 2)])
    selection = select_raters(parse_task(task))
    assert [rater.annotation.id for rater in selection.raters] == [counts, 5]
    assert [one.annotation_id for one in selection.problems] == [kept_out]


def test_a_model_is_a_rater_where_it_is_asked_for() -> None:
    raw = raw_task(1, [annotation(1, 1)])
    raw["predictions"] = [
        {"id": number, "model_version": version, "result": []}
        for number, version in ((7, "sam"), (8, "sam"), (9, "other"))
    ]
    task = parse_task(raw)
    assert [rater.annotator_id for rater in select_raters(task).raters] == [1]
    raters = select_raters(task, "predictions:sam").raters
    assert [(rater.annotator_id, rater.annotation.id) for rater in raters] == [
        (MODEL_ID, 8),
        (1, 1),
    ]
    assert select_raters(task, "predictions:none").raters == select_raters(task).raters
    unnamed = select_raters(task, "predictions")
    assert unnamed.kept_out == {"several_models": 1}
    assert "'other', 'sam'" in unnamed.problems[0].message


def test_a_skipped_annotation_does_not_shut_out_the_same_persons_real_one() -> None:
    task = raw_task(1, [annotation(1, 1, was_cancelled=True), annotation(2, 1)])
    selection = select_raters(parse_task(task))
    assert [rater.annotation.id for rater in selection.raters] == [2]


def test_a_submitted_empty_annotation_stays_in() -> None:
    task = raw_task(1, [annotation(1, 1, [("car", SQUARE)]), annotation(2, 2)])
    assert len(select_raters(parse_task(task)).raters) == 2


def test_an_annotator_given_as_an_object_is_the_same_person() -> None:
    task = raw_task(1, [annotation(1, 1), {**annotation(2, 2), "completed_by": {"id": 1}}])
    assert select_raters(parse_task(task)).kept_out == {"second_by_same_person": 1}
