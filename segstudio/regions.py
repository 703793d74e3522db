"""Regions of Label Studio's `result` lists: one frozen value a region, and what was wrong with it.

Label Studio stores a region as one or several items of a flat list that share an id: its geometry
(`brush`, `polygonlabels`, ...), its labels when they come from a plain `Labels` control, and its
own answers (per-region choices, text, numbers). Here they become one `Region`. Nothing is dropped
without a `Problem` that names the task, the annotation and the region.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeGuard, get_args

RegionKind = Literal["brush", "bitmask", "polygon", "rectangle", "ellipse", "keypoint"]
REGION_KINDS: Final[tuple[RegionKind, ...]] = get_args(RegionKind)

MAX_PERCENT: Final = 1e6
"""Coordinates beyond this many percent of the image are damaged data, not drawing."""

LOSS_KINDS: Final = frozenset(
    {"unreadable-region", "unknown-type", "unreadable-annotation", "unreadable-prediction"}
)
"""Kinds of problem for which something an annotator made was left out; the others inform."""

# The same geometry under the names of its controls: `Brush`, `BrushLabels`, `Magicwand`, ...
_GEOMETRY_KINDS: Final[Mapping[str, RegionKind]] = {
    **{kind: kind for kind in REGION_KINDS},
    **{f"{kind}labels": kind for kind in REGION_KINDS},
    "magicwand": "brush",
}
_GEOMETRY_KEYS: Final = (
    *("rle", "maskDataURL", "imageDataURL", "points"),
    *("x", "y", "width", "height", "radiusX", "radiusY", "rotation"),
)
# Where the value of an answer lies, when it is not under the name of its type.
_ANSWER_KEYS: Final = {"textarea": "text", "pairwise": "selected"}
_ANSWER_TYPES: Final = frozenset(
    {"choices", "textarea", "number", "rating", "taxonomy", "datetime", "pairwise", "ranker"}
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was not read, or read with a doubt: a kind to count, a sentence to show."""

    kind: str
    message: str
    task_id: int | None = None
    annotation_id: int | None = None
    region_id: str | None = None

    @property
    def is_loss(self) -> bool:
        """Whether something an annotator made was left out."""
        return self.kind in LOSS_KINDS


@dataclass(frozen=True, slots=True)
class Region:
    """One region as an annotator drew it; `segstudio.shapes.region_mask` gives its pixels.

    `value` is Label Studio's own geometry: percent 0..100 of the original image, or a stream or
    image of its pixels. `attributes` holds the region's own answers by control name, and the text
    of its `meta` under "note" ("meta.note" where a control has that name). Geometry always refers
    to the image as it is; `image_rotation_deg` only says how the editor showed it.
    """

    id: str
    kind: RegionKind
    from_name: str
    to_name: str
    labels: tuple[str, ...]
    value: Mapping[str, Any]
    original_width_px: int
    original_height_px: int
    image_rotation_deg: int = 0
    item_index: int = 0
    score: float | None = None
    origin: str = "manual"
    is_positive: bool | None = None
    parent_id: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParsedResult:
    """What one `result` list holds: its regions, the answers about the whole image, the doubts."""

    regions: tuple[Region, ...]
    answers: Mapping[str, Any]
    problems: tuple[Problem, ...]


class _Damaged(ValueError):  # noqa: N818 - never leaves this module
    """A region that cannot be read; becomes a Problem."""


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
        if not isinstance(item, Mapping):
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
        for item in sorted(items, key=_is_mistyped):
            kind = _GEOMETRY_KINDS.get(str(item.get("type", "")).lower())
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
        if _is_mistyped(item):
            kind = _kind_of_value(item["value"]) or kind
        try:
            region = _region(region_id, item, kind)
        except _Damaged as error:
            self.report(
                "unreadable-region", f"Region {region_id!r} is left out: {error}", region_id
            )
            return False
        for index in range(first, len(self.regions)):
            other = self.regions[index]
            if other.kind != kind or not _same_geometry(other.value, region.value):
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
            kind = _kind_of_value(value)
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
            labels = _labels(value, "labels")
        except _Damaged as error:
            self.report("unreadable-region", f"Labels of {region_id!r}: {error}", region_id)
            return
        region = self.regions[first]
        merged = tuple(dict.fromkeys((*region.labels, *labels)))
        attributes = {**_note(item, region.attributes), **region.attributes}
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
        if failed or _kind_of_value(value) is not None:
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


