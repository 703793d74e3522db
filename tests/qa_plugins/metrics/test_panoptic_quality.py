"""Panoptic quality from drawings to figures, against two other computations.

Expected values of the literal scenes were computed with panopticapi's ``pq_compute`` (PQ, SQ, RQ by
class), pixels without a class being segments of a class of their own there, since panopticapi would
take them for VOID. The package is in no index, so its figures stand here instead of the package.
Random scenes are compared with the formula of Kirillov et al. (CVPR 2019), written densely.
"""

from __future__ import annotations

import numpy as np
import pytest

from qa_plugins.drawing import Drawing, DrawnObject
from qa_plugins.metrics.instances import PanopticCounts
from qa_plugins.object_conflicts import compare_objects
from segstudio.images import ImageKey
from segstudio.masks import Mask, union_all

CLASSES = ("car", "dog", "road", "sky")
STUFF = ("road", "sky")
CLASS_OF = {"A": "car", "B": "car", "C": "car", "D": "dog", "r": "road", "s": "sky"}
Rows = tuple[str, ...]
Segments = list[tuple[str, np.ndarray]]


def segments_of(rows: Rows) -> Segments:
    """The segments of a scene in letters; one letter is one segment."""
    letters = np.array([list(row) for row in rows])
    return [(name, letters == one) for one, name in CLASS_OF.items() if (letters == one).any()]


def drawing_of(segments: Segments) -> Drawing:
    objects = [
        DrawnObject(name, Mask.from_dense(dense), (f"r{place}",))
        for place, (name, dense) in enumerate(segments)
    ]
    names = dict.fromkeys(one.class_name for one in objects)
    masks = {
        name: union_all([one.mask for one in objects if one.class_name == name], *shape)
        for name in names
        for shape in [segments[0][1].shape]
    }
    return Drawing(masks, tuple(objects))


def counts_of(first: Segments, second: Segments) -> dict[str, PanopticCounts]:
    drawings = drawing_of(first), drawing_of(second)
    found = compare_objects(ImageKey("image", 0), (1, 2), drawings, CLASSES)
    return {
        name: PanopticCounts(*(int(one) for one in found.counts[0, at]), float(found.ious[0, at]))
        for at, name in enumerate(CLASSES)
    }


def scores(counts: PanopticCounts) -> tuple[float | None, float | None, float | None]:
    return counts.panoptic_quality, counts.segmentation_quality, counts.f1


SCENES: list[tuple[Rows, Rows, dict[str, tuple[float, float | None, float]]]] = [
    (
        ("AAA..BBB", "AAA..BBB", "AAA.....", "........"),
        ("AAA..BBB", "AAAA.BB.", "AAA.....", ".....CC."),
        {"car": (0.6933333333333334, 0.8666666666666667, 0.8)},
    ),
    (("AAAA....", "AAAA...."), ("AAAAAAAA", "AAAAAAAA"), {"car": (0.0, None, 0.0)}),
    (("AAAA....", "AAAAA..."), ("AAAAAAAA", "AAAAAAAA"), {"car": (0.5625, 0.5625, 1.0)}),
    (("AAAA", "AAAA"), ("DDDD", "DDDD"), {"car": (0.0, None, 0.0), "dog": (0.0, None, 0.0)}),
    (
        ("AAAAAAAA", "AAAAAAAA"),
        ("AAAAABBB", "AAAAABBB"),
        {"car": (0.4166666666666667, 0.625, 0.6666666666666666)},
    ),
    (
        ("rr....rr", "rr....rr"),
        ("rr....rr", "rrr....."),
        {"road": (0.6666666666666666, 0.6666666666666666, 1.0)},
    ),
    (
        ("ssssssss", "sAAssBBs", "rAArrBBr", "rrrrrrrr"),
        ("ssssssss", "sAAAsBss", "rAArrBrr", "rrrrrDDr"),
        {
            "car": (0.4, 0.8, 0.5),
            "road": (0.7692307692307693, 0.7692307692307693, 1.0),
            "sky": (0.8461538461538461, 0.8461538461538461, 1.0),
            "dog": (0.0, None, 0.0),
        },
    ),
    (("....", "...."), ("....", "...."), {}),
    (("....", "...."), ("AA..", "...."), {"car": (0.0, None, 0.0)}),
    (("A",), ("A",), {"car": (1.0, 1.0, 1.0)}),
]
OF_ALL_SCENES = {
    "car": (0.4720833333333333, 0.7868055555555555, 0.6),
    "road": (0.717948717948718, 0.717948717948718, 1.0),
    "sky": (0.8461538461538461, 0.8461538461538461, 1.0),
    "dog": (0.0, None, 0.0),
}
NO_SCORE = (None, None, None)


