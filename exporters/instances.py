"""The objects of an image for formats in which they may overlap: COCO instances, YOLO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporters.records import classified_regions, scene_of
from segstudio.images import AnnotatedImage
from segstudio.masks import Mask, union_all
from segstudio.plugins import ExportContext
from segstudio.region_classes import ClassedRegion
from segstudio.taxonomy import SegmentClass

INSTANCE_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "masks": ("whole", "visible"),
    "stuff": ("include", "exclude"),
}
"""`masks`: each object as drawn, or what the overlap policy leaves of it. `stuff`: its segments
are written as one object each, or left out and counted."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One object of a thing class, or all of a stuff class; its mask has at least one pixel."""

    segment_class: SegmentClass
    mask: Mask
    attributes: Mapping[str, Any]


def instances_of(
    image: AnnotatedImage, context: ExportContext
) -> tuple[list[Instance], dict[str, int]]:
    """Return the objects of an image in the order of their first regions, and what is lost.

    Whole masks (the default) overlap where the annotator's regions do: nothing is lost to what
    lies on top. VOID cannot be said by these formats; its pixels are counted.
    """
    scene = scene_of(image, context)
    losses = {"void_px_not_held": scene.void_mask.area_px}
    if context.options.get("masks", "whole") == "visible":
        by_id = context.taxonomy.by_id
        found = [
            Instance(by_id[segment.class_id], segment.mask, segment.attributes)
            for segment in scene.segments
        ]
    else:
        found = _whole(image, context)
        losses |= {"overlapped_px": 0, "hidden_regions": 0}
    if context.options.get("stuff", "include") == "exclude":
        things = [one for one in found if one.segment_class.is_thing]
        losses["stuff_left_out"] = len(found) - len(things)
        found = things
    return found, losses


def _whole(image: AnnotatedImage, context: ExportContext) -> list[Instance]:
    size = image.height_px, image.width_px
    regions = classified_regions(image, context).regions
    groups: dict[int, list[ClassedRegion]] = {}
    for at, one in enumerate(regions):
        if one.segment_class is not None and not one.is_void and not one.mask.is_empty:
            # Objects have keys of their own below zero, a stuff class has its id.
            key = -1 - at if one.segment_class.is_thing else one.segment_class.id
            groups.setdefault(key, []).append(one)
    found = []
    for members in groups.values():
        attributes: dict[str, Any] = {}
        for one in members:
            attributes.update(one.region.attributes)
        segment_class = members[0].segment_class
        assert segment_class is not None  # noqa: S101 - for mypy: VOID is left out above
        mask = union_all([one.mask for one in members], *size)
        found.append(Instance(segment_class, mask, attributes))
    return found
