"""Label Studio's prompts -> what to segment: points, boxes, scribbles, grouped into regions.

How prompts become regions:
- key points of one label on one image are one region, in the order they were clicked; a key point
  without `is_positive` counts as positive;
- each rectangle (or ellipse, by its bounding box) is a region of its own;
- where key points and boxes of one label come together, a point goes to the smallest box that holds
  it; positive points outside all boxes are a region of their own;
- a brush region is a scribble: five points spread over its inside, positive unless it says
  otherwise; with boxes and clicks of its label it is joined as clicks are;
- a `labels` item (of a plain shape and a `<Labels>` control) names the prompt of the same id.

Coordinates: percent of the original size -> pixel indices, (0, 0) the centre of the first pixel. A
point outside the image is dropped; a box is clipped to the image and dropped when nothing is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.engines import Prompt

__all__ = ["PromptGroup", "group_prompts", "prompt_sizes", "scribble_points", "with_labels"]

_SCRIBBLE_POINTS = 5
_MAX_PROMPTS = 256
_EDGE_PERCENT = 1e-6
_POINT_TYPES = frozenset({"keypointlabels", "keypoint"})
_RECTANGLE_TYPES = frozenset({"rectanglelabels", "rectangle"})
_ELLIPSE_TYPES = frozenset({"ellipselabels", "ellipse"})
_BRUSH_TYPES = frozenset({"brushlabels", "brush"})


class PromptError(ValueError):
    """A region that cannot be a prompt; the message says why and ends without a full stop."""


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """One region to segment: its prompt, its label, and where the answer belongs.

    `original_*_px` is the size that the editor drew on, which the answer must have.
    """

    prompt: Prompt
    labels: tuple[str, ...]
    from_name: str
    to_name: str
    item_index: int
    original_width_px: int
    original_height_px: int
    image_rotation_deg: float = 0.0


@dataclass(frozen=True, slots=True)
class _Item:
    points: tuple[tuple[float, float], ...]
    positive: bool
    box: tuple[float, float, float, float] | None


def prompt_sizes(result: Iterable[Mapping[str, Any]]) -> set[tuple[int, int]]:
    """Return the (height, width) in pixels that the prompts name."""
    sizes = set()
    for region in result:
        if isinstance(region, Mapping):
            height, width = region.get("original_height"), region.get("original_width")
            if _is_size(height) and _is_size(width):
                sizes.add((int(height), int(width)))  # type: ignore[arg-type]
    return sizes


def group_prompts(
    result: Sequence[Mapping[str, Any]], height_px: int, width_px: int
) -> tuple[list[PromptGroup], list[str]]:
    """Turn `context.result` into regions to segment on an image of the given size.

    Returns the groups in order of their first prompt, and a sentence for everything that was
    dropped. An empty list gives two empty lists.
    """
    problems: list[str] = []
    result = with_labels(result)
    if len(result) > _MAX_PROMPTS:
        problems.append(f"Only the first {_MAX_PROMPTS} of {len(result)} prompts were used.")
    buckets: dict[tuple[Any, ...], list[tuple[_Item, Mapping[str, Any]]]] = {}
    for region in result[:_MAX_PROMPTS]:
        try:
            item = _read_prompt(region, height_px, width_px)
            bucket = (
                str(region.get("to_name") or ""),
                int(region.get("item_index") or 0),
                _labels(region),
            )
        except (ValueError, TypeError) as error:
            problems.append(f"A prompt was dropped: {error}.")
            continue
        buckets.setdefault(bucket, []).append((item, region))
    groups: list[PromptGroup] = []
    for (to_name, item_index, labels), members in buckets.items():
        prompts, dropped = _combine([item for item, _ in members])
        problems.extend(dropped)
        first = members[0][1]
        width, height = first.get("original_width"), first.get("original_height")
        groups.extend(
            PromptGroup(
                prompt=prompt,
                labels=labels,
                from_name=str(first.get("from_name") or ""),
                to_name=to_name,
                item_index=item_index,
                original_width_px=int(width) if _is_size(width) else width_px,  # type: ignore[arg-type]
                original_height_px=int(height) if _is_size(height) else height_px,  # type: ignore[arg-type]
                image_rotation_deg=_number(first.get("image_rotation") or 0),
            )
            for prompt in prompts
        )
    return groups, problems


def with_labels(result: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Join `labels` items with the prompts of the same id, which they name.

    >>> with_labels([{"id": "a", "type": "rectangle", "value": {"x": 1}},
    ...              {"id": "a", "type": "labels", "value": {"x": 1, "labels": ["Car"]}}])
    [{'id': 'a', 'type': 'rectangle', 'value': {'x': 1, 'labels': ['Car']}}]
    """
    names: dict[object, object] = {}
    for item in result:
        if _is_labels(item):
            names[str(item.get("id"))] = item["value"].get("labels")
    joined: list[Mapping[str, Any]] = []
    for item in result:
        if _is_labels(item):
            continue
        name = names.get(str(item.get("id"))) if isinstance(item, Mapping) else None
        if name and isinstance(item.get("value"), Mapping) and not _labels(item):
            item = {**item, "value": {**item["value"], "labels": name}}
        joined.append(item)
    return joined


