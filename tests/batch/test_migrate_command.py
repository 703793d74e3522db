"""`segstudio labels migrate` on a real server: dry, done, killed and gone on with, undone."""

import json
import os
import random
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from batch.label_collisions import collisions
from batch.label_undo import MigrationHead, append_pass, read_undo, start_undo
from segstudio.cli import main
from segstudio.client import connect
from segstudio.errors import UsageError
from segstudio.taxonomy import SegmentClass, Taxonomy, dump_taxonomy, load_taxonomy
from segstudio.writeback import StoredResult, stored_results
from tests.batch.people import CONFIG, box

HEAD = MigrationHead("http://ls", 3, {"A": "B"}, "<a/>", "<ab/>", "<b/>")
MAIN = "import sys; from segstudio.cli import main; print('up', flush=True); main(sys.argv[1:])"


def stored(number, *regions, kind="annotation"):
    return StoredResult(kind, number, 5, list(regions))


def test_a_pass_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "undo.jsonl"
    start_undo(path, HEAD)
    assert read_undo(path) == (HEAD, {})
    assert append_pass(path, [stored(1, box("A", 1, 1, 2, 2))]) == [("annotation", 1)]
    whole = path.read_bytes()
    append_pass(path, [stored(1), stored(2, kind="draft")])
    longer = path.read_bytes()
    for cut in range(len(whole), len(longer) - 1, 7):
        path.write_bytes(longer[:cut])
        assert list(read_undo(path)[1]) == [("annotation", 1)]
    append_pass(path, [stored(3)])
    before = read_undo(path)[1]
    assert list(before) == [("annotation", 1), ("annotation", 3)]
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="there already"):
        start_undo(path, HEAD)


@pytest.mark.parametrize("text", ["", "[]\n", '{"format": "x"}\n', "half"])
def test_what_is_no_undo_file_is_refused(tmp_path, text):
    (tmp_path / "x").write_text(text)
    with pytest.raises(UsageError, match="no undo file"):
        read_undo(tmp_path / "x")


CAR, VAN = box("Car", 10, 10, 20, 20), box("Van", 20, 10, 20, 20)


@pytest.mark.parametrize(
    ("regions", "mapping", "shared_px"),
    [
        ([CAR, VAN], {"Van": "Car"}, [200]),
        ([CAR, VAN], {"Car": "X", "Van": "X"}, [200]),
        ([CAR, VAN], {"Van": "Bus"}, []),
        ([CAR, box("Van", 50, 50, 9, 9)], {"Van": "Car"}, []),
        # Two of one label may overlap as before.
        ([VAN, box("Van", 21, 10, 20, 20)], {"Van": "Car"}, []),
    ],
)
def test_drawings_that_would_become_one_are_found(regions, mapping, shared_px):
    found = collisions(stored(1, *regions), mapping)
    assert [one.shared_px for one in found] == shared_px


@pytest.fixture
def admin(label_studio):
    with connect(label_studio.url, label_studio.api_key) as client:
        yield client


@pytest.fixture
def run(label_studio, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    return lambda *arguments: CliRunner().invoke(main, ["labels", *map(str, arguments)])


def labels_in_use(client, project_id):
    """How many regions of each kind of result carry which label."""
    counts = {}
    for one in stored_results(client, project_id):
        for region in one.result:
            key = (one.kind, *region["value"]["rectanglelabels"])
            counts[key] = counts.get(key, 0) + 1
    return counts


def everything(client, project_id):
    """All results and the interface."""
    results = {(one.kind, one.id): one.result for one in stored_results(client, project_id)}
    return results, client.project(project_id)["label_config"]


def filled(client, make, tasks=3):
    project = make(CONFIG)
    far = box("Car", 60, 60, 20, 20)
    body = [
        {"data": {"image": f"https://example.org/{n}.png"},
         "annotations": [{"result": [box("Van", 10, 10, 20, 20), far], "ground_truth": False}],
         "predictions": [{"model_version": "m", "score": 0.5, "result": [box("Van", 1, 1, 5, 5)]}]}
        for n in range(tasks)
    ]  # fmt: skip
    client.request("POST", f"/api/projects/{project.id}/import", json=body)
    first = min(one.task_id for one in stored_results(client, project.id))
    draft = {"result": [box("Van", 3, 3, 9, 9), box("Tree", 70, 3, 9, 9)], "lead_time": 1}
    client.request("POST", f"/api/tasks/{first}/drafts", json=draft)
    return project.id, first


BEFORE = {("annotation", "Van"): 3, ("annotation", "Car"): 3, ("prediction", "Van"): 3,
          ("draft", "Van"): 1, ("draft", "Tree"): 1}  # fmt: skip
RENAMED = {(kind, "Lorry" if label == "Van" else label): n for (kind, label), n in BEFORE.items()}
MERGED = {("annotation", "Car"): 6, ("prediction", "Car"): 3, ("draft", "Car"): 1,
          ("draft", "Tree"): 1}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "after", "labels"),
    [
        (["--rename", "Van=Lorry"], RENAMED, ["Car", "Lorry", "Tree"]),
        (["--merge", "Van,Car=Car"], MERGED, ["Car", "Tree"]),
    ],
)
def test_labels_change_everywhere_and_come_back(
    run, admin, project_factory, tmp_path, change, after, labels
):
    project_id, _ = filled(admin, project_factory)
    source, undo = f"project:{project_id}", tmp_path / "undo.jsonl"
    old, new = tmp_path / "t.yaml", tmp_path / "t2.yaml"
    names = ("Car", "Van", "Tree")
    classes = tuple(SegmentClass(number, name) for number, name in enumerate(names, 1))
    old.write_text(dump_taxonomy(Taxonomy("t", classes)))
    before = everything(admin, project_id)
    call = ["migrate", source, *change, "--taxonomy", old, "--taxonomy-out", new]
    dry = run(*call)
    assert dry.exit_code == 0, dry.output
    assert "3 regions of annotations, 1 regions of drafts, 3 regions of predictions" in dry.output
    assert everything(admin, project_id) == before
    assert run(*call, "--apply").exit_code == 2  # no undo file named
    done = run(*call, "--undo-file", undo, "--apply")
    assert done.exit_code == 0, done.output
    assert labels_in_use(admin, project_id) == after
    assert run("check", source, "--taxonomy", new, "--strict").exit_code == 0
    assert sorted(label for label in labels) == sorted(
        one.name for one in load_taxonomy(new).classes
    )
    assert run("check", source, "--taxonomy", new, "--against", old).exit_code == 3
    again = run(*call, "--undo-file", undo, "--apply")
    assert (again.exit_code, "0 results were rewritten" in again.output) == (0, True)
    undone = run("migrate", source, "--undo", undo, "--apply")
    assert "Undo: 7 results have their former labels." in undone.output
    assert everything(admin, project_id) == before


