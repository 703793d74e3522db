"""Two raters on the slices of one volume, compared class by class in millimetres.

Where the slices that both annotated lie at even distances without a gap, surfaces are measured in
3-D; else slice by slice in 2-D, and the figures are means over the slices. Dice counts the voxels
of all slices either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qa_plugins.metrics.overlap import mean_without_none
from qa_plugins.metrics.surface_distance import (
    SurfaceDistances,
    hausdorff_mm,
    mean_distance_mm,
    surface_dice,
    surface_distances,
    surface_of,
)
from segstudio.dicom_geometry import DicomSlice
from segstudio.dicom_volumes import SliceVolume
from segstudio.masks import Mask, intersection_area, union_all

ClassMasks = Mapping[str, Mask]


@dataclass(frozen=True, slots=True)
class RatedSlice:
    """One slice and what each rater drew on it: a mask a class, none where nothing was drawn."""

    task_id: int
    dicom: DicomSlice
    drawn: Mapping[int, ClassMasks]


@dataclass(frozen=True, slots=True)
class RatedVolume:
    """The slices of a volume in the order of their places along the normal."""

    volume: SliceVolume
    slices: tuple[RatedSlice, ...]

    @property
    def rater_ids(self) -> list[int]:
        """Everybody who annotated a slice, in order of the ids."""
        return sorted({rater for one in self.slices for rater in one.drawn})

    def slice_volume_ml(self) -> float | None:
        """What one pixel of one slice holds, in ml; None where distances are uneven or unknown."""
        grid = self.volume.grid()
        if grid is None:
            return None
        step = abs(float(self.volume.slices[0].normal() @ grid.affine_lps[:3, 2]))
        return grid.spacing_mm[0] * grid.spacing_mm[1] * step / 1000


@dataclass(frozen=True, slots=True)
class ClassComparison:
    """One class of one volume, as two raters drew it.

    Distances and surface Dice are None where either drew nothing, or where no spacing is known.
    Volumes are over the slices that both annotated.
    """

    class_name: str
    intersection_px: int
    area_first_px: int
    area_second_px: int
    hd95_mm: float | None
    surface_dice: float | None
    mean_distance_mm: float | None
    volume_first_ml: float | None
    volume_second_ml: float | None

    @property
    def dice(self) -> float:
        """Twice the intersection over the sum; somebody drew the class, so there is a sum."""
        return 2 * self.intersection_px / (self.area_first_px + self.area_second_px)

    @property
    def only_one_drew(self) -> bool:
        """Say whether one of the two drew nothing of the class."""
        return not (self.area_first_px and self.area_second_px)


@dataclass(frozen=True, slots=True)
class PairComparison:
    """Two raters on one volume; `dimension` says how surfaces were measured."""

    first: int
    second: int
    slices: tuple[RatedSlice, ...]
    dimension: Literal[2, 3]
    classes: tuple[ClassComparison, ...]


def compare_pair(
    rated: RatedVolume, first: int, second: int, tolerance_mm: Mapping[str, float]
) -> PairComparison | None:
    """Compare two raters on the slices that both annotated; None where there is no such slice.

    Args:
        rated: the volume.
        first: a rater's id.
        second: another's.
        tolerance_mm: of the surface Dice, by class.
    """
    common = tuple(one for one in rated.slices if first in one.drawn and second in one.drawn)
    if not common:
        return None
    spacing = _volume_spacing_mm(rated, common)
    pixel_ml = rated.slice_volume_ml()
    names = sorted({name for one in common for who in (first, second) for name in one.drawn[who]})
    classes = []
    for name in names:
        masks = [_masks(common, who, name) for who in (first, second)]
        areas = [sum(mask.area_px for mask in found) for found in masks]
        if not any(areas):
            continue
        both = sum(intersection_area(a, b) for a, b in zip(*masks, strict=True))
        tolerance = tolerance_mm[name]
        if spacing is not None:
            found = [_in_volume(masks, spacing)] if all(areas) else []
        else:
            found = _in_slices(common, masks)
        classes.append(
            ClassComparison(
                class_name=name,
                intersection_px=both,
                area_first_px=areas[0],
                area_second_px=areas[1],
                hd95_mm=mean_without_none(map(hausdorff_mm, found)),
                surface_dice=mean_without_none(surface_dice(one, tolerance) for one in found),
                mean_distance_mm=mean_without_none(map(mean_distance_mm, found)),
                volume_first_ml=None if pixel_ml is None else areas[0] * pixel_ml,
                volume_second_ml=None if pixel_ml is None else areas[1] * pixel_ml,
            )
        )
    return PairComparison(first, second, common, 2 if spacing is None else 3, tuple(classes))


def slice_dice(one: RatedSlice, first: int, second: int, name: str) -> float | None:
    """Return the Dice of one class on one slice; None where neither drew it."""
    a, b = (_masks((one,), who, name)[0] for who in (first, second))
    total = a.area_px + b.area_px
    return 2 * intersection_area(a, b) / total if total else None


def slice_hd95_mm(one: RatedSlice, first: int, second: int, name: str) -> float | None:
    """Return the HD95 of one class on one slice; None where either drew nothing of it."""
    found = _in_slices((one,), [_masks((one,), who, name) for who in (first, second)])
    return hausdorff_mm(found[0]) if found else None


def volume_ml(rated: RatedVolume, rater: int, name: str) -> float | None:
    """Return the volume of a class over all slices that a rater annotated, in ml."""
    pixel_ml = rated.slice_volume_ml()
    if pixel_ml is None:
        return None
    drawn = [one.drawn[rater] for one in rated.slices if rater in one.drawn]
    return pixel_ml * sum(masks[name].area_px for masks in drawn if name in masks)


def as_json(one: ClassComparison) -> dict[str, Any]:
    """Return a class's figures as the report lists them."""
    difference = None
    if one.volume_first_ml is not None and one.volume_second_ml is not None:
        difference = one.volume_first_ml - one.volume_second_ml
    return {
        "name": one.class_name,
        "dice": one.dice,
        "hd95_mm": one.hd95_mm,
        "surface_dice": one.surface_dice,
        "mean_distance_mm": one.mean_distance_mm,
        "volume_first_ml": one.volume_first_ml,
        "volume_second_ml": one.volume_second_ml,
        "volume_difference_ml": difference,
        "only_one_drew": one.only_one_drew,
    }


