"""A project's labelling interface: the XML read once into controls, labels and image tags.

The reading follows the editor of Label Studio 1.23: names of tags and of attributes are taken
without regard to case, a control without ``toName`` belongs to the only object of the interface,
and a label with an ``alias`` is stored in annotations under its alias.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from segstudio.controls import (
    AREA_KINDS,
    CONTROL_TAGS,
    Control,
    ControlKind,
    ImageTag,
    Label,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = [
    "AREA_KINDS",
    "Control",
    "ControlKind",
    "ImageTag",
    "Label",
    "LabelConfig",
    "LabelConfigError",
    "parse_label_config",
    "validate_with_sdk",
]

MAX_CONFIG_CHARS: Final = 8 * 1024 * 1024
"""Longer labelling interfaces are refused: the largest real ones are a few hundred kB."""

_OBJECT_TAGS: Final = frozenset(
    {"image", "text", "hypertext", "audio", "audioplus", "video", "list", "table", "paragraphs"}
    | {"timeseries", "website", "chat", "pdf", "reactcode"}
)


class LabelConfigError(ValueError):
    """A labelling interface that cannot be used; the sentence says what and where."""


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """A parsed labelling interface.

    `ignored` names the controls that say nothing about pixels on images and are not read
    (Vector, VideoRectangle, HyperTextLabels ...), as ``name (Tag)``.
    """

    xml: str
    controls: tuple[Control, ...]
    images: tuple[ImageTag, ...]
    ignored: tuple[str, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the stored labels of all controls that mark pixels of an image.

        In the order of the interface, each once. Labels that only key points carry are left out
        (they are prompts or landmarks); `<Labels>` counts where a plain shape control exists for
        the same image.
        """
        return tuple(dict.fromkeys(label.stored for label in self._area_labels()))

    @property
    def label_colors(self) -> dict[str, str]:
        """Return the first colour that the interface gives to each of `label_names`."""
        colors: dict[str, str] = {}
        for label in self._area_labels():
            if label.color:
                colors.setdefault(label.stored, label.color)
        return colors

    @property
    def smart_controls(self) -> tuple[Control, ...]:
        """Return the controls that send prompts to the ML backend (``smart="true"``)."""
        return tuple(control for control in self.controls if control.smart)

    @property
    def has_dynamic_labels(self) -> bool:
        """Say whether some labels come with each task and are not known from the interface."""
        return any(control.dynamic for control in self._area_controls())

    def control(self, name: str) -> Control | None:
        """Return the control of that name, or None."""
        return next((control for control in self.controls if control.name == name), None)

    def controls_of(self, kind: ControlKind) -> tuple[Control, ...]:
        """Return the controls of one kind, in the order of the interface."""
        return tuple(control for control in self.controls if control.kind == kind)

    def image(self, name: str) -> ImageTag | None:
        """Return the Image tag of that name, or None."""
        return next((image for image in self.images if image.name == name), None)

    def _area_controls(self) -> Iterator[Control]:
        image_names = {image.name for image in self.images}
        plain_targets = {
            name
            for control in self.controls
            if control.kind in AREA_KINDS and not control.tag.endswith("Labels")
            for name in control.to_names
        }
        for control in self.controls:
            targets = image_names.intersection(control.to_names)
            if (control.kind in AREA_KINDS and targets) or (
                control.kind == "labels" and targets & plain_targets
            ):
                yield control

    def _area_labels(self) -> Iterator[Label]:
        for control in self._area_controls():
            yield from control.labels


def parse_label_config(xml: str) -> LabelConfig:
    """Read a labelling interface.

    Args:
        xml: the interface as Label Studio keeps it.

    Returns:
        Controls and image tags in document order.

    Raises:
        LabelConfigError: XML that is broken, too long, has a document type or entities, doubled
            names, a doubled label within one control, a control whose ``toName`` is missing (with
            several objects to choose from) or names nothing, or no Image tag.

    >>> config = parse_label_config('''<View><Image name="i" value="$image"/>
    ...   <BrushLabels name="b" toName="i"><Label value="Car"/></BrushLabels></View>''')
    >>> config.label_names, config.images[0].value_key
    (('Car',), 'image')
    """
    root = _parse_xml(xml)
    nodes = list(_walk(root))
    objects = [node for node in nodes if node.tag in _OBJECT_TAGS and node.get("name")]
    object_names = [node.get("name") for node in objects]
    images = tuple(_image_tag(node) for node in objects if node.tag == "image")
    if not images:
        raise LabelConfigError(
            "The labelling interface has no Image tag with a name; segmentation needs one, "
            'for example <Image name="image" value="$image"/>.'
        )
    controls: list[Control] = []
    ignored: list[str] = []
    for node in nodes:
        if node.tag in CONTROL_TAGS:
            controls.append(_control(node, object_names))
        elif node.get("toname") and node.tag not in _OBJECT_TAGS:
            ignored.append(f"{node.get('name')} ({node.original_tag})")
    _refuse_doubled_names([*object_names, *(control.name for control in controls)])
    return LabelConfig(xml=xml, controls=tuple(controls), images=images, ignored=tuple(ignored))


