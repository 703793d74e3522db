"""The images of a task, and which regions of an annotation lie on which of them.

A labelling interface may hold several Image tags, and one tag may show a list of pages
(`valueList`): an image is named by its tag and its page.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from segstudio.label_config import ImageTag, LabelConfig
from segstudio.masks import MAX_PIXELS
from segstudio.tasks import Annotation, Problem, Region, Task

MAX_STEM_BYTES: Final = 120
"""Longest base name taken over from a source: with our suffix and ending below 255 bytes."""

MAX_FIELD_CHARS: Final = 1_000
"""Longest text of a task's data that is carried along with each of its images."""

_PAGE_OF_ANSWER: Final = re.compile(r"(?P<control>.+)\[(?P<page>\d+)\]", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$[\w\[\].]+")


class ImageKey(NamedTuple):
    """Which image of a task: the name of its Image tag, and the page (0 where there are none)."""

    to_name: str
    item_index: int = 0


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image with one annotator's regions on it: what exporters get.

    `reference` is the URL or path as the task gives it (empty where the task lacks it), to be
    opened by `segstudio.media` only. `file_stem` is a file name without its ending: safe on every
    system, unique within a project, the same in every run. `task_data` holds the task's flat data
    fields (see `flat_fields`): what a split rule or a frame order is made of. `answers` are those
    about the image as a whole (see `image_answers`). `dicom` is what the task's data says of the
    slice that the image shows, for `segstudio.dicom_geometry`; empty where it is none.
    """

    task_id: int
    key: ImageKey
    reference: str
    height_px: int
    width_px: int
    regions: tuple[Region, ...]
    annotation_id: int | None
    annotator_id: int | None
    file_stem: str
    task_data: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    dicom: Mapping[str, Any] = field(default_factory=dict)


def flat_fields(data: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return the numbers, booleans and short texts of a task's data, in their order.

    Lists, objects, nulls, texts over `MAX_FIELD_CHARS` and the `qa_*` columns, which quality
    control writes and which change under the same annotation, are left out.

    >>> flat_fields({"video": "a", "frame": 3, "qa_miou": 0.9, "pages": ["x"]})
    {'video': 'a', 'frame': 3}
    """
    return {
        key: value
        for key, value in data.items()
        if isinstance(value, str | int | float)
        and not key.startswith("qa_")
        and not (isinstance(value, str) and len(value) > MAX_FIELD_CHARS)
    }


def regions_by_image(annotation: Annotation) -> dict[ImageKey, tuple[Region, ...]]:
    """Group an annotation's regions by the image they lie on, in the order of first sight.

    Within an image the drawing order is kept. An annotation without regions gives an empty dict.
    """
    groups: dict[ImageKey, list[Region]] = {}
    for region in annotation.regions:
        groups.setdefault(ImageKey(region.to_name, region.item_index), []).append(region)
    return {key: tuple(regions) for key, regions in groups.items()}


def image_references(task: Task, config: LabelConfig) -> dict[ImageKey, str]:
    """Return where each image of a task is, as its data says: a URL, a cloud URI or a path.

    Every page of every Image tag has an entry; one that the task's data lacks has an empty text,
    or, for a list, no entry.
    """
    references: dict[ImageKey, str] = {}
    for image in config.images:
        datum = substitute(image.value, task.data)
        pages = datum if isinstance(datum, list) else [datum]
        for index, page in enumerate(pages):
            references[ImageKey(image.name, index)] = page if isinstance(page, str) else ""
    return references


def image_answers(annotation: Annotation, key: ImageKey, config: LabelConfig) -> dict[str, Any]:
    """Return the answers about one image as a whole (choices, texts, ratings) by control name.

    An answer to a control of another Image tag is left out, one to a control that asks about no
    image (the text beside it, say) counts for every image of the task. Where a control asks page
    by page (`perItem`), each page has its own answer; else the list's answer is every page's.
    """
    found: dict[str, Any] = {}
    image_names = {image.name for image in config.images}
    for name, answer in annotation.answers.items():
        numbered = None if config.control(name) else _PAGE_OF_ANSWER.fullmatch(name)
        base = numbered["control"] if numbered else name
        control = config.control(base)
        targets = image_names.intersection(control.to_names if control else ())
        if targets and key.to_name not in targets:
            continue
        tag = config.image(key.to_name)
        if tag is not None and tag.is_list and (numbered or _asks_page_by_page(config, base)):
            page = int(numbered["page"]) if numbered else 0
            if page == key.item_index:
                found[base] = answer
        else:
            found[name] = answer
    return found


def _asks_page_by_page(config: LabelConfig, control_name: str) -> bool:
    named = rf"""<[^<>]*\bname\s*=\s*["']{re.escape(control_name)}["'][^<>]*>"""
    tag = re.search(named, config.xml, re.IGNORECASE)
    return (
        tag is not None and re.search(r"""\bperitem\s*=\s*["']true""", tag[0].lower()) is not None
    )


def image_size(regions: Iterable[Region]) -> tuple[int, int] | None:
    """Return (height_px, width_px) as most of the regions state it, of equals the first.

    None where there is no region.
    """
    sizes = Counter((region.original_height_px, region.original_width_px) for region in regions)
    return sizes.most_common(1)[0][0] if sizes else None


def annotated_images(
    task: Task,
    annotation: Annotation,
    config: LabelConfig,
    size_of: Callable[[str], tuple[int, int]] | None = None,
) -> tuple[tuple[AnnotatedImage, ...], tuple[Problem, ...]]:
    """Join a task's images with one annotation: one entry an image, also where nothing was drawn.

    Args:
        task: the task; its other annotations and its predictions may tell an image's size.
        annotation: whose regions are taken.
        config: the project's labelling interface.
        size_of: gives (height_px, width_px) of a reference; asked only for an image on which
            nobody drew anything. May raise ValueError or OSError.

    Returns:
        The images in the interface's order, without those that no control draws on, and problems:
        ``image-missing`` (the task's data has no reference; the regions are kept),
        ``unknown-image`` (regions on a tag or page that does not exist; left out),
        ``unknown-image-size`` (nobody drew on it and `size_of` cannot tell; left out).
    """
    references = image_references(task, config)
    grouped = regions_by_image(annotation)
    fields = flat_fields(task.data)
    raw_dicom = task.data.get("dicom")
    dicom = raw_dicom if isinstance(raw_dicom, Mapping) else {}
    images: list[AnnotatedImage] = []
    problems: list[Problem] = []
    drawn_on = {name for control in config.controls for name in control.to_names}

    def report(kind: str, message: str) -> None:
        problems.append(Problem(kind, message, task.id, annotation.id))

    for key, reference in references.items():
        regions = grouped.pop(key, ())
        if drawn_on and key.to_name not in drawn_on and not regions:
            continue  # an image to read from, such as the same slice in another window
        if not reference:
            report(
                "image-missing",
                f"The data of task {task.id} names no picture for {_named(key)}; "
                f"{len(regions)} regions on it are read without it.",
            )
        size = image_size(regions) or image_size(_all_regions_on(task, key))
        if size is None and len(references) == 1:
            size = _imported_size(task)
        if size is None:
            size = _checked_size(dicom.get("rows"), dicom.get("columns"))
        if size is None and reference and size_of is not None:
            try:
                size = size_of(reference)
            except (ValueError, OSError) as error:
                report("unknown-image-size", f"{_named(key)} of task {task.id}: {error}")
                continue
        if size is None:
            report(
                "unknown-image-size",
                f"Nobody drew on {_named(key)} of task {task.id}, and the picture was not opened: "
                "its size is not known, so it is left out.",
            )
            continue
        images.append(
            AnnotatedImage(
                task_id=task.id,
                key=key,
                reference=reference,
                height_px=size[0],
                width_px=size[1],
                regions=regions,
                annotation_id=annotation.id,
                annotator_id=annotation.completed_by,
                file_stem=file_stem(task.id, key, reference, config),
                task_data=fields,
                answers=image_answers(annotation, key, config),
                dicom=dicom,
            )
        )
    for key, regions in grouped.items():
        report(
            "unknown-image",
            f"{len(regions)} regions of task {task.id} lie on {_named(key)}, which the labelling "
            "interface and the task's data do not have; they are left out.",
        )
    return tuple(images), tuple(problems)


def file_stem(task_id: int, key: ImageKey, reference: str, config: LabelConfig) -> str:
    """Return a file name without ending for an image.

    The source's base name, then the task, then, where the interface has several, the Image tag and
    the page: two images never share one, whatever their sources are called.

    >>> from segstudio.label_config import parse_label_config
    >>> config = parse_label_config('<View><Image name="image" value="$image"/></View>')
    >>> file_stem(12, ImageKey("image"), "/data/local-files/?d=a/0001.jpg", config)
    '0001-task12'
    """
    parts = [base_name(reference), f"task{task_id}"]
    if len(config.images) > 1:
        safe = _safe(key.to_name)
        if safe != key.to_name:  # two names may become one
            safe += str([image.name for image in config.images].index(key.to_name))
        parts.append(safe)
    tag: ImageTag | None = config.image(key.to_name)
    if key.item_index or (tag is not None and tag.is_list):
        parts.append(str(key.item_index))
    return "-".join(part for part in parts if part)


@lru_cache(maxsize=64)
def base_name(reference: str) -> str:
    """Return the name of the file that a URL or path points to: safe, without its ending.

    Understands Label Studio's ``/data/local-files/?d=path``, cloud URIs and percent encoding.
    Separators, control characters and everything but letters, digits, dot, dash and underscore
    become an underscore; leading dots go; at most `MAX_STEM_BYTES` bytes stay. A data URL, which
    has no name, gives an empty text.

    >>> base_name("s3://bucket/day 1/IMG%201.png?version=3"), base_name("../../etc/..passwd")
    ('IMG_1', 'passwd')
    """
    if reference[:5].lower() == "data:":
        return ""
    try:
        url = urlsplit(reference)
    except ValueError:  # "http://[" and the like
        path = reference
    else:
        local = parse_qs(url.query).get("d") if url.path.rstrip("/").endswith("local-files") else []
        path = local[0] if local else unquote(url.path)
    name = path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    stem, dot, ending = name.rpartition(".")
    if dot and stem and re.fullmatch(r"\w{1,5}", ending):
        name = stem
    return _safe(name)


def substitute(value: str, data: Mapping[str, Any]) -> Any:
    """Fill an object's ``value`` with a task's data as the editor does.

    One variable alone gives the datum itself, whatever its type (``$a.b`` and ``$list[0]`` reach
    into structures); variables inside a text are replaced by their text. A key that the task lacks
    gives None, a value without variables is returned as it is.

    >>> substitute("$image", {"image": "/data/1.jpg"})
    '/data/1.jpg'
    >>> substitute("/data/$scan[0]/1.png", {"scan": ["ct"]})
    '/data/ct/1.png'
    """
    if _VARIABLE.fullmatch(value):
        return _look_up(value[1:], data)
    found = {variable: _look_up(variable[1:], data) for variable in _VARIABLE.findall(value)}
    if any(datum is None for datum in found.values()):
        return None
    return _VARIABLE.sub(lambda match: str(found[match[0]]), value)


def _look_up(path: str, data: Mapping[str, Any]) -> Any:
    if path in data:
        return data[path]
    current: Any = data
    for step in re.findall(r"\w+", path):
        if isinstance(current, Mapping):
            current = current.get(step)
        elif isinstance(current, list) and step.isdecimal() and int(step) < len(current):
            current = current[int(step)]
        else:
            return None
    return current


def _all_regions_on(task: Task, key: ImageKey) -> list[Region]:
    authors: Sequence[tuple[Region, ...]] = [
        *(annotation.regions for annotation in task.annotations),
        *(prediction.regions for prediction in task.predictions),
    ]
    return [
        region
        for regions in authors
        for region in regions
        if (region.to_name, region.item_index) == key
    ]


def _imported_size(task: Task) -> tuple[int, int] | None:
    """Return the size that `segstudio import` noted in the task's meta: its one image's."""
    ours = task.meta.get("segstudio")
    noted = ours.get("import") if isinstance(ours, Mapping) else None
    if not isinstance(noted, Mapping):
        return None
    return _checked_size(noted.get("height_px"), noted.get("width_px"))


def _checked_size(height_px: object, width_px: object) -> tuple[int, int] | None:
    if not isinstance(height_px, int) or not isinstance(width_px, int):
        return None
    fits = height_px > 0 and width_px > 0 and height_px * width_px <= MAX_PIXELS
    return (height_px, width_px) if fits else None


def _named(key: ImageKey) -> str:
    page = f", page {key.item_index}" if key.item_index else ""
    return f'image "{key.to_name}"{page}'


def _safe(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"[^\w.-]", "_", text).lstrip(".-")
    # A cut may leave half a character behind; it goes too.
    return text.encode()[:MAX_STEM_BYTES].decode(errors="ignore").rstrip(".")