def _volume_spacing_mm(
    rated: RatedVolume, common: Sequence[RatedSlice]
) -> tuple[float, float, float] | None:
    """Return (slice, row, column) spacing where the common slices are one even block."""
    grid = rated.volume.grid()
    if grid is None or grid.is_sheared or len(common) < 2:
        return None
    slot_of = {id(one): slot for one, slot in zip(rated.slices, grid.slots, strict=True)}
    slots = [slot_of[id(one)] for one in common]
    if any(after - before != 1 for before, after in pairwise(slots)):
        return None
    column_mm, row_mm, step_mm = grid.spacing_mm
    return step_mm, row_mm, column_mm


def _masks(slices: Sequence[RatedSlice], rater: int, name: str) -> list[Mask]:
    return [
        one.drawn[rater].get(name) or Mask.empty(one.dicom.rows, one.dicom.columns)
        for one in slices
    ]


def _in_volume(
    masks: Sequence[Sequence[Mask]], spacing_mm: tuple[float, float, float]
) -> SurfaceDistances | None:
    dense = _dense([mask for found in masks for mask in found])
    half = len(dense) // 2
    return surface_distances(
        surface_of(dense[:half], spacing_mm), surface_of(dense[half:], spacing_mm)
    )


def _in_slices(
    slices: Sequence[RatedSlice], masks: Sequence[Sequence[Mask]]
) -> list[SurfaceDistances | None]:
    """Return the distances on each slice on which both drew and the spacing is known."""
    found = []
    for one, a, b in zip(slices, *masks, strict=True):
        spacing = one.dicom.pixel_spacing_mm
        if spacing is None or a.is_empty or b.is_empty:
            continue
        dense = _dense([a, b])
        found.append(
            surface_distances(surface_of(dense[0], spacing), surface_of(dense[1], spacing))
        )
    return found


def _dense(masks: Sequence[Mask]) -> NDArray[np.bool_]:
    """Return the masks as one array, cut to the box that holds them all."""
    left, top, width, height = union_all(masks, masks[0].height_px, masks[0].width_px).bbox
    return np.stack([mask.to_dense()[top : top + height, left : left + width] for mask in masks])