def test_drawings_that_collide_and_names_that_are_taken_are_refused(run, admin, project_factory):
    project_id, first = filled(admin, project_factory, tasks=1)
    body = {"result": [CAR, VAN]}
    admin.request("POST", f"/api/tasks/{first}/annotations/", json=body)
    before = everything(admin, project_id)
    refused = run("migrate", f"project:{project_id}", "--merge", "Van,Car=Car", "--apply")
    assert refused.exit_code == 2
    assert "'Car' and 'Van' share 200 px" in refused.output
    taken = run("migrate", f"project:{project_id}", "--rename", "Van=Car")
    assert (taken.exit_code, "is there already" in taken.output) == (2, True)
    absent = run("migrate", f"project:{project_id}", "--rename", "Bus=Coach")
    assert (absent.exit_code, "No label 'Bus'" in absent.output) == (2, True)
    assert everything(admin, project_id) == before


def test_what_people_draw_meanwhile_is_kept_when_undone(run, admin, project_factory, tmp_path):
    project_id, first = filled(admin, project_factory, tasks=1)
    source, undo = f"project:{project_id}", tmp_path / "undo.jsonl"
    call = ["migrate", source, "--rename", "Van=Lorry", "--undo-file", undo, "--apply"]
    assert run(*call).exit_code == 0
    annotation = next(one for one in stored_results(admin, project_id) if one.kind == "annotation")
    moved = {**annotation.result[0], "value": {**annotation.result[0]["value"], "x": 33.0}}
    drawn = box("Lorry", 80, 80, 5, 5)
    body = {"result": [moved, drawn]}
    admin.request("PATCH", f"/api/annotations/{annotation.id}/", json=body)
    undone = run("migrate", source, "--undo", undo, "--apply")
    assert undone.exit_code == 0, undone.output
    results, config = everything(admin, project_id)
    values = [region["value"] for region in results["annotation", annotation.id]]
    assert [(one["x"], one["rectanglelabels"]) for one in values] == [(33.0, ["Van"]),
                                                                     (80.0, ["Van"])]  # fmt: skip
    assert config == CONFIG
    assert first


@pytest.mark.timeout(600)
def test_killed_at_any_moment_it_goes_on_and_undoes(admin, label_studio, project_factory, tmp_path):
    chance = random.Random(7)
    project_id, _ = filled(admin, project_factory)
    before = everything(admin, project_id)
    undo = tmp_path / "undo.jsonl"
    environment = {**os.environ, "LABEL_STUDIO_URL": label_studio.url,
                   "LABEL_STUDIO_API_KEY": label_studio.api_key}  # fmt: skip
    start = [sys.executable, "-c", MAIN, "labels", "migrate", f"project:{project_id}"]
    there = [*start, "--merge", "Van,Car=Car", "--undo-file", str(undo), "--apply"]
    back = [*start, "--undo", str(undo), "--apply"]

    def begin(command):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "up\n"
        return process

    def nothing_is_lost():
        """Whoever holds a new label is in the undo file; no region is gone; no label is lost."""
        results, config = everything(admin, project_id)
        known = read_undo(undo)[1] if undo.exists() else {}
        assert results.keys() == before[0].keys()
        for key, result in results.items():
            assert result == before[0][key] or before[0][key] in known[key]
            for region in result:
                assert f'value="{region["value"]["rectanglelabels"][0]}"' in config

    process = begin(there)
    began = time.monotonic()
    assert process.wait() == 0
    lasts_s = time.monotonic() - began
    for command in (back, there, back):
        for _ in range(2):
            process = begin(command)
            time.sleep(chance.uniform(0.2, 0.9) * lasts_s)
            process.kill()
            process.wait()
            nothing_is_lost()
        assert begin(command).wait() == 0
    assert everything(admin, project_id) == before
    assert json.loads(undo.read_text().splitlines()[0])["mapping"] == {"Van": "Car"}
