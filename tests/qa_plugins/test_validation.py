from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qa_plugins.report.people import display_names
from qa_plugins.runner import run_checks
from qa_plugins.validation import ValidationCheck
from segstudio.errors import UsageError
from segstudio.plugins import CheckContext
from segstudio.source import open_source
from segstudio.tasks import parse_task
from segstudio.taxonomy import derive_taxonomy
from tests.qa_plugins.qa_tasks import annotation, context, raw_task, region, write_export


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    array = np.zeros((40, 60))
    array[top:bottom, left:right] = 1
    return array


CAR = box(5, 5, 25, 30)


def faults(*annotations: dict[str, Any], given: CheckContext | None = None) -> list[dict[str, Any]]:
    task = parse_task(raw_task(1, list(annotations)))
    measured = ValidationCheck().measure(task, given or context())
    return [fault.as_json() for fault in measured.faults]


def kinds(*annotations: dict[str, Any], **options: str) -> list[str]:
    return [fault["kind"] for fault in faults(*annotations, given=context(options))]


def with_speck() -> np.ndarray:
    array = CAR.copy()
    array[35:37, 50:52] = 1
    return array


def with_hole() -> np.ndarray:
    array = CAR.copy()
    array[10:12, 10:13] = 0
    return array


def test_a_clean_annotation_has_no_fault() -> None:
    assert faults(annotation(1, 7, [("car", CAR), ("road", box(30, 0, 40, 60))])) == []


@pytest.mark.parametrize(
    ("drawn", "kind", "severity", "bbox", "size_px"),
    [
        ([("car", with_speck())], "speck", "warning", [50, 35, 2, 2], 4),
        ([("car", with_hole())], "hole", "warning", [10, 10, 3, 2], 6),
        ([("car", box(5, 5, 6, 45))], "sliver", "note", [5, 5, 40, 1], 40),
        ([("car", CAR), ("road", box(20, 5, 35, 30))], "overlap", "warning", [5, 20, 25, 5], 125),
        ([("car", CAR), ("car", CAR)], "duplicate", "error", [5, 5, 25, 20], 500),
        ([("car", CAR), ("road", CAR)], "duplicate", "error", [5, 5, 25, 20], 500),
        ([("car", np.zeros((40, 60)))], "empty-region", "error", None, None),
        ([("tree", CAR)], "unknown-class", "error", None, None),
    ],
)
def test_a_fault_has_its_place_size_and_severity(
    drawn: Any, kind: str, severity: str, bbox: Any, size_px: int | None
) -> None:
    (fault,) = faults(annotation(1, 7, drawn))
    assert (fault["kind"], fault["severity"]) == (kind, severity)
    assert (fault["bbox"], fault["size_px"]) == (bbox, size_px)
    assert (fault["task"], fault["annotation"], fault["annotator"]) == (1, 1, 7)
    assert fault["regions"][0] == "a1r0"


@pytest.mark.parametrize(
    ("drawn", "option"),
    [
        ([("car", with_speck())], "speck_px"),
        ([("car", with_hole())], "hole_px"),
        ([("car", box(5, 5, 6, 45))], "sliver_px"),
        ([("car", CAR), ("road", box(20, 5, 35, 30))], "overlap_px"),
    ],
)
def test_a_limit_can_be_switched_off(drawn: Any, option: str) -> None:
    assert kinds(annotation(1, 7, drawn))
    assert kinds(annotation(1, 7, drawn), **{option: "0"}) == []


@pytest.mark.parametrize(
    ("options", "found"),
    [({}, []), ({"coverage": "1"}, ["unlabelled"]), ({"coverage": "0.2"}, [])],
)
def test_full_coverage_is_asked_for_where_the_project_wants_it(
    options: dict[str, str], found: list[str]
) -> None:
    assert kinds(annotation(1, 7, [("car", CAR)]), **options) == found


def test_the_gap_is_named_with_its_pixels() -> None:
    array = np.ones((40, 60))
    array[0:4, 0:5] = 0
    (fault,) = faults(annotation(1, 7, [("road", array)]), given=context({"coverage": "1"}))
    assert fault["size_px"] == 20 and fault["bbox"] == [0, 0, 5, 4]


def test_a_submitted_empty_annotation_beside_drawn_ones_is_a_fault() -> None:
    drawn, empty = annotation(1, 7, [("car", CAR)]), annotation(2, 8)
    assert kinds(drawn, empty) == ["empty-annotation"]
    assert kinds(empty) == []
    assert kinds(drawn, annotation(3, 9, was_cancelled=True)) == []


