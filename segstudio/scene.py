"""Regions of one annotation to one scene: which segment each pixel belongs to.

A scene is built in the run domain: nothing dense exists until `Scene.label_map` or
`Scene.instance_map` is called. Who is on top where regions overlap is a stated policy:

- ``draw-order``: the region drawn later;
- ``class-priority``: the class that stands later in the taxonomy (or later in `priorities`),
  within a class the region drawn later;
- ``smaller-on-top``: the region with fewer pixels, of equals the one drawn later;
- ``error``: nobody; two segments that overlap raise.

Regions of VOID (an ignore class or a void label) take part in the same order: what they cover is
VOID, what covers them is not. Pixels without any region are unlabelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segstudio.masks import Mask, intersection_area, union_all
from segstudio.region_classes import ClassedRegion, ClassedRegions, classify_regions
from segstudio.stacking import paint_runs, stack_runs
from segstudio.tasks import Problem, Region
from segstudio.taxonomy import SegmentClass, Taxonomy

OverlapPolicy = Literal["draw-order", "class-priority", "smaller-on-top", "error"]
OVERLAP_POLICIES: tuple[OverlapPolicy, ...] = get_args(OverlapPolicy)


class OverlapError(ValueError):
    """Two segments overlap under the policy `error`; the sentence names two regions."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: an object of a thing class, or all of a stuff class on the image.

    `id` is its number in the instance map, from 1. `mask` holds only the pixels that nothing on
    top hides. `attributes` are those of its regions, later regions overriding earlier ones.
    """

    id: int
    class_id: int
    mask: Mask
    region_ids: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """The segments of an image, what is VOID, and what the overlap policy took away.

    `losses` counts: `overlapped_px` (pixels that a region has and a segment of something else
    hides), `hidden_regions` (regions of which nothing is left to see), `empty_regions` (no pixel
    from the start), `keypoint_regions` (no area), `outside_taxonomy_regions` (unknown or no label),
    `several_labels_regions`, `unreadable_regions` (damaged, or of another image size). Every count
    is present, zeros too.
    """

    height_px: int
    width_px: int
    segments: tuple[Segment, ...]
    void_mask: Mask
    losses: Mapping[str, int]
    problems: tuple[Problem, ...]
    void_id: int
    unlabelled_id: int

    @property
    def unlabelled_mask(self) -> Mask:
        """Return the pixels that no readable region of a known label covers."""
        masks = [segment.mask for segment in self.segments]
        return union_all([*masks, self.void_mask], self.height_px, self.width_px).complement()

    def label_map(self, dtype: DTypeLike = np.uint8) -> NDArray[Any]:
        """Return the class id of every pixel as (height_px, width_px).

        Unlabelled pixels are `unlabelled_id`, VOID ones `void_id`.

        Raises:
            ValueError: an id that is present does not fit the dtype.
        """
        painted = [(segment.mask, segment.class_id) for segment in self.segments]
        if not self.void_mask.is_empty:
            painted.append((self.void_mask, self.void_id))
        return self._paint(painted, self.unlabelled_id, dtype)

    def instance_map(self, dtype: DTypeLike = np.int32) -> NDArray[Any]:
        """Return the segment id of every pixel as (height_px, width_px); 0 is no segment.

        Raises:
            ValueError: there are more segments than the dtype can number.
        """
        painted = [(segment.mask, segment.id) for segment in self.segments]
        return self._paint(painted, 0, dtype)

    def _paint(
        self, painted: Sequence[tuple[Mask, int]], background: int, dtype: DTypeLike
    ) -> NDArray[Any]:
        kind = np.dtype(dtype)
        largest = max([background, *(number for _, number in painted)])
        if kind.kind not in "iu" or largest > np.iinfo(kind).max:
            raise ValueError(f"The id {largest} does not fit into {kind}; ask for a wider dtype.")
        runs = [(mask.runs, number) for mask, number in painted]
        flat = paint_runs(runs, self.height_px * self.width_px, background, kind)
        return flat.reshape(self.height_px, self.width_px)


def build_scene(
    regions: Iterable[Region],
    taxonomy: Taxonomy,
    height_px: int,
    width_px: int,
    policy: OverlapPolicy = "draw-order",
    *,
    priorities: Sequence[str] | None = None,
    task_id: int | None = None,
    annotation_id: int | None = None,
) -> Scene:
    """Build the scene of one image from the regions of one annotation, in drawing order.

    Every region of a thing class is a segment of its own, the regions of a stuff class are one
    segment together. A region with several labels takes the first of its classes in taxonomy
    order and is reported (`several-labels`). Regions that cannot be placed are reported and
    counted, never drawn.

    Args:
        regions: the annotation's regions on this image.
        taxonomy: decides classes, thing or stuff, VOID.
        height_px: the image's height; regions of another size are left out and reported.
        width_px: the image's width.
        policy: who is on top; see the module's documentation.
        priorities: class names from bottom to top for ``class-priority``; classes that are not
            named lie below those that are, in taxonomy order.
        task_id: named in problems.
        annotation_id: named in problems.

    Returns:
        The scene; without regions, one without segments.

    Raises:
        OverlapError: the policy is ``error`` and two segments overlap.
        ValueError: an unknown policy, or a priority that is no class.
    """
    found = classify_regions(regions, taxonomy, height_px, width_px)
    return scene_of_classified(
        found, taxonomy, height_px, width_px, policy, priorities=priorities, task_id=task_id,
        annotation_id=annotation_id,
    )  # fmt: skip


def scene_of_classified(
    found: ClassedRegions,
    taxonomy: Taxonomy,
    height_px: int,
    width_px: int,
    policy: OverlapPolicy = "draw-order",
    *,
    priorities: Sequence[str] | None = None,
    task_id: int | None = None,
    annotation_id: int | None = None,
) -> Scene:
    """Build the scene of regions that have their classes and masks already; as `build_scene`."""
    if policy not in OVERLAP_POLICIES:
        raise ValueError(
            f'There is no overlap policy "{policy}"; choose {", ".join(OVERLAP_POLICIES)}.'
        )
    ranks = _class_ranks(taxonomy, priorities)
    layers = found.regions
    order = sorted(range(len(layers)), key=lambda at: (*_rank(layers[at], policy, ranks), at))
    shown: dict[int, Mask] = {}
    for at, runs in zip(order, stack_runs([layers[at].mask.runs for at in order]), strict=True):
        shown[at] = Mask(height_px, width_px, runs)

    segments: list[Segment] = []
    void = Mask.empty(height_px, width_px)
    losses = {**found.counts, "overlapped_px": 0, "hidden_regions": 0}
    for members in _group(layers):
        visible = union_all([shown[at] for at in members], height_px, width_px)
        drawn = union_all([layers[at].mask for at in members], height_px, width_px)
        losses["overlapped_px"] += drawn.area_px - visible.area_px
        losses["hidden_regions"] += _hidden([layers[at].mask for at in members], visible)
        if policy == "error" and drawn != visible:
            raise _overlap_error(layers, members, drawn - visible)
        segment_class = layers[members[0]].segment_class
        if segment_class is None or segment_class.ignore:
            void = visible
        elif not visible.is_empty:
            regions_of_segment = [layers[at].region for at in members]
            segments.append(_segment(len(segments) + 1, segment_class, visible, regions_of_segment))
    return Scene(
        height_px=height_px,
        width_px=width_px,
        segments=tuple(segments),
        void_mask=void,
        losses=dict(sorted(losses.items())),
        problems=_placed(found.problems, task_id, annotation_id),
        void_id=taxonomy.void_id,
        unlabelled_id=taxonomy.unlabelled_id,
    )


def class_masks(
    regions: Iterable[Region],
    taxonomy: Taxonomy,
    *,
    task_id: int | None = None,
    annotation_id: int | None = None,
) -> tuple[dict[str, Mask], tuple[Problem, ...]]:
    """Return the union of the regions of each class, before any overlap policy.

    A region with several labels belongs to each of its classes. Classes in taxonomy order, only
    those that are drawn (a region without a pixel counts as drawn); ignore classes and void labels
    are left out: they are no class to compare, see `void_mask`. The size is that of most regions;
    others are reported. No regions give an empty dict.
    """
    everything = tuple(regions)
    if not everything:
        return {}, ()
    size = _common_size(everything)
    found = classify_regions(everything, taxonomy, *size, every_class=True)
    by_name: dict[str, list[Mask]] = {}
    for one in found.regions:
        if one.segment_class is not None and not one.segment_class.ignore:
            by_name.setdefault(one.segment_class.name, []).append(one.mask)
    masks = {
        one.name: union_all(by_name[one.name], *size)
        for one in taxonomy.classes
        if one.name in by_name
    }
    return masks, _placed(found.problems, task_id, annotation_id)


def void_mask(regions: Iterable[Region], taxonomy: Taxonomy, height_px: int, width_px: int) -> Mask:
    """Return the union of the regions that are VOID, before any overlap policy."""
    found = classify_regions(regions, taxonomy, height_px, width_px, every_class=True)
    return union_all((one.mask for one in found.regions if one.is_void), height_px, width_px)


def _class_ranks(taxonomy: Taxonomy, priorities: Sequence[str] | None) -> Mapping[str, int]:
    """Return how high each class lies; VOID by a label lies lowest."""
    names = [one.name for one in taxonomy.classes]
    on_top = list(priorities or ())
    for name in on_top:
        if name not in names:
            raise ValueError(
                f'The priority "{name}" is no class of the taxonomy {taxonomy.name}; '
                f"its classes are {', '.join(names)}."
            )
    ordered = [name for name in names if name not in on_top] + on_top
    return {name: rank for rank, name in enumerate(ordered)}


def _rank(layer: ClassedRegion, policy: OverlapPolicy, ranks: Mapping[str, int]) -> tuple[int, ...]:
    if policy == "class-priority":
        return (ranks[layer.segment_class.name] if layer.segment_class else -1,)
    if policy == "smaller-on-top":
        return (-layer.mask.area_px,)
    return ()


def _group(layers: Sequence[ClassedRegion]) -> list[list[int]]:
    """Return which regions make up each segment, in the order of their first regions."""
    groups: dict[tuple[str, int], list[int]] = {}
    for at, layer in enumerate(layers):
        if layer.is_void or layer.segment_class is None:
            key = ("void", 0)
        elif layer.segment_class.is_thing:
            key = ("thing", at)
        else:
            key = ("stuff", layer.segment_class.id)
        groups.setdefault(key, []).append(at)
    return list(groups.values())


def _hidden(drawn: Sequence[Mask], visible: Mask) -> int:
    """Return of how many of a segment's masks nothing is left to see."""
    if len(drawn) == 1:
        return int(visible.is_empty and not drawn[0].is_empty)
    return sum(not one.is_empty and intersection_area(one, visible) == 0 for one in drawn)


