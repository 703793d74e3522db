"""Which picture a region lies on, where it is, and what its file may be called."""

from __future__ import annotations

from typing import Any

import pytest

from segstudio.images import (
    MAX_STEM_BYTES,
    ImageKey,
    annotated_images,
    base_name,
    file_stem,
    image_answers,
    image_references,
    image_size,
    regions_by_image,
    substitute,
)
from segstudio.label_config import parse_label_config
from segstudio.tasks import Task, parse_annotation, parse_task

ONE = parse_label_config('<View><Image name="image" value="$image"/></View>')
TWO = parse_label_config(
    '<View><Image name="left" value="$l"/><Image name="right" valueList="$pages"/></View>'
)


def region(
    region_id: str,
    to_name: str = "image",
    page: int | None = None,
    width: int = 10,
    height: int = 8,
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": region_id,
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": to_name,
        "original_width": width,
        "original_height": height,
        "value": {
            "x": 0,
            "y": 0,
            "width": 50,
            "height": 50,
            "rotation": 0,
            "rectanglelabels": ["Car"],
        },
    }
    if page is not None:
        item["item_index"] = page
    return item


def task_of(data: dict[str, Any], *results: list[dict[str, Any]]) -> Task:
    annotations = [
        {"id": number, "completed_by": 10 + number, "result": result}
        for number, result in enumerate(results, 1)
    ]
    return parse_task({"id": 12, "data": data, "annotations": annotations})


def test_regions_are_grouped_by_tag_and_page_in_drawing_order() -> None:
    task = task_of(
        {},
        [
            region("a", "right", 1),
            region("b", "left"),
            region("c", "right", 1),
            region("d", "right"),
        ],
    )
    grouped = regions_by_image(task.annotations[0])
    assert {key: [one.id for one in regions] for key, regions in grouped.items()} == {
        ("right", 1): ["a", "c"],
        ("left", 0): ["b"],
        ("right", 0): ["d"],
    }


def test_references_of_single_images_lists_and_missing_data() -> None:
    task = task_of({"l": "/data/upload/1/x.png", "pages": ["p0.png", "p1.png"]})
    assert image_references(task, TWO) == {
        ("left", 0): "/data/upload/1/x.png",
        ("right", 0): "p0.png",
        ("right", 1): "p1.png",
    }
    assert image_references(task_of({"pages": []}), TWO) == {("left", 0): ""}
    assert image_references(task_of({"image": 7}), ONE) == {("image", 0): ""}


@pytest.mark.parametrize(
    ("value", "data", "expected"),
    [
        ("$image", {"image": ["a"]}, ["a"]),
        ("$a.b", {"a": {"b": "x"}}, "x"),
        ("$a.b", {"a.b": "y", "a": {"b": "x"}}, "y"),
        ("$a[1].u", {"a": [{}, {"u": "x"}]}, "x"),
        ("$a[9]", {"a": []}, None),
        ("$none", {}, None),
        ("https://h/$id/$name", {"id": 3, "name": "n"}, "https://h/3/n"),
        ("https://h/$id", {}, None),
        ("/static/1.png", {}, "/static/1.png"),
    ],
)
def test_values_are_filled_from_data(value: str, data: dict[str, Any], expected: object) -> None:
    assert substitute(value, data) == expected


def test_size_is_that_of_most_regions() -> None:
    task = task_of({}, [region("a", width=3), region("b"), region("c")])
    assert image_size(task.annotations[0].regions) == (8, 10)
    assert image_size(()) is None


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("/data/upload/3/1a2b3c4d-street.01.png", "1a2b3c4d-street.01"),
        ("/data/local-files/?d=day%201/IMG%201.jpeg", "IMG_1"),
        ("s3://bucket/a/b.nii.gz", "b.nii"),
        ("gs://bucket/ünïcode 画像.png", "ünïcode_画像"),
        ("C:\\photos\\a.bmp", "a"),
        ("../../etc/passwd", "passwd"),
        ("/data/local-files/?d=../../x/..%2f..%2fboot.png", "boot"),
        ("https://h/a.png?token=secret#frag", "a"),
        ("https://h/dir/", "dir"),
        ("https://h/%00%0a..png", "__"),
        ("data:image/png;base64,iVBORw0KGgo=", ""),
        (".hidden", "hidden"),
        ("..", ""),
        ("", ""),
        ("http://[broken/x.png", "x"),
        ("a:b*c?.png", "b_c"),
        ("\ud800.png", "_"),
    ],
)
def test_base_names_are_safe(reference: str, name: str) -> None:
    assert base_name(reference) == name


@pytest.mark.parametrize("letter", ["x", "ü", "画"])
def test_long_names_are_cut_between_characters(letter: str) -> None:
    name = base_name("/" + letter * 500 + ".png")
    assert 0 < len(name.encode()) <= MAX_STEM_BYTES
    assert set(name) == {letter}


def test_same_base_names_get_different_stems() -> None:
    key = ImageKey("image")
    stems = {
        file_stem(1, key, "a/0001.jpg", ONE),
        file_stem(2, key, "b/0001.jpg", ONE),
        file_stem(21, key, "0001-task1.jpg", ONE),
        file_stem(3, key, "", ONE),
        file_stem(4, key, "", ONE),
    }
    assert stems == {"0001-task1", "0001-task2", "0001-task1-task21", "task3", "task4"}


