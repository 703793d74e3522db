"""What `segstudio import` reads back of our own exports: everything that the format holds."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporters.importers import FORMATS
from segstudio.label_config import parse_label_config, validate_with_sdk
from segstudio.shapes import region_mask
from segstudio.source import open_source
from segstudio.taxonomy import load_taxonomy, require_fit
from tests.exporters.imports import data_files, import_folder, imported, there_and_back
from tests.exporters.projects import TAXONOMY, annotation, box, brush, run, source_of, task

ALL = sorted(FORMATS)


def answer(region_id: str, name: str, choices: list[str]) -> dict[str, Any]:
    return {
        "id": region_id,
        "type": "choices",
        "from_name": name,
        "to_name": "image",
        "original_width": 10,
        "original_height": 8,
        "value": {"choices": choices},
    }


TASKS = [
    task(
        11,
        "a/0001.jpg",
        annotation(
            1,
            1,
            [
                brush("r1", "car", box(0, 0, 3, 4)),
                brush("r2", "road", box(4, 0, 8, 10)),
                brush("r3", "car", box(2, 5, 5, 9)),
                brush("r4", "glare", box(6, 2, 8, 5)),
                brush("r5", "car", box(0, 9, 1, 10)),
            ],
        ),
    ),
    task(
        5,
        "/data/local-files/?d=b/0001.jpg",
        annotation(2, 1, [brush("x", "car", box(0, 0, 1, 1))]),
    ),
    task(
        7,
        "https://example.org/day%201/ü.png",
        annotation(
            3,
            1,
            [
                brush("c", "car", box(0, 0, 8, 10), meta={"text": ["wet\nroad"]}),
                answer("c", "iscrowd", ["yes"]),
            ],
        ),
    ),
    task(9, "empty.png", annotation(4, 1, [brush("g", "glare", box(0, 0, 1, 1))])),
]  # fmt: skip


@pytest.mark.parametrize("format_name", ALL)
def test_export_import_export_gives_identical_bytes(format_name: str, tmp_path: Path) -> None:
    first, second, summary = there_and_back(format_name, TASKS, tmp_path)
    assert summary.images == 4 and not summary.first_problems
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[list[str], Any]:
    """A segment's number for each pixel (0 none) and each segment's label."""
    labels = draw(st.lists(st.sampled_from(["car", "road", "glare"]), max_size=6))
    height_px, width_px = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    pixels = st.integers(0, len(labels))
    size = height_px * width_px
    flat = draw(st.lists(pixels, min_size=size, max_size=size))
    return labels, np.array(flat).reshape(height_px, width_px)


@pytest.mark.parametrize("format_name", ALL)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenes=st.lists(label_maps(), min_size=1, max_size=2))
def test_any_label_map_comes_back(format_name: str, scenes: list[tuple[list[str], Any]]) -> None:
    tasks = []
    for number, (labels, pixels) in enumerate(scenes, start=3):
        regions = [
            brush(f"r{at}", label, pixels == at)
            for at, label in enumerate(labels, start=1)
            if (pixels == at).any()
        ]
        # Something tells the size where nobody drew: a VOID region does.
        regions = regions or [brush("void", "glare", np.ones(pixels.shape, bool))]
        tasks.append(task(number, f"{number}.jpg", annotation(number, 1, regions)))
    folder = Path(tempfile.mkdtemp())
    try:
        first, second, summary = there_and_back(format_name, tasks, folder)
    finally:
        shutil.rmtree(folder)
    assert first == second
    assert summary.left_out == 0 and not summary.first_problems


def test_the_same_folder_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    format_name = "semantic-png"
    run(format_name, source_of(tmp_path / "source", TASKS), tmp_path / "out")
    one = import_folder(format_name, tmp_path / "out", tmp_path / "one.json").files
    two = import_folder(format_name, tmp_path / "out", tmp_path / "two.json", workers=2).files
    for kind in ("tasks", "label_config", "taxonomy"):
        assert getattr(one, kind).read_bytes() == getattr(two, kind).read_bytes()


@pytest.mark.parametrize("format_name", ALL)
def test_classes_keep_ids_names_colours_and_kinds(format_name: str, tmp_path: Path) -> None:
    run(format_name, source_of(tmp_path / "source", TASKS), tmp_path / "out")
    files = import_folder(format_name, tmp_path / "out", tmp_path / "t.json").files
    found = load_taxonomy(files.taxonomy)
    assert [(one.id, one.name, one.color, one.kind) for one in found.classes] == [
        (one.id, one.name, one.color, one.kind) for one in TAXONOMY.classes
    ]
    config = parse_label_config(files.label_config.read_text())
    require_fit(found, config)
    validate_with_sdk(config.xml)
    assert config.label_colors["car"] == "#DC143C"


def test_tasks_say_what_label_studio_must_be_told(tmp_path: Path) -> None:
    run("coco-panoptic", source_of(tmp_path / "source", TASKS), tmp_path / "out")
    summary = import_folder("coco-panoptic", tmp_path / "out", tmp_path / "t.json")
    first, *_ = imported(summary)
    assert first["id"] == 11 and first["data"] == {"image": "a/0001.jpg"}
    (made,) = first["annotations"]
    assert made["ground_truth"] is False and made["was_cancelled"] is False
    ids = [item["id"] for one in imported(summary) for item in one["annotations"][0]["result"]]
    assert len(set(ids)) == 6  # of 7 items: the crowd's answer shares its region's id
    for item in made["result"]:
        assert (item["original_width"], item["original_height"]) == (10, 8)
        assert item["type"] == "brushlabels" and item["value"]["format"] == "rle"
        assert item["meta"]["segstudio"]["segment_id"] > 0


def test_predictions_are_written_on_request_and_none_without_a_segment(tmp_path: Path) -> None:
    run("coco-panoptic", source_of(tmp_path / "source", TASKS), tmp_path / "out")
    summary = import_folder(
        "coco-panoptic", tmp_path / "out", tmp_path / "t.json", as_what="predictions"
    )
    tasks = imported(summary)
    assert [len(one.get("predictions", [])) for one in tasks] == [1, 1, 1, 0]
    assert all("annotations" not in one for one in tasks)
    run(
        "coco-panoptic", open_source(str(summary.files.tasks)), tmp_path / "again", taxonomy=None,
        annotations="predictions",
    )  # fmt: skip
    before, after = data_files(tmp_path / "out"), data_files(tmp_path / "again")
    assert {name for name in before if before[name] != after.get(name)} == {
        "panoptic.json",
        "panoptic/empty.png",
    }


@pytest.mark.parametrize(
    ("root", "url"),
    [
        ("", "/data/local-files/?d=0001-task5.jpg"),
        ("/data/local-files/?d=coco/val", "/data/local-files/?d=coco/val/0001-task5.jpg"),
        ("https://example.org/", "https://example.org/0001-task5.jpg"),
        ("s3://bucket/val", "s3://bucket/val/0001-task5.jpg"),
    ],
)
def test_pictures_are_named_behind_the_root_url(root: str, url: str, tmp_path: Path) -> None:
    run("semantic-png", source_of(tmp_path / "source", TASKS), tmp_path / "out")
    (tmp_path / "out" / "images.jsonl").unlink()
    summary = import_folder(
        "semantic-png", tmp_path / "out", tmp_path / "t.json", image_root_url=root
    )
    assert imported(summary)[1]["data"]["image"] == url


def test_pixels_are_those_of_the_label_map(tmp_path: Path) -> None:
    run("semantic-png", source_of(tmp_path / "source", TASKS[:1]), tmp_path / "out")
    summary = import_folder("semantic-png", tmp_path / "out", tmp_path / "t.json")
    (found,) = open_source(str(summary.files.tasks)).tasks()
    masks = {one.labels[0]: region_mask(one) for one in found.annotations[0].regions}
    assert set(masks) == {"car", "road", "glare"}  # VOID comes back as the class to ignore
    assert masks["car"].area_px == 12 + 4 * 3 - 4 * 1 + 4 * 1 + 1
    assert masks["road"].area_px == 40 - 6 - 4
    assert np.array_equal(masks["glare"].to_dense(), box(6, 2, 8, 5))
