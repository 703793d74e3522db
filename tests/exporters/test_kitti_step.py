"""KITTI-STEP, read by Pillow and the arithmetic of its own description."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exporters import kitti_step
from segstudio import brush_rle
from segstudio.errors import SegstudioError, UsageError
from segstudio.taxonomy import SegmentClass, Taxonomy
from tests.exporters.hard_cases import ALL, PARTS, answer, crowded, hard_source
from tests.exporters.projects import CONFIG, annotation, box, brush, run, source_of, task, tree

STREETS = Taxonomy(
    "streets",
    (
        SegmentClass(26, "car", train_id=13),
        SegmentClass(7, "road", kind="stuff", train_id=0),
        SegmentClass(9, "glare", ignore=True),
    ),
)
TRACKED = CONFIG.replace(
    "</View>", '<TextArea name="track_id" toName="image" perRegion="true"/></View>'
)


def read(out: Path, frame: int, sequence: str = "a", split: str = "train") -> Any:
    """(semantic ids, instance ids) of a frame."""
    with Image.open(out / "panoptic_maps" / split / sequence / f"{frame:06d}.png") as image:
        assert image.mode == "RGB"
        red, green, blue = np.moveaxis(np.asarray(image).astype(int), -1, 0)
    return red, green * 256 + blue


def frame(number: int, *regions: dict[str, Any], video: str = "a", **data: Any) -> dict[str, Any]:
    return task(
        number + 1, f"/{video}/{number}.png", annotation(number + 1, 5, regions),
        video=video, frame=number, **data,
    )  # fmt: skip


def export(tmp_path: Path, *tasks: dict[str, Any], **options: Any) -> Path:
    settings = {"taxonomy": STREETS, **options}
    run("kitti-step", source_of(tmp_path, tasks, TRACKED), tmp_path / "out", **settings)
    return tmp_path / "out"


def losses(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "dataset.json").read_text())["losses"]
    return {kind: count for kind, count in found.items() if count}


def named(region_id: str, text: str) -> dict[str, Any]:
    item = answer(region_id, "track_id")
    return {**item, "type": "textarea", "value": {"text": [text]}}


def test_every_hard_mask_comes_back_pixel_for_pixel(tmp_path: Path) -> None:
    run("kitti-step", hard_source(tmp_path), tmp_path / "out", taxonomy=STREETS)
    for number, (name, dense) in enumerate(ALL.items(), start=1):
        semantic, instance = read(tmp_path / "out", number, "0000")
        assert np.array_equal(semantic, np.where(dense, 13, 255)), name
        assert np.array_equal(instance > 0, dense), name


def test_stuff_and_void_have_instance_zero_and_objects_stay_apart(tmp_path: Path) -> None:
    out = export(tmp_path, frame(0, *crowded()))
    semantic, instance = read(out, 0)
    assert set(np.unique(semantic)) == {0, 13, 255}
    assert (instance[semantic != 13] == 0).all()
    assert set(np.unique(instance[semantic == 13])) == set(range(1, 8))
    assert (semantic[40:46, 40:60] == 255).all()


def test_given_tracks_hold_over_frames_and_the_others_are_matched(tmp_path: Path) -> None:
    shape = (48, 64)
    first = [
        brush("p", "car", box(0, 0, 10, 10, shape)), named("p", "300"),
        brush("q", "car", box(20, 0, 30, 10, shape)),
    ]  # fmt: skip
    second = [
        brush("r", "car", box(21, 1, 31, 11, shape)),
        brush("s", "car", box(30, 40, 40, 50, shape)), named("s", "300"),
    ]  # fmt: skip
    out = export(tmp_path, frame(0, *first), frame(1, *second))
    (_, before), (_, after) = read(out, 0), read(out, 1)
    assert (before[0, 0], before[25, 5]) == (300, 1)
    assert (after[35, 45], after[25, 5]) == (300, 1)
    (sequence,) = json.loads((out / "tracks.json").read_text())["sequences"]
    assert [(one["id"], one["objects"]) for one in sequence["tracks"]] == [
        (1, {"new": 1, "overlap": 1}), (300, {"given": 2}),
    ]  # fmt: skip
    assert losses(out) == {"tracks_not_given": 2}


def test_frames_are_linked_in_their_order_not_the_tasks(tmp_path: Path) -> None:
    shape = (48, 64)
    tasks = [
        frame(number, brush(f"r{number}", "car", box(5, at, 15, at + 10, shape)))
        for number, at in ((2, 8), (0, 0), (1, 4))
    ]
    out = export(tmp_path, *tasks)
    assert [int(read(out, number)[1].max()) for number in range(3)] == [1, 1, 1]


def test_crowds_have_instance_zero(tmp_path: Path) -> None:
    shape = PARTS["two parts"]
    out = export(tmp_path, frame(0, brush("a", "car", shape), answer("a", "iscrowd", "yes")))
    semantic, instance = read(out, 0)
    assert np.array_equal(semantic == 13, shape) and not instance.any()


def test_sequences_are_folders_with_safe_names_and_empty_frames_are_kept(tmp_path: Path) -> None:
    tasks = [frame(0, video="../b/ü"), frame(1, video="../b/ü"), frame(0, video="c")]
    tasks[2]["id"] = 9
    out = export(tmp_path, *tasks, size_of=lambda *_: (4, 6))
    files = [name for name in tree(out) if name.startswith("panoptic_maps")]
    assert files == [
        "panoptic_maps/train/_b_ü/000000.png", "panoptic_maps/train/_b_ü/000001.png",
        "panoptic_maps/train/c/000000.png",
    ]  # fmt: skip
    semantic, instance = read(out, 0, "c")
    assert semantic.tolist() == [[255] * 6] * 4 and not instance.any()


def test_sequences_do_not_mix_however_many_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (48, 64)
    tasks = [
        {**frame(at, brush("r", "car", box(at, n, at + 9, n + 9, shape)), video=f"v{n}"),
         "id": 10 * n + at + 1}
        for n in range(4) for at in (1, 0)
    ]  # fmt: skip
    whole = tree(export(tmp_path / "whole", *tasks) / "panoptic_maps")
    monkeypatch.setattr(kitti_step, "_FRAMES_AT_ONCE", 3)
    assert tree(export(tmp_path / "parts", *tasks) / "panoptic_maps") == whole
    assert len(whole) == 8


def test_a_class_without_train_id_becomes_void_and_is_counted(tmp_path: Path) -> None:
    taxonomy = Taxonomy("t", (SegmentClass(1, "car", train_id=13), SegmentClass(2, "road")))
    out = export(tmp_path, frame(0, *crowded()[:2]), taxonomy=taxonomy)
    assert set(np.unique(read(out, 0)[0])) == {13, 255}
    assert losses(out)["segments_without_train_id"] == 1


def test_without_train_ids_classes_count_from_zero(tmp_path: Path) -> None:
    taxonomy = Taxonomy("t", (SegmentClass(5, "car"), SegmentClass(9, "road")))
    out = export(tmp_path, frame(0, *crowded()[:2]), taxonomy=taxonomy)
    assert set(np.unique(read(out, 0)[0])) == {0, 1, 255}


def test_two_tasks_of_one_frame_are_refused(tmp_path: Path) -> None:
    other = {**frame(0), "id": 2}
    with pytest.raises(SegstudioError, match="Tasks 1 and 2 are both frame 0 of the sequence a"):
        export(tmp_path, frame(0), other, size_of=lambda *_: (4, 6))


def test_a_frame_that_is_no_number_is_refused(tmp_path: Path) -> None:
    one = task(1, "/x/photo.png", annotation(1, 5, []), frame="last")
    with pytest.raises(SegstudioError, match="Task 1 has the frame 'last'"):
        export(tmp_path, one, size_of=lambda *_: (4, 6))


def test_a_train_id_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    taxonomy = Taxonomy("t", (SegmentClass(1, "car", train_id=300),))
    with pytest.raises(UsageError, match="train id 300"):
        export(tmp_path, taxonomy=taxonomy)


def test_objects_of_a_real_sequence_keep_their_ids(fixtures_dir: Path, tmp_path: Path) -> None:
    path = fixtures_dir / "davis" / "project-8-sequences.json.gz"
    tasks = json.loads(gzip.decompress(path.read_bytes()))
    videos = sorted({one["data"]["video"] for one in tasks})
    counts = {
        video: max(
            len(one["annotations"][0]["result"]) for one in tasks if one["data"]["video"] == video
        )
        for video in videos
    }
    video = max(videos, key=lambda name: counts[name])
    chosen = [one for one in tasks if one["data"]["video"] == video][:4]
    config = (
        '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
        f'<Label value="{video}"/></BrushLabels></View>'
    )
    source = source_of(tmp_path, chosen, config)
    run("kitti-step", source, tmp_path / "out", taxonomy=None, annotations="user:1")
    for one in chosen:
        (mine,) = (a for a in one["annotations"] if a["completed_by"] == 1)
        _, instance = read(tmp_path / "out", one["data"]["frame"], video)
        for number, region in enumerate(mine["result"], start=1):
            drawn = brush_rle.decode(region["value"]["rle"], 480, 854).to_dense()
            assert (instance[drawn] == number).mean() > 0.99, region["id"]
