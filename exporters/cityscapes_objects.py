"""The objects of a scene as Cityscapes draws them: one after the other, each on top of the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.flags import CROWD, is_flagged
from exporters.outlines import PixelRing, part_rings, single_ring
from segstudio.masks import Mask, union_all
from segstudio.scene import Scene, Segment
from segstudio.taxonomy import Taxonomy

Polygon = list[list[int]]

_MOST_INSTANCES: Final = 1000
_UNLABELED: Final = "unlabeled"


@dataclass(frozen=True, slots=True)
class DrawnObject:
    """One segment with its numbers, its name in the polygons' file, and its polygons.

    `segment_id` is its number in the scene's instance map; 0 is a patch that draws background.
    """

    segment_id: int
    class_id: int
    instance_id: int
    label: str
    polygons: list[Polygon]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def drawn_objects(scene: Scene, taxonomy: Taxonomy) -> tuple[list[DrawnObject], dict[str, int]]:
    """Return a scene's objects in the order in which they are to be drawn, and what is lost.

    An object of a thing class is one polygon, else readers would count it twice. Where it has
    parts, the polygon has bridges: such objects come first, so that what lies below a bridge is
    drawn over it, and patches of background after them. A bridge across another such object cannot
    be mended; its pixels are counted (``polygon_px``). The images are exact in any case.
    """
    losses = {"polygon_px": 0, "instances_beyond_1000": 0}
    bridged: list[tuple[Segment, PixelRing]] = []
    others: list[tuple[Segment, list[PixelRing], bool]] = []
    counts: Counter[int] = Counter()
    for segment in scene.segments:
        is_thing = taxonomy.by_id[segment.class_id].is_thing
        is_group = is_thing and is_flagged(segment.attributes, CROWD)
        if is_thing and not is_group:
            is_group = counts[segment.class_id] >= _MOST_INSTANCES
            losses["instances_beyond_1000"] += is_group
            counts[segment.class_id] += not is_group
        if not is_thing or is_group:
            others.append((segment, part_rings(segment.mask), is_group))
            continue
        ring = single_ring(segment.mask)
        assert ring is not None  # noqa: S101 - for mypy: no segment is empty
        if ring.bridged_parts:
            bridged.append((segment, ring))
        else:
            others.append((segment, [ring], False))

    numbers: Counter[int] = Counter()
    objects = [_object(one, [ring], False, taxonomy, numbers) for one, ring in bridged]
    if bridged:
        patches, losses["polygon_px"] = _patches(scene, bridged)
        if patches:
            objects.append(DrawnObject(0, 0, 0, _UNLABELED, patches))
    objects += [_object(one, rings, is_group, taxonomy, numbers) for one, rings, is_group in others]
    return objects, losses


def _object(
    segment: Segment,
    rings: list[PixelRing],
    is_group: bool,
    taxonomy: Taxonomy,
    numbers: Counter[int],
) -> DrawnObject:
    one = taxonomy.by_id[segment.class_id]
    instance_id = one.id
    if one.is_thing and not is_group:
        instance_id = one.id * 1000 + numbers[one.id]
        numbers[one.id] += 1
    return DrawnObject(
        segment_id=segment.id,
        class_id=one.id,
        instance_id=instance_id,
        label=f"{one.name}group" if is_group else one.name,
        polygons=[_polygon(ring) for ring in rings],
        attributes=segment.attributes,
    )


def _patches(scene: Scene, bridged: list[tuple[Segment, PixelRing]]) -> tuple[list[Polygon], int]:
    """Return polygons of the background below bridges, and the pixels of each other they hide."""
    drawn = _draw([ring for _, ring in bridged], scene.height_px, scene.width_px)
    size = scene.height_px, scene.width_px
    covered = Mask.from_dense(drawn) - union_all((one.mask for one in scene.segments), *size)
    hidden = sum(
        int((drawn[one.mask.to_dense()] != number).sum())
        for number, (one, _) in enumerate(bridged, start=1)
    )
    return [_polygon(ring) for ring in part_rings(covered)], hidden


def _draw(rings: list[PixelRing], height_px: int, width_px: int) -> NDArray[np.int32]:
    """Draw rings as cityscapesscripts does: by Pillow, the n-th with the number n."""
    from PIL import Image, ImageDraw

    image = Image.new("I", (width_px, height_px), 0)
    drawer = ImageDraw.Draw(image)
    for number, ring in enumerate(rings, start=1):
        drawer.polygon([(x, y) for x, y in ring.pixels.tolist()], fill=number)
    return np.asarray(image)


def _polygon(ring: PixelRing) -> Polygon:
    polygon: Polygon = ring.pixels.tolist()
    return polygon
