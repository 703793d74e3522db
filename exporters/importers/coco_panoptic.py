"""COCO panoptic: a PNG of segment ids per image, and a JSON that says what each id is.

Read are `panoptic.json` (ours), `annotations/panoptic_<split>.json` with the PNGs in
`annotations/panoptic_<split>/` or `panoptic_<split>/` (the official layout), and everything in
one folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from exporters.importers.classes import own_taxonomy
from exporters.importers.coco_json import (
    CocoFile,
    coco_taxonomy,
    file_problems,
    items_of,
    json_files,
    picture,
    segment_attributes,
    several_files,
    stated_size,
    survey,
)
from exporters.importers.dataset import (
    DamagedImageError,
    Dataset,
    ImportedImage,
    ImportedSegment,
    Item,
)
from exporters.importers.folder import DatasetFolder
from exporters.importers.label_images import masks_by_value, read_id_colors
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy

_VOID: Final = 0


def open_dataset(folder: DatasetFolder, taxonomy: Taxonomy | None) -> Dataset:
    """Open a COCO panoptic data set; its JSON is read once, its PNGs one by one later.

    Raises:
        DatasetError: no JSON or several, one that is cut off or no COCO file.
    """
    paths = json_files(folder, "panoptic")
    if len(paths) > 1:
        raise several_files(folder, paths, "panoptic")
    path = paths[0]
    file = CocoFile(path)
    if taxonomy is None:
        taxonomy = own_taxonomy(folder) or coco_taxonomy(file, folder)
    attributes: dict[str, Any] = {}
    for annotation in file.annotations():
        for info in _infos(annotation):
            survey(attributes, segment_attributes(info))
    beside = folder.relative(path.parent).removeprefix(".")
    below = [f"{beside}/{one}".lstrip("/") for one in (path.stem, "panoptic")]
    png_folders = tuple(dict.fromkeys((*below, beside, path.stem, "panoptic", "")))
    return Dataset(
        taxonomy=taxonomy,
        items=_items(file),
        read=partial(_read, folder, taxonomy, png_folders),
        total=file.images_count,
        attributes=attributes,
        problems=file_problems(file),
    )


def _items(file: CocoFile) -> Iterator[Item]:
    for name, task_id, record, entries in items_of(file):
        yield Item(name, (record, entries), task_id)


def _infos(annotation: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = annotation.get("segments_info")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _read(
    folder: DatasetFolder, taxonomy: Taxonomy, png_folders: tuple[str, ...], item: Item
) -> ImportedImage:
    record, entries = item.record
    height_px, width_px = stated_size(record, item.name)
    file_name, reference = picture(folder, record, item.name)
    if not entries:
        raise DamagedImageError(f"{item.name} has no annotation in the JSON; it is left out.")
    annotation = entries[0]
    problems = []
    if len(entries) > 1:
        text = f"{item.name} has {len(entries)} annotations in the JSON; the first is taken."
        problems.append(Problem("doubled-annotation", text))
    png_name = annotation.get("file_name")
    if not isinstance(png_name, str) or not png_name:
        raise DamagedImageError(f"The annotation of {item.name} names no PNG.")
    png = folder.find(png_name, png_folders)
    if png is None:
        raise DamagedImageError(f"The PNG {png_name} of {item.name} is missing.")
    ids = read_id_colors(png, png_name)
    if ids.shape != (height_px, width_px):
        raise DamagedImageError(
            f"{png_name} has {ids.shape[1]} x {ids.shape[0]} pixels, but the JSON says "
            f"{width_px} x {height_px}."
        )
    masks = masks_by_value(ids)
    masks.pop(_VOID, None)
    segments = []
    for info in _infos(annotation):
        number, class_id = info.get("id"), info.get("category_id")
        mask = masks.pop(number, None) if isinstance(number, int) else None
        one = taxonomy.by_id.get(class_id) if isinstance(class_id, int) else None
        if mask is None:
            text = f"{png_name} has no pixel of the segment {number!r}, which the JSON lists"
            problems.append(Problem("segment-without-pixels", f"{text}; it is left out."))
        elif one is None:
            text = f"Segment {number} of {item.name} has the category {class_id!r}"
            problems.append(
                Problem("unknown-category", f"{text}, which the data set does not name.")
            )
        else:
            source = {"segment_id": number}
            segments.append(ImportedSegment(one.name, mask, source, segment_attributes(info)))
    for number, mask in masks.items():
        text = f"{png_name} has {mask.area_px} pixels of the id {number}, which the JSON lacks"
        problems.append(Problem("pixels-without-segment", f"{text}; they are left out."))
    return ImportedImage(
        file_name, height_px, width_px, tuple(segments), reference, {}, tuple(problems)
    )
