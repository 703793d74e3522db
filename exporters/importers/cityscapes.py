"""Cityscapes: `_labelIds.png` and `_instanceIds.png` per image.

Read are `gtFine/<split>/<city>/` (the official layout and ours), the same below another folder,
and everything in one folder. A pixel of `_instanceIds` is 1000 times its class plus the object's
number, or the class alone: of stuff, or of a group of things that nobody told apart (a crowd).
Without that file each class is one region. `_polygons.json` tells the order in which the objects
are drawn and their attributes; the pixels are those of the PNGs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.importers.cityscapes_labels import OFFICIAL_CLASSES
from exporters.importers.classes import (
    ClassEntry,
    card_of,
    card_taxonomy,
    color_of,
    make_taxonomy,
    own_taxonomy,
    with_void_label,
)
from exporters.importers.coco_json import YES, segment_attributes, survey
from exporters.importers.dataset import (
    DamagedImageError,
    Dataset,
    DatasetError,
    ImportedImage,
    ImportedSegment,
    Item,
)
from exporters.importers.folder import IMAGE_ENDINGS, DatasetFolder
from exporters.importers.label_images import masks_by_value, read_label_map
from exporters.importers.listing import ListedImage, items_of, listed_images
from exporters.importers.semantic_png import id_colors, label_segments
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy

_LABELS: Final = "_labelIds.png"
_INSTANCES: Final = "_instanceIds.png"
_POLYGONS: Final = "_polygons.json"
_UNLABELED: Final = 0
_NOT_TRAINED: Final = 255
_STEP: Final = 1000
_KIND: Final = re.compile(r"_gt(Fine|Coarse)$")
_PICTURES: Final = "leftImg8bit"


def open_dataset(folder: DatasetFolder, taxonomy: Taxonomy | None) -> Dataset:
    """Open a Cityscapes data set.

    Classes are those of `--taxonomy`, of `taxonomy.yaml`, of `classes.json` (ours), else the
    official ones.

    Raises:
        DatasetError: no `_labelIds.png` anywhere in the folder, or a damaged classes.json.
    """
    listed = listed_images(folder, _LABELS)
    if listed is None and next(_found(folder), None) is None:
        raise DatasetError(
            f"{folder.root} holds no PNG whose name ends in {_LABELS}; give the folder that has "
            "gtFine in it, or the label images themselves."
        )
    if taxonomy is None:
        taxonomy = own_taxonomy(folder) or _classes_file(folder)
    if taxonomy is None:
        taxonomy = make_taxonomy(OFFICIAL_CLASSES, name="Cityscapes", void_id=255, unlabelled_id=0)
    taxonomy, void_label = with_void_label(taxonomy)
    attributes: dict[str, Any] = {"iscrowd": [YES]}
    # Only our own exports have attributes; the official files need not be read twice.
    for image in listed or ():
        try:
            for one in _drawn(folder, _label_png(image)):
                survey(attributes, one.attributes)
        except DamagedImageError:
            continue  # counted when the image is read
    return Dataset(
        taxonomy=taxonomy,
        items=items_of(_found(folder) if listed is None else listed),
        read=partial(_read, folder, taxonomy, void_label),
        attributes=attributes,
    )


def _found(folder: DatasetFolder) -> Iterator[ListedImage]:
    for path in folder.files(_LABELS):
        yield ListedImage((folder.relative(path),))


def _label_png(image: ListedImage) -> str:
    return next(one for one in image.files if one.endswith(_LABELS))


def _classes_file(folder: DatasetFolder) -> Taxonomy | None:
    """Return the classes of classes.json, which has the columns of cityscapesscripts' labels.py."""
    found = folder.json("classes.json")
    if found is None:
        return card_taxonomy(folder)
    about = card_of(folder).get("taxonomy", {})
    try:
        return make_taxonomy(
            [
                ClassEntry(
                    int(one["id"]),
                    str(one["name"]),
                    color_of(one.get("color")),
                    bool(one["hasInstances"]),
                    str(one["category"]),
                    None if one["trainId"] in (_NOT_TRAINED, -1) else int(one["trainId"]),
                )
                for one in found["labels"]
                if int(one["id"]) > _UNLABELED
            ],
            name=str(about.get("name") or folder.root.resolve().name),
            version=str(about.get("version") or "1"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{folder.root / 'classes.json'} is damaged ({error!r}); repair or remove it."
        ) from error


@dataclass(frozen=True, slots=True)
class _DrawnObject:
    """An object of `_polygons.json`, known by its label and which of them it is."""

    label: str
    number: int
    attributes: Mapping[str, Any]


def _drawn(folder: DatasetFolder, label_png: str) -> list[_DrawnObject]:
    """Return the objects of an image in the order in which they are drawn; [] without the file.

    Raises:
        DamagedImageError: the file is there and cannot be read.
    """
    name = label_png.removesuffix(_LABELS) + _POLYGONS
    try:
        found = folder.json(name)
    except DatasetError as error:
        raise DamagedImageError(str(error)) from error
    objects = (found or {}).get("objects", [])
    if not isinstance(objects, list):
        raise DamagedImageError(f"{name} has no list of objects.")
    counts: Counter[str] = Counter()
    drawn = []
    for one in objects:
        if not isinstance(one, dict) or one.get("deleted"):
            continue
        label, attributes = str(one.get("label", "")), one.get("attributes")
        drawn.append(
            _DrawnObject(label, counts[label], attributes if isinstance(attributes, dict) else {})
        )
        counts[label] += 1
    return drawn


def _read(folder: DatasetFolder, taxonomy: Taxonomy, void_label: str, item: Item) -> ImportedImage:
    listed: ListedImage = item.record
    name = _label_png(listed)
    labels = read_label_map(folder.path(name), name, id_colors(taxonomy))
    height_px, width_px = labels.shape
    problems: list[Problem] = []
    instances_name = name.removesuffix(_LABELS) + _INSTANCES
    if folder.path(instances_name).is_file():
        values = read_label_map(folder.path(instances_name), instances_name, {})
        try:
            drawn = _drawn(folder, name)
        except DamagedImageError as error:
            drawn = []
            problems.append(Problem("damaged-polygons", f"{error} Its objects have no attributes."))
        segments = _instances(values, labels, taxonomy, void_label, instances_name, drawn, problems)
    else:
        masks = masks_by_value(labels)
        masks.pop(_UNLABELED, None)
        segments, problems = label_segments(masks, taxonomy, void_label, name)
    path = PurePosixPath(name)
    stem = _KIND.sub("", path.name.removesuffix(_LABELS))
    return ImportedImage(
        listed.file_name or _picture(folder, path, stem),
        height_px,
        width_px,
        tuple(segments),
        listed.reference,
        _place(path),
        tuple(problems),
    )


def _place(path: PurePosixPath) -> dict[str, str | int]:
    """Return split and city of gtFine/<split>/<city>/, {} of another place."""
    places = path.parent.parts
    at = next((at for at, one in enumerate(places) if one in ("gtFine", "gtCoarse")), None)
    return {} if at is None else dict(zip(("split", "city"), places[at + 1 :], strict=False))


def _instances(
    values: NDArray[np.int32],
    labels: NDArray[np.int32],
    taxonomy: Taxonomy,
    void_label: str,
    name: str,
    drawn: list[_DrawnObject],
    problems: list[Problem],
) -> list[ImportedSegment]:
    """Return the segments of an instance image in the order in which they are drawn.

    Raises:
        DamagedImageError: it has another size than the label image.
    """
    if values.shape != labels.shape:
        raise DamagedImageError(
            f"{name} has {values.shape[1]} x {values.shape[0]} pixels, the label image "
            f"{labels.shape[1]} x {labels.shape[0]}."
        )
    different = int(np.count_nonzero(np.where(values >= _STEP, values // _STEP, values) != labels))
    if different:
        text = f"{name} and the label image give {different} pixels different classes"
        problems.append(Problem("png-disagree", f"{text}; the instance image counts."))
    told = {(one.label, one.number): (at, one.attributes) for at, one in enumerate(drawn)}
    found: list[tuple[int, ImportedSegment]] = []
    for value, mask in masks_by_value(values).items():
        class_id, number = (value // _STEP, value % _STEP) if value >= _STEP else (value, None)
        one = taxonomy.by_id.get(class_id)
        if value == _UNLABELED:
            continue
        if one is None:
            segments, unknown = label_segments({value: mask}, taxonomy, void_label, name)
            problems.extend(unknown)
            found.extend((len(drawn), segment) for segment in segments)
            continue
        is_group = number is None and one.is_thing
        key = (f"{one.name}group" if is_group else one.name, number or 0)
        at, attributes = told.get(key, (len(drawn), {}))
        attributes = segment_attributes({"attributes": attributes, "iscrowd": int(is_group)})
        source = {"class_id": class_id, **({} if number is None else {"instance": number})}
        found.append((at, ImportedSegment(one.name, mask, source, attributes)))
    found.sort(key=lambda pair: pair[0])
    return [segment for _, segment in found]


def _picture(folder: DatasetFolder, label_path: PurePosixPath, stem: str) -> str:
    """Return the name of the picture: below leftImg8bit/ as the labels below gtFine/, or beside."""
    parts = label_path.parent.parts
    beside = "/".join(parts)
    pictures = "/".join(_PICTURES if one.startswith("gt") else one for one in parts)
    for where in dict.fromkeys((pictures, beside, "images", "")):
        for end in (f"_{_PICTURES}", ""):
            found = folder.picture_of(f"{stem}{end}", [where], besides=str(label_path))
            if found:
                return found
    ending = IMAGE_ENDINGS[2]
    return f"{pictures}/{stem}_{_PICTURES}{ending}" if pictures != beside else f"{stem}{ending}"
