"""Where merging labels would make drawings collide: pixels that two of the merged labels share.

Under two labels such pixels belong to one by a stated policy; under one label nothing would tell
any more that somebody meant two things there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from segstudio.masks import Mask, intersection_area
from segstudio.shapes import RegionShapeError, region_mask
from segstudio.tasks import parse_annotation
from segstudio.writeback import StoredResult


@dataclass(frozen=True, slots=True)
class Collision:
    """Two labels that become one and share pixels in one result."""

    kind: str
    id: int
    task_id: int
    labels: tuple[str, str]
    shared_px: int

    def __str__(self) -> str:
        first, second = self.labels
        return (
            f"{self.kind} {self.id} of task {self.task_id}: {first!r} and {second!r} share "
            f"{self.shared_px} px"
        )


def collisions(stored: StoredResult, mapping: Mapping[str, str]) -> list[Collision]:
    """The pairs of labels of one result that a migration would make one and that share pixels."""
    targets = set(mapping.values())
    annotation = parse_annotation({"id": stored.id, "result": stored.result}, stored.task_id)
    masks: dict[tuple[str, int, str, str], list[tuple[Mask, str]]] = {}
    for region in annotation.regions:
        for label in region.labels:
            new = mapping.get(label, label)
            if new not in targets:
                continue
            try:
                mask = region_mask(region)
            except RegionShapeError:
                continue
            key = (region.to_name, region.item_index, new, label)
            masks.setdefault(key, []).append((mask, region.id or ""))
    found = []
    for (place, first), (other, second) in combinations(sorted(masks.items(), key=_name), 2):
        if place[:3] != other[:3] or place[3] == other[3]:
            continue
        # One region with both labels is one drawing and stays one.
        shared = sum(
            intersection_area(a, b) for a, key_a in first for b, key_b in second if key_a != key_b
        )
        if shared:
            labels = (place[3], other[3])
            found.append(Collision(stored.kind, stored.id, stored.task_id, labels, shared))
    return found


def _name(item: tuple[tuple[str, int, str, str], Any]) -> tuple[str, int, str, str]:
    return item[0]
