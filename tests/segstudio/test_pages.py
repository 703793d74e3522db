"""Several Image tags and lists of pages, from an export file to the pixels of each picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segstudio.images import AnnotatedImage, annotated_images
from segstudio.label_config import parse_label_config
from segstudio.masks import Mask
from segstudio.region_items import region_items
from segstudio.result_lists import parse_result
from segstudio.scene import build_scene
from segstudio.shapes import mask_to_value
from segstudio.source import open_source
from segstudio.taxonomy import derive_taxonomy

CONFIG = """<View>
<Image name="front" value="$front"/><Image name="scan" valueList="$pages"/>
<BrushLabels name="brush" toName="front,scan"><Label value="Car"/><Label value="Road"/>
</BrushLabels>
<PolygonLabels name="poly" toName="scan"><Label value="Road"/></PolygonLabels>
<Choices name="blurred" toName="scan" perItem="true"><Choice value="yes"/></Choices></View>"""


def drawn(kind: Any, label: str, to_name: str, rows: list[str], page: int | None) -> dict[str, Any]:
    mask = Mask.from_dense([[one == "#" for one in row] for row in rows])
    item = {
        "id": f"{to_name}-{page}-{label}", "type": f"{kind}labels", "to_name": to_name,
        "from_name": "brush" if kind == "brush" else "poly",
        "original_width": mask.width_px, "original_height": mask.height_px, "image_rotation": 0,
        "value": mask_to_value(mask, kind, [label]),
    }  # fmt: skip
    return item if page is None else {**item, "item_index": page}


FRONT = ["##..", "##..", "...."]
PAGE_0 = ["#....", "....#"]
PAGE_2 = ["..#", ".##", "###", "..."]
ROAD_2 = ["...", "###", "###", "###"]


@pytest.fixture
def pictures(tmp_path: Path) -> dict[tuple[str, int], AnnotatedImage]:
    """The pictures of one task: a front view, and a scan of three pages, the second empty."""
    result = [
        drawn("brush", "Car", "front", FRONT, None),
        drawn("polygon", "Road", "scan", ROAD_2, 2),
        drawn("brush", "Car", "scan", PAGE_2, 2),
        drawn("brush", "Road", "scan", PAGE_0, 0),
        {"id": "c", "type": "choices", "from_name": "blurred", "to_name": "scan",
         "item_index": 1, "value": {"choices": ["yes"]}},
    ]  # fmt: skip
    task = {
        "id": 5,
        "data": {"front": "/data/upload/1/front.png", "pages": ["a/p.png", "b/p.png", "c/p.png"]},
        "annotations": [{"id": 9, "completed_by": 3, "result": result}],
    }
    (tmp_path / "x.json").write_text(json.dumps([task]))
    (tmp_path / "x.label-config.xml").write_text(CONFIG)
    source = open_source(str(tmp_path / "x.json"))
    [parsed] = source.tasks()
    assert parsed.all_problems == ()
    [annotation] = parsed.annotations
    assert annotation.answers == {"blurred[1]": ["yes"]}
    images, problems = annotated_images(
        parsed, annotation, source.label_config, size_of=lambda reference: (2, 2)
    )
    assert problems == ()
    again = parse_result(
        json.loads(json.dumps(region_items(annotation.regions, source.label_config)))
    )
    assert again.regions == annotation.regions
    return {image.key: image for image in images}


def test_each_picture_has_its_own_pixels(
    pictures: dict[tuple[str, int], AnnotatedImage],
) -> None:
    taxonomy = derive_taxonomy(parse_label_config(CONFIG))
    maps = {}
    for key, image in pictures.items():
        scene = build_scene(image.regions, taxonomy, image.height_px, image.width_px)
        maps[key] = ["".join(".CR"[pixel] for pixel in row) for row in scene.label_map()]
    assert maps == {
        ("front", 0): ["CC..", "CC..", "...."],
        ("scan", 0): ["R....", "....R"],
        ("scan", 1): ["..", ".."],
        ("scan", 2): ["..C", "RCC", "CCC", "RRR"],
    }


def test_each_picture_has_its_own_file(pictures: dict[tuple[str, int], AnnotatedImage]) -> None:
    assert {key: (image.reference, image.file_stem) for key, image in pictures.items()} == {
        ("front", 0): ("/data/upload/1/front.png", "front-task5-front"),
        ("scan", 0): ("a/p.png", "p-task5-scan-0"),
        ("scan", 1): ("b/p.png", "p-task5-scan-1"),
        ("scan", 2): ("c/p.png", "p-task5-scan-2"),
    }
