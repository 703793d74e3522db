"""Scenes: who is on top, what is VOID, what is lost; the runs agree with painted pixels."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segstudio.scene import (
    OVERLAP_POLICIES,
    OverlapError,
    OverlapPolicy,
    build_scene,
    class_masks,
    void_mask,
)
from segstudio.shapes import region_mask
from segstudio.stacking import stack_runs
from segstudio.tasks import Region
from segstudio.taxonomy import SegmentClass, Taxonomy

HEIGHT, WIDTH = 4, 10
TAXONOMY = Taxonomy(
    "test",
    (
        SegmentClass(1, "road", "stuff"),
        SegmentClass(2, "car", "thing", aliases=("auto",)),
        SegmentClass(3, "tree", "stuff"),
        SegmentClass(9, "blur", "stuff", ignore=True),
    ),
    void_labels=("skip",),
)


def box(
    region_id: str,
    *labels: str,
    x: int = 0,
    y: int = 0,
    width: int = WIDTH,
    height: int = HEIGHT,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    **fields: Any,
) -> Region:
    """A rectangle in pixels."""
    value = {
        "x": 100 * x / size[1],
        "y": 100 * y / size[0],
        "width": 100 * width / size[1],
        "height": 100 * height / size[0],
        "rotation": 0,
    }
    return Region(
        **{  # type: ignore[arg-type]
            "id": region_id,
            "kind": "rectangle",
            "from_name": "box",
            "to_name": "image",
            "labels": labels,
            "value": value,
            "original_width_px": size[1],
            "original_height_px": size[0],
            **fields,
        }
    )


def scene_of(*regions: Region, policy: OverlapPolicy = "draw-order", **options: Any):
    return build_scene(regions, TAXONOMY, HEIGHT, WIDTH, policy, **options)


def losses_of(scene: Any) -> dict[str, int]:
    return {name: count for name, count in scene.losses.items() if count}


ROAD = box("road", "road", height=3)
CAR = box("car", "car", x=2, y=1, width=4, height=2)
TREE = box("tree", "tree", x=4, width=2)


@pytest.mark.parametrize(
    ("policy", "rows"),
    [
        (
            "draw-order",  # tree, car, road
            ["1111111111", "1111111111", "1111111111", "0000330000"],
        ),
        (
            "class-priority",  # tree above car above road
            ["1111331111", "1122331111", "1122331111", "0000330000"],
        ),
        (
            "smaller-on-top",  # car and tree have 8 pixels each: the one drawn later, the car
            ["1111331111", "1122221111", "1122221111", "0000330000"],
        ),
    ],
)
def test_the_policy_decides_who_is_on_top(policy: OverlapPolicy, rows: list[str]) -> None:
    scene = scene_of(TREE, CAR, ROAD, policy=policy)
    assert ["".join(map(str, row)) for row in scene.label_map()] == rows


def test_the_policy_error_names_both_regions() -> None:
    with pytest.raises(OverlapError, match=r"Region 'car' and region 'tree' overlap on 4 pixels"):
        scene_of(CAR, TREE, policy="error")
    apart = scene_of(CAR, box("c2", "car", x=8, width=2), policy="error")
    assert [segment.region_ids for segment in apart.segments] == [("car",), ("c2",)]
    # Two regions of one stuff class are one segment: nothing is lost where they overlap.
    together = scene_of(ROAD, box("r2", "road"), policy="error")
    assert [segment.region_ids for segment in together.segments] == [("road", "r2")]


def test_priorities_replace_the_taxonomys_order() -> None:
    scene = scene_of(CAR, TREE, policy="class-priority", priorities=["tree", "car"])
    assert scene.label_map()[1].tolist() == [0, 0, 2, 2, 2, 2, 0, 0, 0, 0]
    with pytest.raises(ValueError, match='"bus" is no class'):
        scene_of(CAR, policy="class-priority", priorities=["bus"])


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="no overlap policy"):
        scene_of(CAR, policy="random")  # type: ignore[arg-type]


def test_things_are_segments_each_and_stuff_is_one() -> None:
    scene = scene_of(
        box("r1", "road", width=2, attributes={"wet": ["yes"], "note": "a"}),
        box("c1", "car", x=3, width=2),
        box("c2", "auto", x=5, width=2),
        box("r2", "road", x=8, width=2, attributes={"note": "b"}),
    )
    assert [(one.id, one.class_id, one.region_ids) for one in scene.segments] == [
        (1, 1, ("r1", "r2")),
        (2, 2, ("c1",)),
        (3, 2, ("c2",)),
    ]
    assert scene.segments[0].attributes == {"wet": ["yes"], "note": "b"}
    assert scene.instance_map()[0].tolist() == [1, 1, 0, 2, 2, 3, 3, 0, 1, 1]
    assert scene.instance_map().dtype == np.int32


def test_void_and_unlabelled_are_kept_apart() -> None:
    taxonomy = Taxonomy(
        "ids", TAXONOMY.classes, void_id=200, unlabelled_id=100, void_labels=("skip",)
    )
    regions = [
        box("car", "car", width=6),
        box("b", "blur", x=4, width=2),
        box("s", "skip", x=6, width=2),
    ]
    scene = build_scene(regions, taxonomy, HEIGHT, WIDTH)
    assert scene.label_map()[0].tolist() == [2] * 4 + [200] * 4 + [100] * 2
    assert scene.instance_map()[0].tolist() == [1] * 4 + [0] * 6
    assert scene.void_mask.to_dense()[0].tolist() == [False] * 4 + [True] * 4 + [False] * 2
    assert scene.unlabelled_mask.to_dense()[0].tolist() == [False] * 8 + [True] * 2
    assert losses_of(scene) == {"overlapped_px": 2 * HEIGHT}


def test_what_covers_void_is_not_void() -> None:
    scene = scene_of(box("s", "skip"), box("c", "car", width=4))
    assert scene.label_map()[0].tolist() == [2] * 4 + [255] * 6


def test_a_scene_without_regions_is_unlabelled() -> None:
    scene = scene_of()
    assert scene.segments == ()
    assert not scene.label_map().any()
    assert scene.unlabelled_mask.area_px == HEIGHT * WIDTH
    assert losses_of(scene) == {}


def test_a_label_map_refuses_a_dtype_that_is_too_narrow() -> None:
    taxonomy = Taxonomy("wide", (SegmentClass(300, "car"),))
    scene = build_scene([box("c", "car")], taxonomy, HEIGHT, WIDTH)
    assert scene.label_map(np.uint16)[0, 0] == 300
    for dtype in (np.uint8, np.float32):
        with pytest.raises(ValueError, match="The id 300 does not fit"):
            scene.label_map(dtype)


def test_every_loss_is_counted_and_reported() -> None:
    scene = build_scene(
        [
            box("under", "car", width=2),
            box("c1", "car", width=4),
            box("empty", "car", width=0),
            box("unknown", "bus"),
            box("bare"),
            box("two", "tree", "car", x=8, width=1, height=1),
            box("same", "auto", "car", x=9, width=1, height=1),
            box("extra", "car", "bus", x=9, y=1, width=1, height=1),
            box("other", "car", size=(8, 20)),
            box("broken", "car", value={"x": "left"}),
            box("point", "car", kind="keypoint"),
        ],
        TAXONOMY,
        HEIGHT,
        WIDTH,
        task_id=5,
        annotation_id=6,
    )
    assert dict(scene.losses) == {
        "overlapped_px": 2 * HEIGHT,
        "hidden_regions": 1,
        "empty_regions": 1,
        "outside_taxonomy_regions": 2,
        "several_labels_regions": 1,
        "unreadable_regions": 2,
        "keypoint_regions": 1,
    }
    assert [(one.region_id, one.kind) for one in scene.problems] == [
        ("unknown", "unknown-label"),
        ("bare", "no-label"),
        ("two", "several-labels"),
        ("extra", "unknown-extra-label"),
        ("other", "other-size"),
        ("broken", "unreadable-region"),
    ]
    assert {(one.task_id, one.annotation_id) for one in scene.problems} == {(5, 6)}
    # Of several labels the first in the taxonomy's order, not in the region's.
    assert scene.label_map()[0, 8] == 2


def test_a_stuff_region_under_its_own_class_is_not_hidden() -> None:
    scene = scene_of(box("small", "road", width=2), box("large", "road"))
    assert losses_of(scene) == {}


def test_class_masks_are_unions_before_any_overlap() -> None:
    masks, problems = class_masks(
        [TREE, CAR, box("both", "road", "car", x=8, width=2), box("b", "blur"), box("x", "bus")],
        TAXONOMY,
        task_id=5,
    )
    assert list(masks) == ["road", "car", "tree"]
    assert {name: mask.area_px for name, mask in masks.items()} == {"road": 8, "car": 16, "tree": 8}
    assert [(one.kind, one.region_id, one.task_id) for one in problems] == [
        ("unknown-label", "x", 5)
    ]


def test_class_masks_of_nothing_and_of_mixed_sizes() -> None:
    assert class_masks([], TAXONOMY) == ({}, ())
    masks, problems = class_masks(
        [box("other", "car", size=(8, 20)), CAR, box("c2", "car", x=8, width=1)], TAXONOMY
    )
    assert masks["car"].area_px == 12
    assert [one.kind for one in problems] == ["other-size"]


def test_a_drawn_class_without_a_pixel_is_there() -> None:
    masks, _ = class_masks([box("e", "car", width=0)], TAXONOMY)
    assert masks["car"].is_empty


def test_void_mask_is_the_union_of_void_regions() -> None:
    regions = [box("b", "blur", width=2), box("s", "skip", x=1, width=2), CAR]
    assert void_mask(regions, TAXONOMY, HEIGHT, WIDTH).area_px == 3 * HEIGHT
    assert void_mask([], TAXONOMY, HEIGHT, WIDTH).is_empty


def paint(
    regions: Sequence[Region], policy: OverlapPolicy, ids: Mapping[str, int]
) -> tuple[NDArray[np.uint8], int]:
    """The slow way: dense masks, painted from bottom to top; also the pixels that were lost."""

    def key(at: int) -> tuple[int, int]:
        if policy == "class-priority":
            names = [one.name for one in TAXONOMY.classes]
            return (names.index(regions[at].labels[0]), at)
        if policy == "smaller-on-top":
            return (-int(region_mask(regions[at]).to_dense().sum()), at)
        return (0, at)

    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    owners = np.full((HEIGHT, WIDTH), -1)
    drawn: dict[int, NDArray[np.bool_]] = {}
    for at in sorted(range(len(regions)), key=key):
        label = regions[at].labels[0]
        owner = at if label == "car" else 1000 + ids[label]
        pixels = region_mask(regions[at]).to_dense()
        labels[pixels] = ids[label]
        owners[pixels] = owner
        drawn[owner] = drawn.get(owner, np.zeros_like(pixels)) | pixels
    lost = sum(int((pixels & (owners != owner)).sum()) for owner, pixels in drawn.items())
    return labels, lost


@pytest.mark.parametrize("seed", range(30))
def test_scenes_equal_painted_pixels(seed: int) -> None:
    rng = random.Random(seed)
    regions = [
        box(
            f"r{number}",
            rng.choice(["road", "car", "tree", "blur"]),
            x=rng.randrange(WIDTH),
            y=rng.randrange(HEIGHT),
            width=rng.randrange(1, WIDTH),
            height=rng.randrange(1, HEIGHT),
        )
        for number in range(rng.randrange(12))
    ]
    ids = {"road": 1, "car": 2, "tree": 3, "blur": 255}
    for policy in OVERLAP_POLICIES[:3]:
        scene = scene_of(*regions, policy=policy)
        labels, lost = paint(regions, policy, ids)
        assert scene.label_map().tolist() == labels.tolist()
        assert scene.losses["overlapped_px"] == lost
        for one in scene.segments:
            assert ((scene.instance_map() == one.id) == one.mask.to_dense()).all()
        present = {region_id for one in scene.segments for region_id in one.region_ids}
        assert present <= {region.id for region in regions}


def test_stacked_runs_are_disjoint_and_the_top_is_whole() -> None:
    assert stack_runs([]) == []
    rng = np.random.default_rng(3)
    layers = []
    for _ in range(40):
        bounds = np.unique(rng.integers(0, 2000, 60))
        layers.append(bounds[: len(bounds) // 2 * 2].reshape(-1, 2))
    layers.insert(7, np.zeros((0, 2), np.int64))
    canvas = np.full(2000, -1)
    for number, runs in enumerate(layers):
        for start, stop in runs:
            canvas[start:stop] = number
    for number, runs in enumerate(stack_runs(layers)):
        seen = np.zeros(2000, bool)
        for start, stop in runs:
            assert start < stop
            seen[start:stop] = True
        assert (seen == (canvas == number)).all()
        assert (runs[1:, 0] > runs[:-1, 1]).all()  # sorted, and never adjacent
    assert (stack_runs(layers)[-1] == layers[-1]).all()