@pytest.mark.parametrize(("first", "second", "expected"), SCENES)
def test_a_scene_has_the_scores_of_panopticapi(
    first: Rows, second: Rows, expected: dict[str, tuple[float, float | None, float]]
) -> None:
    for one, other in ((first, second), (second, first)):  # two people, and no truth
        counts = counts_of(segments_of(one), segments_of(other))
        for name in CLASSES:
            assert scores(counts[name]) == pytest.approx(expected.get(name, NO_SCORE), abs=1e-6)


def test_several_images_have_the_scores_of_panopticapi() -> None:
    together = dict.fromkeys(CLASSES, PanopticCounts())
    for first, second, _ in SCENES:
        for name, counts in counts_of(segments_of(first), segments_of(second)).items():
            together[name] += counts
    for name in CLASSES:
        assert scores(together[name]) == pytest.approx(OF_ALL_SCENES[name], abs=1e-6)


def by_the_formula(
    first: Segments, second: Segments, name: str
) -> tuple[float | None, float | None, float | None]:
    """PQ, SQ and RQ of one class; no match above 0.5 can have a rival, so none is looked for."""
    mine = [dense for of_class, dense in first if of_class == name]
    others = [dense for of_class, dense in second if of_class == name]
    ious = [
        (one & other).sum() / (one | other).sum()
        for one in mine
        for other in others
        if (one & other).sum() / (one | other).sum() > 0.5
    ]
    half = (len(mine) - len(ious) + len(others) - len(ious)) / 2
    if not len(ious) + half:
        return NO_SCORE
    quality = sum(ious) / len(ious) if ious else None
    return sum(ious) / (len(ious) + half), quality, len(ious) / (len(ious) + half)


def random_segments(random: np.random.Generator, owner: np.ndarray, names: list[str]) -> Segments:
    """Disjoint segments of a map of owners; all of a stuff class are one."""
    dense: dict[object, tuple[str, np.ndarray]] = {}
    for place, name in enumerate(names):
        key = name if name in STUFF else place
        mask = owner == place
        dense[key] = name, (dense[key][1] | mask if key in dense else mask)
    return [(name, mask) for name, mask in dense.values() if mask.any()]


@pytest.mark.parametrize("seed", range(12))
def test_random_scenes_have_the_scores_of_the_formula(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 24, 2)
    names = [CLASSES[one] for one in random.integers(0, 4, random.integers(1, 8))]
    owner = np.full((height, width), -1)
    for place in range(len(names)):
        top, left = random.integers(0, height), random.integers(0, width)
        owner[top : top + random.integers(1, 12), left : left + random.integers(1, 12)] = place
    moved = np.roll(owner, random.integers(0, 3), axis=int(random.integers(0, 2)))
    renamed = [CLASSES[random.integers(0, 4)] if random.random() < 0.2 else one for one in names]
    first = random_segments(random, owner, names)
    second = random_segments(random, moved, renamed)
    counts = counts_of(first, second)
    for name in CLASSES:
        expected = by_the_formula(first, second, name)
        assert scores(counts[name]) == pytest.approx(expected, abs=1e-6)
