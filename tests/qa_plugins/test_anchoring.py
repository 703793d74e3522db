from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from qa_plugins.agreement import AgreementCheck
from segstudio.errors import UsageError
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, context, raw_task, region

CHECK = AgreementCheck()
OLD, NEW = np.zeros((2, 10, 10), dtype=bool)
OLD[:6] = True  # 60 pixels
NEW[:8] = True  # 20 more


def corrected(
    annotation_id: int, array: Any, origin: str, parent: int | None = 5
) -> dict[str, Any]:
    """An annotation of the pre-label's car as one person left it."""
    drawn = annotation(annotation_id, annotation_id, [("car", array)], parent_prediction=parent)
    drawn["result"][0]["origin"] = origin
    return drawn


def summary(people: Sequence[dict[str, Any]], *, with_prediction: bool) -> dict[str, Any]:
    raw = raw_task(1, people)
    if with_prediction:
        raw["predictions"] = [
            {"id": 5, "model_version": "m", "result": [region(OLD, "car", "p", None)]}
        ]
    return CHECK.summarize([CHECK.measure(parse_task(raw), context())], context())


UNTOUCHED = [corrected(1, OLD, "prediction"), corrected(2, OLD, "prediction")]
WITHOUT_PARENT = [corrected(1, OLD, "prediction", None), corrected(2, OLD, "prediction", None)]


@pytest.mark.parametrize("people", [UNTOUCHED, WITHOUT_PARENT])
@pytest.mark.parametrize("with_prediction", [True, False])
def test_an_untouched_shared_pre_label_is_no_evidence_of_agreement(
    people: list[dict[str, Any]], with_prediction: bool
) -> None:
    result = summary(people, with_prediction=with_prediction)
    assert result["batch"]["miou"]["accumulated"] == 1.0
    anchoring = result["batch"]["anchoring"]
    assert anchoring["miou_decided"] is None
    assert (anchoring["shared_pairs"], anchoring["untouched_share"]) == (1, 1.0)
    section = CHECK.report(result, str)
    assert section is not None
    finding = section.findings[1]
    assert finding.severity == "warning"
    assert "no evidence of agreement" in finding.text


@pytest.mark.parametrize(
    ("theirs", "decided", "untouched_share"),
    [
        (NEW, 1.0, 60 / 80),  # both added the same 20 pixels
        (OLD, 0.0, 1.0),  # only one added them
        (np.zeros((10, 10), dtype=bool), 0.0, None),  # one took 60 away, one added 20
    ],
)
def test_agreement_on_what_people_decided_is_that_of_their_changes(
    theirs: Any, decided: float, untouched_share: float | None
) -> None:
    mine = corrected(1, NEW, "prediction-changed")
    other = corrected(2, theirs, "prediction-changed")
    result = summary([mine, other], with_prediction=True)
    car = next(one for one in result["classes"] if one["name"] == "car")
    assert car["decided"] == {"iou": decided, "untouched_share": untouched_share}


def test_without_the_prediction_the_untouched_region_of_one_shows_what_it_was() -> None:
    people = [corrected(1, NEW, "prediction-changed"), corrected(2, OLD, "prediction")]
    assert summary(people, with_prediction=False)["batch"]["anchoring"]["miou_decided"] == 0.0


@pytest.mark.parametrize(
    "people",
    [
        [corrected(1, OLD, "prediction", 5), corrected(2, OLD, "prediction", 6)],
        [corrected(1, OLD, "prediction", 5), corrected(2, OLD, "manual", None)],
        [corrected(1, OLD, "manual", None), corrected(2, OLD, "manual", None)],
    ],
)
def test_without_a_shared_pre_label_every_pixel_was_decided(people: list[dict[str, Any]]) -> None:
    anchoring = summary(people, with_prediction=True)["batch"]["anchoring"]
    assert (anchoring["shared_pairs"], anchoring["miou_decided"]) == (0, 1.0)


def test_pairs_are_split_by_a_models_help() -> None:
    scored = corrected(3, NEW, "manual", None)
    scored["result"][0]["score"] = 0.9
    people = [corrected(1, OLD, "prediction"), annotation(2, 2, [("car", OLD)]), scored]
    people.append(annotation(4, 4, [("car", OLD)]))
    by_assistance = summary(people, with_prediction=True)["batch"]["anchoring"]["by_assistance"]
    assert by_assistance["assisted"] == {"pairs": 1, "miou": pytest.approx(60 / 80)}
    assert by_assistance["unassisted"] == {"pairs": 1, "miou": 1.0}
    assert by_assistance["mixed"]["pairs"] == 4


def test_a_model_is_compared_like_a_person_and_decides_nothing() -> None:
    raw = raw_task(1, [corrected(1, NEW, "prediction-changed"), corrected(2, NEW, "manual")])
    raw["predictions"] = [{"id": 5, "model_version": "m", "result": [region(OLD, "car", "p")]}]
    made = context({"rater": "prediction:m"})
    result = CHECK.summarize([CHECK.measure(parse_task(raw), made)], made)
    assert [(one["a"], one["b"], one["miou"]) for one in result["pairs"]] == [
        (-1, 1, 0.75), (-1, 2, 0.75), (1, 2, 1.0),
    ]  # fmt: skip
    anchoring = result["batch"]["anchoring"]
    assert (anchoring["shared_pairs"], anchoring["miou_decided"]) == (1, 1.0)
    with pytest.raises(UsageError, match="prediction:VERSION"):
        CHECK.measure(parse_task(raw), context({"rater": "sam"}))