def test_a_class_that_all_others_drew_is_missing_only_where_there_are_two_others() -> None:
    both = [("car", CAR), ("road", box(30, 0, 40, 60))]
    one = [("car", CAR)]
    assert kinds(annotation(1, 7, both), annotation(2, 8, one)) == []
    found = faults(annotation(1, 7, both), annotation(2, 8, both), annotation(3, 9, one))
    assert [(one["kind"], one["class"], one["annotator"]) for one in found] == [
        ("missing-class", "road", 9)
    ]


def polygon(points: list[list[float]]) -> dict[str, Any]:
    return {
        "id": "p", "type": "polygonlabels", "from_name": "poly", "to_name": "image",
        "original_width": 60, "original_height": 40, "image_rotation": 0,
        "value": {"points": points, "closed": True, "polygonlabels": ["car"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("points", "found"),
    [
        ([[10, 10], [50, 10], [50, 50], [10, 50]], []),
        ([[10, 10], [50, 50], [50, 10], [10, 50]], ["self-intersection"]),
        ([[10, 10], [105, 10], [105, 50], [10, 50]], ["out-of-bounds"]),
    ],
)
def test_polygons_that_cross_or_leave_the_image(points: Any, found: list[str]) -> None:
    assert kinds({**annotation(1, 7), "result": [polygon(points)]}) == found


def test_a_prompt_left_behind_is_an_error() -> None:
    prompt = {
        "id": "k", "type": "keypointlabels", "from_name": "kp", "to_name": "image",
        "original_width": 60, "original_height": 40, "image_rotation": 0, "is_positive": True,
        "value": {"x": 10, "y": 10, "width": 1, "keypointlabels": ["car"]},
    }  # fmt: skip
    (fault,) = faults({**annotation(1, 7), "result": [prompt]})
    assert (fault["kind"], fault["severity"]) == ("forgotten-prompt", "error")


def test_regions_of_another_image_size_and_torn_streams_are_errors() -> None:
    other = region(np.ones((20, 30)), "car", "small")
    torn = region(CAR, "car", "torn")
    torn["value"]["rle"] = torn["value"]["rle"][:5]
    both = [region(CAR, "car", "a"), region(box(30, 0, 40, 60), "road", "b")]
    found = faults({**annotation(1, 7), "result": [*both, other, torn]})
    assert [(one["kind"], one["regions"]) for one in found] == [
        ("wrong-size", ["small"]),
        ("unreadable", ["torn"]),
    ]


def test_a_label_that_the_interface_lost_is_told_apart_from_one_nobody_knows() -> None:
    given = context()
    trimmed = CheckContext(
        given.taxonomy,
        type(given.label_config)(**_fields_without(given.label_config, "car")),
        {},
    )
    (fault,) = faults(annotation(1, 7, [("car", CAR)]), given=trimmed)
    assert "no longer offers" in fault["message"] and fault["kind"] == "unknown-class"


def _fields_without(config: Any, label: str) -> dict[str, Any]:
    from segstudio.label_config import parse_label_config
    from tests.qa_plugins.qa_tasks import CONFIG_XML

    trimmed = parse_label_config(CONFIG_XML.replace(f'<Label value="{label}"/>', ""))
    return {name: getattr(trimmed, name) for name in trimmed.__dataclass_fields__}


@pytest.mark.parametrize("text", ["many", "-1"])
def test_a_limit_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="speck_px"):
        kinds(annotation(1, 7, [("car", CAR)]), speck_px=text)


def test_the_summary_counts_and_the_section_tells_it_in_sentences(tmp_path: Path) -> None:
    tasks = [
        raw_task(1, [annotation(1, 7, [("car", CAR), ("car", CAR)])]),
        raw_task(2, [annotation(2, 8, [("car", with_speck())])]),
        raw_task(3, [annotation(3, 8, [("car", CAR)])]),
    ]
    source = open_source(str(write_export(tmp_path, tasks)))
    run = run_checks(["validation"], source, derive_taxonomy(source.label_config), workers=1)
    summary = run.result["checks"]["validation"]
    assert summary["counts"] == {"error": 1, "warning": 1, "note": 0}
    assert summary["kinds"]["duplicate"] == {"count": 1, "tasks": 1, "severity": "error"}
    assert summary["annotators"] == [
        {"id": 7, "faults": {"duplicate": 1}},
        {"id": 8, "faults": {"speck": 1}},
    ]
    assert [fault["task"] for fault in summary["faults"]] == [1, 2]
    people = display_names([7, 8], reveal=False, names={})
    (section,) = run.sections(lambda person: people[person])
    assert section.findings[0].severity == "error" and section.findings[0].action
    assert section.tables[0].rows[0][1] == people[7]
    assert "1 of 3 tasks have an error" in section.lead
