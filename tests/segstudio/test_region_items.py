"""Regions written as Label Studio's JSON and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segstudio.label_config import parse_label_config
from segstudio.masks import Mask
from segstudio.region_items import RegionItemsError, region_items
from segstudio.regions import Region
from segstudio.result_lists import parse_result
from segstudio.shapes import mask_to_value, region_mask
from segstudio.tasks import parse_task

# Every geometry control once with labels of its own and once plain.
CONFIG = parse_label_config("""<View><Image name="image" value="$image"/>
<Image name="pages" valueList="$pages"/>
<BrushLabels name="brush" toName="image,pages"><Label value="Car"/><Label value="Van"/>
</BrushLabels>
<BitmaskLabels name="bitmask" toName="image"><Label value="Car"/></BitmaskLabels>
<PolygonLabels name="polygon" toName="image"><Label value="Car"/></PolygonLabels>
<RectangleLabels name="rectangle" toName="image"><Label value="Car"/></RectangleLabels>
<EllipseLabels name="ellipse" toName="image"><Label value="Car"/></EllipseLabels>
<KeyPointLabels name="keypoint" toName="image"><Label value="Car"/></KeyPointLabels>
<Brush name="plain_brush" toName="image"/><Bitmask name="plain_bitmask" toName="image"/>
<Polygon name="plain_polygon" toName="image"/><Rectangle name="plain_rectangle" toName="image"/>
<Ellipse name="plain_ellipse" toName="image"/><KeyPoint name="plain_keypoint" toName="image"/>
<Labels name="what" toName="image"><Label value="Car"/><View><Label value="Bus">
<Label value="Tram"/></Label></View></Labels>
<Labels name="state" toName="image"><Label value="parked"/></Labels>
<Choices name="truncated" toName="image" perRegion="true"><Choice value="yes"/></Choices>
<TextArea name="plate" toName="image" perRegion="true"/>
<Number name="wheels" toName="image" perRegion="true"/>
<DateTime name="seen" toName="image" perRegion="true"/>
<Rating name="quality" toName="image" perRegion="true"/>
<Taxonomy name="tree" toName="image" perRegion="true"><Choice value="Vehicle"/></Taxonomy>
</View>""")

Y, X = np.mgrid[:60, :80]
MASK = Mask.from_dense(((X - 40) / 25) ** 2 + ((Y - 28) / 14) ** 2 < 1)
KINDS = ("brush", "bitmask", "polygon", "rectangle", "ellipse", "keypoint")


def drawn(kind: Any, name: str | None = None, **more: Any) -> Region:
    value = (
        {"x": 50.0, "y": 50.0, "width": 1.0} if kind == "keypoint" else mask_to_value(MASK, kind)
    )
    if "rle" in value:  # a region that was read holds its stream as bytes
        value = {**value, "rle": bytes(value["rle"])}
    return replace(
        Region("r1", kind, name or kind, "image", ("Car",), value, 80, 60),
        **more,
    )


def written(*regions: Region) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(json.dumps(region_items(regions, CONFIG)))
    return items


def without_labels(region: Region) -> Region:
    value = {key: one for key, one in region.value.items() if not key.endswith("labels")}
    return replace(region, value=value)


def read_quietly(items: list[dict[str, Any]]) -> list[Region]:
    return [without_labels(region) for region in parse_result(items).regions]


def read(items: list[dict[str, Any]]) -> list[Region]:
    parsed = parse_result(items)
    assert parsed.problems == ()
    assert parsed.answers == {}
    return [without_labels(region) for region in parsed.regions]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_written_for_its_labels_control_and_for_the_plain_pair(kind: str) -> None:
    own = drawn(kind)
    [item] = written(own)
    assert (item["type"], item["value"][f"{kind}labels"]) == (f"{kind}labels", ["Car"])
    assert read([item]) == [own]
    plain = drawn(kind, f"plain_{kind}")
    shape, label = written(plain)
    assert (shape["type"], label["type"], label["from_name"]) == (kind, "labels", "what")
    assert read([shape, label]) == [plain]
    bare = drawn(kind, f"plain_{kind}", labels=())
    assert [one["type"] for one in written(bare)] == [kind]
    assert read(written(bare)) == [bare]


@pytest.mark.parametrize(
    ("kind", "least_iou"),
    [("brush", 1), ("bitmask", 1), ("polygon", 1), ("ellipse", 0.99), ("rectangle", 0.7)],
)
def test_a_mask_comes_back_as_exactly_as_its_kind_can_hold(kind: Any, least_iou: float) -> None:
    [region] = read(written(drawn(kind)))
    mask = region_mask(region)
    assert (mask & MASK).area_px / (mask | MASK).area_px >= least_iou


def test_everything_about_a_region_comes_back() -> None:
    region = drawn(
        "brush",
        to_name="pages",
        labels=("Van", "Car"),
        item_index=3,
        image_rotation_deg=90,
        score=0.25,
        origin="prediction-changed",
        parent_id="p1",
        attributes={
            "note": "left\nside",
            "truncated": ["yes"],
            "plate": ["AB 12"],
            "wheels": 3,
            "seen": "2026-11-20",
            "quality": 4,
            "tree": [["Vehicle", "Car"]],
        },
    )
    assert read(written(region)) == [region]
    prompt = drawn("keypoint", is_positive=False)
    assert parse_result(written(prompt)).regions[0].is_positive is False


def test_labels_of_several_controls_and_nested_labels_go_where_they_are_offered() -> None:
    region = drawn("polygon", "plain_polygon", labels=("Tram", "parked"))
    items = written(region)
    assert [(one["from_name"], one["value"].get("labels")) for one in items] == [
        ("plain_polygon", None),
        ("what", ["Tram"]),
        ("state", ["parked"]),
    ]
    assert read(items) == [region]
    mixed = drawn("rectangle", labels=("Car", "Bus"))
    assert [one["from_name"] for one in written(mixed)] == ["rectangle", "what"]
    assert read(written(mixed)) == [mixed]


def test_a_control_named_note_keeps_the_note_apart() -> None:
    config = parse_label_config(
        '<View><Image name="image" value="$i"/><Brush name="brush" toName="image"/>'
        '<TextArea name="note" toName="image" perRegion="true"/></View>'
    )
    region = drawn("brush", labels=(), attributes={"note": ["asked"], "meta.note": "mine"})
    items = region_items([region], config)
    assert [without_labels(one) for one in parse_result(items).regions] == [region]


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        (drawn("brush", "gone"), "control 'gone', which the labelling interface does not have"),
        (drawn("brush", "polygon"), "is a brush of the control 'polygon'"),
        (drawn("brush", labels=("Ship",)), "label 'Ship', which no control"),
        (drawn("brush", attributes={"speed": 3}), "answer of 'speed'"),
        (drawn("brush", attributes={"what": 3}), "answer of 'what'"),
    ],
)
def test_what_the_interface_has_no_place_for_is_refused(region: Region, sentence: str) -> None:
    with pytest.raises(RegionItemsError, match=sentence):
        region_items([region], CONFIG)


def test_no_regions_are_no_items() -> None:
    assert region_items([], CONFIG) == []


def test_a_real_project_s_regions_are_written_as_they_were(fixtures_dir: Path) -> None:
    folder = fixtures_dir / "label_studio"
    config = parse_label_config((folder / "label-config.xml").read_text(encoding="utf-8"))
    raw = json.loads((folder / "project-all-region-types.json").read_text(encoding="utf-8"))
    compared = 0
    for task, raw_task in zip(map(parse_task, raw), raw, strict=True):
        for annotation, raw_annotation in zip(
            task.annotations, raw_task["annotations"], strict=True
        ):
            items = region_items(annotation.regions, config)
            assert read_quietly(items) == [without_labels(one) for one in annotation.regions]
            for item, original in zip(items, raw_annotation["result"], strict=True):
                # The editor repeats a prompt's label under "labels"; once is enough.
                value = {k: v for k, v in original["value"].items() if k != "labels"}
                assert (item["id"], item["type"], item["value"]) == (
                    original["id"], original["type"], value,
                )  # fmt: skip
                compared += 1
    assert compared == 17
