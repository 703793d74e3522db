"""Pascal VOC segmentation: palette PNGs of classes and of objects.

Read are `SegmentationClass/` with `SegmentationObject/` and `ImageSets/Segmentation/` (the
official layout and ours), the same below another folder such as `VOC2012/`, and everything in one
folder, where the PNGs are those of classes. Class ids are those of `--taxonomy`, `taxonomy.yaml`,
our export's card, `labelmap.txt` (ids by VOC's colours, where it has others by its lines, the first
being background, 0), else the official 20. 255 is VOID, as along the outlines of the official data
set. The n-th object of `Annotations/<image>.xml` tells the flags and attributes of object n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from numpy.typing import NDArray

from exporters.importers.classes import (
    ClassEntry,
    card_taxonomy,
    make_taxonomy,
    own_taxonomy,
    with_void_label,
)
from exporters.importers.coco_json import YES, survey
from exporters.importers.dataset import (
    DamagedImageError,
    Dataset,
    DatasetError,
    ImportedImage,
    ImportedSegment,
    Item,
)
from exporters.importers.folder import DatasetFolder
from exporters.importers.label_images import Color, masks_by_value, read_label_map
from exporters.importers.listing import ListedImage, items_of, listed_images
from exporters.importers.semantic_png import label_segments
from exporters.importers.tasks import NOTE
from segstudio.masks import Mask
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

CLASSES: Final = "SegmentationClass"
OBJECTS: Final = "SegmentationObject"
PICTURES: Final = "JPEGImages"
SETS: Final = "ImageSets/Segmentation"
XMLS: Final = "Annotations"
_FLAGS: Final = ("truncated", "difficult", "occluded")
_MAX_XML_BYTES: Final = 16 << 20
_VOID: Final = 255
_VOID_COLOR: Final = (224, 224, 192)
_OFFICIAL: Final = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def voc_color(number: int) -> Color:
    """Return the colour of a class id in VOC's colour map.

    Source: the development kit's VOClabelcolormap.m: the id's bits, from the lowest, three at a
    time as the bits of red, green and blue, from the highest.

    >>> voc_color(1), voc_color(15), voc_color(255)
    ((128, 0, 0), (192, 128, 128), (224, 224, 192))
    """
    red = green = blue = 0
    for bit in range(8):
        red |= (number >> 3 * bit & 1) << 7 - bit
        green |= (number >> 3 * bit + 1 & 1) << 7 - bit
        blue |= (number >> 3 * bit + 2 & 1) << 7 - bit
    return red, green, blue


_NUMBERS: Final = {voc_color(number): number for number in range(256)}


@dataclass(frozen=True, slots=True)
class _Voc:
    """What every image needs: picklable."""

    folder: DatasetFolder
    base: str
    taxonomy: Taxonomy
    void_label: str
    colors: Mapping[Color, int]
    splits: Mapping[str, str]

    def __call__(self, item: Item) -> ImportedImage:
        return _read(self, item.record)


def open_dataset(folder: DatasetFolder, taxonomy: Taxonomy | None) -> Dataset:
    """Open a Pascal VOC data set; its XML files are read once to see which attributes there are.

    Raises:
        DatasetError: no class PNG, or a damaged labelmap.txt.
    """
    base = _base(folder)
    splits = _splits(folder, base)
    listed = listed_images(folder, ".png")
    if listed is None:
        listed = list(_found(folder, base, splits))
    if not any(True for _ in listed):
        raise DatasetError(f"{folder.root} holds no PNG, neither in {CLASSES}/ nor in itself.")
    labelmap = _labelmap(folder, base)
    if taxonomy is None:
        taxonomy = own_taxonomy(folder) or card_taxonomy(folder) or _taxonomy(folder, labelmap)
    colors = dict(_NUMBERS)
    for entry in labelmap:
        one = taxonomy.by_label(entry.name)
        if one is not None and entry.color is not None:
            colors[entry.color] = one.id
    taxonomy, void_label = with_void_label(taxonomy)
    attributes: dict[str, Any] = {}
    for image in listed:
        try:
            for _, found in _xml_objects(folder, _class_png(image)):
                survey(attributes, found)
        except DamagedImageError:
            continue  # counted when the image is read
    return Dataset(
        taxonomy=taxonomy,
        items=items_of(listed),
        read=_Voc(folder, base, taxonomy, void_label, colors, splits),
        attributes=attributes,
    )


def _base(folder: DatasetFolder) -> str:
    """Return the folder that has SegmentationClass in it, relative; "" if it is this one or none.

    The official archive holds VOCdevkit/VOC2012/.
    """
    for where in ("", "*", "*/*"):
        pattern = f"{where}/{CLASSES}" if where else CLASSES
        found = sorted(one for one in folder.root.glob(pattern) if one.is_dir())
        if found:
            return folder.relative(found[0].parent).removeprefix(".")
    return ""


def _splits(folder: DatasetFolder, base: str) -> dict[str, str]:
    """Return the split of each image that a list names; the official trainval only repeats."""
    where = f"{base}/{SETS}" if base else SETS
    splits: dict[str, str] = {}
    for path in folder.files(".txt", where):
        if path.stem != "trainval":
            for line in folder.text_lines(folder.relative(path)) or ():
                splits.setdefault(line.split()[0], path.stem)
    return splits


def _found(folder: DatasetFolder, base: str, splits: Mapping[str, str]) -> Iterator[ListedImage]:
    """Yield the class PNGs: as the lists name them, else all there are."""
    where = f"{base}/{CLASSES}" if base else CLASSES
    if not folder.path(where).is_dir():
        for path in folder.files(".png"):
            yield ListedImage((folder.relative(path),))
    elif splits:
        for stem in splits:
            yield ListedImage((f"{where}/{stem}.png",))
    else:
        for path in folder.files(".png", where):
            yield ListedImage((folder.relative(path),))


def _labelmap(folder: DatasetFolder, base: str) -> list[ClassEntry]:
    """Return the classes of labelmap.txt, whose lines are `name:red,green,blue:parts:actions`."""
    name = f"{base}/labelmap.txt" if base else "labelmap.txt"
    rows: list[tuple[str, Color]] = []
    for line in folder.text_lines(name) or ():
        if line.startswith("#"):
            continue
        label, _, rest = line.partition(":")
        try:
            red, green, blue = (int(one) for one in rest.partition(":")[0].split(","))
        except ValueError as error:
            raise DatasetError(
                f"{folder.root / name} has the line {line!r}; its lines are "
                "name:red,green,blue:parts:actions."
            ) from error
        rows.append((label, (red, green, blue)))
    ids = [_NUMBERS.get(color) for _, color in rows]
    if None in ids or len(set(ids)) < len(ids):
        ids = list(range(len(rows)))
    return [
        ClassEntry(number, label, color)
        for (label, color), number in zip(rows, ids, strict=True)
        if number is not None and (number, label.lower()) != (0, "background")
    ]


def _taxonomy(folder: DatasetFolder, labelmap: list[ClassEntry]) -> Taxonomy:
    entries = [one for one in labelmap if one.id != _VOID]
    name = folder.root.resolve().name
    if not entries:
        name = "Pascal VOC"
        entries = [ClassEntry(at, one, voc_color(at)) for at, one in enumerate(_OFFICIAL, 1)]
    return make_taxonomy(entries, name=name, void_id=_VOID, void_color=_VOID_COLOR)


def _class_png(image: ListedImage) -> str:
    return next((one for one in image.files if f"{CLASSES}/" in one), image.files[0])


def _xml_objects(folder: DatasetFolder, class_png: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and attributes of each object of an image's XML; [] where there is none.

    Raises:
        DamagedImageError: it is there and cannot be read.
    """
    name = class_png.replace(f"{CLASSES}/", f"{XMLS}/").removesuffix(".png") + ".xml"
    path = folder.path(name)
    if f"{XMLS}/" not in name or not path.is_file():
        return []
    try:
        if path.stat().st_size > _MAX_XML_BYTES:
            raise DamagedImageError(f"{name} is larger than {_MAX_XML_BYTES >> 20} MB.")
        root = fromstring(path.read_bytes(), forbid_dtd=True)
    except (OSError, ParseError, DefusedXmlException, ValueError) as error:
        raise DamagedImageError(f"{name} is damaged: {error}.") from error
    return [((one.findtext("name") or "").strip(), _attributes(one)) for one in root.iter("object")]


