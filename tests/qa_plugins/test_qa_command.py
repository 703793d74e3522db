from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from qa_plugins import runner
from qa_plugins.command import qa
from qa_plugins.write_back import TAB_FILTERS, TAB_ORDERING, task_records
from segstudio.errors import SegstudioError, UsageError
from segstudio.plugins import CheckContext
from segstudio.source import open_source
from segstudio.tasks import Task
from segstudio.taxonomy import derive_taxonomy
from tests.qa_plugins.qa_tasks import annotation, raw_task, write_export

FULL = np.ones((6, 6))
HALF = np.vstack([np.ones((3, 6)), np.zeros((3, 6))])


def batch(folder: Path, tasks: int = 6) -> Path:
    """Every second task agrees fully, the others by half."""
    made = [
        raw_task(
            number,
            [
                annotation(10 * number, 1, [("car", FULL)]),
                annotation(10 * number + 1, 2, [("car", HALF if number % 2 else FULL)]),
            ],
            split="val" if number > 3 else "train",
        )
        for number in range(1, tasks + 1)
    ]
    return write_export(folder, made)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(qa, [str(one) for one in arguments] + ["--workers", "1"])


def test_a_failed_gate_is_exit_code_1_and_the_files_are_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoke("agreement", batch(tmp_path), "--out", out, "--gates", "miou-0.84")
    assert result.exit_code == 1
    assert "FAIL" in result.output
    assert sorted(path.name for path in out.iterdir()) == ["qa.html", "qa.json", "tasks.csv"]


@pytest.mark.parametrize(
    ("gates", "exit_code"),
    [
        ("gates: [{metric: miou, threshold: 0.5}]", 0),
        ("gates: [{metric: miou, threshold: 0.5, min_tasks: 100}]", 0),
        ("gates: [{metric: miou.per_image, threshold: 0.76}]", 1),
        ("gates: [{metric: miou, threshold: 0.8, min_tasks: 3, where: {split: val}}]", 0),
        ("gates: [{metric: miou, threshold: 0.8, min_tasks: 3, where: {split: train}}]", 1),
    ],
)
def test_gates_from_a_file(tmp_path: Path, gates: str, exit_code: int) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(gates)
    result = invoke("agreement", batch(tmp_path), "--out", tmp_path / "out", "--gates", path)
    assert result.exit_code == exit_code, result.output


@pytest.mark.parametrize(
    ("against", "scope", "exit_code"), [("gold", "batch", 1), ("consensus", "annotator", 1)]
)
def test_gates_against_a_reference_need_its_check_and_not_the_agreement(
    tmp_path: Path, against: str, scope: str, exit_code: int
) -> None:
    path = batch(tmp_path)
    tasks = json.loads(path.read_text())
    for raw in tasks:
        raw["annotations"].append(annotation(900 + raw["id"], 9, [("car", FULL)]))
        raw["annotations"][-1]["ground_truth"] = True
    path.write_text(json.dumps(tasks))
    gates = tmp_path / "gates.yaml"
    gates.write_text(
        f"gates: [{{metric: miou, scope: {scope}, threshold: 0.9, against: {against}}}]"
    )
    refused = invoke("validation", path, "--out", tmp_path / "a", "--gates", gates)
    assert isinstance(refused.exception, UsageError) and f"'{against}'" in str(refused.exception)
    result = invoke(against, path, "--out", tmp_path / "b", "--gates", gates)
    assert result.exit_code == exit_code, result.output
    assert result.output.startswith("FAIL")
    judged = json.loads((tmp_path / "b" / "qa.json").read_text())["batch"]["gates"]
    assert sorted(one["task"] for one in judged[0]["worst_tasks"]) == [1, 3, 5]
    page = (tmp_path / "b" / "qa.html").read_text(encoding="utf-8")
    assert '<div class="word">Fail</div>' in page
    assert "the agreement of annotators was not asked for" in page
    assert f"that differ from the {against}." in page


def test_without_gates_there_is_no_verdict_and_no_failure(tmp_path: Path) -> None:
    result = invoke("agreement", batch(tmp_path), "--out", tmp_path / "out")
    assert result.exit_code == 0
    written = json.loads((tmp_path / "out" / "qa.json").read_text())
    assert written["batch"]["verdict"] == "n/a"
    assert [task["verdict"] for task in written["tasks"]] == ["rework", "ok"] * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["agreemnt"], "agreement"),
        ([","], "at least one"),
        (["agreement", "--dry-run"], "write-back"),
        (["agreement", "--write-back"], "project:ID"),
        (["agreement", "--undo"], "project:ID"),
        (["agreement,validation", "--undo"], "no other check writes"),
        (["agreement", "--undo", "--write-back"], "one of the two"),
        (["agreement", "--gates", "nowhere.yaml"], "preset"),
    ],
)
def test_usage_errors_are_sentences(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = invoke(arguments[0], batch(tmp_path), "--out", tmp_path / "out", *arguments[1:])
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_strict_fails_on_what_could_not_be_read_after_reporting(tmp_path: Path) -> None:
    path = batch(tmp_path)
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][0]["result"][0]["value"]["rle"] = [255, 255, 1]
    path.write_text(json.dumps(tasks))
    assert invoke("agreement", path, "--out", tmp_path / "a").exit_code == 0
    result = invoke("agreement", path, "--out", tmp_path / "b", "--strict")
    assert isinstance(result.exception, SegstudioError)
    assert (tmp_path / "b" / "qa.json").exists()


