"""Regions back to Label Studio's `result` lists: what `segstudio.result_lists` reads, written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from segstudio.label_config import Control, LabelConfig
from segstudio.regions import Region

# Where an answer's value lies, when it is not under the name of its type.
_ANSWER_KEYS = {"textarea": "text"}
_ANSWER_KINDS = frozenset({"choices", "textarea", "rating", "number", "taxonomy", "datetime"})


class RegionItemsError(ValueError):
    """A region that the labelling interface cannot hold; the message says what has no place."""


def region_items(regions: Iterable[Region], config: LabelConfig) -> list[dict[str, Any]]:
    """The items of a `result` list that `result_lists.parse_result` reads back as the same regions.

    One item for the geometry, one for each plain `Labels` control that gives the region labels,
    one for each of its own answers. No region gives an empty list. Sizes, rotation, page, score,
    origin, parent, note and source are kept; labels are written under the control that offers them.

    Raises:
        RegionItemsError: when the interface has no control of the region's name or kind, none
            that offers one of its labels, or none for one of its answers.

    >>> from segstudio.label_config import parse_label_config
    >>> config = parse_label_config('''<View><Image name="image" value="$image"/>
    ...   <RectangleLabels name="box"><Label value="Car"/></RectangleLabels></View>''')
    >>> box = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}
    >>> region = Region("r1", "rectangle", "box", "image", ("Car",), box, 20, 10)
    >>> [item["value"]["rectanglelabels"] for item in region_items([region], config)]
    [['Car']]
    """
    return [item for region in regions for item in _items_of(region, config)]


def _items_of(region: Region, config: LabelConfig) -> list[dict[str, Any]]:
    control = config.control(region.from_name)
    if control is None or control.kind != region.kind:
        raise RegionItemsError(
            f"Region {region.id!r} is a {region.kind} of the control {region.from_name!r}, which"
            " the labelling interface does not have."
        )
    geometry = {
        key: list(value) if isinstance(value, bytes) else value
        for key, value in region.value.items()
        if not key.endswith("labels")
    }
    answers, note = _answers(region, config)
    head = _head(region)
    extras: dict[str, Any] = {"origin": region.origin}
    if region.score is not None:
        extras["score"] = region.score
    if region.is_positive is not None:
        extras["is_positive"] = region.is_positive
    if region.parent_id is not None:
        extras["parentID"] = region.parent_id
    if note is not None or region.source:
        extras["meta"] = {
            **({} if note is None else {"text": [note]}),
            **({"segstudio": dict(region.source)} if region.source else {}),
        }
    labels = _labels_by_control(region, control, config)
    own = labels.pop(control, [])
    value = {**geometry, control.value_key: own} if own else geometry
    items = [{**head, **extras, "from_name": control.name, "type": control.value_key,
              "value": value}]  # fmt: skip
    for giver, given in labels.items():
        items.append({**head, "from_name": giver.name, "type": giver.value_key,
                      "value": {**geometry, giver.value_key: given}})  # fmt: skip
    for answering, answer in answers:
        key = _ANSWER_KEYS.get(answering.kind, answering.kind)
        items.append({**head, "from_name": answering.name, "type": answering.kind,
                      "value": {**geometry, key: answer}})  # fmt: skip
    return items


def _head(region: Region) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id": region.id,
        "to_name": region.to_name,
        "original_width": region.original_width_px,
        "original_height": region.original_height_px,
        "image_rotation": region.image_rotation_deg,
    }
    if region.item_index:
        head["item_index"] = region.item_index
    return head


def _labels_by_control(
    region: Region, control: Control, config: LabelConfig
) -> dict[Control, list[str]]:
    """Each label under the first control that may give it: the region's own, then the others."""
    givers = [
        one
        for one in config.controls
        if one.kind in ("labels", region.kind)
        and region.to_name in one.to_names
        and one.tag.endswith("Labels")
    ]
    # A plain shape belongs with plain labels; other controls of its kind are the last resort.
    own_kind = control.tag.endswith("Labels")
    givers.sort(key=lambda one: (one is not control, (one.kind == "labels") is own_kind))
    placed: dict[Control, list[str]] = {}
    for label in region.labels:
        giver = next((one for one in givers if one.dynamic or label in one.label_names), None)
        if giver is None:
            raise RegionItemsError(
                f"Region {region.id!r} has the label {label!r}, which no control of the labelling"
                f" interface offers for a {region.kind} on {region.to_name!r}."
            )
        placed.setdefault(giver, []).append(label)
    return placed


def _answers(region: Region, config: LabelConfig) -> tuple[list[tuple[Control, Any]], str | None]:
    """The region's answers with their controls, and its note."""
    attributes: Mapping[str, Any] = region.attributes
    note_key = "note" if config.control("note") is None else "meta.note"
    answers = []
    for name, answer in attributes.items():
        if name == note_key:
            continue
        control = config.control(name)
        if control is None or control.kind not in _ANSWER_KINDS:
            raise RegionItemsError(
                f"Region {region.id!r} has an answer of {name!r}, which is no control of the"
                " labelling interface that takes answers."
            )
        answers.append((control, answer))
    note = attributes.get(note_key)
    return answers, None if note is None else str(note)
