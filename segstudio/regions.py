"""Regions of Label Studio: one frozen value a region, and what was wrong with it.

`segstudio.result_lists` reads and groups the items of an annotation; here one item that holds
geometry becomes a `Region`, or is refused with the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeGuard, get_args

RegionKind = Literal["brush", "bitmask", "polygon", "rectangle", "ellipse", "keypoint"]
REGION_KINDS: Final[tuple[RegionKind, ...]] = get_args(RegionKind)

MAX_PERCENT: Final = 1e6
"""Coordinates beyond this many percent of the image are damaged data, not drawing."""

MAX_FLOAT: Final = sys.float_info.max

LOSS_KINDS: Final = frozenset(
    {"unreadable-region", "unknown-type", "unreadable-annotation", "unreadable-prediction"}
)
"""Kinds of problem for which something an annotator made was left out; the others inform."""

# The same geometry under the names of its controls: `Brush`, `BrushLabels`, `Magicwand`, ...
GEOMETRY_KINDS: Final[Mapping[str, RegionKind]] = {
    **{kind: kind for kind in REGION_KINDS},
    **{f"{kind}labels": kind for kind in REGION_KINDS},
    "magicwand": "brush",
}
_GEOMETRY_KEYS: Final = (
    *("rle", "maskDataURL", "imageDataURL", "points"),
    *("x", "y", "width", "height", "radiusX", "radiusY", "rotation"),
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

    `value` is Label Studio's own geometry: percent 0..100 of the original image, or a stream
    (`bytes`; a damaged one as the list it was) or image of its pixels. `attributes` holds the
    region's own answers by control name, and the text of its `meta` under "note" ("meta.note"
    where a control has that name). Geometry always refers to the image as it is;
    `image_rotation_deg` only says how the editor showed it. `source` is the `segstudio` part of
    its `meta`: the ids it had in the data set that it was imported from.
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
    source: Mapping[str, Any] = field(default_factory=dict)


class DamagedRegionError(ValueError):
    """A region that cannot be read; the rest of its sentence, for a Problem."""


def region_of_item(region_id: str, item: Mapping[str, Any], kind: RegionKind) -> Region:
    """The region that one item describes, without what other items of its id add.

    Raises:
        DamagedRegionError: when no mask or point can come from it.
    """
    value = item.get("value")
    # Nearly always a dict; asking whether it is a Mapping takes ten times as long.
    if type(value) is not dict and not isinstance(value, Mapping):
        raise DamagedRegionError("it has no value.")
    width_px = _whole(item, "original_width")
    height_px = _whole(item, "original_height")
    if width_px < 1 or height_px < 1:
        raise DamagedRegionError(
            f"its image is {width_px} x {height_px} pixels (original_width x original_height)."
        )
    _check_value(kind, value)
    score, origin = item.get("score"), item.get("origin")
    positive, parent = item.get("is_positive"), item.get("parentID")
    has_meta = item.get("meta") is not None
    return Region(
        id=region_id,
        kind=kind,
        from_name=str(item.get("from_name", "")),
        to_name=str(item.get("to_name", "")),
        labels=labels_of_value(value, str(item["type"]).lower()),
        value=_with_packed_stream(value),
        original_width_px=width_px,
        original_height_px=height_px,
        image_rotation_deg=_whole(item, "image_rotation", 0),
        item_index=_whole(item, "item_index", 0),
        score=float(score) if score is not None and is_number(score) else None,
        origin=origin if isinstance(origin, str) else "manual",
        is_positive=None if positive is None else bool(positive),
        parent_id=None if parent is None else str(parent),
        attributes=note_of_item(item, {}) if has_meta else {},
        source=_source_of_item(item) if has_meta else {},
    )


def note_of_item(item: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """{"note": text} of an item's `meta`, or {} where it has none or `attributes` has one."""
    meta = item.get("meta")
    text = meta.get("text") if isinstance(meta, Mapping) else None
    if isinstance(text, list):
        text = "\n".join(str(line) for line in text)
    if not isinstance(text, str) or not text or "note" in attributes:
        return {}
    return {"note": text}