class CountCheck:
    """A team's own check, in a few lines."""

    name = "count"
    summary = "Counts regions."

    def measure(self, task: Task, context: CheckContext) -> int:
        if task.id == 2:
            raise ValueError("two is too much")
        return sum(len(one.regions) for one in task.annotations)

    def summarize(self, measurements: Iterable[int], context: CheckContext) -> dict[str, Any]:
        return {"regions": sum(measurements)}


def test_a_check_of_ones_own_runs_beside_ours_and_its_failure_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segstudio.plugins import find_check

    monkeypatch.setattr(
        runner, "find_check", lambda name: CountCheck() if name == "count" else find_check(name)
    )
    source = open_source(str(batch(tmp_path)))
    taxonomy = derive_taxonomy(source.label_config)
    for names in (["agreement", "count"], ["count", "agreement"]):
        result = runner.run_checks(names, source, taxonomy, workers=1).result
        assert result["checks"] == {"count": {"regions": 10}}
        assert result["batch"]["compared_tasks"] == 6
        assert [one["task_id"] for one in result["errors"]] == [2]
    alone = runner.run_checks(["count"], source, taxonomy, workers=1).result
    assert alone["batch"]["verdict"] == "n/a"
    assert alone["batch"]["tasks"] == 6


def test_two_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    source = open_source(str(batch(tmp_path, tasks=20)))
    taxonomy = derive_taxonomy(source.label_config)
    one, two = (
        runner.run_checks(["agreement"], source, taxonomy, workers=workers).result
        for workers in (1, 2)
    )
    assert one == two


def test_what_is_written_to_tasks_names_nobody_and_no_time(tmp_path: Path) -> None:
    source = open_source(str(batch(tmp_path)))
    run = runner.run_checks(["agreement"], source, derive_taxonomy(source.label_config), workers=1)
    records = list(task_records(run.result))
    assert records == list(task_records(run.result))
    first = records[0]
    assert first.data == {
        "qa_miou": 0.5, "qa_verdict": "rework", "qa_worst_class": "car", "qa_stale": "no",
    }  # fmt: skip
    agreement = first.meta["agreement"]
    assert agreement["annotators"] == 2
    assert agreement["conflicts"] == {"low_overlap": 1}
    assert set(agreement) == {
        "verdict", "miou", "worst_class", "classes", "annotators", "pairs", "conflicts",
    }  # fmt: skip
    assert TAB_FILTERS[0]["value"] == "rework"
    assert TAB_ORDERING == ("tasks:data.qa_miou",)


def test_a_task_that_is_compared_no_more_loses_its_columns() -> None:
    result = {"tasks": [{"id": 5, "miou": None}, {"id": 6, "miou": None}]}
    records = list(task_records(result, earlier_records={5: "old"}))
    assert [record.task_id for record in records] == [5]
    assert records[0].data == dict.fromkeys(("qa_miou", "qa_verdict", "qa_worst_class", "qa_stale"))


def test_a_record_that_this_run_does_not_judge_is_marked_stale_where_annotations_changed() -> None:
    earlier = {7: "as before", 8: "as before", 9: "as before"}
    digests = {7: "as before", 8: "changed"}  # 9 was not read
    records = list(task_records({"tasks": []}, earlier, digests))
    assert [(one.task_id, one.meta, one.data) for one in records] == [
        (7, {}, {"qa_stale": "no"}),
        (8, {}, {"qa_stale": "yes"}),
    ]


def test_undo_takes_the_whole_project_and_no_filter() -> None:
    server = ["--url", "http://127.0.0.1:9", "--api-key", "x" * 40]
    result = invoke("agreement", "project:1", "--undo", "--task", "3", *server)
    assert isinstance(result.exception, UsageError)
    assert "takes no filter" in str(result.exception)


def test_without_a_folder_for_the_report_the_sentence_names_the_option(tmp_path: Path) -> None:
    result = invoke("agreement", batch(tmp_path))
    assert isinstance(result.exception, UsageError)
    assert "--out" in str(result.exception)
