from typing import Any

import pytest

from segstudio.errors import UsageError
from segstudio.selection import Policy, Survey, annotator_folder, choose, parse_policy
from segstudio.tasks import Task, parse_task


def annotation(
    annotation_id: int,
    user: int | None,
    *,
    truth: bool = False,
    skipped: bool = False,
    updated: str = "2026-01-01T00:00:00Z",
) -> dict[str, Any]:
    return {
        "id": annotation_id,
        "completed_by": user,
        "result": [],
        "ground_truth": truth,
        "was_cancelled": skipped,
        "created_at": "2025-01-01T00:00:00Z",
        "updated_at": updated,
    }


def task(*annotations: dict[str, Any], task_id: int = 1, **more: Any) -> Task:
    return parse_task({"id": task_id, "data": {}, "annotations": list(annotations), **more})


LATER = "2026-03-01T00:00:00Z"
TRUTH_OF_TWO = (annotation(1, 5), annotation(2, 6, truth=True))
TWO_TRUTHS = (annotation(1, 5, truth=True), annotation(2, 6, truth=True))
TWO_USERS = (annotation(1, 5, updated=LATER), annotation(2, 6))
ONE_USER_TWICE = (annotation(1, 5, updated=LATER), annotation(2, 5))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (None, Policy("default")),
        ("ground-truth", Policy("ground-truth")),
        ("consensus", Policy("consensus")),
        ("newest", Policy("newest")),
        ("all", Policy("all")),
        ("user:12", Policy("user", 12)),
        ("predictions", Policy("predictions")),
        ("predictions:v:2", Policy("predictions", model_version="v:2")),
    ],
)
def test_a_policy_is_read_and_written_the_same(text: str | None, policy: Policy) -> None:
    assert parse_policy(text) == policy
    assert str(policy) == (text or "default")


@pytest.mark.parametrize("text", ["", "user", "user:", "user:-1", "user:x", "oldest", "default"])
def test_an_unknown_policy_is_a_usage_error_with_the_choices(text: str) -> None:
    with pytest.raises(UsageError, match="user:"):
        parse_policy(text)


@pytest.mark.parametrize(
    ("policy", "annotations", "taken"),
    [
        (None, (annotation(1, 5),), [1]),
        (None, TRUTH_OF_TWO, [2]),
        (None, ONE_USER_TWICE, [1]),
        (None, (annotation(1, 5, skipped=True), annotation(2, 6)), [2]),
        (None, (annotation(1, 5, truth=True, skipped=True), annotation(2, 6)), [2]),
        ("ground-truth", TRUTH_OF_TWO, [2]),
        ("ground-truth", TWO_USERS, []),
        ("newest", TWO_USERS, [1]),
        ("newest", (annotation(3, 5), annotation(4, 6)), [4]),
        ("newest", TWO_TRUTHS, [2]),
        ("user:6", TWO_USERS, [2]),
        ("user:5", ONE_USER_TWICE, [1]),
        ("user:9", TWO_USERS, []),
        ("all", (annotation(1, 6), annotation(2, 5)), [2, 1]),
        ("all", (annotation(1, None), annotation(2, 5)), [2, 1]),
        ("all", ONE_USER_TWICE, [1]),
        ("consensus", TWO_USERS, [1, 2]),
        ("consensus", (annotation(1, 5, skipped=True),), []),
    ],
)
def test_what_each_policy_takes_of_a_task(
    policy: str | None, annotations: tuple[dict[str, Any], ...], taken: list[int]
) -> None:
    choice = choose(task(*annotations), parse_policy(policy))
    assert [one.id for one in choice.annotations] == taken
    assert choice.open_choice is None
    assert bool(choice.left_out) == (not taken)


def test_drafts_and_predictions_never_count() -> None:
    draft = {"id": 7, "result": [], "user": 5}
    prediction = {"id": 8, "result": [], "model_version": "m", "score": 1.0}
    choice = choose(task(drafts=[draft], predictions=[prediction]), Policy())
    assert choice.annotations == () and choice.left_out == "not annotated"