def validate_with_sdk(xml: str) -> None:
    """Have the SDK's own LabelInterface check the interface, as the server does on import.

    Imports the SDK (about half a second); an empty answer means that it is content.

    Raises:
        LabelConfigError: the SDK's complaint, in one sentence.
    """
    from label_studio_sdk.label_interface.interface import LabelInterface

    # The SDK raises its own, lxml's and bare exceptions; whatever it is, it is its complaint.
    try:
        LabelInterface(xml).validate()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise LabelConfigError(
            f"Label Studio's SDK refuses the labelling interface: {error}"
        ) from error


@dataclass(frozen=True, slots=True)
class _Node:
    """An element with lower-case names, as the editor sees it."""

    tag: str
    original_tag: str
    attributes: Mapping[str, str]
    element: Element

    def get(self, name: str) -> str:
        return self.attributes.get(name, "").strip()

    def is_true(self, name: str) -> bool:
        return self.get(name).lower() == "true"


def _parse_xml(xml: str) -> Element:
    if len(xml) > MAX_CONFIG_CHARS:
        raise LabelConfigError(
            f"The labelling interface is {len(xml)} characters long; "
            f"more than {MAX_CONFIG_CHARS} are not read."
        )
    if not xml.strip():
        raise LabelConfigError("The labelling interface is empty.")
    try:
        return fromstring(xml.strip(), forbid_dtd=True)
    except DefusedXmlException as error:
        raise LabelConfigError(
            "The labelling interface declares a document type or entities "
            f"({type(error).__name__}); remove the declaration."
        ) from error
    except (ParseError, ValueError) as error:
        raise LabelConfigError(
            f"The labelling interface is not well-formed XML: {error}."
        ) from error


def _node(element: Element) -> _Node:
    original_tag = str(element.tag)
    attributes = {str(key).lower(): str(value) for key, value in element.attrib.items()}
    return _Node(original_tag.lower(), original_tag, attributes, element)


def _walk(root: Element) -> Iterator[_Node]:
    for element in root.iter():
        yield _node(element)


def _image_tag(node: _Node) -> ImageTag:
    value_list = node.get("valuelist")
    value = value_list or node.get("value")
    if not value:
        raise LabelConfigError(
            f'Image "{node.get("name")}" has neither value nor valueList; '
            'name the task\'s key, for example value="$image".'
        )
    variable = re.fullmatch(r"\$([\w\[\].]+)", value)
    return ImageTag(
        name=node.get("name"),
        value=value,
        value_key=variable.group(1) if variable else "",
        is_list=bool(value_list),
    )


def _control(node: _Node, object_names: list[str]) -> Control:
    tag, kind = CONTROL_TAGS[node.tag]
    name = node.get("name")
    if not name:
        raise LabelConfigError(f"A {tag} control has no name; every control needs one of its own.")
    labels = tuple(_labels(node))
    if kind != "taxonomy":  # the same leaf may stand under several branches of a Taxonomy
        _refuse_doubled_labels(tag, name, labels)
    return Control(
        name=name,
        tag=tag,
        kind=kind,
        to_names=_to_names(node, tag, name, object_names),
        labels=labels,
        smart=node.is_true("smart"),
        dynamic=node.get("value").startswith("$") or bool(node.get("apiurl")),
        per_region=node.is_true("perregion"),
    )


def _to_names(node: _Node, tag: str, name: str, object_names: list[str]) -> tuple[str, ...]:
    written = [part.strip() for part in node.get("toname").split(",") if part.strip()]
    known = ", ".join(f'"{known_name}"' for known_name in object_names)
    if not written:
        if len(object_names) == 1:
            return (object_names[0],)
        raise LabelConfigError(
            f'{tag} "{name}" has no toName, and the interface has several objects ({known}); '
            "say which one it is for."
        )
    for to_name in written:
        if to_name not in object_names:
            raise LabelConfigError(
                f'{tag} "{name}" has toName="{to_name}", which is no object of the interface; '
                f"it has {known}."
            )
    return tuple(dict.fromkeys(written))


def _labels(node: _Node) -> Iterator[Label]:
    """Yield the labels below a control, through Views, but not those of a control inside it."""
    for element in node.element:
        child = _node(element)
        if child.tag in CONTROL_TAGS:
            continue
        if child.tag in {"label", "choice"}:
            # Verbatim, not stripped: annotations hold the text exactly as it is written here.
            value = child.attributes.get("value", "")
            alias = child.attributes.get("alias") or None
            if value or alias:
                yield Label(
                    value=value or str(alias),
                    color=child.get("background") or None,
                    alias=alias,
                    hint=child.get("hint") or None,
                )
        yield from _labels(child)


def _refuse_doubled_labels(tag: str, name: str, labels: tuple[Label, ...]) -> None:
    doubled = _doubled(label.stored for label in labels)
    if doubled:
        raise LabelConfigError(
            f'{tag} "{name}" has the label {_quoted(doubled)} more than once; keep one of each.'
        )


def _refuse_doubled_names(names: list[str]) -> None:
    doubled = _doubled(names)
    if doubled:
        raise LabelConfigError(
            f"The labelling interface uses the name {_quoted(doubled)} more than once; "
            "every object and every control needs a name of its own."
        )


def _doubled(texts: Iterable[str]) -> list[str]:
    return [text for text, count in Counter(texts).items() if count > 1]


def _quoted(texts: list[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)
