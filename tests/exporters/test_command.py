"""`segstudio export` as a person runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from segstudio.cli import main
from tests.exporters.projects import annotation, box, brush, names, source_of, task, tree

CAR = brush("a", "car", box(0, 0, 2, 2))


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def project(tmp_path: Path) -> Path:
    tasks = [
        task(1, "/data/upload/1/a.jpg", annotation(1, 5, [CAR]), annotation(2, 6, [CAR]), batch=7),
        task(2, "/data/upload/1/b.png", annotation(3, 5, []), batch=8),
    ]
    source_of(tmp_path, tasks)
    (tmp_path / "1").mkdir()
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(tmp_path / "1" / "b.png")
    return tmp_path / "tasks.json"


def test_the_summary_says_what_happened_where_and_what_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = export(
        "coco-panoptic", project(tmp_path), "--out", out, "--annotations", "user:5",
        "--images-root", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"2 images, 1 segments as coco-panoptic in {out}" in result.stdout
    assert "the annotation of user 5; 2 of 2 tasks" in result.stdout
    assert "README.md" in result.stdout and "panoptic.json" in result.stdout
    found = json.loads((out / "panoptic.json").read_text())
    assert [(one["file_name"], one["height"]) for one in found["images"]] == [
        ("a.jpg", 8), ("b.png", 6),
    ]  # fmt: skip


def test_the_summary_says_of_every_kind_of_problem_which_is_the_first(tmp_path: Path) -> None:
    regions = [brush("r", "bus", box(0, 0, 2, 2)), brush("s", "tram", box(0, 0, 2, 2))]
    source_of(tmp_path, [task(7, "/data/upload/a.jpg", annotation(1, 5, regions))])
    result = export("semantic-png", tmp_path / "tasks.json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (
        "  look at: 2 x unknown-label, first: Task 7, annotation 1: Region 'r' has the label "
        '"bus", which the taxonomy does not know; it is left out.' in result.stdout
    )


@pytest.mark.parametrize("place", ["", " ", "n" * 300])
def test_what_is_no_place_is_wrong_usage(tmp_path: Path, place: str) -> None:
    source_of(tmp_path, [task(7, "/a.jpg", annotation(1, 5, [brush("r", "car", box(0, 0, 2, 2))]))])
    result = export("semantic-png", tmp_path / "tasks.json", "--out", place)
    assert result.exit_code == 2
    assert "Error: --out" in result.stderr


def test_an_open_choice_is_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = export("coco-panoptic", project(tmp_path), "--out", out)
    assert result.exit_code == 2
    assert "1 of 2 tasks (ids 1)" in result.stderr and "Traceback" not in result.stderr
    assert not out.exists()


def test_a_batch_is_exported_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = export(
        "semantic-png", project(tmp_path), "--out", out, "--annotations", "newest",
        "--batch", "batch=7",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert names(out / "masks") == ["a.png"]


def test_a_taxonomy_file_sets_ids_and_names(tmp_path: Path) -> None:
    taxonomy = tmp_path / "t.yaml"
    taxonomy.write_text(
        "name: t\nversion: '1'\nclasses:\n"
        "  - {id: 42, name: vehicle, kind: thing, color: '#010203', aliases: [car]}\n"
    )
    out = tmp_path / "out"
    result = export(
        "semantic-png", project(tmp_path), "--out", out, "--annotations", "newest",
        "--batch", "batch=7", "--taxonomy", taxonomy,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with Image.open(out / "masks" / "a.png") as image:
        assert sorted(np.unique(np.asarray(image)).tolist()) == [0, 42]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["coco-panoptik"], "Did you mean 'coco-panoptic'?"),
        (["semantic-png", "--annotations", "user:me"], "needs a user id"),
        (["semantic-png", "--annotations", "newest", "--option", "nonsense"], "KEY=VALUE"),
    ],
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    name, *more = arguments
    result = export(name, project(tmp_path), "--out", tmp_path / "out", *more)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_run_killed_for_good_is_resumed_with_the_same_bytes(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).random((48, 64)) < 0.5
    regions = [brush("a", "car", picture)]
    tasks = [task(n, f"/x/{n}.jpg", annotation(n, 5, regions)) for n in range(1, 201)]
    source_of(tmp_path, tasks)
    journal = tmp_path / "out" / ".segstudio" / "journal.part.jsonl"
    command = [sys.executable, "-m", "segstudio.cli", "export", "coco-panoptic"]
    command += [str(tmp_path / "tasks.json"), "--workers", "2", "--out"]
    with subprocess.Popen([*command, str(tmp_path / "out")], start_new_session=True) as killed:
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= 20):
            assert killed.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
    assert not (tmp_path / "out" / "panoptic.json").exists()
    resumed = export("coco-panoptic", tmp_path / "tasks.json", "--out", tmp_path / "out")
    assert resumed.exit_code == 0, resumed.output
    taken_over = re.search(r"(\d+) images were finished already", resumed.stdout)
    assert taken_over is not None and int(taken_over[1]) >= 20
    export("coco-panoptic", tmp_path / "tasks.json", "--out", tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_qa_json_that_is_none_is_refused(tmp_path: Path) -> None:
    source = project(tmp_path)
    result = export(
        "semantic-png", source, "--out", tmp_path / "out", "--annotations", "newest", "--qa", source
    )
    assert result.exit_code == 2 and "is no qa.json" in result.stderr


def test_strict_is_exit_code_3(tmp_path: Path) -> None:
    source_of(tmp_path, [task(1, "/a.jpg", annotation(1, 5, [brush("u", "unicorn", [[1]])]))])
    result = export("semantic-png", tmp_path / "tasks.json", "--out", tmp_path / "o", "--strict")
    assert result.exit_code == 3 and "unicorn" in result.stderr
