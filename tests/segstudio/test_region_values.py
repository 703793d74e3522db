"""Masks to Label Studio values and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from segstudio.masks import Mask
from segstudio.regions import Region
from segstudio.result_lists import parse_result
from segstudio.shapes import brush_value, mask_to_value, polygon_values, region_mask

images = st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(lambda s: arrays(np.bool_, s))


def item(kind: str, value: dict[str, Any], mask: Mask) -> dict[str, Any]:
    return {
        "id": "r1",
        "type": f"{kind}labels",
        "from_name": "tag",
        "to_name": "image",
        "original_width": mask.width_px,
        "original_height": mask.height_px,
        "image_rotation": 0,
        "value": value,
    }


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon"])
@settings(deadline=None, max_examples=50)
@given(image=images)
def test_masks_survive_the_json_of_a_region(kind: Any, image: NDArray[np.bool_]) -> None:
    mask = Mask.from_dense(image)
    if mask.is_empty:
        return
    value = json.loads(json.dumps(mask_to_value(mask, kind, ["Car"])))
    parsed = parse_result([item(kind, value, mask)])
    assert parsed.problems == ()
    [region] = parsed.regions
    assert (region.kind, region.labels) == (kind, ("Car",))
    assert region_mask(region) == mask


def test_a_rectangle_is_the_box_around_the_mask() -> None:
    mask = Mask.from_dense(np.eye(7, 9, 2))
    value = mask_to_value(mask, "rectangle")
    region = Region("r", "rectangle", "t", "i", (), value, 9, 7)
    assert region_mask(region).bbox == mask.bbox
    assert region_mask(region).area_px == 49


def test_polygons_of_the_parts_leave_out_the_holes() -> None:
    image = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0]])
    mask = Mask.from_dense(image)
    values = polygon_values(mask, ["Car"])
    assert [value["polygonlabels"] for value in values] == [["Car"], ["Car"]]
    areas = [
        region_mask(Region("r", "polygon", "t", "i", (), value, 5, 3)).area_px for value in values
    ]
    assert areas == [9, 2]
    assert polygon_values(Mask.empty(2, 2)) == []


def test_a_tolerance_makes_polygons_shorter() -> None:
    y, x = np.mgrid[:80, :80]
    mask = Mask.from_dense(np.hypot(x - 40, y - 40) < 30)
    exact, simple = mask_to_value(mask, "polygon"), mask_to_value(mask, "polygon", tolerance_px=1)
    assert len(simple["points"]) < len(exact["points"]) / 4


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon", "rectangle", "ellipse"])
def test_an_empty_mask_is_no_region(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"empty mask cannot be a {kind}"):
        mask_to_value(Mask.empty(4, 4), kind)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="not 'cuboid'"):
        mask_to_value(Mask.full(1, 1), "cuboid")  # type: ignore[arg-type]


def test_brush_values_have_the_editor_s_keys() -> None:
    value = brush_value(Mask.full(1, 1), ["Car"])
    assert value == {
        "format": "rle",
        "rle": [0, 0, 0, 4, 57, 27, 252, 127, 224],
        "brushlabels": ["Car"],
    }
