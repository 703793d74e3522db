"""Imported images as Label Studio tasks, and the labelling interface that they need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from exporters.importers.dataset import ImportedImage, ImportedSegment, Item
from segstudio.colors import format_color
from segstudio.label_config import LabelConfig
from segstudio.region_items import region_items
from segstudio.region_values import brush_value
from segstudio.regions import Region
from segstudio.taxonomy import Taxonomy

AsWhat = Literal["annotations", "predictions"]
LOCAL_FILES: Final = "/data/local-files/?d="
IMAGE, BRUSH, NOTE = "image", "brush", "note"

_SCHEMES: Final = re.compile(r"(https?|s3|gs|azure-blob)://", re.IGNORECASE)
_ANY_SCHEME: Final = re.compile(r"[\w+.-]+:")
_NAME: Final = re.compile(r"[^\W\d][\w.-]{0,99}")
_DATE: Final = re.compile(r"\d{4}-\d\d(-\d\d([T ][\d:.+Z-]+)?)?")
_MAX_CHOICES: Final = 200

Answer = Literal["choices", "textarea", "number", "taxonomy", "datetime", "note", ""]
_TAGS: Final[Mapping[Answer, str]] = {
    "choices": "Choices", "textarea": "TextArea", "number": "Number", "taxonomy": "Taxonomy",
    "datetime": "DateTime",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskShape:
    """How tasks are to look: picklable, the same for every image."""

    format_name: str
    config: LabelConfig
    answers: Mapping[str, Answer]
    as_what: AsWhat = "annotations"
    image_root_url: str = ""


def task_of(item: Item, image: ImportedImage, shape: TaskShape) -> dict[str, Any]:
    """Return the JSON of one task, as Label Studio imports it.

    Region ids depend on nothing but the format, the image's name and the segment's place.
    """
    seed = blake2b(f"{shape.format_name}\0{item.name}".encode(), digest_size=6).hexdigest()
    regions = [
        _region(f"{seed}{number:04}", segment, image, shape.answers)
        for number, segment in enumerate(image.segments)
    ]
    result = region_items(regions, shape.config)
    task: dict[str, Any] = {} if item.task_id is None else {"id": item.task_id}
    task["data"] = {IMAGE: image_url(image, shape.image_root_url), **image.data}
    task["meta"] = {
        "segstudio": {
            "import": {
                "format": shape.format_name,
                "file_name": image.file_name,
                "width_px": image.width_px,
                "height_px": image.height_px,
            }
        }
    }
    if shape.as_what == "annotations":
        # Label Studio takes imported annotations for ground truth unless told otherwise.
        task["annotations"] = [{"result": result, "ground_truth": False, "was_cancelled": False}]
    elif result:
        task["predictions"] = [{"model_version": shape.format_name, "result": result}]
    return task


def image_url(image: ImportedImage, root_url: str = "") -> str:
    """Return what the task's data says about where the picture is.

    The root URL with the picture's name in the data set; without one, where the data set itself
    says that it lies (a web or cloud address, one of Label Studio, a relative path), else Label
    Studio's local files.

    >>> image_url(ImportedImage("val/a b.jpg", 1, 1, ()))
    '/data/local-files/?d=val/a%20b.jpg'
    >>> image_url(ImportedImage("a.jpg", 1, 1, ()), "https://example.org/coco")
    'https://example.org/coco/a.jpg'
    """
    if not root_url:
        if _is_usable(image.reference):
            return image.reference
        root_url = LOCAL_FILES
    # Keys of buckets are taken as they are written, addresses are not.
    cloud = re.match(r"(s3|gs|azure-blob)://", root_url)
    name = image.file_name if cloud else quote(image.file_name)
    between = "" if root_url.endswith(("/", "=")) else "/"
    return f"{root_url}{between}{name}"


def _is_usable(reference: str) -> bool:
    """Say whether a data set may name its picture so: nothing of this machine but below a root."""
    if _SCHEMES.match(reference):
        return True
    parts = reference.replace("\\", "/").split("/")
    if ".." in parts or _ANY_SCHEME.match(reference):
        return False
    return reference.startswith("/data/") or bool(parts[0])


def answer_controls(attributes: Mapping[str, Any]) -> dict[str, Answer]:
    """Return which control takes the answers of each attribute; "" where none could.

    Args:
        attributes: an example of each, all options for a list of texts.
    """
    controls: dict[str, Answer] = {}
    lowered = {IMAGE, BRUSH}
    for name, example in attributes.items():
        kind = _answer_kind(name, example)
        if kind not in ("", "note"):
            # The editor finds controls by name, and HTML's ids know no case.
            if not _NAME.fullmatch(name) or name.lower() in lowered:
                kind = ""
            lowered.add(name.lower())
        controls[name] = kind
    return controls


def label_config_xml(
    taxonomy: Taxonomy, attributes: Mapping[str, Any], controls: Mapping[str, Answer]
) -> str:
    """Return the labelling interface: an image, a brush for each class, the segments' answers."""
    lines = [
        "<View>",
        f'  <Image name="{IMAGE}" value="${IMAGE}" zoom="true" zoomControl="true"/>',
        f'  <BrushLabels name="{BRUSH}" toName="{IMAGE}">',
    ]
    labels = [(one.name, one.color) for one in taxonomy.classes]
    labels += [(label, taxonomy.void_color) for label in taxonomy.void_labels]
    lines += [
        f'    <Label value={quoteattr(name)} background="{format_color(color)}"/>'
        for name, color in labels
    ]
    lines.append("  </BrushLabels>")
    for name, kind in controls.items():
        if kind in _TAGS:
            lines += _control_lines(name, kind, attributes[name])
    lines.append("</View>")
    return "\n".join(lines) + "\n"