def predictions(*versions: str) -> Task:
    found = [
        {"id": n, "result": [], "model_version": version} for n, version in enumerate(versions, 1)
    ]
    return task(annotation(9, 5), predictions=found)


def test_predictions_count_on_request_and_the_newest_of_a_model_is_taken() -> None:
    for policy, taken in (("predictions", 2), ("predictions:a", 2)):
        choice = choose(predictions("a", "a"), parse_policy(policy))
        assert [one.id for one in choice.annotations] == [taken] and choice.superseded == 1
    choice = choose(predictions("a", "b"), parse_policy("predictions:a"))
    assert [one.id for one in choice.annotations] == [1]
    assert choose(predictions(), parse_policy("predictions")).left_out == "no prediction"


def test_predictions_of_several_models_are_an_open_choice_that_names_them() -> None:
    sentence = str(survey("predictions", predictions("a", "b"), predictions("a")).error())
    assert "1 of 2 tasks" in sentence and "'a' (2 tasks), 'b' (1 tasks)" in sentence
    sentence = str(survey("predictions:c", predictions("a")).error())
    assert "None of 1 tasks" in sentence and "'a' (1 tasks)" in sentence


def test_times_in_different_zones_are_compared_as_moments() -> None:
    early = annotation(1, 5, updated="2026-01-01T10:00:00+00:00")
    late = annotation(2, 6, updated="2026-01-01T09:30:00-02:00")
    assert choose(task(early, late), Policy("newest")).annotations[0].id == 2


@pytest.mark.parametrize("policy", [None, "ground-truth"])
def test_several_ground_truths_are_an_open_choice(policy: str | None) -> None:
    assert choose(task(*TWO_TRUTHS), parse_policy(policy)).open_choice == "several-ground-truths"


def survey(policy: str | None, *tasks: Task) -> Survey:
    counted = Survey(parse_policy(policy))
    for one in tasks:
        counted.add(one)
    return counted


def test_an_open_choice_is_worded_once_with_a_count_over_all_tasks() -> None:
    tasks = [task(*TWO_USERS, task_id=n) for n in range(1, 9)] + [task(annotation(1, 5), task_id=9)]
    error = survey(None, *tasks).error()
    sentence = str(error)
    assert error is not None and error.exit_code == 2
    assert "8 of 9 tasks (ids 1, 2, 3, 4, 5, ...)" in sentence
    assert "user 5 (9 tasks), user 6 (8 tasks)" in sentence
    for choice in ("consensus", "newest", "user:5", "all"):
        assert choice in sentence
    assert "ground-truth" not in sentence


def test_several_ground_truths_and_several_annotators_are_both_told() -> None:
    sentence = str(survey(None, task(*TWO_USERS), task(*TWO_TRUTHS, task_id=2)).error())
    assert "several ground truths" in sentence and "several annotators" in sentence


def test_a_policy_that_fits_no_task_names_what_there_is() -> None:
    error = survey("user:9", task(*TWO_USERS), task(task_id=2)).error()
    assert "1 not annotated, 1 nothing by user 9" in str(error)
    assert "user 5 (1 tasks)" in str(error)


def test_no_annotation_at_all_says_so() -> None:
    assert "Submit an annotation first" in str(survey(None, task()).error())


def test_a_clear_case_has_no_error_and_counts_what_was_left_out() -> None:
    counted = survey(
        None,
        task(*ONE_USER_TWICE),
        task(task_id=2),
        task(annotation(3, 6, skipped=True), task_id=3),
    )
    assert counted.error() is None
    assert counted.as_json() == {
        "policy": "default",
        "takes": "the one ground truth, else the only annotator's",
        "tasks_read": 3,
        "tasks_taken": 1,
        "tasks_left_out": {"not annotated": 1, "only skipped": 1},
        "older_annotations_of_one_annotator": 1,
    }


def test_no_tasks_are_no_error() -> None:
    assert survey(None).error() is None


def test_folders_of_annotators_are_named_by_their_ids() -> None:
    assert annotator_folder(12) == "annotator-12"
