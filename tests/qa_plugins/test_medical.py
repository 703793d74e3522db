"""Organs in millimetres and millilitres: volumes, single slices, gold, empty masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from qa_plugins.gate_verdicts import evaluate
from qa_plugins.gates import parse_gates
from qa_plugins.medical import MedicalCheck
from qa_plugins.medical_sums import GOLD_ID
from qa_plugins.metrics.surface_distance import (
    hausdorff_mm,
    surface_dice,
    surface_distances,
    surface_of,
)
from qa_plugins.runner import run_checks
from segstudio.errors import UsageError
from segstudio.label_config import parse_label_config
from segstudio.plugins import CheckContext
from segstudio.source import open_source
from segstudio.tasks import parse_task
from segstudio.taxonomy import derive_taxonomy
from tests.qa_plugins.qa_tasks import annotation, raw_task

SIZE = (24, 30)
SPACING = (0.5, 0.8)  # between rows, between columns
STEP_MM = 3.0
ANNA, BEN = 11, 12
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Liver"/><Label value="Spleen"/></BrushLabels></View>'
)


def context(**options: str) -> CheckContext:
    config = parse_label_config(CONFIG)
    return CheckContext(derive_taxonomy(config), config, options)


def ball(z: float, radius: float, slices: int = 8, x: float = 14) -> Any:
    """(slices, rows, columns) of an ellipsoid."""
    depth, row, column = np.ogrid[:slices, : SIZE[0], : SIZE[1]]
    inside = ((depth - z) * 4) ** 2 + (row - 11) ** 2 + (column - x) ** 2
    return inside <= radius**2


def dicom(at: int, slices: int, **changed: Any) -> dict[str, Any]:
    return {
        "series": "series-0001", "slice": at, "slices": slices, "study_uid": "2.25.1",
        "series_uid": "2.25.2", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance_uid": f"2.25.{100 + at}", "frame_number": None,
        "frame_of_reference_uid": "2.25.4", "modality": "CT", "rows": SIZE[0], "columns": SIZE[1],
        "pixel_spacing_mm": list(SPACING), "image_orientation": [1, 0, 0, 0, 1, 0],
        "image_position_mm": [0, 0, STEP_MM * at], "slice_thickness_mm": STEP_MM,
        "slice_spacing_mm": STEP_MM, "window": None, "rescale": None, "photometric": "",
        "file": None, **changed,
    }  # fmt: skip


def series(people: dict[int, dict[str, Any]], first_id: int = 1, **changed: Any) -> list[Any]:
    """Tasks of a series on which each person drew (slices, rows, columns) of each class."""
    slices = len(next(iter(next(iter(people.values())).values())))
    tasks = []
    for at in range(slices):
        task_id = first_id + at
        annotations = [
            annotation(
                100 * task_id + person, person,
                [(label, mask[at]) for label, mask in drawn.items() if mask[at].any()],
            )
            for person, drawn in people.items()
        ]  # fmt: skip
        # An empty annotation says that there is nothing; it is submitted all the same.
        tasks.append(raw_task(task_id, annotations, dicom=dicom(at, slices, **changed)))
    return tasks


def summary(tasks: list[Any], **options: str) -> dict[str, Any]:
    check, given = MedicalCheck(), context(**options)
    return check.summarize([check.measure(parse_task(raw), given) for raw in tasks], given)


def of_class(found: dict[str, Any], name: str = "Liver") -> dict[str, Any]:
    (one,) = [one for one in found["classes"] if one["name"] == name]
    return one


A, B = ball(3.5, 8), ball(3.5, 9, x=15)


def test_two_people_on_a_volume_are_measured_in_three_dimensions() -> None:
    found = summary(series({ANNA: {"Liver": A}, BEN: {"Liver": B}}))
    liver = of_class(found)
    spacing = (STEP_MM, *SPACING)
    distances = surface_distances(surface_of(A, spacing), surface_of(B, spacing))
    assert liver["hd95_mm"] == pytest.approx(hausdorff_mm(distances))
    assert liver["surface_dice"] == pytest.approx(surface_dice(distances, 2.0))
    itk = SimpleITK.LabelOverlapMeasuresImageFilter()
    itk.Execute(*(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (A, B)))
    assert liver["dice"] == pytest.approx(itk.GetDiceCoefficient())
    (one,) = found["series"]
    assert one["pairs"][0]["dimension"] == 3
    assert one["annotators"][0]["volumes_ml"]["Liver"] == pytest.approx(
        A.sum() * STEP_MM * 0.5 * 0.8 / 1000
    )
    assert found["batch"]["compared_tasks"] == 8


def test_the_order_of_tasks_and_of_slices_does_not_matter() -> None:
    tasks = series({ANNA: {"Liver": A}, BEN: {"Liver": B}})
    straight = summary(tasks)
    assert summary(tasks[::-1]) == straight
    turned = [dict(one, data={**one["data"]}) for one in tasks]
    for at, one in enumerate(turned):
        one["data"]["dicom"] = dicom(at, 8, image_position_mm=[0, 0, -STEP_MM * at])
    assert of_class(summary(turned))["hd95_mm"] == pytest.approx(of_class(straight)["hd95_mm"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tasks: tasks.pop(3),  # a slice that nobody compared
        lambda tasks: tasks[3]["annotations"].pop(),  # only one annotated it
        lambda tasks: tasks[3]["data"]["dicom"].update(image_position_mm=[0, 0, 9.7]),
    ],
)
def test_gaps_and_uneven_slices_are_measured_slice_by_slice(spoil: Any) -> None:
    tasks = series({ANNA: {"Liver": A}, BEN: {"Liver": B}})
    spoil(tasks)
    found = summary(tasks)
    (pair,) = found["series"][0]["pairs"]
    assert pair["dimension"] == 2
    common = [at for at in range(8) if at != 3 or len(tasks) == 8 == pair["slices"]]
    single = [
        hausdorff_mm(surface_distances(surface_of(A[at], SPACING), surface_of(B[at], SPACING)))
        for at in common
        if A[at].any() and B[at].any()
    ]
    assert of_class(found)["hd95_mm"] == pytest.approx(np.mean(single))


def test_an_organ_that_only_one_drew_has_no_distance_and_is_told() -> None:
    nothing = np.zeros_like(A)
    found = summary(series({ANNA: {"Liver": A, "Spleen": A}, BEN: {"Liver": B, "Spleen": nothing}}))
    spleen = of_class(found, "Spleen")
    assert (spleen["hd95_mm"], spleen["surface_dice"], spleen["mean_distance_mm"]) == (None,) * 3
    assert (spleen["dice"], spleen["only_one_drew"]) == (0.0, 1)
    section = MedicalCheck().report(found, lambda number: f"annotator {number}")
    assert section is not None
    assert any("only one of the two drew it" in one.text for one in section.findings)
    nobody = summary(series({ANNA: {"Liver": nothing}, BEN: {"Liver": nothing}}))
    assert nobody["classes"] == []
    assert nobody["batch"]["dice"] is None


def test_against_gold_each_annotator_is_compared_and_gold_is_nobody() -> None:
    tasks = series({ANNA: {"Liver": A}, BEN: {"Liver": B}})
    for one in tasks:
        gold = annotation(9000 + one["id"], 1, ground_truth=True)
        gold["result"] = one["annotations"][0]["result"]
        one["annotations"].append(gold)
    found = summary(tasks, against="gold")
    pairs = {(pair["first"], pair["second"]): pair for pair in found["series"][0]["pairs"]}
    assert list(pairs) == [(ANNA, GOLD_ID), (BEN, GOLD_ID)]
    assert pairs[ANNA, GOLD_ID]["classes"][0]["dice"] == 1.0
    assert pairs[ANNA, GOLD_ID]["classes"][0]["hd95_mm"] == 0.0
    assert pairs[BEN, GOLD_ID]["classes"][0]["dice"] < 1
    section = MedicalCheck().report(found, lambda number: f"annotator {number}")
    assert section is not None
    text = json.dumps([table.rows for table in section.tables])
    assert "gold" in text
    assert str(GOLD_ID) not in text


def test_volumes_over_several_series_have_limits_of_agreement() -> None:
    tasks = []
    for number in range(6):
        a = ball(3.5, 6 + 0.5 * number)
        b = ball(3.5, 7 + 0.5 * number)  # Ben draws wider
        tasks += series(
            {ANNA: {"Liver": a}, BEN: {"Liver": b}}, 1 + 20 * number,
            series=f"series-{number:04d}", series_uid=f"2.25.{50 + number}",
        )  # fmt: skip
        for at, one in enumerate(tasks[-8:]):
            one["data"]["dicom"]["sop_instance_uid"] = f"2.25.{number}{at:03d}"
    found = summary(tasks)
    (pair,) = of_class(found)["volume_agreement"]
    limits = pair["limits_ml"]
    assert limits["pairs"] == 6
    volumes = [
        [one["volumes_ml"]["Liver"] for one in entry["annotators"]] for entry in found["series"]
    ]
    differences = np.subtract(*np.array(volumes).T)
    assert limits["bias"] == pytest.approx(differences.mean())
    assert limits["upper"] == pytest.approx(differences.mean() + 1.96 * differences.std(ddof=1))
    section = MedicalCheck().report(found, lambda number: {ANNA: "A", BEN: "B"}[number])
    assert section is not None
    assert any(one.text.startswith("B draws Liver larger than A") for one in section.findings)
    (table,) = [one for one in section.tables if one.title == "Largest differences of volume"]
    assert len(table.rows) == 6
    # The smallest organ differs most, as a share of it.
    first, _, _, a_ml, _, b_ml, difference, slices = table.rows[0]
    assert (first, slices) == ("series-0000", "8 of 8")
    assert [a_ml, b_ml] == volumes[0]
    assert difference == pytest.approx(volumes[0][0] - volumes[0][1])


def test_tolerances_are_given_in_all_and_by_organ() -> None:
    tasks = series({ANNA: {"Liver": A, "Spleen": A}, BEN: {"Liver": B, "Spleen": B}})
    found = summary(tasks, tolerance_mm="0.4,Spleen:3")
    assert of_class(found, "Spleen")["surface_dice"] > of_class(found)["surface_dice"]
    assert (of_class(found)["tolerance_mm"], of_class(found, "Spleen")["tolerance_mm"]) == (0.4, 3)
    for text in ("x", "-1", "2,Heart:1", "Liver:nan"):
        with pytest.raises(UsageError, match="option tolerance_mm"):
            summary(tasks, tolerance_mm=text)
    with pytest.raises(UsageError, match="option against"):
        summary(tasks, against="peers")


def test_the_worst_slices_are_the_ones_of_the_lowest_dice() -> None:
    b = A.copy()
    b[5] = np.roll(b[5], 9, axis=1)
    found = summary(series({ANNA: {"Liver": A}, BEN: {"Liver": b}}))
    (worst,) = found["worst_slices"]
    assert (worst["task"], worst["slice"]) == (6, 5)
    flat = surface_distances(surface_of(A[5], SPACING), surface_of(b[5], SPACING))
    assert worst["hd95_mm"] == pytest.approx(hausdorff_mm(flat))


def test_windows_of_one_slice_count_together() -> None:
    tasks = series({ANNA: {"Liver": A}, BEN: {"Liver": A}})
    for one in tasks:
        for region in one["annotations"][1]["result"]:
            region["to_name"] = "image_bone"
    assert of_class(summary(tasks))["dice"] == 1.0


def test_tasks_without_dicom_or_spacing_are_counted() -> None:
    plain = raw_task(90, [annotation(1, ANNA, [("Liver", A[3])])])
    broken = raw_task(91, [annotation(2, ANNA, [("Liver", A[3])])], dicom={"series": "../x"})
    photo = {"pixel_spacing_mm": None, "image_orientation": None, "image_position_mm": None}
    tasks = [plain, broken, *series({ANNA: {"Liver": A}, BEN: {"Liver": B}}, 1, **photo)]
    found = summary(tasks)
    assert (found["tasks"], found["tasks_without_dicom"], found["tasks_without_spacing"]) == (
        10,
        2,
        8,
    )
    assert of_class(found)["dice"] == pytest.approx(2 * (A & B).sum() / (A.sum() + B.sum()))
    assert of_class(found)["hd95_mm"] is None
    (problem,) = found["problems"]
    assert problem["kind"] == "unreadable-dicom"
    assert "dicom.series is '../x'" in problem["message"] or "dicom.slice" in problem["message"]
    section = MedicalCheck().report(summary([plain]), str)
    assert section is not None
    assert section.findings[0].text == "No task of this batch shows a DICOM slice."


GATES = """
gates:
  - {metric: volume_dice, scope: class, threshold: 0.88}
  - {metric: surface_dice, threshold: 0.5}
  - {metric: hd95_mm, scope: class, class: Liver, threshold: 6}
  - {metric: hd95_mm, scope: class, class: Liver, threshold: 1}
  - {metric: hd95_mm, threshold: 6, against: gold}
  - {metric: hd95_mm, threshold: 6, min_tasks: 9}