def _is_labels(item: object) -> bool:
    return (
        isinstance(item, Mapping)
        and str(item.get("type", "")).lower() == "labels"
        and isinstance(item.get("value"), Mapping)
    )


def _read_prompt(region: Mapping[str, Any], height_px: int, width_px: int) -> _Item:
    """Read one region; PromptError with the reason where it cannot be a prompt."""
    if not isinstance(region, Mapping) or not isinstance(region.get("value"), Mapping):
        raise PromptError("it is no region with a value")
    value: Mapping[str, Any] = region["value"]
    kind = str(region.get("type", "")).lower()
    positive = region.get("is_positive", value.get("is_positive"))
    is_positive = True if positive is None else _truth(positive)
    if kind in _BRUSH_TYPES or "rle" in value:
        return _Item(_scribble(region, height_px, width_px), is_positive, None)
    if kind in _RECTANGLE_TYPES or (not kind and "height" in value):
        return _Item((), True, _box(_rectangle_corners(value), height_px, width_px))
    if kind in _ELLIPSE_TYPES:
        return _Item((), True, _box(_ellipse_extremes(value), height_px, width_px))
    if kind in _POINT_TYPES or not kind:
        x, y = _number(value.get("x")), _number(value.get("y"))
        if not (
            -_EDGE_PERCENT <= x <= 100 + _EDGE_PERCENT
            and -_EDGE_PERCENT <= y <= 100 + _EDGE_PERCENT
        ):
            raise PromptError(f"the point ({x:g} %, {y:g} %) lies outside the image")
        point = (
            min(max(x / 100 * width_px - 0.5, 0.0), width_px - 1.0),
            min(max(y / 100 * height_px - 0.5, 0.0), height_px - 1.0),
        )
        return _Item((point,), is_positive, None)
    raise PromptError(f"a region of type {kind!r} is no prompt")


def _combine(items: Sequence[_Item]) -> tuple[list[Prompt], list[str]]:
    """Join the points and boxes of one label into prompts, one a region."""
    boxes = [item.box for item in items if item.box is not None]
    of_box: list[list[tuple[tuple[float, float], bool]]] = [[] for _ in boxes]
    free: list[tuple[tuple[float, float], bool]] = []
    for item in items:
        for point in item.points:
            holders = [i for i, box in enumerate(boxes) if _holds(box, point)]
            if holders:
                smallest = min(holders, key=lambda i: _box_area(boxes[i]))
                of_box[smallest].append((point, item.positive))
            else:
                free.append((point, item.positive))
    prompts = [
        Prompt(tuple(p for p, _ in members), tuple(flag for _, flag in members), box)
        for box, members in zip(boxes, of_box, strict=True)
    ]
    problems = []
    if any(flag for _, flag in free):
        prompts.append(Prompt(tuple(p for p, _ in free), tuple(flag for _, flag in free)))
    elif free and not boxes:
        problems.append("Negative points alone say nothing of the object; add a positive one.")
    elif free:
        problems.append(f"{len(free)} negative points outside every box were dropped.")
    return prompts, problems


