"""Pascal VOC segmentation: palette PNGs of classes and of objects.

Read are `SegmentationClass/` with `SegmentationObject/` and `ImageSets/Segmentation/` (the
official layout and ours), the same below another folder such as `VOC2012/`, and everything in one
folder, where the PNGs are those of classes. Class ids are those of `--taxonomy`, `taxonomy.yaml`,
our export's card, the lines of `labelmap.txt` (the first is background, 0), else the official 20.
255 is VOID, as along the outlines of the official data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporters.importers.classes import (
    ClassEntry,
    card_taxonomy,
    make_taxonomy,
    own_taxonomy,
    with_void_label,
)
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
from exporters.importers.semantic_png import id_colors, label_segments
from segstudio.masks import Mask
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy

CLASSES: Final = "SegmentationClass"
OBJECTS: Final = "SegmentationObject"
PICTURES: Final = "JPEGImages"
SETS: Final = "ImageSets/Segmentation"
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


def open_dataset(folder: DatasetFolder, taxonomy: Taxonomy | None) -> Dataset:
    """Open a Pascal VOC data set.

    Raises:
        DatasetError: no class PNG, or a damaged labelmap.txt.
    """
    base = _base(folder)
    listed = listed_images(folder, ".png")
    if listed is None and next(_found(folder, base), None) is None:
        raise DatasetError(f"{folder.root} holds no PNG, neither in {CLASSES}/ nor in itself.")
    if taxonomy is None:
        taxonomy = own_taxonomy(folder) or card_taxonomy(folder) or _labelmap(folder, base)
    if taxonomy is None:
        entries = [ClassEntry(at, name, voc_color(at)) for at, name in enumerate(_OFFICIAL, 1)]
        taxonomy = make_taxonomy(
            entries, name="Pascal VOC", void_id=_VOID, void_color=_VOID_COLOR, unlabelled_id=0
        )
    taxonomy, void_label = with_void_label(taxonomy)
    return Dataset(
        taxonomy=taxonomy,
        items=items_of(_found(folder, base) if listed is None else listed),
        read=partial(_read, folder, taxonomy, void_label),
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


def _found(folder: DatasetFolder, base: str) -> Iterator[ListedImage]:
    """Yield the class PNGs: as the lists name them, else all there are."""
    head = f"{base}/" if base else ""
    where = f"{head}{CLASSES}"
    if not folder.path(where).is_dir():
        for path in folder.files(".png"):
            if path.name != "contact-sheet.png":
                yield ListedImage((folder.relative(path),))
        return
    listed: dict[str, None] = {}
    for name in sorted(folder.files(".txt", f"{head}{SETS}")):
        if name.stem != "trainval":  # the official one repeats train.txt and val.txt
            for line in folder.text_lines(folder.relative(name)) or ():
                listed[line.split()[0]] = None
    if listed:
        for stem in listed:
            yield ListedImage((f"{where}/{stem}.png",))
        return
    for path in folder.files(".png", where):
        yield ListedImage((folder.relative(path),))


def _labelmap(folder: DatasetFolder, base: str) -> Taxonomy | None:
    """Return the classes of labelmap.txt, whose lines are `name:red,green,blue:parts:actions`."""
    name = f"{base}/labelmap.txt" if base else "labelmap.txt"
    lines = folder.text_lines(name)
    if lines is None:
        return None
    entries = []
    rows = [line for line in lines if not line.startswith("#")]
    for number, line in enumerate(rows):
        label, _, rest = line.partition(":")
        try:
            red, green, blue = (int(one) for one in rest.partition(":")[0].split(","))
        except ValueError as error:
            raise DatasetError(
                f"{folder.root / name} has the line {line!r}; its lines are "
                "name:red,green,blue:parts:actions."
            ) from error
        if number > 0 or label.lower() not in ("background", "unlabelled", "unlabeled"):
            entries.append(ClassEntry(number, label, (red, green, blue)))
    void = [one for one in entries if one.name.lower() in ("void", "ignore") or one.id == _VOID]
    rest_of = [one for one in entries if one not in void]
    return make_taxonomy(
        rest_of,
        name=folder.root.name,
        void_id=void[0].id if void else None,
        void_color=(void[0].color or _VOID_COLOR) if void else _VOID_COLOR,
    )


def _read(folder: DatasetFolder, taxonomy: Taxonomy, void_label: str, item: Item) -> ImportedImage:
    listed: ListedImage = item.record
    name = next((one for one in listed.files if f"{CLASSES}/" in one), listed.files[0])
    colors = id_colors(taxonomy)
    classes = read_label_map(folder.path(name), name, colors)
    height_px, width_px = classes.shape
    problems: list[Problem] = []
    objects_name = name.replace(f"{CLASSES}/", f"{OBJECTS}/")
    if objects_name != name and folder.path(objects_name).is_file():
        numbers = {voc_color(number): number for number in range(256)}
        objects = read_label_map(folder.path(objects_name), objects_name, numbers)
        segments = _objects(objects, classes, taxonomy, void_label, objects_name, problems)
    else:
        segments, problems = label_segments(masks_by_value(classes), taxonomy, void_label, name)
    stem = PurePosixPath(name).stem
    parent = PurePosixPath(name).parent.parent if f"{CLASSES}/" in name else PurePosixPath("")
    places = [one.removeprefix("./") for one in (f"{parent}/{PICTURES}", "images", str(parent))]
    picture = folder.picture_of(stem, [one.removeprefix(".") for one in places], besides=name)
    return ImportedImage(
        listed.file_name or picture or f"{stem}.jpg",
        height_px,
        width_px,
        tuple(segments),
        listed.reference,
        problems=tuple(problems),
    )


def _objects(
    objects: NDArray[np.int32],
    classes: NDArray[np.int32],
    taxonomy: Taxonomy,
    void_label: str,
    name: str,
    problems: list[Problem],
) -> list[ImportedSegment]:
    """Return the segments of a pair of PNGs: what has no object first, then object by object.

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
        one = taxonomy.by_id.get(class_id)
        if number == 0 or class_id == taxonomy.void_id:
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
            things.append(ImportedSegment(one.name, mask, source))
    others, found = label_segments(rest, taxonomy, void_label, name)
    problems.extend(found)
    return others + things
