"""One set of regions out of several annotators': what more than half of them drew.

Stuff and VOID are decided pixel by pixel: a pixel belongs to a class when more than half of the
annotators gave it to that class. Things are matched first, object by object, greedily by
intersection over union (at least 0.5, as in panoptic quality), at most one object an annotator;
an object that more than half of the annotators drew is kept, with the pixels that more than half
of them gave it. With two annotators "more than half" is both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask, iou, union_all
from segstudio.region_classes import ClassedRegion, classify_regions
from segstudio.region_values import mask_to_value
from segstudio.tasks import Problem, Region
from segstudio.taxonomy import Taxonomy

MIN_IOU: Final = 0.5
"""Two annotators mean the same object when their masks overlap at least so much."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """The agreed regions, as brush regions, and how many drawn objects found no majority."""

    regions: tuple[Region, ...]
    objects_without_majority: int
    problems: tuple[Problem, ...]


def consensus_regions(
    drawn: Sequence[Sequence[Region]], taxonomy: Taxonomy, height_px: int, width_px: int
) -> Consensus:
    """Return what more than half of the annotators drew on one image.

    Args:
        drawn: each annotator's regions; empty for one who submitted nothing on it, who counts.
        taxonomy: decides what is thing, stuff or VOID.
        height_px: the image's height.
        width_px: the image's width.

    Returns:
        The regions in the order in which they were first drawn; none for no annotators. One
        annotator alone gives their own regions unchanged.
    """
    if len(drawn) <= 1:
        return Consensus(tuple(drawn[0]) if drawn else (), 0, ())
    problems: list[Problem] = []
    layers: list[_Layer] = []
    for annotator, regions in enumerate(drawn):
        found = classify_regions(regions, taxonomy, height_px, width_px)
        problems.extend(found.problems)
        layers.extend(
            _Layer(annotator, position, one) for position, one in enumerate(found.regions)
        )
    groups = _group(layers)
    agreed: list[tuple[tuple[int, int], Region]] = []
    lost = 0
    for members in groups:
        votes = _one_mask_an_annotator(members, height_px, width_px)
        mask = majority(votes, len(drawn), height_px, width_px)
        if mask.is_empty:
            lost += len(members) if members[0].is_thing else 0
            continue
        first = min(members, key=lambda layer: (layer.position, layer.annotator))
        agreed.append(((first.position, first.annotator), _as_region(first.one, mask)))
    agreed.sort(key=lambda entry: entry[0])
    return Consensus(tuple(region for _, region in agreed), lost, tuple(problems))


def majority(masks: Sequence[Mask], voters: int, height_px: int, width_px: int) -> Mask:
    """Return the pixels that more than half of `voters` have; a voter without a mask votes no.

    >>> row = lambda *bits: Mask.from_dense([list(bits)])
    >>> majority([row(1, 1, 0), row(0, 1, 1), row(0, 1, 0)], 3, 1, 3).to_dense().astype(int)
    array([[0, 1, 0]])
    """
    needed = voters // 2 + 1
    if len(masks) < needed:
        return Mask.empty(height_px, width_px)
    starts = np.concatenate([mask.runs[:, 0] for mask in masks])
    stops = np.concatenate([mask.runs[:, 1] for mask in masks])
    places = np.concatenate([starts, stops])
    steps = np.concatenate([np.ones(len(starts), np.int64), -np.ones(len(stops), np.int64)])
    order = np.argsort(places, kind="stable")
    places, counts = places[order], np.cumsum(steps[order])
    enough = counts[:-1] >= needed
    runs: NDArray[np.int64] = np.stack([places[:-1][enough], places[1:][enough]], axis=1)
    return Mask.from_runs(height_px, width_px, runs)


@dataclass(frozen=True, slots=True)
class _Layer:
    annotator: int
    position: int
    one: ClassedRegion

    @property
    def is_thing(self) -> bool:
        found = self.one.segment_class
        return not self.one.is_void and found is not None and found.is_thing

    @property
    def class_key(self) -> tuple[str, int]:
        found = self.one.segment_class
        if self.one.is_void or found is None:
            return "void", 0
        return found.kind, found.id


def _group(layers: Iterable[_Layer]) -> list[list[_Layer]]:
    """Return the layers that mean the same: all of a stuff class, the matched of a thing class."""
    by_class: dict[tuple[str, int], list[_Layer]] = {}
    for layer in layers:
        by_class.setdefault(layer.class_key, []).append(layer)
    groups: list[list[_Layer]] = []
    for members in by_class.values():
        groups.extend(_match(members) if members[0].is_thing else [members])
    return groups


def _match(layers: Sequence[_Layer]) -> list[list[_Layer]]:
    """Join objects of different annotators, the most similar pair first."""
    pairs: list[tuple[float, int, int]] = []
    for a, first in enumerate(layers):
        for b in range(a + 1, len(layers)):
            if first.annotator != layers[b].annotator:
                likeness = iou(first.one.mask, layers[b].one.mask)
                if likeness is not None and likeness >= MIN_IOU:
                    pairs.append((-likeness, a, b))
    cluster = list(range(len(layers)))
    members = {at: [at] for at in cluster}
    for _, a, b in sorted(pairs):
        left, right = cluster[a], cluster[b]
        annotators = [layers[at].annotator for at in (*members[left], *members[right])]
        if left == right or len(set(annotators)) < len(annotators):
            continue
        for at in members[right]:
            cluster[at] = left
        members[left] += members.pop(right)
    return [[layers[at] for at in group] for group in members.values()]


def _one_mask_an_annotator(members: Sequence[_Layer], height_px: int, width_px: int) -> list[Mask]:
    by_annotator: dict[int, list[Mask]] = {}
    for layer in members:
        by_annotator.setdefault(layer.annotator, []).append(layer.one.mask)
    return [union_all(masks, height_px, width_px) for masks in by_annotator.values()]


def _as_region(one: ClassedRegion, mask: Mask) -> Region:
    found = one.segment_class
    labels = (found.name,) if found is not None else one.region.labels
    return replace(
        one.region,
        kind="brush",
        value=mask_to_value(mask, "brush"),
        labels=labels,
        score=None,
        parent_id=None,
    )
