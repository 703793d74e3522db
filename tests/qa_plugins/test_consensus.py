import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qa_plugins.consensus import ConsensusCheck
from segstudio.errors import UsageError
from segstudio.report_sections import Section
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, context, raw_task

A, B, C = 71, 72, 73


def square(left: int, size: int = 10) -> Any:
    dense = np.zeros((40, 60), bool)
    dense[10 : 10 + size, left : left + size] = True
    return dense


def run(
    raws: list[dict[str, Any]], out_dir: Path | None = None, **options: str
) -> tuple[dict[str, Any], Section]:
    check = ConsensusCheck()
    given = replace(context(options), out_dir=out_dir)
    measured = [check.measure(parse_task(raw), given) for raw in raws]
    summary = check.summarize(measured, given)
    return summary, check.report(json.loads(json.dumps(summary)), lambda person: f"user {person}")


def three(stray: int = 2, task_id: int = 1) -> dict[str, Any]:
    """A and B draw one car alike; C draws it beside, and a second one that nobody else has."""
    return raw_task(
        task_id,
        [
            annotation(1, A, [("car", square(10))]),
            annotation(2, B, [("car", square(10))]),
            annotation(3, C, [("car", square(10 + stray)), ("car", square(40))]),
        ],
    )


def test_each_annotator_is_measured_against_the_others_only() -> None:
    summary, section = run([three()])
    scores = {one["id"]: one["classes"][0]["iou_to_others"] for one in summary["annotators"]}
    # C shares 80 of A's and B's 100 pixels and has 20 + 100 of their own.
    assert scores[C] == pytest.approx(80 / 220)
    # B and C are divided on all but 80 pixels of yes; A's 100 are compared on those alone.
    assert scores[A] == scores[B] == pytest.approx(1.0)
    sensitivity = {one["id"]: one["classes"][0]["sensitivity"] for one in summary["annotators"]}
    assert sensitivity[A] == pytest.approx(1) and sensitivity[C] < 0.9
    assert summary["classes"][0]["majority_share"] == pytest.approx(100 / 220)
    assert section.findings[0].text.startswith("User 73 is far from")


def test_a_batch_and_a_subset_are_measured_against_the_others_too() -> None:
    second = three(task_id=2)
    second["data"]["split"] = "val"
    second["annotations"].pop()  # A and B alone, alike
    summary, _ = run([three(), second], subsets='[{"split": "val"}]')
    a, _, c = summary["annotators"]
    assert (a["tasks"], c["tasks"], c["classes"][0]["tasks"]) == (2, 1, 1)
    assert [(one["id"], one["miou"]) for one in c["compared"]] == [(1, pytest.approx(80 / 220))]
    # A and B share 80 of 80 pixels each on the first task, 100 of 100 on the second.
    assert summary["batch"]["compared_tasks"] == 2
    assert summary["batch"]["miou"]["accumulated"] == pytest.approx((360 + 80) / (360 + 220))
    assert summary["batch"]["miou"]["per_image"] == pytest.approx((4 + 80 / 220) / 5)
    (subset,) = summary["subsets"]
    assert subset["batch"] == {
        "compared_tasks": 1, "scored_tasks": 1, "miou": {"accumulated": 1.0, "per_image": 1.0},
    }  # fmt: skip


def test_a_model_can_be_one_of_those_who_vote() -> None:
    task = three()
    prediction = {"id": 9, "model_version": "m1", "result": task["annotations"][0]["result"]}
    task["predictions"] = [prediction]
    summary, _ = run([task], rater="prediction:m1")
    assert [one["id"] for one in summary["annotators"]] == [-1, A, B, C]


def test_objects_are_merged_by_quorum_and_the_stray_one_is_counted() -> None:
    summary, _ = run([three()])
    assert summary["classes"][0]["objects_agreed"] == 1
    assert summary["objects_without_majority"] == 1


def test_files_hold_the_vote_and_the_split(tmp_path: Path) -> None:
    summary, section = run([three()], tmp_path)
    labels = np.asarray(Image.open(tmp_path / "consensus/labels/task-1.png"))
    car = context().taxonomy.by_name["car"].id
    np.testing.assert_array_equal(labels == car, square(10))
    heat = np.asarray(Image.open(tmp_path / "consensus/heat/task-1.png").convert("L"))
    assert heat[0, 0] == heat[15, 15] == 0 < heat[15, 45]
    assert not (tmp_path / "consensus/tasks.json").exists()
    assert section.pictures[0].uri.startswith("data:image/png;base64,")
    assert summary["folder"] == "consensus"


@pytest.mark.parametrize("kind", ["predictions", "annotations"])
def test_tasks_are_written_when_asked_and_read_back(tmp_path: Path, kind: str) -> None:
    _, section = run([three(), three(task_id=2)], tmp_path, tasks=kind)
    written = [
        parse_task(raw) for raw in json.loads((tmp_path / "consensus/tasks.json").read_text())
    ]
    assert [task.id for task in written] == [1, 2]
    (found,) = getattr(written[0], kind)
    assert [region.labels for region in found.regions] == [("car",)]
    warned = any("predictions" in finding.text for finding in section.findings)
    assert warned is (kind == "predictions")


def test_a_large_picture_is_bounded() -> None:
    from qa_plugins.consensus_files import heat_png

    content = heat_png(np.zeros((500, 3000), np.float32), 360)
    assert Image.open(io.BytesIO(content)).size == (360, 60)


def test_two_annotators_and_one_are_said_to_be_too_few() -> None:
    pair = raw_task(
        1, [annotation(1, A, [("car", square(10))]), annotation(2, B, [("car", square(10))])]
    )
    alone = raw_task(2, [annotation(3, A, [("car", square(10))])])
    nothing = raw_task(3, [annotation(4, A), annotation(5, B)])
    summary, section = run([pair, alone, nothing])
    assert (summary["tasks_with_consensus"], summary["tasks_without"]) == (1, 2)
    assert section.findings[0].text.startswith("No image has three annotators")
    empty, section = run([])
    assert empty["images"] == 0 and "there is no consensus" in section.findings[-1].text


def test_an_unknown_way_to_write_tasks_is_refused() -> None:
    with pytest.raises(UsageError, match="predictions or annotations"):
        run([three()], tasks="both")
