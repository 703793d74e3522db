"""What one annotator drew on one image: a mask a class, and the objects one by one.

A class's mask is the union of its regions, before any overlap policy: where regions overlap, the
pixel belongs to both classes (as `segstudio.scene.class_masks` has it; here each shape is decoded
once for classes and objects alike). Classes that the taxonomy ignores, and VOID, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from segstudio.masks import Mask, union_all
from segstudio.region_classes import classify_regions
from segstudio.regions import Problem, Region
from segstudio.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class DrawnObject:
    """One object of a thing class, or all of a stuff class, with the regions it came from."""

    class_name: str
    mask: Mask
    region_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One annotator's masks of one image; both are empty when nothing was drawn."""

    class_masks: Mapping[str, Mask]
    objects: tuple[DrawnObject, ...]


NOTHING = Drawing({}, ())


@dataclass(frozen=True, slots=True)
class Place:
    """Which annotation regions belong to, for problems."""

    task_id: int
    annotation_id: int | None


def image_sizes(regions: Iterable[Region]) -> set[tuple[int, int]]:
    """The (height, width) in pixels that the regions name; key points count, they have one too."""
    return {(region.original_height_px, region.original_width_px) for region in regions}


def draw(
    regions: Sequence[Region],
    taxonomy: Taxonomy,
    height_px: int,
    width_px: int,
    place: Place,
) -> tuple[Drawing | None, list[Problem]]:
    """Turn one annotator's regions of one image into masks.

    Returns:
        The drawing, None when a region's shape cannot be read; and what was not used or not read.
    """
    if not regions:
        return NOTHING, []
    found = classify_regions(regions, taxonomy, height_px, width_px, every_class=True)
    problems = [
        replace(problem, task_id=place.task_id, annotation_id=place.annotation_id)
        for problem in found.problems
    ]
    if found.counts["unreadable_regions"]:
        return None, problems
    parts: dict[str, list[Mask]] = {}
    ids: dict[str, list[str]] = {}
    objects: list[DrawnObject] = []
    last: Region | None = None
    for one in found.regions:
        if one.segment_class is None or one.is_void:
            continue
        name = one.segment_class.name
        parts.setdefault(name, []).append(one.mask)
        ids.setdefault(name, []).append(one.region.id)
        # A region with several labels is one object, of the first of its classes.
        if one.segment_class.is_thing and one.region is not last and not one.mask.is_empty:
            objects.append(DrawnObject(name, one.mask, (one.region.id,)))
        last = one.region
    class_masks = {
        name: masks[0] if len(masks) == 1 else union_all(masks, height_px, width_px)
        for name, masks in sorted(parts.items())
    }
    objects += [
        DrawnObject(name, mask, tuple(ids[name]))
        for name, mask in class_masks.items()
        if not taxonomy.by_name[name].is_thing and not mask.is_empty
    ]
    return Drawing(class_masks, tuple(objects)), problems
