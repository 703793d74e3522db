"""Cityscapes, read by cityscapesscripts' own tools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.evaluation.instances2dict import instances2dict
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.csHelpers import getCsFileInfo
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image

from segstudio.errors import SegstudioError, UsageError
from segstudio.taxonomy import SegmentClass, Taxonomy
from tests.exporters.hard_cases import ALL, PARTS, answer, crowded, hard_source
from tests.exporters.projects import (
    annotation,
    box,
    brush,
    panoptic_ids,
    run,
    source_of,
    task,
    tree,
)

STREETS = Taxonomy(
    "streets",
    (
        SegmentClass(26, "car", color=(0, 0, 142), train_id=13),
        SegmentClass(7, "road", kind="stuff", color=(128, 64, 128), train_id=0),
        SegmentClass(9, "glare", ignore=True),
    ),
)
FOLDER = "gtFine/train/city"


def export(tmp_path: Path, *regions: dict[str, Any], **options: Any) -> Path:
    tasks = [task(3, "/data/upload/1/photo.jpg", annotation(1, 5, regions))]
    settings = {"taxonomy": STREETS, **options}
    run("cityscapes", source_of(tmp_path, tasks), tmp_path / "out", **settings)
    return tmp_path / "out"


def read(out: Path, kind: str, core: str = "city_000003_000000") -> np.ndarray:
    with Image.open(out / FOLDER / f"{core}_gtFine_{kind}.png") as image:
        return np.asarray(image)


def redrawn(out: Path, core: str = "city_000003_000000") -> tuple[np.ndarray, np.ndarray]:
    """The label and instance images that cityscapesscripts draws of the polygons."""
    drawn = Annotation()
    drawn.fromJsonFile(str(out / FOLDER / f"{core}_gtFine_polygons.json"))
    labels, instances = createLabelImage(drawn, "ids"), createInstanceImage(drawn, "ids")
    return np.asarray(labels), np.asarray(instances)


def losses(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "dataset.json").read_text())["losses"]
    return {kind: count for kind, count in found.items() if count}


def test_every_hard_mask_is_exact_as_image_and_as_polygons(tmp_path: Path) -> None:
    run("cityscapes", hard_source(tmp_path), tmp_path / "out", taxonomy=STREETS)
    for number, (name, dense) in enumerate(ALL.items(), start=1):
        core = f"city_{number:06d}_000000"
        labels, instances = redrawn(tmp_path / "out", core)
        assert np.array_equal(read(tmp_path / "out", "labelIds", core), dense * 26), name
        assert np.array_equal(read(tmp_path / "out", "instanceIds", core), dense * 26000), name
        assert np.array_equal(labels, dense * 26), name
        assert np.array_equal(instances, dense * 26000), name
    assert losses(tmp_path / "out") == {}


def test_a_crowded_scene_is_the_same_in_images_polygons_and_scripts(tmp_path: Path) -> None:
    out = export(tmp_path, *crowded())
    labels, instances = redrawn(out)
    assert np.array_equal(labels, read(out, "labelIds"))
    assert np.array_equal(instances, read(out, "instanceIds"))
    assert set(np.unique(labels)) == {0, 7, 26}
    assert set(np.unique(instances)) == {0, 7, *range(26000, 26007)}
    assert losses(out)["void_px_as_unlabeled"] == 6 * 20
    path = out / FOLDER / "city_000003_000000_gtFine_instanceIds.png"
    (found,) = instances2dict([str(path)]).values()
    assert len(found["car"]) == 7 and len(found["road"]) == 1


def test_bridges_across_other_parted_objects_are_counted(tmp_path: Path) -> None:
    two = PARTS["two parts"]
    other = np.zeros_like(two)
    other[15:24, 12:30] = True
    other[44:46, 2:4] = True
    out = export(tmp_path, brush("a", "car", two), brush("b", "car", other))
    assert set(np.unique(read(out, "instanceIds"))) == {0, 26000, 26001}
    _, instances = redrawn(out)
    wrong = int(((instances != read(out, "instanceIds")) & (two | other)).sum())
    assert losses(out).get("polygon_px", 0) == wrong
    assert np.array_equal(instances != 0, two | other)


def test_colours_and_train_ids_follow_the_taxonomy(tmp_path: Path) -> None:
    out = export(tmp_path, *crowded(), options={"train_ids": "yes"})
    labels = read(out, "labelIds")
    color, train = read(out, "color"), read(out, "labelTrainIds")
    assert set(map(tuple, color[labels == 26])) == {(0, 0, 142)}
    assert set(map(tuple, color[labels == 0])) == {(0, 0, 0)}
    assert {(int(a), int(b)) for a, b in zip(labels.ravel(), train.ravel(), strict=True)} == {
        (0, 255), (7, 0), (26, 13),
    }  # fmt: skip


def test_crowds_are_groups(tmp_path: Path) -> None:
    shape = PARTS["two parts"]
    out = export(tmp_path, brush("a", "car", shape), answer("a", "iscrowd", "yes"))
    assert np.array_equal(read(out, "instanceIds"), shape * 26)
    content = json.loads((out / FOLDER / "city_000003_000000_gtFine_polygons.json").read_text())
    assert {one["label"] for one in content["objects"]} == {"cargroup"}
    assert content["objects"][0]["attributes"] == {"iscrowd": ["yes"]}
    assert np.array_equal(redrawn(out)[1], shape * 26)


def test_the_1001st_object_of_a_class_is_a_group_and_counted(tmp_path: Path) -> None:
    dots = [
        brush(str(n), "car", box(n // 40, n % 40, n // 40 + 1, n % 40 + 1, (26, 40)))
        for n in range(1002)
    ]
    out = export(tmp_path, *dots)
    instances = read(out, "instanceIds")
    assert instances.max() == 26999 and (instances == 26).sum() == 2
    assert losses(out) == {"instances_beyond_1000": 2}


def test_panoptic_images_can_be_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = export(tmp_path, *crowded())
    convert2panoptic(str(out / "gtFine"), str(tmp_path), setNames=["train"])
    capsys.readouterr()
    found = json.loads((tmp_path / "cityscapes_panoptic_train.json").read_text())
    (entry,) = found["annotations"]
    ids = panoptic_ids(tmp_path / "cityscapes_panoptic_train" / entry["file_name"])
    assert np.array_equal(ids, read(out, "instanceIds"))
    assert [one["category_id"] for one in entry["segments_info"]] == [7, *[26] * 7]


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (SegmentClass(65, "car"), "run from 1 to 255, those of things to 64"),
        (SegmentClass(256, "road", kind="stuff"), "has the id 256"),
        (SegmentClass(0, "road", kind="stuff"), "has the id 0"),
    ],
)
def test_ids_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, one: SegmentClass, sentence: str
) -> None:
    taxonomy = Taxonomy("t", (one,), void_id=999, unlabelled_id=1000)
    with pytest.raises(UsageError, match=sentence):
        export(tmp_path, taxonomy=taxonomy)
    assert not (tmp_path / "out").exists()


def test_cityscapes_own_names_are_kept_and_others_made(tmp_path: Path) -> None:
    images = ["/x/aachen_000000_000019_leftImg8bit.png", "/x/öl.jpg", "/y/öl.jpg"]
    tasks = [
        task(n, image, annotation(n, 5, []), city="Bad Tölz/../x")
        for n, image in enumerate(images, 1)
    ]
    source = source_of(tmp_path, tasks)
    settings: dict[str, Any] = {"taxonomy": STREETS, "size_of": lambda *_: (4, 6)}
    run("cityscapes", source, tmp_path / "own", **settings)
    files = [name for name in tree(tmp_path / "own") if name.endswith("labelIds.png")]
    assert files == [
        "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png",
        "gtFine/train/city/city_000002_000000_gtFine_labelIds.png",
        "gtFine/train/city/city_000003_000000_gtFine_labelIds.png",
    ]
    run("cityscapes", source, tmp_path / "field", options={"city": "{city}"}, **settings)
    files = [name for name in tree(tmp_path / "field") if name.endswith("labelIds.png")]
    assert files[0] == "gtFine/train/Bad-T-lz-x/Bad-T-lz-x_000001_000000_gtFine_labelIds.png"
    assert getCsFileInfo(files[0]).sequenceNb == "000001"


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    images = ["/x/a_000000_000019.png", "/x/a_000000_000019_leftImg8bit.png"]
    tasks = [task(n, image, annotation(n, 5, [])) for n, image in enumerate(images, 1)]
    with pytest.raises(SegstudioError, match="Tasks 1 and 2 would both be a_000000_000019"):
        run(
            "cityscapes", source_of(tmp_path, tasks), tmp_path / "out", taxonomy=STREETS,
            size_of=lambda *_: (4, 6),
        )  # fmt: skip
