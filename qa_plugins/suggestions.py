"""Suggestions and what was submitted, matched one to one: where each region came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from segstudio.images import ImageKey, image_size, regions_by_image
from segstudio.masks import iou
from segstudio.region_classes import ClassedRegion, classify_regions
from segstudio.regions import Region
from segstudio.tasks import Annotation, Prediction
from segstudio.taxonomy import Taxonomy

Outcome = Literal["kept", "edited", "thrown_away", "click", "by_hand"]

_UNTOUCHED: Final = "prediction"
_TOUCHED: Final = "prediction-changed"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one suggestion, or where one submitted region came from.

    `changed_px` and `union_px` compare an edited suggestion with what was submitted; None where
    the suggestion is not stored. `is_relabelled` says that it was submitted under another class.
    """

    class_name: str
    annotator_id: int | None
    outcome: Outcome
    changed_px: int | None = None
    union_px: int | None = None
    is_relabelled: bool = False


def source_prediction(
    annotation: Annotation, predictions: Sequence[Prediction]
) -> Prediction | None:
    """The stored prediction that the annotation began with: named, or known by region ids."""
    for one in predictions:
        if one.id is not None and one.id == annotation.parent_prediction:
            return one
    if annotation.parent_prediction is not None:
        return None
    ids = {region.id for region in annotation.regions}
    shared = [(len(ids & {region.id for region in one.regions}), one) for one in predictions]
    most = max(shared, key=lambda pair: pair[0], default=None)
    return most[1] if most is not None and most[0] else None


def began_with_a_prediction(annotation: Annotation) -> bool:
    """Whether the annotation says so itself, by its parent or its regions' origin."""
    return annotation.parent_prediction is not None or any(
        region.origin in (_UNTOUCHED, _TOUCHED) for region in annotation.regions
    )


def fates_of(
    annotation: Annotation,
    source: Prediction | None,
    taxonomy: Taxonomy,
    least_iou: float,
) -> list[Fate]:
    """What became of each suggestion of `source`, and where every other region came from."""
    drawn = regions_by_image(annotation)
    offered: dict[ImageKey, list[Region]] = {}
    for region in source.regions if source is not None else ():
        offered.setdefault(ImageKey(region.to_name, region.item_index), []).append(region)
    fates: list[Fate] = []
    for key in dict.fromkeys([*offered, *drawn]):
        regions = [*drawn.get(key, ()), *offered.get(key, ())]
        size_px = image_size(regions)
        if size_px is None:
            continue
        submitted = _classed(drawn.get(key, ()), taxonomy, size_px)
        suggested = _classed(offered.get(key, ()), taxonomy, size_px)
        fates += _fates_on_image(submitted, suggested, annotation.completed_by, least_iou)
    return fates


def _classed(
    regions: Sequence[Region], taxonomy: Taxonomy, size_px: tuple[int, int]
) -> list[ClassedRegion]:
    found = classify_regions(regions, taxonomy, *size_px).regions
    return [one for one in found if not one.is_void and not one.mask.is_empty]


def _fates_on_image(
    submitted: Sequence[ClassedRegion],
    suggested: Sequence[ClassedRegion],
    annotator_id: int | None,
    least_iou: float,
) -> list[Fate]:
    partners = _match(submitted, suggested, least_iou)
    fates: list[Fate] = []
    for index, one in enumerate(suggested):
        final = submitted[partners[index]] if index in partners else None
        if final is None:
            fates.append(Fate(_name(one), annotator_id, "thrown_away"))
            continue
        changed_px = (one.mask ^ final.mask).area_px
        relabelled = _name(one) != _name(final)
        outcome: Outcome = "edited" if changed_px or relabelled else "kept"
        union_px = (one.mask | final.mask).area_px
        fates.append(Fate(_name(one), annotator_id, outcome, changed_px, union_px, relabelled))
    matched = set(partners.values())
    for index, final in enumerate(submitted):
        if index not in matched:
            fates.append(Fate(_name(final), annotator_id, _outcome_without_suggestion(final)))
    return fates


def _match(
    submitted: Sequence[ClassedRegion], suggested: Sequence[ClassedRegion], least_iou: float
) -> dict[int, int]:
    """Suggestion -> submitted region: by id, then the pairs that overlap most."""
    by_id = {one.region.id: index for index, one in enumerate(submitted)}
    partners = {
        index: by_id[one.region.id] for index, one in enumerate(suggested) if one.region.id in by_id
    }
    taken = set(partners.values())
    overlaps = [
        (iou(one.mask, final.mask) or 0.0, index, other)
        for index, one in enumerate(suggested)
        if index not in partners
        for other, final in enumerate(submitted)
        if other not in taken
    ]
    for overlap, index, other in sorted(overlaps, key=lambda one: (-one[0], one[1], one[2])):
        if overlap >= least_iou and index not in partners and other not in taken:
            partners[index] = other
            taken.add(other)
    return partners


def _outcome_without_suggestion(final: ClassedRegion) -> Outcome:
    """Where a region came from by its own word: the editor's `origin`, and the model's score."""
    if final.region.origin == _UNTOUCHED:
        return "kept"
    if final.region.origin == _TOUCHED:
        return "edited"
    return "by_hand" if final.region.score is None else "click"


def _name(one: ClassedRegion) -> str:
    return one.segment_class.name if one.segment_class is not None else ""
