"""What every format gets from the runner: policies, names, resuming, determinism, reports."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exporters.runner
from exporters.coco_panoptic import CocoPanopticExporter
from segstudio.errors import SegstudioError, SourceError, UsageError
from segstudio.selection import SelectionError
from segstudio.source import TaskFilter
from tests.exporters.projects import (
    CONFIG,
    annotation,
    box,
    brush,
    names,
    panoptic,
    run,
    segments,
    source_of,
    task,
    tree,
)

CAR = brush("a", "car", box(0, 0, 2, 2))
ROAD = brush("r", "road", box(4, 0, 8, 10))


def many(count: int) -> list[dict[str, Any]]:
    return [
        task(
            n,
            f"/data/upload/{n % 3}/img{n % 40:03}.jpg",
            annotation(n, 5 + n % 2, [brush("a", "car", box(0, 0, 1 + n % 8, 3)), ROAD]),
        )
        for n in range(1, count + 1)
    ]


# ---- which annotation ---------------------------------------------------------------------


def test_an_open_choice_stops_before_anything_is_written(tmp_path: Path) -> None:
    tasks = [
        task(1, "/a.jpg", annotation(1, 5, [CAR])),
        task(2, "/b.jpg", annotation(2, 5, [CAR]), annotation(3, 6, [CAR])),
    ]
    with pytest.raises(SelectionError, match=r"1 of 2 tasks \(ids 2\).*consensus, newest, user:5"):
        run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_writes_one_file_set_an_annotator_and_never_mixes(tmp_path: Path) -> None:
    mine, theirs = brush("a", "car", box(0, 0, 2, 2)), brush("a", "car", box(0, 0, 4, 4))
    tasks = [
        task(1, "/a.jpg", annotation(1, 5, [mine]), annotation(2, 6, [theirs])),
        task(2, "/b.jpg", annotation(3, 6, [theirs])),
    ]
    out = tmp_path / "out"
    run("coco-panoptic", source_of(tmp_path, tasks), out, annotations="all")
    assert [one["file_name"] for one in panoptic(out / "annotator-5")["images"]] == ["a.jpg"]
    assert [one["file_name"] for one in panoptic(out / "annotator-6")["images"]] == [
        "a.jpg", "b.jpg",
    ]  # fmt: skip
    assert segments(out / "annotator-5", "a")[0][0]["area"] == 4
    assert segments(out / "annotator-6", "a")[0][0]["area"] == 16
    assert not (out / "panoptic.json").exists()
    card = json.loads((out / "annotator-5" / "dataset.json").read_text())
    assert card["annotators"] == [{"id": 5, "images": 1}] and card["images"] == 1
    assert json.loads((out / "dataset.json").read_text())["images"] == 3


def test_consensus_exports_what_more_than_half_drew(tmp_path: Path) -> None:
    drawn = [box(0, 0, 4, 4), box(0, 0, 4, 5), box(0, 0, 4, 5)]
    tasks = [
        task(
            1,
            "/a.jpg",
            *(annotation(n, n, [brush("a", "car", one)]) for n, one in enumerate(drawn, 1)),
            annotation(9, 9, [brush("a", "car", box(0, 0, 8, 10))], was_cancelled=True),
        ),
        task(2, "/b.jpg", annotation(4, 1, [CAR]), annotation(5, 2, [])),
    ]
    source = source_of(tmp_path, tasks)
    summary = run("coco-panoptic", source, tmp_path / "out", annotations="consensus")
    ((_, pixels),) = segments(tmp_path / "out", "a")
    assert np.array_equal(pixels, box(0, 0, 4, 5))
    assert segments(tmp_path / "out", "b") == []
    assert summary.dataset["losses"]["objects_without_majority"] == 1
    assert summary.dataset["annotators"] == [
        {"id": 1, "images": 2}, {"id": 2, "images": 2}, {"id": 3, "images": 1},
    ]  # fmt: skip


def test_predictions_are_exported_on_request(tmp_path: Path) -> None:
    tasks = [task(1, "/a.jpg", annotation(1, 5, [ROAD]))]
    tasks[0]["predictions"] = [{"id": 3, "model_version": "sam", "score": 0.5, "result": [CAR]}]
    source = source_of(tmp_path, tasks)
    run("coco-panoptic", source, tmp_path / "out", annotations="predictions:sam")
    ((info, _),) = segments(tmp_path / "out", "a")
    assert info["category_id"] == 1
    assert "nobody has checked" in (tmp_path / "out" / "README.md").read_text()


def test_tasks_that_are_left_out_are_counted(tmp_path: Path) -> None:
    tasks = [
        task(1, "/a.jpg", annotation(1, 5, [CAR])),
        task(2, "/b.jpg"),
        task(3, "/c.jpg", annotation(2, 5, [CAR], was_cancelled=True)),
    ]
    summary = run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out")
    assert summary.images == 1
    assert summary.dataset["annotations"]["tasks_left_out"] == {
        "not annotated": 1, "only skipped": 1,
    }  # fmt: skip


def test_of_one_person_the_annotation_changed_last_counts(tmp_path: Path) -> None:
    old = annotation(1, 5, [brush("a", "car", box(0, 0, 2, 2))], updated_at="2026-03-01T00:00:00Z")
    new = annotation(2, 5, [brush("a", "car", box(0, 0, 4, 4))], updated_at="2026-02-01T00:00:00Z")
    for policy in (None, "user:5", "all", "consensus"):
        out = tmp_path / str(policy)
        summary = run(
            "coco-panoptic", source_of(tmp_path, [task(1, "/a.jpg", old, new)]), out,
            annotations=policy,
        )  # fmt: skip
        folder = out / "annotator-5" if policy == "all" else out
        assert [info["area"] for info, _ in segments(folder, "a")] == [4]
        assert summary.dataset["annotations"]["older_annotations_of_one_annotator"] == 1


def test_drafts_are_never_exported(tmp_path: Path) -> None:
    with_draft = task(1, "/a.jpg", annotation(1, 5, [CAR]))
    with_draft["drafts"] = [{"id": 9, "user": 5, "result": [ROAD]}]
    only_draft = {**task(2, "/b.jpg"), "drafts": [{"id": 10, "user": 5, "result": [ROAD]}]}
    summary = run("coco-panoptic", source_of(tmp_path, [with_draft, only_draft]), tmp_path / "out")
    assert summary.images == 1
    assert [info["category_id"] for info, _ in segments(tmp_path / "out", "a")] == [1]


WITH_ANSWERS = CONFIG.replace(
    "</View>",
    """<Choices name="weather" toName="image"><Choice value="rain"/></Choices>
    <TextArea name="remark" toName="image"/></View>""",
)


def answer(name: str, kind: str, key: str, value: Any) -> dict[str, Any]:
    return {"id": name, "from_name": name, "to_name": "image", "type": kind, "value": {key: value}}


def test_answers_about_the_whole_image_are_exported_and_counted(tmp_path: Path) -> None:
    rain = answer("weather", "choices", "choices", ["rain"])
    sun = answer("weather", "choices", "choices", ["sun"])
    words = answer("remark", "textarea", "text", ["lens flare " * 20])
    tasks = [
        task(1, "/a.jpg", annotation(1, 5, [CAR, rain, words]), annotation(2, 6, [CAR, rain])),
        task(2, "/b.jpg", annotation(3, 5, [CAR, sun]), annotation(4, 6, [CAR, rain])),
    ]
    source = source_of(tmp_path, tasks, WITH_ANSWERS)
    card = run("coco-panoptic", source, tmp_path / "out", annotations="user:5").dataset
    assert card["image_answers"] == {"remark": {"(other)": 1}, "weather": {"rain": 1, "sun": 1}}
    images = panoptic(tmp_path / "out")["images"]
    assert images[1]["attributes"] == {"weather": ["sun"]}
    lines = (tmp_path / "out" / "images.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["answers"]["remark"] == ["lens flare " * 20]
    assert "weather: rain (1), sun (1)" in (tmp_path / "out" / "README.md").read_text()
    card = run("coco-panoptic", source, tmp_path / "both", annotations="consensus").dataset
    assert card["image_answers"] == {"weather": {"rain": 1}}
    assert card["losses"]["answers_without_majority"] == 2


# ---- images and names ---------------------------------------------------------------------

TWO_TAGS = """<View><Image name="left" value="$left"/><Image name="right" value="$right"/>
<Image name="pages" valueList="$pages"/>
<BrushLabels name="brush" toName="left,right,pages"><Label value="car"/></BrushLabels></View>"""


def test_several_image_tags_and_pages_are_separate_images(tmp_path: Path) -> None:
    left = brush("a", "car", box(0, 0, 1, 1), to_name="left")
    right = brush("b", "car", box(0, 0, 2, 2, (4, 4)), to_name="right")
    page = brush("c", "car", box(0, 0, 3, 3), to_name="pages", item_index=1)
    other = brush("d", "car", box(0, 0, 4, 4), to_name="pages", item_index=0)
    tasks = [
        task(
            7, None, annotation(1, 5, [left, right, page, other]),
            left="/l/same.jpg", right="/r/same.jpg", pages=["/p/one.jpg", "/p/two.jpg"],
        )
    ]  # fmt: skip
    run("coco-panoptic", source_of(tmp_path, tasks, TWO_TAGS), tmp_path / "out")
    found = panoptic(tmp_path / "out")
    stems = ["same-task7-left", "same-task7-right", "one", "two"]
    assert [one["file_name"] for one in found["images"]] == [f"{stem}.jpg" for stem in stems]
    assert [one["id"] for one in found["images"]] == [1, 2, 3, 4]
    assert [one["height"] for one in found["images"]] == [8, 4, 8, 8]
    areas = [segments(tmp_path / "out", stem)[0][0]["area"] for stem in stems]
    assert areas == [1, 4, 16, 9]


@pytest.mark.parametrize(
    ("reference", "stem"),
    [
        ("/data/upload/3/8f2c-Straße 日本.png", "8f2c-Straße_日本"),
        ("../../../etc/passwd.png", "passwd"),
        ("/data/local-files/?d=..%2F..%2Fsecret.jpg", "secret"),
        ("s3://bucket/a%2F..%2Fb.jpg", "b"),
        ("C:\\photos\\IMG.tif", "IMG"),
        ("/x/.hidden.jpg", "hidden"),
        ("/x/NUL.png", "NUL-task1"),
        ("/x/con.tar.png", "con.tar-task1"),
        ("/x/evil\x00\n<b>|?.png", None),
        ("/x/" + "a" * 400 + ".jpg", None),
        ("/x/..", "task1"),
        ("data:image/png;base64,AAAA", "task1"),
        ("http://[bad/é.jpg", "é"),
    ],
)
def test_hostile_and_foreign_names_stay_inside_and_safe(
    tmp_path: Path, reference: str, stem: str | None
) -> None:
    source = source_of(tmp_path, [task(1, reference, annotation(1, 5, [CAR]))])
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "deep" / "down" / "out"
    run("semantic-png", source, out)
    (written,) = (out / "masks").iterdir()
    assert written.suffix == ".png" and len(os.fsencode(written.name)) < 255
    assert not set(written.name) & set('/\\:*?"<>|\n\x00')
    if stem is not None:
        assert written.stem == stem
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "deep") for path in new)


def test_names_that_differ_in_case_only_do_not_collide(tmp_path: Path) -> None:
    tasks = [
        task(1, "/x/A.jpg", annotation(1, 5, [CAR])),
        task(2, "/y/a.png", annotation(2, 5, [ROAD])),
        task(3, "/y/a-task2.png", annotation(3, 5, [ROAD])),
    ]
    run("semantic-png", source_of(tmp_path, tasks), tmp_path / "out")
    assert names(tmp_path / "out" / "masks") == ["A-task1.png", "a-task2.png", "a-task2~.png"]


# ---- resuming, determinism ----------------------------------------------------------------


@pytest.mark.parametrize("format_name", ["coco-panoptic", "semantic-png"])
def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path, format_name: str) -> None:
    source = source_of(tmp_path, many(60))
    for workers in (1, 2):
        run(format_name, source, tmp_path / str(workers), workers=workers)
    one, two = tree(tmp_path / "1"), tree(tmp_path / "2")
    assert len(one) > 60 and one == two


class _KilledError(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_killed_run_goes_on_where_it_stopped_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path, many(30))
    run("coco-panoptic", source, tmp_path / "whole")
    original = CocoPanopticExporter.write_image
    done: list[int] = []

    def dying(self: Any, image: Any, context: Any) -> dict[str, Any]:
        if len(done) == 12:
            raise _KilledError
        done.append(image.task_id)
        return original(self, image, context)

    monkeypatch.setattr(CocoPanopticExporter, "write_image", dying)
    with pytest.raises(_KilledError):
        run("coco-panoptic", source, tmp_path / "out")
    assert not (tmp_path / "out" / "panoptic.json").exists()

    later: list[int] = []

    def counting(self: Any, image: Any, context: Any) -> dict[str, Any]:
        later.append(image.task_id)
        return original(self, image, context)

    monkeypatch.setattr(CocoPanopticExporter, "write_image", counting)
    summary = run("coco-panoptic", source, tmp_path / "out")
    assert summary.taken_over == 12 and summary.images == 30
    assert later == list(range(13, 31))
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_second_run_redoes_only_what_changed_and_removes_what_is_gone(tmp_path: Path) -> None:
    tasks = [task(n, f"/x/{n}.jpg", annotation(n, 5, [CAR])) for n in (1, 2, 3)]
    run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("keep")
    changed = [tasks[0], task(2, "/x/2.jpg", annotation(2, 5, [ROAD]))]
    summary = run("coco-panoptic", source_of(tmp_path, changed), tmp_path / "out")
    assert (summary.taken_over, summary.stale_files_removed) == (1, 1)
    assert names(tmp_path / "out" / "panoptic") == ["1.png", "2.png"]
    assert segments(tmp_path / "out", "2")[0][0]["category_id"] == 7
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_another_overlap_policy_redoes_the_images(tmp_path: Path) -> None:
    big, small = brush("b", "car", box(0, 0, 8, 8)), brush("s", "car", box(1, 1, 3, 3))
    source = source_of(tmp_path, [task(1, "/x/1.jpg", annotation(1, 5, [small, big]))])
    areas = []
    for overlap in ("draw-order", "smaller-on-top"):
        summary = run("coco-panoptic", source, tmp_path / "out", options={"overlap": overlap})
        assert summary.taken_over == 0
        areas.append(sorted(info["area"] for info, _ in segments(tmp_path / "out", "1")))
    assert areas == [[64], [4, 60]]


def test_an_image_that_a_killed_run_of_another_policy_wrote_does_not_slip_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, small = brush("b", "car", box(0, 0, 8, 8)), brush("s", "car", box(1, 1, 3, 3))
    source = source_of(tmp_path, [task(1, "/x/1.jpg", annotation(1, 5, [small, big]))])
    run("coco-panoptic", source, tmp_path / "out")
    before = tree(tmp_path / "out")

    def dying(*_arguments: Any) -> None:
        raise _KilledError

    with monkeypatch.context() as patch, pytest.raises(_KilledError):
        patch.setattr("exporters.journal.Journal.add", dying)
        run("coco-panoptic", source, tmp_path / "out", options={"overlap": "smaller-on-top"})
    run("coco-panoptic", source, tmp_path / "out")
    assert tree(tmp_path / "out") == before


# ---- reports and refusals -----------------------------------------------------------------

BROKEN = {**brush("x", "car", box(0, 0, 2, 2)), "value": {"format": "rle", "rle": [1, 2, 3],
          "brushlabels": ["car"]}}  # fmt: skip
UNKNOWN = brush("u", "unicorn", box(4, 4, 6, 6))


def test_a_damaged_region_is_reported_with_its_place_and_stops_nothing(tmp_path: Path) -> None:
    source = source_of(tmp_path, [task(3, "/x/1.jpg", annotation(4, 5, [BROKEN, UNKNOWN, CAR]))])
    card = run("coco-panoptic", source, tmp_path / "out").dataset
    assert len(segments(tmp_path / "out", "1")) == 1
    assert card["losses"]["unreadable_regions"] == 1
    assert card["losses"]["outside_taxonomy_regions"] == 1
    places = {
        (one["kind"], one["task_id"], one["annotation_id"], one["region_id"])
        for one in card["problems"]["first"]
    }
    assert places == {("unreadable-region", 3, 4, "x"), ("unknown-label", 3, 4, "u")}
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "unicorn" in readme and "1 regions are damaged" in readme


@pytest.mark.parametrize("region", [BROKEN, UNKNOWN])
def test_strict_makes_a_lost_region_an_error(tmp_path: Path, region: dict[str, Any]) -> None:
    source = source_of(tmp_path, [task(3, "/x/1.jpg", annotation(4, 5, [region, CAR]))])
    with pytest.raises(SegstudioError, match=r"Task 3, annotation 4: .*--strict"):
        run("coco-panoptic", source, tmp_path / "out", strict=True)
    assert not (tmp_path / "out" / "panoptic.json").exists()


def test_overlaps_are_counted_and_can_be_refused(tmp_path: Path) -> None:
    tasks = [
        task(1, "/x/1.jpg", annotation(1, 5, [CAR, brush("b", "road", box(0, 0, 1, 10))])),
        task(2, "/x/2.jpg", annotation(2, 5, [CAR])),
    ]
    source = source_of(tmp_path, tasks)
    card = run("coco-panoptic", source, tmp_path / "a").dataset
    assert card["losses"]["overlapped_px"] == 2
    summary = run("coco-panoptic", source, tmp_path / "b", options={"overlap": "error"})
    assert (summary.images, summary.failed) == (1, 1)
    assert "overlap on 2 pixels" in summary.dataset["problems"]["first"][0]["message"]


def test_when_no_image_can_be_exported_the_first_reason_is_told(tmp_path: Path) -> None:
    region = brush("b", "road", box(0, 0, 1, 10))
    source = source_of(tmp_path, [task(1, "/x/1.jpg", annotation(1, 5, [CAR, region]))])
    with pytest.raises(SegstudioError, match="None of 1 images"):
        run("coco-panoptic", source, tmp_path / "out", options={"overlap": "error"})


def test_a_file_without_an_interface_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import segstudio.export_file as module

    source_of(tmp_path, many(3))
    (tmp_path / "tasks.label-config.xml").unlink()
    original, opened = module.read_raw_tasks, []

    def counting(*arguments: Any, **more: Any) -> Any:
        opened.append(1)
        return original(*arguments, **more)

    monkeypatch.setattr(module, "read_raw_tasks", counting)
    source = module.FileSource(str(tmp_path / "tasks.json"), TaskFilter())
    summary = run("coco-panoptic", source, tmp_path / "out", taxonomy=None, annotations="newest")
    assert summary.images == 3 and len(opened) == 1
    assert summary.dataset["problems"]["counts"]["derived-label-config"] >= 1


def test_an_empty_source_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no tasks"):
        run("coco-panoptic", source_of(tmp_path, []), tmp_path / "out")


def test_an_image_of_unknown_size_is_reported(tmp_path: Path) -> None:
    tasks = [
        task(1, "/x/1.jpg", annotation(1, 5, [])),
        task(2, "/x/2.jpg", annotation(2, 5, [CAR])),
    ]
    summary = run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out")
    assert summary.images == 1
    assert summary.dataset["problems"]["counts"] == {"unknown-image-size": 1}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"options": {"overlap": "random"}}, "overlap policy 'random'"),
        ({"annotations": "oldest"}, "annotation policy 'oldest'"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    tmp_path: Path, arguments: dict[str, Any], sentence: str
) -> None:
    source = source_of(tmp_path, [task(1, "/x/1.jpg", annotation(1, 5, [CAR]))])
    with pytest.raises(UsageError, match=sentence):
        run("coco-panoptic", source, tmp_path / "out", **arguments)
    with pytest.raises(UsageError, match=r"semantic-png.*coco-panoptic|coco-panoptic"):
        run("coco-panoptik", source, tmp_path / "out")


def test_a_folder_of_another_format_or_another_tool_is_left_alone(tmp_path: Path) -> None:
    source = source_of(tmp_path, [task(1, "/x/1.jpg", annotation(1, 5, [CAR]))])
    run("coco-panoptic", source, tmp_path / "out")
    with pytest.raises(UsageError, match="holds an export in the format coco-panoptic"):
        run("semantic-png", source, tmp_path / "out")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "dataset.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match="not of segstudio"):
        run("semantic-png", source, foreign)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        run("semantic-png", source, tmp_path / "file")


def test_a_format_of_ones_own_needs_two_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Areas:
        name = "areas"
        summary = "One text file of areas"

        def write_image(self, image: Any, context: Any) -> dict[str, Any]:
            return {"line": f"{image.file_stem} {len(image.regions)}"}

        def finish(self, records: Any, context: Any) -> None:
            text = "\n".join(record["line"] for record in records)
            (context.out_dir / "areas.txt").write_text(text)

    monkeypatch.setattr(exporters.runner, "find_exporter", lambda name: Areas())
    source = source_of(tmp_path, [task(1, "/x/1.jpg", annotation(1, 5, [CAR, ROAD]))], CONFIG)
    run("areas", source, tmp_path / "out")
    assert (tmp_path / "out" / "areas.txt").read_text() == "1 2"
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["classes"][0]["pixels"] == 4