def _region(
    region_id: str, segment: ImportedSegment, image: ImportedImage, answers: Mapping[str, Answer]
) -> Region:
    attributes: dict[str, Any] = {}
    homeless: dict[str, Any] = {}
    for name, answer in segment.attributes.items():
        kind = _answer_kind(name, answer)
        fits = bool(kind) and answers.get(name) in (kind, "textarea" if kind == "choices" else kind)
        (attributes if fits else homeless)[name] = answer
    source = {**segment.source, **({"attributes": homeless} if homeless else {})}
    return Region(
        id=region_id,
        kind="brush",
        from_name=BRUSH,
        to_name=IMAGE,
        labels=(segment.label,),
        value=brush_value(segment.mask),
        original_width_px=image.width_px,
        original_height_px=image.height_px,
        attributes=attributes,
        source=source,
    )


def _answer_kind(name: str, answer: Any) -> Answer:
    """Return the kind of control whose stored answers look like this one."""
    if isinstance(answer, bool):
        return ""
    if isinstance(answer, int | float):
        return "number"
    if isinstance(answer, str):
        if name == NOTE:
            return "note"
        return "datetime" if _DATE.fullmatch(answer) else ""
    if isinstance(answer, list) and answer:
        if all(isinstance(one, str) for one in answer):
            return "choices" if len(answer) <= _MAX_CHOICES else "textarea"
        if all(_is_path(one) for one in answer):
            return "taxonomy"
    return ""


def _is_path(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _control_lines(name: str, kind: Answer, example: Any) -> list[str]:
    head = f'  <{_TAGS[kind]} name={quoteattr(name)} toName="{IMAGE}" perRegion="true"'
    if kind == "choices":
        options = [f"    <Choice value={quoteattr(_clean(one))}/>" for one in example]
        return [f'{head} choice="multiple">', *options, "  </Choices>"]
    if kind == "taxonomy":
        return [f"{head}>", *_tree_lines(example, "    "), "  </Taxonomy>"]
    if kind == "datetime":
        return [f'{head} only="date,time"/>']
    return [f"{head}/>"]


def _tree_lines(paths: list[list[str]], indent: str) -> list[str]:
    lines = []
    for first in dict.fromkeys(path[0] for path in paths):
        below = [path[1:] for path in paths if path[0] == first and len(path) > 1]
        value = quoteattr(_clean(first))
        if below:
            lines += [f"{indent}<Choice value={value}>", *_tree_lines(below, indent + "  ")]
            lines.append(f"{indent}</Choice>")
        else:
            lines.append(f"{indent}<Choice value={value}/>")
    return lines


def _clean(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]+", " ", text)
