"""Deliveries: what is in them, when none is made, the same bytes whatever the workers."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from click.testing import CliRunner

from batch.delivery import DeliveryRefusedError, override_record
from batch.signature import load_private_key, make_key
from segstudio.annotation_hashes import annotation_hash
from segstudio.cli import main
from segstudio.errors import UsageError
from segstudio.export_file import FileSource
from segstudio.snapshots import read_snapshots
from segstudio.source import TaskFilter
from segstudio.tasks import Task
from tests.batch.delivery_projects import TASKS, batch_of, make, manifest, settings_of
from tests.exporters.projects import annotation, box, brush, source_of, task, tree


def test_a_delivery_holds_data_report_and_a_manifest_of_every_file_and_annotation(
    tmp_path: Path,
) -> None:
    guideline = tmp_path / "rules.md"
    guideline.write_text("Draw cars whole.")
    source = batch_of(tmp_path / "in", shift_px=1)
    settings = settings_of(tmp_path, guideline=guideline, history=tmp_path / "history.sqlite")
    done = make(source, tmp_path / "out", settings)
    found, files = manifest(tmp_path / "out"), tree(tmp_path / "out")
    assert {entry["path"] for entry in found["files"]} == set(files) - {"manifest.json"}
    for entry in found["files"]:
        content = files[entry["path"]]
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert done.files == len(found["files"])
    assert {"report/qa.html", "report/qa.json", "gates.yaml", "guideline/rules.md"} <= set(files)
    assert {"data/semantic-png/masks/1.png", "data/coco-panoptic/panoptic.json"} <= set(files)
    assert not [name for name in files if ".segstudio" in name]
    assert found["verdict"] == "pass" and found["override"] is None
    assert found["guideline"]["sha256"] == hashlib.sha256(b"Draw cars whole.").hexdigest()
    tasks = list(source.tasks())
    assert [entry["id"] for entry in found["tasks"]] == [one.id for one in tasks]
    for entry, one in zip(found["tasks"], tasks, strict=True):
        assert [(item["annotator"], item["delivered"]) for item in entry["annotations"]] == [
            (5, True), (6, False),
        ]  # fmt: skip
        assert [item["sha256"] for item in entry["annotations"]] == [
            annotation_hash(drawn) for drawn in one.annotations
        ]
        assert entry["classes"] == {"1": [1, 100], "7": [1, 192]}
    assert [one.tasks for one in read_snapshots(tmp_path / "history.sqlite")] == [TASKS]
    assert list(tmp_path.glob(".*")) == [], "nothing is left beside it"


def test_the_same_bytes_with_one_worker_and_with_four_in_a_folder_and_in_a_zip_file(
    tmp_path: Path,
) -> None:
    make_key(tmp_path / "key.pem")
    key = load_private_key(tmp_path / "key.pem")
    settings = settings_of(tmp_path, key=key, formats=("semantic-png",))
    for name, workers in (("one.zip", 1), ("four.zip", 4), ("folder", 1)):
        make(batch_of(tmp_path / "in"), tmp_path / name, settings, workers=workers)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "four.zip").read_bytes()
    with ZipFile(tmp_path / "four.zip") as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert packed == tree(tmp_path / "folder")
    for name in ("one.zip", "folder"):
        again = make(batch_of(tmp_path / "in"), tmp_path / name, settings)
        assert again.unchanged, "the same delivery once more is no other delivery"


SPECK = [
    brush("r", "road", box(10, 0, 16, 32, (24, 32))),
    brush("gone", "bus", box(0, 0, 4, 4, (24, 32))),
]


@pytest.mark.parametrize(
    ("changes", "tasks", "words"),
    [
        ({"gates_text": "gates: [{metric: miou, threshold: 0.999}]"}, None, "below the required"),
        (
            {"gates_text": "gates: [{metric: miou, threshold: 0.8, min_tasks: 99}]"},
            None,
            "could not be judged",
        ),
        (
            {"gates_text": "gates: [{metric: miou, threshold: 0.1, min_tasks: 1}]"},
            [task(1, "/1.png", annotation(1, 5, SPECK), annotation(2, 6, SPECK))],
            "Validation: 2 x unknown-class",
        ),
    ],
    ids=["a gate failed", "a gate could not be judged", "an unknown label"],
)
def test_what_was_not_accepted_is_delivered_only_with_a_reason_that_the_manifest_records(
    tmp_path: Path, changes: dict[str, Any], tasks: list[Any] | None, words: str
) -> None:
    def source() -> Any:
        if tasks is None:
            return batch_of(tmp_path / "in", shift_px=3)
        return source_of(tmp_path / "in", tasks)

    with pytest.raises(DeliveryRefusedError, match=words) as refused:
        make(source(), tmp_path / "out", settings_of(tmp_path, **changes))
    assert refused.value.exit_code == 1
    assert not (tmp_path / "out").exists() and list(tmp_path.glob(".*")) == []
    reason = "the client wants it today"
    make(source(), tmp_path / "out", settings_of(tmp_path, **changes, override=reason))
    override = manifest(tmp_path / "out")["override"]
    assert override["reason"] == reason and words in " ".join(override["of"])
    assert reason in (tmp_path / "out" / "README.md").read_text()


def test_an_override_of_a_batch_that_passed_is_no_override() -> None:
    assert override_record("to be sure", []) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gates": None}, "Name what the batch must reach"),
        ({"override": " "}, "needs a reason"),
        ({"formats": ("semantic-jpg",)}, "no export format named 'semantic-jpg'"),
        ({"checks": ("golden",)}, "no check named 'golden'"),
        ({"annotations": "best"}, "no annotation policy 'best'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make(batch_of(tmp_path / "in"), tmp_path / "out", settings_of(tmp_path, **changes))
    assert not (tmp_path / "out").exists() and list(tmp_path.glob(".*")) == []


def test_a_place_with_something_else_is_never_touched(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is no delivery"):
        make(batch_of(tmp_path / "in"), place, settings_of(tmp_path, replace=True))
    assert tree(place) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_an_earlier_delivery_is_replaced_only_when_asked_for(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    make(batch_of(tmp_path / "in"), place, settings_of(tmp_path))
    before = place.read_bytes() if place.is_file() else tree(place)
    with pytest.raises(UsageError, match="holds another delivery"):
        make(batch_of(tmp_path / "in", extra=1), place, settings_of(tmp_path))
    assert before == (place.read_bytes() if place.is_file() else tree(place))
    done = make(batch_of(tmp_path / "in", extra=1), place, settings_of(tmp_path, replace=True))
    assert not done.unchanged
    assert before != (place.read_bytes() if place.is_file() else tree(place))
    assert list(tmp_path.glob(".*")) == []


def test_the_images_lie_beside_the_masks_when_asked_for(tmp_path: Path) -> None:
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(1, TASKS + 1):
        Image.new("RGB", (32, 24), (number, 0, 0)).save(photos / f"{number}.png")
    settings = settings_of(tmp_path, images="copy", roots=(photos,), formats=("semantic-png",))
    make(batch_of(tmp_path / "in"), tmp_path / "out", settings)
    copied = tmp_path / "out/data/semantic-png/images/3.png"
    assert copied.read_bytes() == (photos / "3.png").read_bytes()


def test_the_source_is_read_once_so_that_all_parts_say_the_same(tmp_path: Path) -> None:
    class Counted(FileSource):
        passes = 0

        def tasks(self) -> Iterator[Task]:
            self.passes += 1
            return super().tasks()

    batch_of(tmp_path / "in")
    source = Counted(str(tmp_path / "in/tasks.json"), TaskFilter())
    make(source, tmp_path / "out", settings_of(tmp_path))
    assert source.passes == 1


def test_a_run_that_broke_off_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: Any, **__: Any) -> None:
        raise OSError("the power went")

    settings = settings_of(tmp_path, formats=("semantic-png",))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="the power went"):
        patch.setattr("batch.deliver.put", break_off)
        make(batch_of(tmp_path / "in"), tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
    # An image that had to be done again would fail now, and nothing would be delivered.
    monkeypatch.setattr("exporters.semantic_png.SemanticPngExporter.write_image", break_off)
    make(batch_of(tmp_path / "in"), tmp_path / "out", settings)
    assert manifest(tmp_path / "out")["formats"]["semantic-png"]["images"] == TASKS


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_the_commands_make_check_and_compare_deliveries(tmp_path: Path) -> None:
    settings_of(tmp_path)
    key, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    made = run("deliver", "keygen", key)
    assert made.exit_code == 0 and stat.S_IMODE(key.stat().st_mode) == 0o600
    common: list[str | Path] = [
        "--format", "semantic-png", "--gates", tmp_path / "gates.yaml",
        "--annotations", "user:5", "--sign", key, "--workers", "1",
    ]  # fmt: skip
    places = []
    for number, changes in enumerate([{}, {"shift_px": 2, "drop": 0, "extra": 1}]):
        batch_of(tmp_path / "in", **changes)
        places.append(tmp_path / f"{number}.zip")
        done = run("deliver", tmp_path / "in/tasks.json", "--out", places[-1], *common)
        assert done.exit_code == 0, done.output
    checked = run("deliver", "verify", places[0], "--key", public)
    assert checked.exit_code == 0 and "Signed with the given key" in checked.output
    compared = run("deliver", "diff", *places)
    assert compared.exit_code == 0
    assert "1 added (7), 0 removed, 1 drawn otherwise (1)" in compared.output
    # The new task's car has 100 px; of the moved one, 2 columns of 10 px moved.
    assert "1 car: 600 -> 700 px (+100)" in compared.output
    assert "120 px got it, 20 px lost it" in compared.output
    as_json = json.loads(run("deliver", "diff", *places, "--json").output)
    assert as_json["added"] == [7] and as_json["changed"][0]["id"] == 1
    same = run("deliver", "diff", places[0], places[0])
    assert "the same, file for file" in same.output


def test_a_failed_gate_ends_the_command_with_1(tmp_path: Path) -> None:
    settings_of(tmp_path, gates_text="gates: [{metric: miou, threshold: 0.999, min_tasks: 3}]")
    batch_of(tmp_path / "in", shift_px=4)
    done = run(
        "deliver", tmp_path / "in/tasks.json", "--out", tmp_path / "out", "--workers", "1",
        "--format", "semantic-png", "--annotations", "user:5", "--gates", tmp_path / "gates.yaml",
    )  # fmt: skip
    assert done.exit_code == 1
    assert "Nothing was delivered" in done.output and "--override" in done.output
