"""The objects of one image, compared pair by pair: counts of PQ and F1, and typed conflicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qa_plugins.disagreement import LoneObject
from qa_plugins.drawing import Drawing
from qa_plugins.metrics.instances import Conflict, match_instances, pairwise_iou, panoptic_counts
from qa_plugins.metrics.part_conflicts import name_parts
from qa_plugins.metrics.run_join import join_pairs, labelled_runs
from segstudio.images import ImageKey


@dataclass(frozen=True, slots=True, eq=False)
class ObjectComparison:
    """What `compare_objects` found; C classes, P pairs.

    ``counts`` (P, C, 3): true positives, objects of the first only, of the second only; ``ious``
    (P, C): their IoU sums; ``conflicts`` as ``qa.json`` lists them; ``lone`` objects without a
    counterpart.
    """

    counts: NDArray[np.int64]
    ious: NDArray[np.float64]
    conflicts: tuple[dict[str, Any], ...]
    lone: tuple[LoneObject, ...]


def compare_objects(
    key: ImageKey, annotators: Sequence[int], drawings: Sequence[Drawing], classes: Sequence[str]
) -> ObjectComparison:
    """Match the objects of every pair of drawings of one image, one drawing an annotator."""
    pairs = list(combinations(range(len(annotators)), 2))
    counts = np.zeros((len(pairs), len(classes), 3), dtype=np.int64)
    ious = np.zeros((len(pairs), len(classes)))
    conflicts: list[dict[str, Any]] = []
    lone: list[LoneObject] = []
    column = {name: index for index, name in enumerate(classes)}
    lists = [labelled_runs([one.mask.runs for one in drawing.objects]) for drawing in drawings]
    kinds = [
        np.array([column[one.class_name] for one in drawing.objects], dtype=np.int64)
        for drawing in drawings
    ]
    shared, _, _ = join_pairs(lists)
    image = {"to_name": key.to_name, "item_index": key.item_index}
    for row, (i, j) in enumerate(pairs):
        areas_a, areas_b = lists[i].areas_px, lists[j].areas_px
        own = np.ascontiguousarray(shared[row, : len(areas_a), : len(areas_b)])
        iou = pairwise_iou(own, areas_a, areas_b)
        for index, one in enumerate(panoptic_counts(iou, kinds[i], kinds[j], len(classes))):
            counts[row, index] = one.true_positives, one.only_a, one.only_b
            ious[row, index] = one.iou_sum
        people = annotators[i], annotators[j]
        matched = match_instances(iou, kinds[i], kinds[j])
        for conflict in name_parts(matched, own, areas_a, areas_b, kinds[i], kinds[j]):
            if conflict.kind == "missing" and conflict.a is not None:
                lone.append(LoneObject(row, i, conflict.a))
            elif conflict.kind == "extra" and conflict.b is not None:
                lone.append(LoneObject(row, j, conflict.b))
            conflicts.append(_conflict_json(conflict, people, drawings[i], drawings[j], image))
    return ObjectComparison(counts, ious, tuple(conflicts), tuple(lone))


def _conflict_json(
    conflict: Conflict,
    people: tuple[int, int],
    first: Drawing,
    second: Drawing,
    image: dict[str, Any],
) -> dict[str, Any]:
    class_a, regions_a = _named(
        first, conflict.a, conflict.parts if conflict.kind == "merged" else ()
    )
    class_b, regions_b = _named(
        second, conflict.b, conflict.parts if conflict.kind == "split" else ()
    )
    return {
        "type": conflict.kind,
        "a": people[0],
        "b": people[1],
        "class_a": class_a,
        "class_b": class_b,
        "regions_a": regions_a,
        "regions_b": regions_b,
        "iou": conflict.iou,
        "image": image,
    }


def _named(
    drawing: Drawing, item: int | None, parts: Sequence[int]
) -> tuple[str | None, list[str]]:
    """The class and the region ids of one object, or of its parts; nothing of none."""
    if parts:
        objects = [drawing.objects[part] for part in parts]
        return objects[0].class_name, [name for one in objects for name in one.region_ids]
    if item is None:
        return None, []
    return drawing.objects[item].class_name, list(drawing.objects[item].region_ids)