def scribble_points(
    mask: NDArray[np.bool_], amount: int = _SCRIBBLE_POINTS
) -> tuple[tuple[float, float], ...]:
    """Spread points over the inside of a scribble, deepest first; none for an empty mask.

    The first is the pixel farthest from the border; each next one is the pixel farthest from those
    taken, among the deeper half of the scribble.
    """
    import cv2

    if not mask.any():
        return ()
    padded = np.pad(mask, 1).astype(np.uint8)
    depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3), np.float32)[1:-1, 1:-1]
    rows, columns = np.nonzero(mask & (depth >= np.median(depth[mask])))
    first = int(np.argmax(depth[rows, columns]))
    chosen = [first]
    distance = np.full(rows.size, np.inf)
    for _ in range(amount - 1):
        last = chosen[-1]
        distance = np.minimum(
            distance, np.hypot(rows - rows[last], columns - columns[last]).astype(float)
        )
        farthest = int(np.argmax(distance))
        if distance[farthest] < 2:
            break
        chosen.append(farthest)
    return tuple((float(columns[i]), float(rows[i])) for i in chosen)


def _scribble(
    region: Mapping[str, Any], height_px: int, width_px: int
) -> tuple[tuple[float, float], ...]:
    from segstudio import brush_rle

    width, height = region.get("original_width"), region.get("original_height")
    if not (_is_size(width) and _is_size(height)):
        raise PromptError("a brush region without its original size cannot be read")
    mask = brush_rle.decode(region["value"].get("rle", []), int(height), int(width))  # type: ignore[arg-type]
    points = scribble_points(mask.to_dense())
    if not points:
        raise PromptError("the scribble is empty")
    scale_x, scale_y = width_px / int(width), height_px / int(height)  # type: ignore[arg-type]
    return tuple(((x + 0.5) * scale_x - 0.5, (y + 0.5) * scale_y - 0.5) for x, y in points)


def _rectangle_corners(value: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """Corners as (x %, y %, turn) about the top-left one; rotation is applied in `_box`."""
    x, y = _number(value.get("x")), _number(value.get("y"))
    width, height = _number(value.get("width")), _number(value.get("height"))
    turn = math.radians(_number(value.get("rotation") or 0))
    return [
        (x, y, turn),
        (x + width, y, turn),
        (x + width, y + height, turn),
        (x, y + height, turn),
    ]


def _ellipse_extremes(value: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """Corners of the box around an ellipse, its rotation taken about the centre by its radii."""
    x, y = _number(value.get("x")), _number(value.get("y"))
    radius_x, radius_y = _number(value.get("radiusX")), _number(value.get("radiusY"))
    turn = math.radians(_number(value.get("rotation") or 0))
    reach_x = math.hypot(radius_x * math.cos(turn), radius_y * math.sin(turn))
    reach_y = math.hypot(radius_x * math.sin(turn), radius_y * math.cos(turn))
    return [(x - reach_x, y - reach_y, 0.0), (x + reach_x, y + reach_y, 0.0)]


def _box(
    corners: Sequence[tuple[float, float, float]], height_px: int, width_px: int
) -> tuple[float, float, float, float]:
    """Bounding box in pixel indices, clipped to the image; PromptError when nothing is left."""
    pivot_x, pivot_y = corners[0][0] / 100 * width_px, corners[0][1] / 100 * height_px
    xs, ys = [], []
    for x_percent, y_percent, turn in corners:
        dx, dy = x_percent / 100 * width_px - pivot_x, y_percent / 100 * height_px - pivot_y
        xs.append(pivot_x + dx * math.cos(turn) - dy * math.sin(turn))
        ys.append(pivot_y + dx * math.sin(turn) + dy * math.cos(turn))
    x0, x1 = max(min(xs), 0.0), min(max(xs), float(width_px))
    y0, y1 = max(min(ys), 0.0), min(max(ys), float(height_px))
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise PromptError("the box holds no pixel of the image")
    return (x0, y0, x1 - 1.0, y1 - 1.0)


def _labels(region: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the prompted labels: the control's own key first, then the editor's `labels`."""
    value = region["value"]
    for key in (str(region.get("type", "")), "labels", *sorted(map(str, value))):
        found = value.get(key)
        if (key.endswith("labels")) and isinstance(found, list | tuple) and found:
            return tuple(str(label) for label in found)
    return ()


def _holds(box: tuple[float, float, float, float], point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _box_area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise PromptError(f"{value!r} is no number")
    number = float(value)
    if not math.isfinite(number):
        raise PromptError(f"{value!r} is no finite number")
    return number


def _truth(value: object) -> bool:
    return (
        value.strip().lower() not in {"0", "false", "no", ""}
        if isinstance(value, str)
        else bool(value)
    )


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 1 << 20
