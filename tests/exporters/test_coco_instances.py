"""COCO instances, read by pycocotools."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from segstudio.errors import UsageError
from tests.exporters.hard_cases import ALL, ONE_PART, answer, crowded, hard_source
from tests.exporters.projects import annotation, box, brush, run, source_of, task, tree
from tests.exporters.test_coco_panoptic import fixture_source, oracle_mask


def load(out: Path, split: str = "train") -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(out / "annotations" / f"instances_{split}.json"))


def objects(coco: COCO, image_id: int) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Each annotation of an image with its mask; box and area must be the mask's own."""
    found = []
    for one in coco.loadAnns(coco.getAnnIds(imgIds=[image_id])):
        mask = coco.annToMask(one).astype(bool)
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert one["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
        assert one["area"] == mask.sum()
        found.append((one, mask))
    return found


def export(tmp_path: Path, *regions: dict[str, Any], **options: Any) -> Path:
    tasks = [task(3, "/data/upload/1/photo.jpg", annotation(1, 5, regions))]
    run("coco-instances", source_of(tmp_path, tasks), tmp_path / "out", **options)
    return tmp_path / "out"


def losses(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "dataset.json").read_text())["losses"]
    return {kind: count for kind, count in found.items() if count}


def test_ids_are_integers_and_categories_are_the_taxonomys(tmp_path: Path) -> None:
    out = export(tmp_path, *crowded())
    content = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert [(one["id"], one["name"]) for one in content["categories"]] == [(1, "car"), (7, "road")]
    assert content["images"][0] == {
        "id": 3, "file_name": "photo.jpg", "height": 48, "width": 64, "task_id": 3,
        "coco_url": "/data/upload/1/photo.jpg",
    }  # fmt: skip
    assert [one["id"] for one in content["annotations"]] == list(range(1, 9))
    assert {one["image_id"] for one in content["annotations"]} == {3}


@pytest.mark.parametrize("segmentation", ["rle", "polygons-where-exact"])
def test_every_hard_mask_comes_back_pixel_for_pixel(tmp_path: Path, segmentation: str) -> None:
    options = {"segmentation": segmentation}
    run("coco-instances", hard_source(tmp_path), tmp_path / "out", options=options)
    coco = load(tmp_path / "out")
    for image_id, (name, dense) in enumerate(ALL.items(), start=1):
        ((_, mask),) = objects(coco, image_id)
        assert np.array_equal(mask, dense), name


def test_polygons_are_written_where_pycocotools_draws_them_exactly(tmp_path: Path) -> None:
    options = {"segmentation": "polygons-where-exact"}
    run("coco-instances", hard_source(tmp_path), tmp_path / "out", options=options)
    coco = load(tmp_path / "out")
    kinds = {
        name: type(coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))[0]["segmentation"])
        for image_id, name in enumerate(ALL, start=1)
    }
    assert kinds["box"] is list and kinds["turned"] is list and kinds["two parts"] is list
    assert kinds["hole"] is dict and kinds["parts and holes"] is dict


def test_objects_keep_what_others_overlap(tmp_path: Path) -> None:
    out = export(tmp_path, *crowded())
    drawn = {region["id"]: region for region in crowded()}
    found = objects(load(out), 3)
    left = next(mask for one, mask in found if one["bbox"] == [4, 10, 16, 20])
    assert np.array_equal(left, box(10, 4, 30, 20, (48, 64))) and "left" in drawn
    assert losses(out) == {"void_px_not_held": 6 * 20}


def test_visible_masks_share_no_pixel_and_the_loss_is_counted(tmp_path: Path) -> None:
    out = export(tmp_path, *crowded(), options={"masks": "visible"})
    total = sum(mask.astype(int) for _, mask in objects(load(out), 3))
    assert total.max() == 1
    assert losses(out)["overlapped_px"] > 0


def test_stuff_is_one_object_or_left_out_and_counted(tmp_path: Path) -> None:
    out = export(tmp_path / "a", *crowded())
    assert sum(one["category_id"] == 7 for one, _ in objects(load(out), 3)) == 1
    out = export(tmp_path / "b", *crowded(), options={"stuff": "exclude"})
    assert {one["category_id"] for one, _ in objects(load(out), 3)} == {1}
    assert losses(out)["stuff_left_out"] == 1


def test_crowds_are_rle_and_answers_are_carried(tmp_path: Path) -> None:
    shape = box(2, 2, 9, 9, (48, 64))
    out = export(
        tmp_path,
        brush("a", "car", shape), answer("a", "iscrowd", "yes"), brush("b", "car", shape),
        options={"segmentation": "polygons-where-exact"},
    )  # fmt: skip
    (crowd, _), (other, _) = objects(load(out), 3)
    assert crowd["iscrowd"] == 1 and crowd["attributes"] == {"iscrowd": ["yes"]}
    assert isinstance(crowd["segmentation"]["counts"], str)
    assert other["iscrowd"] == 0 and "attributes" not in other
    assert isinstance(other["segmentation"], list)


def test_images_without_regions_are_kept(tmp_path: Path) -> None:
    out = export(tmp_path, size_of=lambda *_: (6, 9))
    coco = load(out)
    assert coco.imgs[3]["height"] == 6 and coco.anns == {}


def test_each_split_has_its_own_file_and_ids_stay_apart(tmp_path: Path) -> None:
    shape = box(0, 0, 2, 2)
    tasks = [
        task(n, f"/{subset}/1.jpg", annotation(n, 5, [brush("a", "car", shape)]), subset=subset)
        for n, subset in ((1, "train"), (2, "val"), (3, "train"))
    ]
    out = tmp_path / "out"
    source = source_of(tmp_path, tasks)
    run("coco-instances", source, out, options={"split": "{subset}"})
    train, val = load(out, "train"), load(out, "val")
    assert sorted(train.imgs) == [1, 3] and sorted(val.imgs) == [2]
    assert not set(train.anns) & set(val.anns)
    assert len({one["file_name"] for one in [*train.imgs.values(), *val.imgs.values()]}) == 3
    run("coco-instances", source, out)
    assert [path.name for path in (out / "annotations").iterdir()] == ["instances_train.json"]


def test_an_unknown_option_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'segmentation'"):
        export(tmp_path, options={"segmentations": "rle"})
    assert not (tmp_path / "out").exists()


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    source = hard_source(tmp_path, ONE_PART)
    run("coco-instances", source, tmp_path / "one")
    run("coco-instances", source, tmp_path / "two", workers=2)
    one, two = (tree(tmp_path / name / "annotations") for name in ("one", "two"))
    assert one == two


def test_every_region_kind_of_a_real_project_is_pixel_exact(
    fixtures_dir: Path, tmp_path: Path
) -> None:
    source, raw = fixture_source(fixtures_dir)
    run("coco-instances", source, tmp_path / "out", taxonomy=None, annotations="all")
    compared = 0
    for raw_task in raw:
        for drawn in raw_task["annotations"]:
            if drawn["was_cancelled"]:
                continue
            coco = load(tmp_path / "out" / f"annotator-{drawn['completed_by']}")
            found = objects(coco, raw_task["id"])
            shapes = [one for one in drawn["result"] if one["type"] != "keypointlabels"]
            for shape, (_, mask) in zip(shapes, found, strict=True):
                assert np.array_equal(mask, oracle_mask(shape)), shape["id"]
                compared += 1
    assert compared >= 12
