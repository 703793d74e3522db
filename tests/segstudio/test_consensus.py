import numpy as np
import pytest

from segstudio.consensus import consensus_regions, majority
from segstudio.masks import Mask
from segstudio.region_values import mask_to_value
from segstudio.scene import build_scene
from segstudio.shapes import region_mask
from segstudio.tasks import Region
from segstudio.taxonomy import SegmentClass, Taxonomy

TAXONOMY = Taxonomy(
    name="test",
    classes=(
        SegmentClass(1, "car"),
        SegmentClass(2, "road", kind="stuff"),
        SegmentClass(3, "glare", ignore=True),
    ),
)
SIZE = (6, 12)


def region(label: str, x: int, width: int, number: int = 0) -> Region:
    dense = np.zeros(SIZE, bool)
    dense[1:5, x : x + width] = True
    return Region(
        id=f"{label}{number}",
        kind="brush",
        from_name="b",
        to_name="i",
        labels=(label,),
        value=mask_to_value(Mask.from_dense(dense), "brush"),
        original_width_px=SIZE[1],
        original_height_px=SIZE[0],
    )


def columns(regions: tuple[Region, ...]) -> list[tuple[str, list[int]]]:
    return [
        (one.labels[0], np.flatnonzero(region_mask(one).to_dense().any(axis=0)).tolist())
        for one in regions
    ]


@pytest.mark.parametrize(
    ("drawn", "agreed", "lost"),
    [
        ([], [], 0),
        ([[region("car", 0, 3)]], [("car", [0, 1, 2])], 0),
        ([[region("car", 0, 4)], [region("car", 1, 4)]], [("car", [1, 2, 3])], 0),
        ([[region("car", 0, 4)], []], [], 1),
        ([[region("car", 0, 4)], [region("car", 6, 4)]], [], 2),
        (
            [[region("car", 0, 4)], [region("car", 0, 4)], [region("car", 0, 6)]],
            [("car", [0, 1, 2, 3])],
            0,
        ),
        (
            [[region("road", 0, 6)], [region("road", 0, 2), region("road", 4, 2)], []],
            [("road", [0, 1, 4, 5])],
            0,
        ),
        ([[region("glare", 0, 2)], [region("glare", 1, 2)]], [("glare", [1])], 0),
        ([[region("car", 0, 4)], [region("road", 0, 4)]], [], 1),
    ],
)
def test_what_more_than_half_drew_is_kept(drawn, agreed, lost: int) -> None:
    found = consensus_regions(drawn, TAXONOMY, *SIZE)
    assert columns(found.regions) == agreed
    assert found.objects_without_majority == lost


def test_touching_objects_stay_two_objects() -> None:
    drawn = [[region("car", 0, 4, 1), region("car", 4, 4, 2)] for _ in range(3)]
    found = consensus_regions(drawn, TAXONOMY, *SIZE)
    scene = build_scene(found.regions, TAXONOMY, *SIZE)
    assert [segment.mask.bbox for segment in scene.segments] == [(0, 1, 4, 4), (4, 1, 4, 4)]


def test_one_annotators_two_objects_never_become_one() -> None:
    whole, left, right = region("car", 0, 8), region("car", 0, 6, 1), region("car", 2, 6, 2)
    found = consensus_regions([[whole], [left, right]], TAXONOMY, *SIZE)
    assert len(found.regions) == 1 and found.objects_without_majority == 1


def test_region_ids_stay_unique_whoever_drew_first() -> None:
    drawn = [[region("car", 0, 3, 1), region("car", 6, 3, 2)] for _ in range(2)]
    found = consensus_regions(drawn, TAXONOMY, *SIZE)
    assert [one.id for one in found.regions] == ["car1", "car2"]


def test_majority_agrees_with_counting_pixels() -> None:
    rng = np.random.default_rng(0)
    for voters in (2, 3, 4, 5):
        dense = rng.random((voters, 9, 11)) < 0.5
        mask = majority([Mask.from_dense(one) for one in dense], voters, 9, 11)
        assert np.array_equal(mask.to_dense(), dense.sum(axis=0) > voters / 2)