def _attributes(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for flag in _FLAGS:
        if (element.findtext(flag) or "").strip() == "1":
            found[flag] = [YES]
    for one in element.iterfind("attributes/attribute"):
        name, value = one.findtext("name") or "", one.findtext("value") or ""
        if name and value:
            found[name] = value if name == NOTE else value.split(", ")
    return found


def _read(voc: _Voc, listed: ListedImage) -> ImportedImage:
    folder = voc.folder
    name = _class_png(listed)
    classes = read_label_map(folder.path(name), name, voc.colors)
    height_px, width_px = classes.shape
    problems: list[Problem] = []
    objects_name = name.replace(f"{CLASSES}/", f"{OBJECTS}/")
    if objects_name != name and folder.path(objects_name).is_file():
        objects = read_label_map(folder.path(objects_name), objects_name, _NUMBERS)
        try:
            told = _xml_objects(folder, name)
        except DamagedImageError as error:
            told = []
            problems.append(Problem("damaged-xml", f"{error} Its objects have no attributes."))
        segments = _objects(objects, classes, voc, told, objects_name, problems)
    else:
        masks = masks_by_value(classes)
        segments, problems = label_segments(masks, voc.taxonomy, voc.void_label, name)
    path = PurePosixPath(name)
    root = path.parent.parent if f"{CLASSES}/" in name else PurePosixPath()
    places = [str(root / PICTURES), str(root / "images"), str(root)]
    picture = folder.picture_of(path.stem, places, besides=name)
    split = voc.splits.get(path.stem)
    return ImportedImage(
        listed.file_name or picture or f"{path.stem}.jpg",
        height_px,
        width_px,
        tuple(segments),
        listed.reference,
        {"split": split} if split else {},
        tuple(problems),
    )


def _objects(
    objects: NDArray[np.int32],
    classes: NDArray[np.int32],
    voc: _Voc,
    told: list[tuple[str, dict[str, Any]]],
    name: str,
    problems: list[Problem],
) -> list[ImportedSegment]:
    """Return the segments of a pair of PNGs: what has no object first, then object by object.

    `told` are the names and attributes of the XML's objects, in their order.

    Raises:
        DamagedImageError: they have different sizes.
    """
    if objects.shape != classes.shape:
        raise DamagedImageError(
            f"{name} has {objects.shape[1]} x {objects.shape[0]} pixels, the PNG of classes "
            f"{classes.shape[1]} x {classes.shape[0]}."
        )
    step = int(classes.max()) + 1
    rest: dict[int, Mask] = {}
    things: list[ImportedSegment] = []
    seen: set[int] = set()
    for value, mask in masks_by_value(objects.astype(np.int64) * step + classes).items():
        number, class_id = divmod(value, step)
        one = voc.taxonomy.by_id.get(class_id)
        if number == 0 or class_id == voc.taxonomy.void_id:
            rest[class_id] = rest[class_id] | mask if class_id in rest else mask
        elif one is None:
            text = f"{name} has {mask.area_px} pixels of the object {number}, which have no class"
            problems.append(Problem("png-disagree", f"{text}; they are left out."))
        else:
            if number in seen:
                text = f"The object {number} of {name} has pixels of several classes"
                problems.append(Problem("png-disagree", f"{text}; it becomes one region a class."))
            seen.add(number)
            source = {"class_id": class_id, "object": number}
            label, attributes = told[number - 1] if number <= len(told) else ("", {})
            if label != one.name:
                attributes = {}
            things.append(ImportedSegment(one.name, mask, source, attributes))
    others, found = label_segments(rest, voc.taxonomy, voc.void_label, name)
    problems.extend(found)
    return others + things
