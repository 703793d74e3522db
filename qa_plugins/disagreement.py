"""Boundary or blunder: what the pixels are on which two people disagree.

A pixel that one of a pair gave to a class and the other did not is counted once for that class, as
the first of these that fits:

- ``boundary``: within some pixels (chessboard distance) of the other's mask of the class;
- ``missed``: part of an object that has no counterpart, under any class;
- ``mislabelled``: the other gave the pixel another class;
- ``shape``: the rest, an object that both drew and one drew much larger.

All of a stuff class is one object of the image, so there ``mislabelled`` comes before ``missed``:
sky that the other called building is a matter of names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qa_plugins.drawing import Drawing
from segstudio.masks import Mask, intersection_area, union_all

KINDS: Final = ("boundary", "missed", "mislabelled", "shape")
DEFAULT_NEAR_PX: Final = 2
Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ImageDisagreement:
    """Disagreement of one image over all pairs; C classes, k annotators.

    ``pixels`` has shape (C, 4) in the order of `KINDS`; ``missed_objects`` (k, C) counts an
    annotator's objects once for each other annotator who has no counterpart.
    """

    pixels: Int64Array
    missed_objects: Int64Array


@dataclass(frozen=True, slots=True)
class LoneObject:
    """An object that has no counterpart in the other drawing of a pair.

    ``pair`` is the pair's place, ``person`` and ``item`` those of the annotator and the object.
    """

    pair: int
    person: int
    item: int


def split_disagreement(
    drawings: Sequence[Drawing],
    classes: Sequence[str],
    areas_px: Int64Array,
    intersections_px: Int64Array,
    lone: Sequence[LoneObject],
    stuff: frozenset[str],
    near_px: int = DEFAULT_NEAR_PX,
) -> ImageDisagreement:
    """Sort the pixels on which the drawings of one image differ by kind.

    Args:
        drawings: one an annotator.
        classes: C names of classes.
        areas_px: of each class, shape (annotators, C).
        intersections_px: of each class, shape (pairs, C), pairs as itertools.combinations has them.
        lone: objects without a counterpart.
        stuff: names of the classes whose regions are one object of the image.
        near_px: how far from the other's mask a pixel still belongs to the boundary.
    """
    pixels = np.zeros((len(classes), len(KINDS)), dtype=np.int64)
    missed_objects = np.zeros((len(drawings), len(classes)), dtype=np.int64)
    columns = {name: column for column, name in enumerate(classes)}
    alone: dict[tuple[int, int, str], list[Mask]] = {}
    for one in lone:
        thing = drawings[one.person].objects[one.item]
        alone.setdefault((one.pair, one.person, thing.class_name), []).append(thing.mask)
        missed_objects[one.person, columns[thing.class_name]] += 1
    covered: dict[int, Mask] = {}
    drawn = [
        {name for name, mask in one.class_masks.items() if not mask.is_empty} for one in drawings
    ]
    for pair, people in enumerate(combinations(range(len(drawings)), 2)):
        for person, other in (people, people[::-1]):
            for column, name in enumerate(classes):
                different_px = int(areas_px[person, column] - intersections_px[pair, column])
                if not different_px:
                    continue
                mine = far = drawings[person].class_masks[name]
                theirs = drawings[other].class_masks.get(name)
                if theirs is not None and not theirs.is_empty:
                    far = mine.farther_than(near_px, theirs)
                pixels[column, 0] += different_px - far.area_px
                if far.is_empty:
                    continue
                lonely = alone.get((pair, person, name), ())
                if drawn[other] <= {name}:  # nothing of the other's lies where `far` does
                    missed_px = _shared_px(far, lonely)
                    pixels[column, 1] += missed_px
                    pixels[column, 3] += far.area_px - missed_px
                    continue
                if other not in covered:
                    covered[other] = _covered(drawings[other], far)
                pixels[column, 1:] += _split_far(far, covered[other], lonely, name in stuff)
    return ImageDisagreement(pixels, missed_objects)


def _split_far(
    far: Mask, covered: Mask, alone: Sequence[Mask], is_stuff: bool
) -> tuple[int, int, int]:
    """Pixels missed, mislabelled and of the shape, where nothing of the class is near."""
    if not alone:
        mislabelled = intersection_area(far, covered)
        return 0, mislabelled, far.area_px - mislabelled
    lonely = far & union_all(alone, far.height_px, far.width_px)
    if is_stuff:
        mislabelled = intersection_area(far, covered)
        missed = (lonely - covered).area_px
        return missed, mislabelled, far.area_px - missed - mislabelled
    rest = far - lonely
    mislabelled = intersection_area(rest, covered)
    return lonely.area_px, mislabelled, rest.area_px - mislabelled


def _shared_px(mask: Mask, others: Sequence[Mask]) -> int:
    if not others:
        return 0
    return intersection_area(mask, union_all(others, mask.height_px, mask.width_px))


def _covered(drawing: Drawing, like: Mask) -> Mask:
    return union_all(drawing.class_masks.values(), like.height_px, like.width_px)


@dataclass(slots=True)
class DisagreementSums:
    """Disagreement of one class, or of all, over any number of images.

    ``rework_s`` is the time to draw the missed objects: each takes the equal share that an object
    has of the lead time of the annotation that holds it, divided by the number of other annotators,
    so that an object that several others lack is not paid for several times.
    ``untimed_objects`` are those of annotations without a lead time.
    """

    pixels: Int64Array = field(default_factory=lambda: np.zeros(len(KINDS), dtype=np.int64))
    missed_objects: int = 0
    rework_s: float = 0.0
    untimed_objects: int = 0

    def merge(self, other: DisagreementSums) -> None:
        """Add the sums of another part."""
        self.pixels += other.pixels
        self.missed_objects += other.missed_objects
        self.rework_s += other.rework_s
        self.untimed_objects += other.untimed_objects

    def as_json(self) -> dict[str, Any]:
        """The shares of each kind, null where there is no disagreement at all."""
        total = int(self.pixels.sum())
        shares = {
            kind: int(px) / total if total else None
            for kind, px in zip(KINDS, self.pixels, strict=True)
        }
        is_timed = self.missed_objects > self.untimed_objects or not self.missed_objects
        return {
            "pixels": total,
            **shares,
            "missed_objects": self.missed_objects,
            "untimed_objects": self.untimed_objects,
            "rework_s": self.rework_s if is_timed else None,
        }


def add_image(
    sums: dict[str, DisagreementSums],
    classes: Sequence[str],
    image: ImageDisagreement,
    seconds_per_object: Sequence[float | None],
) -> None:
    """Add one image; ``seconds_per_object`` has an entry an annotator, None where unknown."""
    others = max(1, len(seconds_per_object) - 1)
    for column, name in enumerate(classes):
        of_class = sums.setdefault(name, DisagreementSums())
        of_class.pixels += image.pixels[column]
        for count, seconds in zip(image.missed_objects[:, column], seconds_per_object, strict=True):
            of_class.missed_objects += int(count)
            if seconds is None:
                of_class.untimed_objects += int(count)
            else:
                of_class.rework_s += int(count) * seconds / others


def sentence(entry: Mapping[str, Any], near_px: int) -> str:
    """What a class's disagreement is made of, the largest part first; "" where there is none.

    >>> sentence({"pixels": 100, "boundary": 0.91, "missed": 0.09, "mislabelled": 0.0, "shape": 0.0,
    ...           "rework_s": 10800.0, "untimed_objects": 0}, 2)
    '91% within 2 px of the outline: a rule to write; 9% missed objects: rework, about 3 h by lead \
time'
    """
    if not entry["pixels"]:
        return ""
    words = {
        "boundary": f"within {near_px} px of the outline: a rule to write",
        "missed": f"missed objects: rework{_time(entry)}",
        "mislabelled": "under another class: names to settle",
        "shape": "farther off in objects that both drew: shapes to correct",
    }
    shares = sorted(KINDS, key=lambda kind: -entry[kind])
    parts = [f"{entry[kind]:.0%} {words[kind]}" for kind in shares if entry[kind] >= 0.005]
    return "; ".join(parts)


def _time(entry: Mapping[str, Any]) -> str:
    seconds = entry["rework_s"]
    if seconds is None:
        return " (no lead time is known)"
    if seconds >= 5400:
        amount = f"{seconds / 3600:.2g} h"
    elif seconds >= 90:
        amount = f"{seconds / 60:.0f} min"
    else:
        amount = f"{seconds:.0f} s"
    at_least = "at least " if entry["untimed_objects"] else "about "
    return f", {at_least}{amount} by lead time"
