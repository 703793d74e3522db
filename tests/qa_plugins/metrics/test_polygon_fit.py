import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_plugins.metrics.polygon_fit import box_iou, polygon_iou, polygon_ious, thinning_order
from segstudio.masks import Mask
from segstudio.polygons import mask_polygons


def disc(radius_px: float) -> np.ndarray:
    rows, columns = np.mgrid[:140, :140]
    return (columns - 70) ** 2 + (rows - 70) ** 2 <= radius_px**2


def mask(dense: np.ndarray) -> Mask:
    return Mask.from_dense(dense)


@pytest.mark.parametrize(("vertices", "at_least"), [(4, 0.6), (8, 0.89), (20, 0.97), (40, 0.985)])
def test_a_disc_is_captured_by_a_regular_polygon(vertices: int, at_least: float) -> None:
    """The inscribed polygon of n corners covers n sin(2 pi / n) / 2 pi of the disc."""
    inscribed = vertices * np.sin(2 * np.pi / vertices) / (2 * np.pi)
    found = polygon_iou(mask(disc(60)), vertices)
    assert found >= at_least and found >= inscribed - 0.03


def test_a_hole_and_a_second_part_cost_what_they_cover() -> None:
    ring = disc(60) & ~disc(30)
    assert polygon_iou(mask(ring), 60) == pytest.approx(0.75, abs=0.02)
    two = np.zeros((40, 90), bool)
    two[5:35, 5:35] = two[5:35, 50:80] = True
    assert polygon_iou(mask(two), 4) == pytest.approx(0.5)


def test_boxes_and_triangles_are_exact() -> None:
    box = np.zeros((30, 30), bool)
    box[3:20, 5:11] = True
    assert polygon_iou(mask(box), 4) == 1.0 == box_iou(mask(box))
    triangle = np.tril(np.ones((64, 64), bool))
    assert polygon_iou(mask(triangle), 3) > 0.95
    assert box_iou(mask(triangle)) == pytest.approx(0.5, abs=0.01)


def test_a_comb_needs_its_teeth() -> None:
    comb = np.zeros((60, 120), bool)
    comb[:10] = True
    comb[:, ::6] = comb[:, 1::6] = comb[:, 2::6] = True
    few, many = polygon_ious(mask(comb), [20, 100])
    assert few < 0.8 < many


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 2**36 - 1))
def test_all_corners_give_the_outer_ring_of_the_largest_part(bits: int) -> None:
    dense = np.array([bits >> at & 1 for at in range(36)], bool).reshape(6, 6)
    part = max(mask(dense).components(4), key=lambda one: one.area_px)
    ring, holes = mask_polygons(part)[0]
    if not holes and part == mask(dense):
        assert polygon_iou(part, max(3, len(ring))) == 1.0
    assert sorted(thinning_order(ring).tolist()) == list(range(len(ring)))


def test_what_has_no_polygon_is_refused() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        polygon_iou(Mask.empty(4, 4), 4)
    with pytest.raises(ValueError, match="3 vertices or more"):
        polygon_iou(mask(np.ones((3, 3))), 2)
    with pytest.raises(ValueError, match="no box"):
        box_iou(Mask.empty(4, 4))
