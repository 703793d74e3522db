"""What one task says about agreement: counts that add up, small enough to send to a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qa_plugins.anchoring import ImageAnchoring
from qa_plugins.disagreement import ImageDisagreement
from qa_plugins.metrics.overlap import OverlapCounts, mean_of_known
from qa_plugins.supercategories import ImageSupercategories
from segstudio.tasks import Problem

Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ImageMeasurement:
    """Counts of one image; C classes that somebody drew, k annotators, P pairs of them.

    Pairs come in the order of itertools.combinations over ``annotators``, which are sorted.
    ``panoptic_counts`` holds true positives, objects of the first only, of the second only.
    ``unlabelled_px`` are the pixels that neither of a pair labelled, over all pairs.
    ``disagreement`` is None where it was not asked for, ``anchoring`` also where no pair shares a
    pre-label.
    """

    to_name: str
    item_index: int
    annotators: tuple[int, ...]
    classes: tuple[str, ...]
    areas_px: Int64Array  # (k, C)
    intersections_px: Int64Array  # (P, C)
    boundary_areas_px: Int64Array  # (k, C)
    boundary_intersections_px: Int64Array  # (P, C)
    confusion_px: Int64Array  # (C + 1, C + 1), the last index is "unlabelled"
    panoptic_counts: Int64Array  # (P, C, 3)
    panoptic_iou: FloatArray  # (P, C)
    conflicts: tuple[dict[str, Any], ...] = ()
    disagreement: ImageDisagreement | None = None
    anchoring: ImageAnchoring | None = None
    unlabelled_px: int = 0
    supercategories: ImageSupercategories | None = None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Annotator ids of each pair."""
        return list(combinations(self.annotators, 2))

    @property
    def overlap(self) -> OverlapCounts:
        """Counts of each pair and class, shape (P, C)."""
        return self._counts(self.intersections_px, self.areas_px)

    @property
    def boundary_overlap(self) -> OverlapCounts:
        """The same of the bands along the outlines."""
        return self._counts(self.boundary_intersections_px, self.boundary_areas_px)

    @property
    def supercategory_overlap(self) -> tuple[tuple[str, ...], OverlapCounts] | None:
        """Names of the supercategories and the counts of each pair and supercategory."""
        found = self.supercategories
        if found is None:
            return None
        return found.names, self._counts(found.intersections_px, found.areas_px)

    def _counts(self, intersections_px: Int64Array, areas_px: Int64Array) -> OverlapCounts:
        first, second = _pair_positions(len(self.annotators))
        return OverlapCounts(intersections_px, areas_px[first], areas_px[second])


@dataclass(frozen=True, slots=True, eq=False)
class TaskMeasurement:
    """Counts of one task, with who was left out and what could not be read.

    ``compared`` are the annotators that were compared, ``seen`` all who submitted something.
    ``unit`` is what the bootstrap resamples: the task, or the clip that it belongs to. ``entry`` is
    the task as ``qa.json`` lists it, ``subsets`` the positions of the subsets that it belongs to.
    ``seconds_per_object`` has an entry for each of ``compared``, None where no lead time is known,
    ``assisted`` says of each whether a model had a part in the annotation, None of a model.
    """

    task_id: int
    compared: tuple[int, ...]
    seen: tuple[int, ...]
    images: tuple[ImageMeasurement, ...]
    kept_out: dict[str, int]
    problems: tuple[Problem, ...]
    unit: str
    entry: dict[str, Any]
    subsets: tuple[int, ...] = ()
    seconds_per_object: tuple[float | None, ...] = ()
    assisted: tuple[bool | None, ...] = ()


def task_entry(
    task_id: int, image_name: str, compared: Sequence[int], images: Sequence[ImageMeasurement]
) -> dict[str, Any]:
    """One entry of ``tasks``: each class is the mean over the task's images and pairs.

    Classes that nobody drew are absent, and ``miou`` is null when there is none.
    """
    iou = _class_means(images, [image.overlap.iou() for image in images])
    dice = _class_means(images, [image.overlap.dice() for image in images])
    return {
        "id": task_id,
        "image": image_name,
        "miou": _mean(iou),
        "mdice": _mean(dice),
        "worst_class": min(iou, key=lambda name: (iou[name], name)) if iou else None,
        "classes": iou,
        "classes_dice": dice,
        "annotators": list(compared),
        "pairs": sum(len(image.pairs) for image in images),
        "conflicts": [conflict for image in images for conflict in image.conflicts],
    }


def _class_means(
    images: Sequence[ImageMeasurement], values: Sequence[FloatArray]
) -> dict[str, float]:
    found: dict[str, list[FloatArray]] = {}
    for image, of_image in zip(images, values, strict=True):
        for column, name in enumerate(image.classes):
            found.setdefault(name, []).append(of_image[:, column])
    means = {name: mean_of_known(np.concatenate(parts)) for name, parts in found.items()}
    return {name: mean for name, mean in sorted(means.items()) if mean is not None}


def _mean(values: dict[str, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None


@cache
def _pair_positions(annotators: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of the first and of the second annotator of each pair."""
    first, second = np.triu_indices(annotators, 1)
    return first, second
