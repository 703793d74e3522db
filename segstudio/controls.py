"""What a labelling interface is made of: labels, controls and image tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

ControlKind = Literal[
    "brush",
    "bitmask",
    "polygon",
    "rectangle",
    "ellipse",
    "keypoint",
    "labels",
    "choices",
    "textarea",
    "rating",
    "number",
    "taxonomy",
    "datetime",
]

AREA_KINDS: Final[frozenset[ControlKind]] = frozenset(
    {"brush", "bitmask", "polygon", "rectangle", "ellipse"}
)
"""Kinds of control whose regions cover pixels."""

CONTROL_TAGS: Final[Mapping[str, tuple[str, ControlKind]]] = {
    "brush": ("Brush", "brush"),
    "brushlabels": ("BrushLabels", "brush"),
    "magicwand": ("MagicWand", "brush"),
    "bitmask": ("Bitmask", "bitmask"),
    "bitmasklabels": ("BitmaskLabels", "bitmask"),
    "polygon": ("Polygon", "polygon"),
    "polygonlabels": ("PolygonLabels", "polygon"),
    "rectangle": ("Rectangle", "rectangle"),
    "rectanglelabels": ("RectangleLabels", "rectangle"),
    "ellipse": ("Ellipse", "ellipse"),
    "ellipselabels": ("EllipseLabels", "ellipse"),
    "keypoint": ("KeyPoint", "keypoint"),
    "keypointlabels": ("KeyPointLabels", "keypoint"),
    "labels": ("Labels", "labels"),
    "choices": ("Choices", "choices"),
    "textarea": ("TextArea", "textarea"),
    "rating": ("Rating", "rating"),
    "number": ("Number", "number"),
    "taxonomy": ("Taxonomy", "taxonomy"),
    "datetime": ("DateTime", "datetime"),
}
"""Lower-case tag -> its documented spelling and the kind of control it is."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label (or choice) of a control.

    `value` is what the annotator reads, `stored` what annotations hold: the alias if there is one.
    """

    value: str
    color: str | None = None
    alias: str | None = None
    hint: str | None = None

    @property
    def stored(self) -> str:
        """Return the text that annotations hold for this label.

        >>> Label("Car", alias="vehicle").stored
        'vehicle'
        """
        return self.alias or self.value


@dataclass(frozen=True, slots=True)
class Control:
    """One control tag: what it is called, what it draws, on which objects, with which labels.

    `tag` is spelled as in Label Studio's documentation whatever the XML's case. `dynamic` is true
    where the labels come with each task (``value="$key"``) and cannot be known here.
    """

    name: str
    tag: str
    kind: ControlKind
    to_names: tuple[str, ...]
    labels: tuple[Label, ...] = ()
    smart: bool = False
    dynamic: bool = False
    per_region: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the labels as annotations hold them."""
        return tuple(label.stored for label in self.labels)

    @property
    def value_key(self) -> str:
        """Return the key under which a result's value holds the labels, e.g. ``brushlabels``."""
        return self.tag.lower()


@dataclass(frozen=True, slots=True)
class ImageTag:
    """One Image tag: where in a task's data its picture, or list of pictures, is named.

    `value` is the attribute as written; `value_key` the task's key when it is one variable
    (``$image`` gives ``image``), else empty.
    """

    name: str
    value: str
    value_key: str
    is_list: bool = False