def _source_of_item(item: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = item.get("meta")
    found = meta.get("segstudio") if isinstance(meta, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def labels_of_value(value: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """The labels under the key of the item's type, or under "labels"; each once.

    Raises:
        DamagedRegionError: when they are no names.
    """
    labels = value.get(kind)
    if labels is None:
        labels = value.get("labels")
    if labels is None:
        return ()
    if isinstance(labels, str):
        return (labels,)
    if type(labels) is list and len(labels) == 1 and type(labels[0]) is str:
        return (labels[0],)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DamagedRegionError(f"its labels are {labels!r}, not a list of names.")
    return tuple(dict.fromkeys(labels))


def kind_of_value(value: Mapping[str, Any]) -> RegionKind | None:
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


def is_mistyped(item: Mapping[str, Any]) -> bool:
    """Whether an item calls itself a keypoint and holds another shape."""
    is_keypoint = GEOMETRY_KINDS.get(str(item.get("type", "")).lower()) == "keypoint"
    value = item.get("value")
    return is_keypoint and isinstance(value, Mapping) and kind_of_value(value) is not None


def same_geometry(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two values are the same shape, whatever their labels."""
    return all(a.get(key) == b.get(key) for key in _GEOMETRY_KEYS)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of some JSON is a finite number; not where it is beyond any float."""
    is_numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return is_numeric and -MAX_FLOAT <= value <= MAX_FLOAT


def _whole(item: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = item.get(key)
    if type(value) is int and abs(value) < 1 << 53:
        return value
    if value is None and default is not None:
        return default
    if not is_number(value) or value != int(value):
        raise DamagedRegionError(f"its {key} is {value!r}, not a whole number.")
    return int(value)


def _with_packed_stream(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The value with its brush stream as bytes: a list takes eight times as much memory."""
    stream = value.get("rle")
    if not isinstance(stream, list):
        return value
    try:
        return {**value, "rle": bytes(stream)}
    except (TypeError, ValueError):  # damaged; decoding it will say how
        return value


def _check_value(kind: RegionKind, value: Mapping[str, Any]) -> None:
    """Refuse geometry that no mask can come from; streams and images are read later."""
    if kind == "brush":
        is_stream = isinstance(value.get("rle"), list | bytes)
        if not is_stream and not isinstance(value.get("maskDataURL"), str):
            raise DamagedRegionError("it is a brush without an 'rle' list.")
    elif kind == "bitmask":
        if not isinstance(value.get("imageDataURL"), str):
            raise DamagedRegionError("it is a bitmask without an 'imageDataURL'.")
    elif kind == "polygon":
        points = value.get("points")
        if not isinstance(points, list) or len(points) < 3:
            count = len(points) if isinstance(points, list) else "no"
            raise DamagedRegionError(
                f"it is a polygon of {count} points; at least 3 enclose an area."
            )
        for point in points:
            if not isinstance(point, list | tuple) or len(point) != 2:
                raise DamagedRegionError(f"its point {point!r} is not a pair [x, y].")
            _check_percent("point", point[0], point[1])
    else:
        sizes = {"rectangle": ("width", "height"), "ellipse": ("radiusX", "radiusY")}
        for key in ("x", "y", *sizes.get(kind, ())):
            _check_percent(key, value.get(key))
        if value.get("rotation") is not None and not is_number(value["rotation"]):
            raise DamagedRegionError(
                f"its rotation is {value['rotation']!r}, not a number of degrees."
            )


def _check_percent(name: str, *numbers: Any) -> None:
    for number in numbers:
        if not is_number(number) or abs(number) > MAX_PERCENT:
            raise DamagedRegionError(f"its {name} is {number!r}, not a percentage of the image.")
