"""What became of suggestions: each outcome made by hand and found again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qa_plugins.assist import AssistCheck
from segstudio.errors import UsageError
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, context, raw_task, region


def box(x: int, width: int = 10) -> np.ndarray:
    array = np.zeros((20, 60), bool)
    array[5:15, x : x + width] = True
    return array


SUGGESTED = [
    region(box(0), "car", "p1"),
    region(box(20), "car", "p2"),
    region(box(40), "sky", "p3"),
]


def task(result: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    fields = {"parent_prediction": 9, "lead_time": 12.0, **fields}
    raw = raw_task(1, [{**annotation(1, 7), "result": result, **fields}])
    raw["predictions"] = [{"id": 9, "model_version": "sam", "score": 0.9, "result": SUGGESTED}]
    return raw


def summary(*tasks: dict[str, Any], **options: str) -> dict[str, Any]:
    check, given = AssistCheck(), context(options)
    return check.summarize([check.measure(parse_task(one), given) for one in tasks], given)


def outcomes(found: dict[str, Any]) -> dict[str, int]:
    keys = ("kept", "edited", "relabelled", "thrown_away", "clicks", "by_hand")
    return {key: found["all"][key] for key in keys if found["all"][key]}


def test_each_suggestion_is_followed_to_what_was_submitted() -> None:
    found = summary(
        task(
            [
                region(box(0), "car", "p1"),  # kept
                region(box(20, 12), "car", "p2"),  # two columns of ten pixels added
                {**region(box(52, 4), "road", "new"), "score": 0.8},  # a click
                region(box(56, 4), "road", "hand"),
            ]
        )
    )
    assert outcomes(found) == {"kept": 1, "edited": 1, "thrown_away": 1, "clicks": 1, "by_hand": 1}
    assert found["all"]["suggestions"] == 3
    assert found["all"]["changed_px"] == 20
    assert found["all"]["changed_share_median"] == pytest.approx(20 / 120)
    assert [(one["name"], one["thrown_away"]) for one in found["classes"]] == [
        ("car", 0), ("road", 0), ("sky", 1),
    ]  # fmt: skip
    assert [one["id"] for one in found["annotators"]] == [7]


@pytest.mark.parametrize(
    ("label", "x", "expected"),
    [
        ("car", 0, {"kept": 1, "thrown_away": 2}),
        ("road", 0, {"edited": 1, "relabelled": 1, "thrown_away": 2}),
        ("car", 2, {"edited": 1, "thrown_away": 2}),
        ("car", 9, {"thrown_away": 3, "by_hand": 1}),
    ],
)
def test_a_region_with_a_new_id_is_known_by_its_overlap(
    label: str, x: int, expected: dict[str, int]
) -> None:
    assert outcomes(summary(task([region(box(x), label, "other")]))) == expected


def test_without_the_prediction_the_regions_own_word_counts_and_the_gap_is_named() -> None:
    result = [
        {**region(box(0), "car", "p1"), "origin": "prediction"},
        {**region(box(20), "car", "p2"), "origin": "prediction-changed"},
    ]
    raw = {**task(result), "predictions": [9]}
    found = summary(raw)
    assert outcomes(found) == {"kept": 1, "edited": 1}
    assert found["all"]["changed_share_median"] is None
    assert found["annotations_without_their_prediction"] == 1
    section = AssistCheck().report(found, str)
    assert section is not None
    assert "threw away is not known" in section.lead


def test_an_annotation_that_names_no_prediction_is_known_by_region_ids_or_by_hand() -> None:
    same_ids = task([region(box(0), "car", "p1")], parent_prediction=None)
    assert outcomes(summary(same_ids)) == {"kept": 1, "thrown_away": 2}
    # The same pixels under another id: a look at the prediction leaves no trace.
    own = task([region(box(0), "car", "mine")], parent_prediction=None)
    assert outcomes(summary(own)) == {"by_hand": 1}


def test_times_are_of_annotations_made_in_one_way_only() -> None:
    kept = task(SUGGESTED, lead_time=6.0)
    hand = task([region(box(0), "car", "h")], parent_prediction=None, lead_time=8.0)
    mixed = task([*SUGGESTED, region(box(55, 5), "car", "h")], lead_time=400.0)
    found = summary(kept, hand, mixed)
    assert (found["all"]["assisted_s"], found["all"]["by_hand_s"]) == (2.0, 8.0)
    assert found["mixed_annotations_not_timed"] == 1


def test_skipped_annotations_and_no_model_give_no_section() -> None:
    skipped = task(SUGGESTED, was_cancelled=True)
    hand = task([region(box(0), "car", "h")], parent_prediction=None)
    found = summary(skipped, hand)
    assert found["annotations"] == 1
    assert AssistCheck().report(found, str) is None


def test_the_section_warns_of_a_useless_class_and_of_who_keeps_everything() -> None:
    keeps = [task(SUGGESTED) for _ in range(8)]
    discards = [task([], completed_by=8) for _ in range(8)]
    section = AssistCheck().report(summary(*keeps, *discards), lambda person: f"P{person}")
    assert section is not None
    assert [(one.severity, one.text) for one in section.findings] == [
        ("warning", "16 of 32 suggestions of “car” were thrown away."),
        ("warning", "P7 kept 100% of the suggestions untouched; the others 0%."),
    ]
    assert section.lead.startswith("Of 48 suggestions 50% were kept")


@pytest.mark.parametrize("given", ["0", "x", "1.5"])
def test_an_overlap_that_cannot_be_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="match_iou"):
        summary(task([]), match_iou=given)