def test_stems_tell_tags_and_pages_apart_where_there_are_several() -> None:
    assert file_stem(1, ImageKey("left"), "x.png", TWO) == "x-task1-left"
    assert file_stem(1, ImageKey("right", 0), "x.png", TWO) == "x-task1-right-0"
    assert file_stem(1, ImageKey("right", 2), "x.png", TWO) == "x-task1-right-2"
    odd = parse_label_config(
        '<View><Image name="a/b" value="$a"/><Image name="a b" value="$b"/></View>'
    )
    assert file_stem(1, ImageKey("a/b"), "x.png", odd) != file_stem(
        1, ImageKey("a b"), "x.png", odd
    )


def test_every_image_has_an_entry_with_its_regions() -> None:
    data = {"l": "x.png", "pages": ["p0.png", "p1.png"]}
    task = task_of(
        data,
        [region("a", "left"), region("b", "right", 1, 20, 30)],
        [region("c", "right", 0, 5, 6)],
    )
    images, problems = annotated_images(task, task.annotations[0], TWO)
    assert problems == ()
    # The first page's size is known from the other annotator alone.
    assert [
        (one.key, one.reference, one.height_px, one.width_px, [r.id for r in one.regions])
        for one in images
    ] == [
        (("left", 0), "x.png", 8, 10, ["a"]),
        (("right", 0), "p0.png", 6, 5, []),
        (("right", 1), "p1.png", 30, 20, ["b"]),
    ]
    assert {(one.task_id, one.annotation_id, one.annotator_id) for one in images} == {(12, 1, 11)}


def test_an_image_nobody_drew_on_has_the_size_of_its_picture() -> None:
    task = task_of({"image": "x.png"}, [])
    images, problems = annotated_images(task, task.annotations[0], ONE, size_of=lambda _: (4, 5))
    assert [(one.height_px, one.width_px, one.regions) for one in images] == [(4, 5, ())]
    assert problems == ()


def test_an_image_of_unknown_size_is_reported() -> None:
    def refuse(reference: str) -> tuple[int, int]:
        raise ValueError(f"The picture {reference} is damaged.")

    task = task_of({"image": "x.png"}, [])
    for size_of, words in ((None, "not opened"), (refuse, "x.png is damaged")):
        images, problems = annotated_images(task, task.annotations[0], ONE, size_of=size_of)
        assert images == ()
        assert [problem.kind for problem in problems] == ["unknown-image-size"]
        assert words in problems[0].message
        assert (problems[0].task_id, problems[0].annotation_id) == (12, 1)


def test_regions_whose_picture_is_gone_are_kept_and_those_of_no_image_reported() -> None:
    task = task_of({}, [region("a"), region("b", "other"), region("c", page=4)])
    images, problems = annotated_images(task, task.annotations[0], ONE)
    assert [(one.reference, [r.id for r in one.regions]) for one in images] == [("", ["a"])]
    assert [problem.kind for problem in problems] == [
        "image-missing",
        "unknown-image",
        "unknown-image",
    ]


PAGES = """<View><Image name="photo" value="$photo"/><Image name="scan" valueList="$pages"/>
<Text name="story" value="$story"/>
<Choices name="weather" toName="photo"><Choice value="sun"/></Choices>
<Choices name="sharp" toName="scan" perItem="true"><Choice value="yes"/></Choices>
<Rating name="stars" toName="scan"/>
<TextArea name="said" toName="story"/>
<BrushLabels name="brush" toName="photo,scan"><Label value="car"/></BrushLabels></View>"""


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (ImageKey("photo"), {"weather": ["sun"], "said": ["hello"]}),
        (ImageKey("scan", 0), {"sharp": ["yes"], "stars": 4, "said": ["hello"]}),
        (ImageKey("scan", 1), {"sharp": ["no"], "stars": 4, "said": ["hello"]}),
        (ImageKey("scan", 2), {"stars": 4, "said": ["hello"]}),
    ],
)
def test_answers_about_the_whole_image_go_to_the_image_they_were_given_on(
    key: ImageKey, expected: dict[str, Any]
) -> None:
    def answer(name: str, kind: str, value: Any, index: int = 0) -> dict[str, Any]:
        item = {"id": f"{name}{index}", "from_name": name, "type": kind, "value": value}
        return {**item, "item_index": index}

    annotation = parse_annotation(
        {
            "id": 1,
            "result": [
                answer("weather", "choices", {"choices": ["sun"]}),
                answer("sharp", "choices", {"choices": ["yes"]}),
                answer("sharp", "choices", {"choices": ["no"]}, 1),
                answer("stars", "rating", {"rating": 4}),
                answer("said", "textarea", {"text": ["hello"]}),
            ],
        },
        task_id=1,
    )
    assert image_answers(annotation, key, parse_label_config(PAGES)) == expected


def test_an_image_that_no_control_draws_on_is_there_to_read_from() -> None:
    config = parse_label_config(
        '<View><Image name="image" value="$image_a"/><Image name="image_b" value="$image_b"/>'
        '<BrushLabels name="brush" toName="image"><Label value="Liver"/></BrushLabels></View>'
    )
    task = parse_task({
        "id": 1,
        "data": {"image_a": "a.png", "image_b": "b.png", "dicom": {"rows": 4, "columns": 6}},
        "annotations": [{"id": 2, "completed_by": 1, "result": []}],
    })  # fmt: skip
    images, problems = annotated_images(task, task.annotations[0], config)
    assert [(image.key.to_name, image.height_px, image.width_px) for image in images] == [
        ("image", 4, 6)
    ]
    assert problems == ()