"""


def test_gates_of_volumes_are_judged_millimetres_from_above() -> None:
    measured = {"medical": summary(series({ANNA: {"Liver": A}, BEN: {"Liver": B}}))}
    gates = parse_gates(GATES)
    assert gates.gates[2].name == "HD95 in mm of Liver at most 6"
    found = evaluate(gates, measured)
    assert [one.verdict for one in found] == ["fail", "pass", "pass", "fail", "n/a", "n/a"]
    assert "is 0.8" in found[0].reason
    assert "above the allowed 1" in found[3].reason
    assert "run it with --option against=gold" in found[4].reason
    worst = measured["medical"]["worst_slices"][0]
    assert found[3].worst_tasks[0]["task"] == worst["task"]
    assert [one.verdict for one in evaluate(gates, {})] == ["n/a"] * 6


def test_an_organ_without_distances_never_passes_a_gate() -> None:
    measured = {"medical": summary(series({ANNA: {"Liver": A}, BEN: {"Liver": A & False}}))}
    (outcome,) = evaluate(parse_gates("gates: [{metric: hd95_mm, threshold: 6}]"), measured)
    assert outcome.verdict == "n/a"
    assert outcome.reason.endswith("has no value.")
    both = {"medical": summary([
        *series({ANNA: {"Liver": A}, BEN: {"Liver": A & False}}),
        *series({ANNA: {"Liver": A}, BEN: {"Liver": A}}, 20, series="s2", series_uid="2.25.9",
                study_uid="2.25.8"),
    ])}  # fmt: skip
    (outcome,) = evaluate(
        parse_gates("gates: [{metric: hd95_mm, class: Liver, threshold: 6}]"), both
    )
    assert outcome.verdict == "pass"
    assert "1 comparison in which only one drew it left out" in outcome.reason


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("{metric: hd95_mm, threshold: -1}", "no number of millimetres"),
        ("{metric: surface_dice, threshold: 2}", "not between 0 and 1"),
        ("{metric: hd95_mm, threshold: 3, scope: annotator}", "an annotator is judged by miou"),
        ("{metric: hd95_mm, threshold: 3, against: consensus}", "'against: consensus' has miou"),
        ("{metric: surface_dice, threshold: 0.9, where: {split: val}}", "has no subsets"),
    ],
)
def test_gates_that_volumes_cannot_answer_are_refused(gate: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_gates(f"gates: [{gate}]")
    assert words in str(caught.value)


def test_it_runs_with_the_others_and_stands_on_the_page(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(series({ANNA: {"Liver": A}, BEN: {"Liver": B}})))
    path.with_name("export.label-config.xml").write_text(CONFIG)
    source = open_source(str(path))
    run = run_checks(
        ["agreement", "medical"], source, derive_taxonomy(source.label_config), workers=1, label=""
    )
    assert run.result["checks"]["medical"]["batch"]["volumes"] == 1
    json.dumps(run.result, allow_nan=False)
    titles = [section.title for section in run.sections(str)]
    assert "Organs on DICOM" in titles
