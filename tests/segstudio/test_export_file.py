"""Export files: every shape they come in, cut off or damaged, with their sidecars."""

import gzip
import json

import pytest

from segstudio import export_file
from segstudio.errors import SourceError, UsageError
from segstudio.source import open_source

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Car"/></BrushLabels></View>'
)
TASKS = [{"id": n, "data": {"image": f"{n}.jpg"}, "annotations": []} for n in (3, 1, 2)]
LINES = "\n".join(json.dumps(one) for one in TASKS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", json.dumps(TASKS)),
        ("x.json", "\n  " + json.dumps(TASKS, indent=2)),
        ("x.json", "\ufeff" + json.dumps(TASKS)),
        ("x.json", json.dumps({"tasks": TASKS, "total": 3})),
        ("x.json", LINES),
        ("x.jsonl", LINES + "\n\n"),
        ("x.jsonl", "\ufeff" + LINES),
        ("x.json.gz", json.dumps(TASKS)),
        ("x.jsonl.gz", LINES),
        ("gzip-without-its-ending.json", gzip.compress(json.dumps(TASKS).encode())),
    ],
)
def test_every_shape_of_export_gives_the_same_tasks(tmp_path, name, content):
    path = tmp_path / name
    raw = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    source = open_source(str(path))
    assert [task.id for task in source.tasks()] == [3, 1, 2]
    assert [task.id for task in source.tasks()] == [3, 1, 2]  # a second pass
    assert source.problems == []


def test_one_task_alone_is_an_export_too(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(TASKS[0], indent=1))
    assert [task.id for task in open_source(str(path)).tasks()] == [3]


def test_tasks_without_ids_get_their_position(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"data": {}}, {"data": {}}]))
    assert [task.id for task in open_source(str(path)).tasks()] == [1, 2]


@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.jsonl"])
def test_sidecars_are_found_beside_every_kind_of_file(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"[]") if name.endswith("gz") else b"[]")
    (tmp_path / "x.label-config.xml").write_text(CONFIG)
    (tmp_path / "x.taxonomy.yaml").write_text("name: x")
    source = open_source(str(tmp_path / name))
    assert source.label_config.label_names == ("Car",)
    assert source.taxonomy_path == tmp_path / "x.taxonomy.yaml"


def test_a_named_labelling_interface_wins_over_the_sidecar(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    (tmp_path / "x.label-config.xml").write_text(CONFIG)
    other = tmp_path / "other.xml"
    other.write_text(CONFIG.replace("Car", "Bus"))
    source = open_source(str(tmp_path / "x.json"), label_config=other)
    assert source.label_config.label_names == ("Bus",)


def test_without_an_interface_the_labels_in_use_are_taken_and_said_so(tmp_path):
    result = {
        "id": "r1",
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "img",
        "original_width": 10,
        "original_height": 10,
        "value": {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["Bus"]},
    }
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"id": 1, "data": {}, "annotations": [{"result": [result]}]}]))
    source = open_source(str(path))
    assert source.label_config.label_names == ("Bus",)
    assert [one.kind for one in source.problems] == ["derived-label-config"]
    assert len(list(source.tasks())) == 1
    assert [one.kind for one in source.problems] == ["derived-label-config"]


def test_without_interface_and_regions_it_asks_for_the_interface(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(TASKS))
    with pytest.raises(UsageError, match=r"--label-config X\.xml"):
        _ = open_source(str(path)).label_config


@pytest.mark.parametrize(
    ("name", "content", "readable", "sentence"),
    [
        ("x.json", json.dumps(TASKS)[:-30].encode(), 2, "after 2 tasks, the last with id 1"),
        ("x.json", b'[{"id": 3, "data": {}}, nonsense]', 1, "after 1 task, the last with id 3"),
        ("x.json", b"", 0, "is empty"),
        ("x.json", b"id,image\n1,a.jpg", 0, "not JSON: it starts with b'i'"),
        ("x.json", b"PK\x03\x04", 0, "not a zip"),
        ("x.jsonl", (LINES[:-5]).encode(), 2, "line 3"),
        ("x.json", b'[{"id": 3, "data": {"image": "\xff"}}]', 0, "before its first task"),
    ],
)
def test_damage_is_reported_with_its_place_after_what_can_be_read(
    tmp_path, name, content, readable, sentence
):
    path = tmp_path / name
    path.write_bytes(content)
    seen = []
    with pytest.raises(SourceError, match=sentence):
        for task in open_source(str(path)).tasks():
            seen.append(task.id)
    assert seen == [3, 1, 2][:readable]


@pytest.mark.parametrize("cut", [1, 9, 200])
def test_a_gzip_file_that_is_cut_off_is_reported_with_its_place(tmp_path, cut):
    path = tmp_path / "x.json.gz"
    many = [{"id": n, "data": {"image": f"{n * 7919 % 1000}.jpg"}} for n in range(1, 500)]
    path.write_bytes(gzip.compress(json.dumps(many).encode())[:-cut])
    with pytest.raises(SourceError, match=r"cut off or damaged|not valid JSON"):
        list(open_source(str(path)).tasks())


@pytest.mark.parametrize("at", [0.3, 0.999])
def test_a_gzip_file_with_other_bytes_in_it_is_reported(tmp_path, at):
    path = tmp_path / "x.json.gz"
    many = [{"id": n, "data": {"image": f"{n * 7919 % 1000}.jpg"}} for n in range(1, 500)]
    whole = bytearray(gzip.compress(json.dumps(many).encode()))
    place = int(at * len(whole))
    whole[place - 4 : place] = b"\xff\xff\xff\xff"
    path.write_bytes(whole)
    with pytest.raises(SourceError, match=r"cut off or damaged|not valid JSON|not UTF-8"):
        list(open_source(str(path)).tasks())


def test_a_task_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(export_file, "MAX_TASK_BYTES", 200_000)
    path = tmp_path / "x.json.gz"
    small = json.dumps(TASKS[0])
    path.write_bytes(
        gzip.compress(f'[{small},{{"id":1,"data":{{"x":"{" " * 500_000}"}}}}]'.encode())
    )
    tasks = open_source(str(path)).tasks()
    assert next(tasks).id == 3
    with pytest.raises(SourceError, match="more than 200,000 bytes after 1 task"):
        next(tasks)


def test_many_small_tasks_pass_below_the_limit_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(export_file, "MAX_TASK_BYTES", 200_000)
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"id": n, "data": {"x": " " * 1000}} for n in range(1000)]))
    assert sum(1 for _ in open_source(str(path)).tasks()) == 1000


@pytest.mark.parametrize(
    ("name", "tasks", "kinds"),
    [
        (
            "label_studio/project-all-region-types.json",
            5,
            {"brush": 8, "polygon": 3, "rectangle": 2, "ellipse": 1, "keypoint": 2, "bitmask": 1},
        ),
        ("davis/project-8-sequences.json.gz", 498, {"brush": 9742}),
    ],
)
def test_real_exports_are_read_whole(fixtures_dir, name, tasks, kinds):
    found = {}
    count = 0
    for task in open_source(str(fixtures_dir / name)).tasks():
        count += 1
        for annotation in task.annotations:
            for region in annotation.regions:
                found[region.kind] = found.get(region.kind, 0) + 1
    assert (count, found) == (tasks, kinds)
