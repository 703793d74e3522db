"""The objects of key frames, and which of one key frame is which of the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from segstudio.masks import Mask, iou, union_all
from segstudio.optical_flow import align_centres, centre_px
from segstudio.regions import Problem, Region
from segstudio.shapes import region_mask

TRACK_NAMES: Final = ("track_id", "trackid", "track", "object_id", "instance_id")
"""Per-region answers, and keys of `meta.segstudio`, that name an object throughout a video."""

MIN_MATCH: Final = 0.3
"""Objects that resemble each other less are not taken for the same one."""

_TRACKED_KINDS: Final = frozenset({"brush", "bitmask", "polygon", "rectangle", "ellipse"})


@dataclass(frozen=True, slots=True)
class KeyObject:
    """One object of a key frame; `region` is the first of those that make it up."""

    mask: Mask
    region: Region
    given: str | None

    @property
    def group(self) -> tuple[str, int, tuple[str, ...]]:
        """Only objects of the same image and labels can be the same."""
        return self.region.to_name, self.region.item_index, self.region.labels


def track_name(attributes: Mapping[str, Any]) -> str | None:
    """Return the track that answers name, as the check `temporal` reads them; None without one.

    >>> track_name({"track_id": [7]}), track_name({"note": "far"})
    ('7', None)
    """
    for name in TRACK_NAMES:
        value = attributes.get(name)
        value = value[0] if isinstance(value, list | tuple) and value else value
        if isinstance(value, str | int | float) and str(value):
            number = isinstance(value, float) and value.is_integer()
            return str(int(value)) if number else str(value)
    return None


def key_objects(
    regions: Sequence[Region], task_id: int | None = None
) -> tuple[tuple[KeyObject, ...], tuple[Problem, ...]]:
    """Return an annotation's objects, and what cannot be carried along.

    Regions of one image and class that name the same track are one object. Key points, empty
    masks and damaged regions are left out.
    """
    found: dict[tuple[Any, ...], KeyObject] = {}
    problems: list[Problem] = []
    for number, region in enumerate(regions):
        if region.kind not in _TRACKED_KINDS:
            continue
        try:
            mask = region_mask(region)
        except ValueError as error:
            message = f"Region {region.id} of task {task_id} is not carried along: {error}"
            problems.append(Problem("unreadable-region", message, task_id, region_id=region.id))
            continue
        if mask.is_empty:
            continue
        given = track_name(region.attributes) or track_name(region.source)
        one = KeyObject(mask, region, given)
        key = (*one.group, given) if given is not None else (number,)
        held = found.get(key)
        if held is not None and _size(held.mask) == _size(mask):
            one = KeyObject(
                union_all([held.mask, mask], mask.height_px, mask.width_px), held.region, given
            )
        found[key] = one
    return tuple(found.values()), tuple(problems)


def match_objects(before: Sequence[KeyObject], after: Sequence[KeyObject]) -> dict[int, int]:
    """Return the index of the later object by that of the earlier one.

    The same named track first, then the same region id, then, of those that are left, what
    resembles each other most (the best total, each used once): overlap, or the overlap of the
    centred shapes less their distance in object sizes. Objects of different tracks are never
    joined.
    """
    pairs: dict[int, int] = {}
    for same in (_same_track, _same_region):
        for row, one in enumerate(before):
            for column, other in enumerate(after):
                if row in pairs or column in pairs.values() or not _may_be_one(one, other):
                    continue
                if same(one, other):
                    pairs[row] = column
    rows = [row for row in range(len(before)) if row not in pairs]
    columns = [column for column in range(len(after)) if column not in pairs.values()]
    if rows and columns:
        from scipy.optimize import linear_sum_assignment

        likeness = np.array(
            [[_likeness(before[row], after[column]) for column in columns] for row in rows]
        )
        for row, column in zip(*linear_sum_assignment(-likeness), strict=True):
            if likeness[row, column] >= MIN_MATCH:
                pairs[rows[row]] = columns[column]
    return pairs


def _same_track(one: KeyObject, other: KeyObject) -> bool:
    return one.given is not None and one.given == other.given


def _same_region(one: KeyObject, other: KeyObject) -> bool:
    return one.region.id == other.region.id


def _may_be_one(one: KeyObject, other: KeyObject) -> bool:
    named = one.given is not None and other.given is not None and one.given != other.given
    return one.group == other.group and _size(one.mask) == _size(other.mask) and not named


def _likeness(one: KeyObject, other: KeyObject) -> float:
    if not _may_be_one(one, other):
        return 0.0
    overlap = iou(one.mask, other.mask) or 0.0
    (x, y), (to_x, to_y) = centre_px(one.mask), centre_px(other.mask)
    away = float(np.hypot(to_x - x, to_y - y)) / max(1.0, float(np.sqrt(other.mask.area_px)))
    centred = iou(align_centres(one.mask, other.mask), other.mask) or 0.0
    return max(overlap, centred - 0.25 * away)


def _size(mask: Mask) -> tuple[int, int]:
    return mask.height_px, mask.width_px
