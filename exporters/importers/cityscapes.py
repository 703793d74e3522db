"""Cityscapes: `_labelIds.png` and `_instanceIds.png` per image.

Read are `gtFine/<split>/<city>/` (the official layout and ours), the same below another folder,
and everything in one folder. A pixel of `_instanceIds` is 1000 times its class plus the object's
number, or the class alone: of stuff, or of a group of things that nobody told apart (a crowd).
Without that file each class is one region.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporters.importers.cityscapes_labels import OFFICIAL_CLASSES
from exporters.importers.classes import (
    card_taxonomy,
    make_taxonomy,
    own_taxonomy,
    with_void_label,
)
from exporters.importers.coco_json import YES
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
from segstudio.masks import Mask
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy

_LABELS: Final = "_labelIds.png"
_INSTANCES: Final = "_instanceIds.png"
_STEP: Final = 1000
_KIND: Final = re.compile(r"_gt(Fine|Coarse)$")
_PICTURES: Final = "leftImg8bit"
_CROWD: Final[Mapping[str, list[str]]] = {"iscrowd": [YES]}


def open_dataset(folder: DatasetFolder, taxonomy: Taxonomy | None) -> Dataset:
    """Open a Cityscapes data set.

    Classes are those of `--taxonomy`, of `taxonomy.yaml`, of our export's card, else the official
    ones.

    Raises:
        DatasetError: no `_labelIds.png` anywhere in the folder.
    """
    listed = listed_images(folder, _LABELS)
    if listed is None and next(_found(folder), None) is None:
        raise DatasetError(
            f"{folder.root} holds no PNG whose name ends in {_LABELS}; give the folder that has "
            "gtFine in it, or the label images themselves."
        )
    if taxonomy is None:
        taxonomy = own_taxonomy(folder) or card_taxonomy(folder)
    if taxonomy is None:
        taxonomy = make_taxonomy(OFFICIAL_CLASSES, name="Cityscapes", void_id=255, unlabelled_id=0)
    taxonomy, void_label = with_void_label(taxonomy)
    return Dataset(
        taxonomy=taxonomy,
        items=items_of(_found(folder) if listed is None else listed),
        read=partial(_read, folder, taxonomy, void_label),
        attributes=_CROWD,
    )


def _found(folder: DatasetFolder) -> Iterator[ListedImage]:
    for path in folder.files(_LABELS):
        yield ListedImage((folder.relative(path),))


def _read(folder: DatasetFolder, taxonomy: Taxonomy, void_label: str, item: Item) -> ImportedImage:
    listed: ListedImage = item.record
    name = next(one for one in listed.files if one.endswith(_LABELS))
    labels = read_label_map(folder.path(name), name, id_colors(taxonomy))
    height_px, width_px = labels.shape
    problems: list[Problem] = []
    instances_name = name.removesuffix(_LABELS) + _INSTANCES
    if folder.path(instances_name).is_file():
        values = read_label_map(folder.path(instances_name), instances_name, {})
        segments = _instances(values, labels, taxonomy, void_label, instances_name, problems)
    else:
        segments, problems = label_segments(masks_by_value(labels), taxonomy, void_label, name)
    path = PurePosixPath(name)
    stem = _KIND.sub("", path.name.removesuffix(_LABELS))
    places = path.parent.parts
    data: dict[str, str | int] = {}
    if "gtFine" in places[:-1] or "gtCoarse" in places[:-1]:
        after = places[next(at for at, one in enumerate(places) if one.startswith("gt")) + 1 :]
        data = dict(zip(("split", "city"), after, strict=False))
    return ImportedImage(
        listed.file_name or _picture(folder, path, stem),
        height_px,
        width_px,
        tuple(segments),
        listed.reference,
        data,
        tuple(problems),
    )


def _instances(
    values: NDArray[np.int32],
    labels: NDArray[np.int32],
    taxonomy: Taxonomy,
    void_label: str,
    name: str,
    problems: list[Problem],
) -> list[ImportedSegment]:
    """Return the segments of an instance image, by class and number.

    Raises:
        DamagedImageError: it has another size than the label image.
    """
    if values.shape != labels.shape:
        raise DamagedImageError(
            f"{name} has {values.shape[1]} x {values.shape[0]} pixels, the label image "
            f"{labels.shape[1]} x {labels.shape[0]}."
        )
    classes = np.where(values >= _STEP, values // _STEP, values)
    different = int(np.count_nonzero(classes != labels))
    if different:
        text = f"{name} and the label image give {different} pixels different classes"
        problems.append(Problem("png-disagree", f"{text}; the instance image counts."))
    things: list[ImportedSegment] = []
    rest: dict[int, Mask] = {}
    for value, mask in masks_by_value(values).items():
        class_id, number = (value // _STEP, value % _STEP) if value >= _STEP else (value, None)
        one = taxonomy.by_id.get(class_id)
        if number is None and one is not None and one.is_thing:
            source = {"class_id": class_id}
            things.append(ImportedSegment(one.name, mask, source, _CROWD))
        elif number is None:
            rest[class_id] = mask
        elif one is None:
            text = f"{name} has the object {value} of the class {class_id}, which does not exist"
            problems.append(Problem("unknown-category", f"{text}; it is left out."))
        else:
            source = {"class_id": class_id, "instance": number}
            things.append(ImportedSegment(one.name, mask, source))
    others, found = label_segments(rest, taxonomy, void_label, name)
    problems.extend(found)
    return others + things


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
