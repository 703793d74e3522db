"""Regions with the class they mean and their pixels; what cannot be placed, reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from segstudio.masks import Mask
from segstudio.shapes import RegionShapeError, region_mask
from segstudio.tasks import Problem, Region
from segstudio.taxonomy import SegmentClass, Taxonomy

COUNTED: Final = (
    "empty_regions",
    "keypoint_regions",
    "outside_taxonomy_regions",
    "several_labels_regions",
    "unreadable_regions",
)


@dataclass(frozen=True, slots=True)
class ClassedRegion:
    """A region, the class that it means (None: a void label) and its pixels."""

    region: Region
    segment_class: SegmentClass | None
    mask: Mask

    @property
    def is_void(self) -> bool:
        """Say whether the region's pixels are VOID."""
        return self.segment_class is None or self.segment_class.ignore


@dataclass(frozen=True, slots=True)
class ClassedRegions:
    """The regions that have a place, in drawing order; counts and reports of the others."""

    regions: tuple[ClassedRegion, ...]
    counts: Mapping[str, int]
    problems: tuple[Problem, ...]


def classify_regions(
    regions: Iterable[Region],
    taxonomy: Taxonomy,
    height_px: int,
    width_px: int,
    *,
    every_class: bool = False,
) -> ClassedRegions:
    """Give each region its class and its pixels.

    A region with labels of several classes appears once under each of them with `every_class`;
    without it, once, under the first in taxonomy order, and is reported (``several-labels``).
    Also reported: ``unknown-label`` (no label is in the taxonomy; left out), ``no-label`` (left
    out), ``unknown-extra-label`` (another label places it), ``other-size`` (the region is of
    another image size; left out), ``unreadable-region`` (damaged geometry; left out). Key points
    have no area: they are counted only.
    """
    placed: list[ClassedRegion] = []
    problems: list[Problem] = []
    counts = dict.fromkeys(COUNTED, 0)
    for region in regions:
        if region.kind == "keypoint":
            counts["keypoint_regions"] += 1
            continue
        classes = _classes_of(region, taxonomy, problems)
        if not classes:
            counts["outside_taxonomy_regions"] += 1
            continue
        mask = _mask_of(region, height_px, width_px, problems)
        if mask is None:
            counts["unreadable_regions"] += 1
            continue
        counts["empty_regions"] += mask.is_empty
        if len(classes) > 1 and not every_class:
            counts["several_labels_regions"] += 1
            problems.append(_several_labels(region, classes[0]))
            classes = classes[:1]
        placed.extend(ClassedRegion(region, one, mask) for one in classes)
    return ClassedRegions(tuple(placed), counts, tuple(problems))


def _classes_of(
    region: Region, taxonomy: Taxonomy, problems: list[Problem]
) -> list[SegmentClass | None]:
    """Return the classes of a region's labels in taxonomy order, a void label (None) last."""
    if len(region.labels) == 1:  # nearly every region
        known = taxonomy.by_label(region.labels[0])
        if known is not None:
            return [known]
    unknown = [label for label in region.labels if not taxonomy.knows(label)]
    names = {one.name for one in map(taxonomy.by_label, region.labels) if one is not None}
    classes: list[SegmentClass | None] = [one for one in taxonomy.classes if one.name in names]
    if any(taxonomy.by_label(label) is None for label in region.labels if label not in unknown):
        classes.append(None)
    if not region.labels:
        problems.append(
            _problem("no-label", region, "has no label; it is left out. Give it one, or delete it.")
        )
    elif unknown:
        listed = ", ".join(f'"{label}"' for label in unknown)
        problems.append(
            _problem(
                "unknown-extra-label" if classes else "unknown-label",
                region,
                f"has the label {listed}, which the taxonomy does not know; "
                + ("its other labels place it." if classes else "it is left out.")
                + " Add a class or an alias of that name.",
            )
        )
    return classes


def _mask_of(region: Region, height_px: int, width_px: int, problems: list[Problem]) -> Mask | None:
    if (region.original_height_px, region.original_width_px) != (height_px, width_px):
        problems.append(
            _problem(
                "other-size",
                region,
                f"was drawn on an image of {region.original_width_px} x "
                f"{region.original_height_px} pixels, but the image has {width_px} x {height_px}; "
                "it is left out.",
            )
        )
        return None
    try:
        return region_mask(region)
    except RegionShapeError as error:
        problems.append(Problem("unreadable-region", str(error), region_id=region.id))
        return None


def _several_labels(region: Region, chosen: SegmentClass | None) -> Problem:
    listed = ", ".join(f'"{label}"' for label in region.labels)
    name = f'"{chosen.name}"' if chosen else "VOID"
    return _problem(
        "several-labels",
        region,
        f"has the labels {listed}; a pixel has one class, so it is taken as {name}, "
        "the first in the taxonomy.",
    )


def _problem(kind: str, region: Region, words: str) -> Problem:
    return Problem(kind, f"Region {region.id!r} {words}", region_id=region.id)