def _region(region_id: str, item: Mapping[str, Any], kind: RegionKind) -> Region:
    value = item.get("value")
    if not isinstance(value, Mapping):
        raise _Damaged("it has no value.")
    width_px = _whole(item, "original_width")
    height_px = _whole(item, "original_height")
    if width_px < 1 or height_px < 1:
        raise _Damaged(
            f"its image is {width_px} x {height_px} pixels (original_width x original_height)."
        )
    _check_value(kind, value)
    score, origin = item.get("score"), item.get("origin")
    positive, parent = item.get("is_positive"), item.get("parentID")
    return Region(
        id=region_id,
        kind=kind,
        from_name=str(item.get("from_name", "")),
        to_name=str(item.get("to_name", "")),
        labels=_labels(value, str(item["type"]).lower()),
        value=value,
        original_width_px=width_px,
        original_height_px=height_px,
        image_rotation_deg=_whole(item, "image_rotation", 0),
        item_index=_whole(item, "item_index", 0),
        score=float(score) if _is_number(score) else None,
        origin=origin if isinstance(origin, str) else "manual",
        is_positive=None if positive is None else bool(positive),
        parent_id=None if parent is None else str(parent),
        attributes=_note(item, {}),
    )


def _note(item: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    meta = item.get("meta")
    text = meta.get("text") if isinstance(meta, Mapping) else None
    if isinstance(text, list):
        text = "\n".join(str(line) for line in text)
    if not isinstance(text, str) or not text or "note" in attributes:
        return {}
    return {"note": text}


def _labels(value: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    labels = value.get(kind)
    if labels is None:
        labels = value.get("labels")
    if labels is None:
        return ()
    if isinstance(labels, str):
        return (labels,)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise _Damaged(f"its labels are {labels!r}, not a list of names.")
    return tuple(dict.fromkeys(labels))


def _kind_of_value(value: Mapping[str, Any]) -> RegionKind | None:
    """The kind of geometry a value holds, a keypoint's position excepted; None for none."""
    if "rle" in value or "maskDataURL" in value:
        return "brush"
    if "imageDataURL" in value:
        return "bitmask"
    if "points" in value:
        return "polygon"
    if "radiusX" in value:
        return "ellipse"
    if "x" in value and "height" in value:
        return "rectangle"
    return None


def _is_mistyped(item: Mapping[str, Any]) -> bool:
    """Whether an item calls itself a keypoint and holds another shape."""
    is_keypoint = _GEOMETRY_KINDS.get(str(item.get("type", "")).lower()) == "keypoint"
    value = item.get("value")
    return is_keypoint and isinstance(value, Mapping) and _kind_of_value(value) is not None


def _same_geometry(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a.get(key) == b.get(key) for key in _GEOMETRY_KEYS)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(item: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = item.get(key)
    if value is None and default is not None:
        return default
    if not _is_number(value) or value != int(value):
        raise _Damaged(f"its {key} is {value!r}, not a whole number.")
    return int(value)


def _check_value(kind: RegionKind, value: Mapping[str, Any]) -> None:
    """Refuse geometry that no mask can come from; streams and images are read later."""
    if kind == "brush":
        if not isinstance(value.get("rle"), list) and not isinstance(value.get("maskDataURL"), str):
            raise _Damaged("it is a brush without an 'rle' list.")
    elif kind == "bitmask":
        if not isinstance(value.get("imageDataURL"), str):
            raise _Damaged("it is a bitmask without an 'imageDataURL'.")
    elif kind == "polygon":
        points = value.get("points")
        if not isinstance(points, list) or len(points) < 3:
            count = len(points) if isinstance(points, list) else "no"
            raise _Damaged(f"it is a polygon of {count} points; at least 3 enclose an area.")
        for point in points:
            if not isinstance(point, list | tuple) or len(point) != 2:
                raise _Damaged(f"its point {point!r} is not a pair [x, y].")
            _check_percent("point", point[0], point[1])
    else:
        sizes = {"rectangle": ("width", "height"), "ellipse": ("radiusX", "radiusY")}
        for key in ("x", "y", *sizes.get(kind, ())):
            _check_percent(key, value.get(key))
        if value.get("rotation") is not None and not _is_number(value["rotation"]):
            raise _Damaged(f"its rotation is {value['rotation']!r}, not a number of degrees.")


def _check_percent(name: str, *numbers: Any) -> None:
    for number in numbers:
        if not _is_number(number) or abs(number) > MAX_PERCENT:
            raise _Damaged(f"its {name} is {number!r}, not a percentage of the image.")
