"""Three simulated annotators: one reference, and what each of them does differently, known exactly.

Pure functions; the figures that the agreement must come to are computed here from dense masks,
without any of the code that is being shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from demo.references import BoolImage, DrawnObject

ANNOTATOR_EMAILS = tuple(f"annotator-{number}@demo.localhost" for number in (1, 2, 3))

Objects = tuple[DrawnObject, ...]


@dataclass(frozen=True, slots=True)
class Deviation:
    """What an annotator does differently from the reference, in words and as a function."""

    words: str
    apply: Callable[[Objects], Objects]


def as_reference() -> Deviation:
    """Draws just what the reference has."""
    return Deviation("as the reference", lambda objects: objects)


def dilated(radius_px: int) -> Deviation:
    """Draws every object too large: all pixels within the radius of it."""

    def apply(objects: Objects) -> Objects:
        return tuple(DrawnObject(each.label, _dilate(each.mask, radius_px)) for each in objects)

    return Deviation(f"{radius_px} px too large", apply)


def shifted(dx_px: int) -> Deviation:
    """Draws every object too far to the right; what leaves the photo is lost."""

    def apply(objects: Objects) -> Objects:
        return tuple(DrawnObject(each.label, _shift_right(each.mask, dx_px)) for each in objects)

    return Deviation(f"{dx_px} px too far right", apply)


def missing_largest(count: int, label: str) -> Deviation:
    """Overlooks the largest objects of a label."""

    def apply(objects: Objects) -> Objects:
        of_label = [each for each in objects if each.label == label]
        overlooked = sorted(of_label, key=lambda each: -np.count_nonzero(each.mask))[:count]
        return tuple(each for each in objects if not any(each is gone for gone in overlooked))

    return Deviation(f"overlooks the {count} largest of {label}", apply)


def without(label: str) -> Deviation:
    """Draws no object of a label."""
    return Deviation(
        f"leaves out {label}",
        lambda objects: tuple(each for each in objects if each.label != label),
    )


def mislabelled(label: str, as_label: str) -> Deviation:
    """Gives every object of a label another one."""

    def apply(objects: Objects) -> Objects:
        return tuple(
            DrawnObject(as_label, each.mask) if each.label == label else each for each in objects
        )

    return Deviation(f"labels {label} as {as_label}", apply)


def both(first: Deviation, second: Deviation) -> Deviation:
    """One deviation after the other."""
    return Deviation(
        f"{first.words}, {second.words}", lambda objects: second.apply(first.apply(objects))
    )


DEVIATIONS: Mapping[str, tuple[Deviation, Deviation, Deviation]] = {
    "coins": (as_reference(), dilated(2), both(missing_largest(3, "Coin"), shifted(3))),
    "coffee": (as_reference(), dilated(2), shifted(3)),
    "camera": (as_reference(), dilated(2), mislabelled("Person", "Cup")),
    "rocket": (as_reference(), dilated(2), without("Sky")),
}
"""For each photo, what annotators 1, 2 and 3 do."""


@dataclass(frozen=True, slots=True)
class ExpectedOverlap:
    """What two annotators' masks of one class of one photo share, in pixels."""

    photo: str
    label: str
    first: int
    second: int
    intersection_px: int
    union_px: int

    @property
    def iou(self) -> float:
        """Intersection over union; there is always something in the union."""
        return self.intersection_px / self.union_px


def expected_overlaps(drawn: Mapping[str, Sequence[Objects]]) -> list[ExpectedOverlap]:
    """Counts each photo, pair of annotators (from 1) and class that either of them drew.

    Args:
        drawn: For each photo, what annotators 1, 2, ... drew.
    """
    found = []
    for photo, by_annotator in drawn.items():
        for first, second in combinations(range(len(by_annotator)), 2):
            labels = {each.label for each in (*by_annotator[first], *by_annotator[second])}
            for label in sorted(labels):
                a = _class_mask(by_annotator[first], label)
                b = _class_mask(by_annotator[second], label)
                counts = int(np.count_nonzero(a & b)), int(np.count_nonzero(a | b))
                if counts[1]:
                    found.append(ExpectedOverlap(photo, label, first + 1, second + 1, *counts))
    return found


def expected_class_means(overlaps: Iterable[ExpectedOverlap], photo: str) -> dict[str, float]:
    """The IoU of each class of a photo, averaged over the pairs in which somebody drew it."""
    ious: dict[str, list[float]] = {}
    for each in overlaps:
        if each.photo == photo:
            ious.setdefault(each.label, []).append(each.iou)
    return {label: sum(values) / len(values) for label, values in sorted(ious.items())}


def expected_pair_ious(
    overlaps: Iterable[ExpectedOverlap],
) -> dict[tuple[int, int, str], float]:
    """The IoU of each pair and class, accumulated over all photos."""
    sums: dict[tuple[int, int, str], tuple[int, int]] = {}
    for each in overlaps:
        key = (each.first, each.second, each.label)
        intersection_px, union_px = sums.get(key, (0, 0))
        sums[key] = (intersection_px + each.intersection_px, union_px + each.union_px)
    return {key: shared / union for key, (shared, union) in sums.items()}


def _class_mask(objects: Objects, label: str) -> BoolImage | np.bool_:
    """All objects of a label together; a plain False where there is none."""
    masks = [each.mask for each in objects if each.label == label]
    return np.logical_or.reduce(masks) if masks else np.bool_(False)


def _dilate(mask: BoolImage, radius_px: int) -> BoolImage:
    from scipy import ndimage

    dy, dx = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    disk = dx**2 + dy**2 <= radius_px**2
    return np.asarray(ndimage.binary_dilation(mask, structure=disk), dtype=bool)


def _shift_right(mask: BoolImage, dx_px: int) -> BoolImage:
    moved = np.zeros_like(mask)
    moved[:, dx_px:] = mask[:, : mask.shape[1] - dx_px]
    return moved
