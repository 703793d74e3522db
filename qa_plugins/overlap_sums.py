"""Sums of pixels and scores, of one class or one pair of annotators; halves of a batch merge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qa_plugins.metrics.instances import PanopticCounts
from qa_plugins.metrics.overlap import OverlapCounts, mean_without_none

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class OverlapSums:
    """Pixels and IoU values of one class, over any number of images and pairs."""

    intersection_px: int = 0
    area_sum_px: int = 0
    iou_sum: float = 0.0
    values: int = 0

    @property
    def union_px(self) -> int:
        """Pixels that either annotator of a pair drew."""
        return self.area_sum_px - self.intersection_px

    @property
    def accumulated(self) -> float | None:
        """IoU of the added counts."""
        return self.intersection_px / self.union_px if self.union_px else None

    @property
    def per_image(self) -> float | None:
        """Mean of the IoU values."""
        return self.iou_sum / self.values if self.values else None

    @property
    def dice(self) -> float | None:
        """Dice of the added counts."""
        return 2 * self.intersection_px / self.area_sum_px if self.area_sum_px else None

    def add(self, other: OverlapSums) -> None:
        """Add the sums of other images or pairs."""
        self.intersection_px += other.intersection_px
        self.area_sum_px += other.area_sum_px
        self.iou_sum += other.iou_sum
        self.values += other.values


@dataclass(slots=True)
class ClassSums:
    """All sums of one class. ``replicates`` (4, R): IoU sum, values, intersection and union."""

    replicates: FloatArray
    overlap: OverlapSums = field(default_factory=OverlapSums)
    boundary: OverlapSums = field(default_factory=OverlapSums)
    panoptic: PanopticCounts = field(default_factory=PanopticCounts)
    tasks: int = 0
    pixels: int = 0
    units: set[str] = field(default_factory=set)  # at most two: whether resampling says anything

    def note_units(self, units: Iterable[str]) -> None:
        """Remember resampling units until there are two."""
        for unit in units:
            if len(self.units) < 2:
                self.units.add(unit)

    def merge(self, other: ClassSums) -> None:
        """Add the sums of another part of the batch."""
        self.replicates += other.replicates
        self.overlap.add(other.overlap)
        self.boundary.add(other.boundary)
        self.panoptic += other.panoptic
        self.tasks += other.tasks
        self.pixels += other.pixels
        self.note_units(sorted(other.units))


@dataclass(slots=True)
class PairSums:
    """Sums of one pair of annotators, a class each."""

    tasks: int = 0
    classes: dict[str, OverlapSums] = field(default_factory=dict)

    def of(self, name: str) -> OverlapSums:
        """The sums of one class, made on first use."""
        return self.classes.setdefault(name, OverlapSums())

    def merge(self, other: PairSums) -> None:
        """Add another part."""
        self.tasks += other.tasks
        for name, sums in other.classes.items():
            self.of(name).add(sums)


def sums_at(overlap: OverlapCounts, iou: FloatArray, row: int, column: int) -> OverlapSums:
    """The sums of one pair (row) and class (column) of one image."""
    at = row, column
    return OverlapSums(
        int(overlap.intersection_px[at]),
        int(overlap.area_a_px[at] + overlap.area_b_px[at]),
        float(iou[at]),
        1,
    )


def mious(sums: PairSums) -> dict[str, float | None]:
    """Mean IoU over the classes that have one, accumulated and per image; null where none has."""
    return {
        "accumulated": mean_without_none(one.accumulated for one in sums.classes.values()),
        "per_image": mean_without_none(one.per_image for one in sums.classes.values()),
    }
