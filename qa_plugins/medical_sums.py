"""Sums of the check ``medical``: from single volumes to organs and the batch."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from qa_plugins.medical_volumes import (
    PairComparison,
    RatedVolume,
    as_json,
    compare_pair,
    slice_dice,
    slice_hd95_mm,
    volume_ml,
)
from qa_plugins.metrics.overlap import mean_without_none
from qa_plugins.metrics.volume_agreement import limits_of_agreement
from segstudio.dicom_geometry import DicomSlice

GOLD_ID: Final = -2
"""Stands for the gold among the raters; people's ids start at 1, a model's is -1."""

_WORST_SLICES: Final = 30  # of a class
_LOWEST_OF_A_CLASS: Final = 3


@dataclass(frozen=True, slots=True)
class _Compared:
    """One class of one volume and pair, with its volumes."""

    first: int
    second: int
    tasks: tuple[int, ...]
    figures: Mapping[str, Any]


@dataclass(slots=True)
class MedicalSums:
    """Adds up volumes, one after the other; `tolerance_mm` is by class."""

    against: str
    tolerance_mm: Mapping[str, float]
    series: list[dict[str, Any]] = field(default_factory=list)
    by_class: dict[str, list[_Compared]] = field(default_factory=dict)
    tasks: int = 0
    without_dicom: int = 0
    without_spacing: int = 0
    compared: set[int] = field(default_factory=set)
    worst: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def count(self, dicom: DicomSlice | None) -> None:
        """Count a task, whether it can be measured or not."""
        self.tasks += 1
        self.without_dicom += dicom is None
        self.without_spacing += dicom is not None and dicom.pixel_spacing_mm is None

    def add(self, rated: RatedVolume, pairs: Sequence[tuple[int, int]]) -> None:
        """Compare the pairs on a volume and keep the figures."""
        grid = rated.volume.grid()
        entry: dict[str, Any] = {
            "name": rated.volume.name,
            "slices": len(rated.slices),
            "spacing_mm": None if grid is None else list(grid.spacing_mm),
            "missing_slices": None if grid is None else len(grid.missing),
            "annotators": [_annotator(rated, rater) for rater in rated.rater_ids],
            "pairs": [],
        }
        for first, second in pairs:
            found = compare_pair(rated, first, second, self.tolerance_mm)
            if found is None:
                continue
            entry["pairs"].append(
                {
                    "first": first,
                    "second": second,
                    "slices": len(found.slices),
                    "dimension": found.dimension,
                    "classes": [as_json(one) for one in found.classes],
                }
            )
            tasks = tuple(one.task_id for one in found.slices)
            self.compared.update(tasks)
            for one in found.classes:
                compared = _Compared(first, second, tasks, as_json(one))
                self.by_class.setdefault(one.class_name, []).append(compared)
            self._keep_worst(rated, found)
        self.series.append(entry)

    def as_json(self) -> dict[str, Any]:
        """Return the summary, without problems."""
        classes = [
            _class_json(name, found, self.tolerance_mm[name])
            for name, found in sorted(self.by_class.items())
        ]
        return {
            "against": self.against,
            "tasks": self.tasks,
            "tasks_without_dicom": self.without_dicom,
            "tasks_without_spacing": self.without_spacing,
            "batch": {
                "compared_tasks": len(self.compared),
                "volumes": sum(bool(one["pairs"]) for one in self.series),
                **{
                    key: mean_without_none(one[key] for one in classes)
                    for key in ("dice", "hd95_mm", "surface_dice")
                },
            },
            "classes": classes,
            "series": sorted(self.series, key=lambda one: str(one["name"])),
            "worst_slices": sorted(
                (one for found in self.worst.values() for one in found), key=_worst_first
            ),
        }

    def _keep_worst(self, rated: RatedVolume, pair: PairComparison) -> None:
        """Keep the slices of the lowest Dice, a few of each class and volume."""
        who = pair.first, pair.second
        for name in (compared.class_name for compared in pair.classes):
            dice_of = {
                one.task_id: dice
                for one in pair.slices
                if (dice := slice_dice(one, *who, name)) is not None and dice < 1
            }
            lowest = heapq.nsmallest(_LOWEST_OF_A_CLASS, dice_of, key=lambda key: dice_of[key])
            for one in pair.slices:
                if one.task_id in lowest:
                    found = {
                        "task": one.task_id,
                        "volume": rated.volume.name,
                        "slice": one.dicom.slice,
                        "class": name,
                        "first": pair.first,
                        "second": pair.second,
                        "dice": dice_of[one.task_id],
                        "hd95_mm": slice_hd95_mm(one, *who, name),
                    }
                    self.worst.setdefault(name, []).append(found)
            self.worst.get(name, []).sort(key=_worst_first)
            del self.worst.get(name, [])[_WORST_SLICES:]


def _worst_first(one: Mapping[str, Any]) -> tuple[float, int, str, int, int]:
    return one["dice"], one["task"], one["class"], one["first"], one["second"]


def _annotator(rated: RatedVolume, rater: int) -> dict[str, Any]:
    names = sorted({name for one in rated.slices for name in one.drawn.get(rater, {})})
    return {
        "id": rater,
        "slices": sum(rater in one.drawn for one in rated.slices),
        "volumes_ml": {name: volume_ml(rated, rater, name) for name in names},
    }


def _class_json(name: str, found: Sequence[_Compared], tolerance_mm: float) -> dict[str, Any]:
    by_pair: dict[tuple[int, int], list[_Compared]] = {}
    for one in found:
        by_pair.setdefault((one.first, one.second), []).append(one)
    distances = [one.figures["hd95_mm"] for one in found if one.figures["hd95_mm"] is not None]
    differences = [one.figures["volume_difference_ml"] for one in found]
    return {
        "name": name,
        "comparisons": len(found),
        "tasks": len({task for one in found for task in one.tasks}),
        "tolerance_mm": tolerance_mm,
        "only_one_drew": sum(one.figures["only_one_drew"] for one in found),
        "dice": mean_without_none(one.figures["dice"] for one in found),
        "lowest_dice": min(one.figures["dice"] for one in found),
        "hd95_mm": mean_without_none(distances),
        "largest_hd95_mm": max(distances, default=None),
        "surface_dice": mean_without_none(one.figures["surface_dice"] for one in found),
        "mean_distance_mm": mean_without_none(one.figures["mean_distance_mm"] for one in found),
        "mean_volume_difference_ml": mean_without_none(
            None if one is None else abs(one) for one in differences
        ),
        "volume_agreement": [
            _agreement(pair, members) for pair, members in sorted(by_pair.items())
        ],
    }


def _agreement(pair: tuple[int, int], members: Sequence[_Compared]) -> dict[str, Any]:
    known = [one.figures for one in members if one.figures["volume_difference_ml"] is not None]
    first = [one["volume_first_ml"] for one in known]
    second = [one["volume_second_ml"] for one in known]
    limits = limits_of_agreement(first, second)
    return {
        "first": pair[0],
        "second": pair[1],
        "mean_volume_ml": mean_without_none([*first, *second]),
        "limits_ml": None if limits is None else asdict(limits),
    }
