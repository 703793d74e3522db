"""Label Studio's `result` lists: items that share an id become one `Region`.

Label Studio stores a region as one or several items of a flat list that share an id: its geometry
(`brush`, `polygonlabels`, ...), its labels when they come from a plain `Labels` control, and its
own answers (per-region choices, text, numbers). Here they become one `Region`. Nothing is dropped
without a `Problem` that names the task, the annotation and the region.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from segstudio.regions import (
    GEOMETRY_KINDS,
    DamagedRegionError,
    Problem,
    Region,
    RegionKind,
    is_mistyped,
    kind_of_value,
    labels_of_value,
    note_of_item,
    region_of_item,
    same_geometry,
)

# Where the value of an answer lies, when it is not under the name of its type.
_ANSWER_KEYS: Final = {"textarea": "text", "pairwise": "selected"}
_ANSWER_TYPES: Final = frozenset(
    {"choices", "textarea", "number", "rating", "taxonomy", "datetime", "pairwise", "ranker"}
)


@dataclass(frozen=True, slots=True)
class ParsedResult:
    """What one `result` list holds: its regions, the answers about the whole image, the doubts."""

    regions: tuple[Region, ...]
    answers: Mapping[str, Any]
    problems: tuple[Problem, ...]


def parse_result(
    items: Iterable[Any], task_id: int | None = None, annotation_id: int | None = None
) -> ParsedResult:
    """Read a `result` list; an empty list gives nothing.

    Items that share an id become one region. Recognised and reported: a mask stored twice under
    one id, the second time as a keypoint (`duplicate-region`); a mask stored as a keypoint only
    (`mistyped-region`); the prompt point of a suggestion that was never accepted
    (`prompt-left-behind`); two different shapes under one id (`shared-id`); an unfinished polygon
    (`open-polygon`); answers of a region that is not there (`orphan-answer`); relations, which no
    mask can hold (`relation`). Left out and reported: `unreadable-region`, `unknown-type`.
    """
    reader = _Reader(task_id, annotation_id)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for position, item in enumerate(items):
        if type(item) is not dict and not isinstance(item, Mapping):
            reader.report("unreadable-region", f"Item {position} of the result is not an object.")
        elif item.get("type") == "relation":
            reader.report(
                "relation",
                f"The relation from region {item.get('from_id')!r} to {item.get('to_id')!r} is"
                " not kept: a mask has no place for it.",
            )
        else:
            key = item.get("id")
            groups.setdefault(f"#{position}" if key is None else str(key), []).append(item)
    for region_id, group in groups.items():
        reader.read_group(region_id, group)
    return ParsedResult(tuple(reader.regions), reader.answers, tuple(reader.problems))


class _Reader:
    """Collects the regions, answers and problems of one result list."""

    def __init__(self, task_id: int | None, annotation_id: int | None) -> None:
        self.task_id = task_id
        self.annotation_id = annotation_id
        self.regions: list[Region] = []
        self.answers: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def report(self, kind: str, message: str, region_id: str | None = None) -> None:
        self.problems.append(Problem(kind, message, self.task_id, self.annotation_id, region_id))

    def read_group(self, region_id: str, items: list[Mapping[str, Any]]) -> None:
        """Read all items of one region id."""
        first = len(self.regions)
        labels: list[Mapping[str, Any]] = []
        answers: list[Mapping[str, Any]] = []
        failed = False
        # A mask under a keypoint's type comes last: it repeats the one under the right type.
        for item in sorted(items, key=is_mistyped) if len(items) > 1 else items:
            kind = GEOMETRY_KINDS.get(str(item.get("type", "")).lower())
            if kind is not None:
                failed |= not self._read_geometry(region_id, item, kind, first)
            elif item.get("type") == "labels":
                labels.append(item)
            elif item.get("type") in _ANSWER_TYPES:
                answers.append(item)
            else:
                self.report(
                    "unknown-type",
                    f"Region {region_id!r} has the type {item.get('type')!r}, which is no"
                    " segmentation; it is left out.",
                    region_id,
                )
        for item in labels:
            self._read_labels(region_id, item, first, failed)
        for item in answers:
            self._read_answer(region_id, item, first, failed)

    def _read_geometry(
        self, region_id: str, item: Mapping[str, Any], kind: RegionKind, first: int
    ) -> bool:
        """Add the item's region, or merge it with the one it repeats; False when unreadable."""
        stored_kind = kind
        if kind == "keypoint" and is_mistyped(item):
            kind = kind_of_value(item["value"]) or kind
        try:
            region = region_of_item(region_id, item, kind)
        except DamagedRegionError as error:
            self.report(
                "unreadable-region", f"Region {region_id!r} is left out: {error}", region_id
            )
            return False
        for index in range(first, len(self.regions)):
            other = self.regions[index]
            if other.kind != kind or not same_geometry(other.value, region.value):
                continue
            if stored_kind != kind or other.from_name == region.from_name:
                self.report(
                    "duplicate-region",
                    f"Region {region_id!r} is stored twice (as {other.from_name!r} and"
                    f" {region.from_name!r}); it counts once.",
                    region_id,
                )
                labels = other.labels or region.labels
            else:
                labels = tuple(dict.fromkeys((*other.labels, *region.labels)))
            self.regions[index] = replace(
                other, labels=labels, attributes={**region.attributes, **other.attributes}
            )
            return True
        self._warn(region, stored_kind, first)
        self.regions.append(region)
        return True

    def _warn(self, region: Region, stored_kind: RegionKind, first: int) -> None:
        """Report what is odd about a region that is kept."""
        if stored_kind != region.kind:
            if len(self.regions) > first:
                self.report(
                    "duplicate-region",
                    f"Region {region.id!r} is stored twice, the second time as a keypoint with"
                    " another mask; both masks are kept.",
                    region.id,
                )
                return
            self.report(
                "mistyped-region",
                f"Region {region.id!r} is stored as a keypoint but holds a {region.kind}; it is"
                f" read as a {region.kind}.",
                region.id,
            )
        elif len(self.regions) > first:
            self.report(
                "shared-id",
                f"Two different shapes share the region id {region.id!r}; both are kept, and"
                " answers about that id go to the first.",
                region.id,
            )
        if region.kind == "keypoint" and region.is_positive is not None:
            self.report(
                "prompt-left-behind",
                f"Region {region.id!r} is the prompt point of a suggestion that was not accepted:"
                " the mask was never stored.",
                region.id,
            )
        if region.kind == "polygon" and region.value.get("closed") is False:
            self.report(
                "open-polygon",
                f"Polygon {region.id!r} was never closed; it is drawn as if its last point met its"
                " first.",
                region.id,
            )

    def _read_labels(
        self, region_id: str, item: Mapping[str, Any], first: int, failed: bool
    ) -> None:
        """Give the labels of a plain `Labels` control to the region's geometry."""
        if failed and len(self.regions) == first:
            return  # The geometry was reported; its labels have nothing to hold on to.
        value = item.get("value")
        if not isinstance(value, Mapping):
            self.report("unreadable-region", f"Region {region_id!r} has no value.", region_id)
            return
        if len(self.regions) == first:
            kind = kind_of_value(value)
            if kind is None:
                self.report(
                    "unknown-type",
                    f"Region {region_id!r} has labels but no shape on an image; it is left out.",
                    region_id,
                )
            else:
                self._read_geometry(region_id, item, kind, first)
            return
        try:
            labels = labels_of_value(value, "labels")
        except DamagedRegionError as error:
            self.report("unreadable-region", f"Labels of {region_id!r}: {error}", region_id)
            return
        region = self.regions[first]
        merged = tuple(dict.fromkeys((*region.labels, *labels)))
        attributes = {**note_of_item(item, region.attributes), **region.attributes}
        self.regions[first] = replace(region, labels=merged, attributes=attributes)

    def _read_answer(
        self, region_id: str, item: Mapping[str, Any], first: int, failed: bool
    ) -> None:
        """Give an answer to its region, or to the image when it has none."""
        name = str(item.get("from_name", ""))
        value = item.get("value")
        if not isinstance(value, Mapping):
            self.report("unreadable-region", f"The answer {name!r} has no value.", region_id)
            return
        kind = str(item["type"])
        answer = value.get(_ANSWER_KEYS.get(kind, kind))
        if len(self.regions) > first:
            region = self.regions[first]
            attributes = {**region.attributes, name: answer}
            if name == "note" and "note" in region.attributes:
                attributes["meta.note"] = region.attributes["note"]
            self.regions[first] = replace(region, attributes=attributes)
            return
        if failed or kind_of_value(value) is not None:
            self.report(
                "orphan-answer",
                f"The answer {name!r} belongs to region {region_id!r}, which is not there; it is"
                " kept as an answer about the image.",
                region_id,
            )
        index = item.get("item_index")
        key = f"{name}[{index}]" if index else name
        previous = self.answers.get(key)
        if isinstance(previous, list) and isinstance(answer, list):
            self.answers[key] = [*previous, *answer]
            return
        if key in self.answers:
            self.report(
                "repeated-answer",
                f"The image has several answers for {key!r}; the last one is kept.",
                region_id,
            )
        self.answers[key] = answer