def _segment(
    number: int, segment_class: SegmentClass, mask: Mask, regions: Sequence[Region]
) -> Segment:
    attributes: dict[str, Any] = {}
    for region in regions:
        attributes.update(region.attributes)
    return Segment(
        id=number,
        class_id=segment_class.id,
        mask=mask,
        region_ids=tuple(region.id for region in regions),
        attributes=attributes,
    )


def _overlap_error(
    layers: Sequence[ClassedRegion], members: Sequence[int], lost: Mask
) -> OverlapError:
    """Name one pair of regions that overlap: one that lost pixels, and one that took them."""
    loser = next(at for at in members if intersection_area(layers[at].mask, lost))
    stolen = layers[loser].mask & lost
    winner = next(
        at
        for at in range(len(layers))
        if at not in members and intersection_area(layers[at].mask, stolen)
    )
    shared_px = intersection_area(layers[loser].mask, layers[winner].mask)
    return OverlapError(
        f"Region {layers[loser].region.id!r} and region {layers[winner].region.id!r} overlap on "
        f"{shared_px} pixels; mend the annotation, or choose another overlap policy than error."
    )


def _common_size(regions: Sequence[Region]) -> tuple[int, int]:
    sizes = Counter((region.original_height_px, region.original_width_px) for region in regions)
    return sizes.most_common(1)[0][0]


def _placed(
    problems: Iterable[Problem], task_id: int | None, annotation_id: int | None
) -> tuple[Problem, ...]:
    return tuple(
        replace(problem, task_id=task_id, annotation_id=annotation_id) for problem in problems
    )
