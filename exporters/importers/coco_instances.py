"""COCO instances: one JSON, or one a split, of every object's mask as RLE or polygons.

Read are `annotations/instances_<split>.json` (ours and the official layout), `instances.json`,
and any one JSON in a folder. RLE may be compressed or plain; polygons have the pixels that
pycocotools gives them, which is what every COCO loader sees.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
    stated_size,
    survey,
)
from exporters.importers.dataset import Dataset, DatasetError, ImportedImage, ImportedSegment, Item
from exporters.importers.folder import DatasetFolder
from segstudio.masks import Mask, MaskError
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy

_MAX_POLYGON_NUMBERS: Final = 2_000_000


def open_dataset(folder: DatasetFolder, taxonomy: Taxonomy | None) -> Dataset:
    """Open a COCO instances data set; every JSON is read once.

    Raises:
        DatasetError: no JSON, one that is cut off or no COCO file, files of different categories.
    """
    paths = json_files(folder, "instances")
    files = {path.stem.removeprefix("instances").strip("_"): CocoFile(path) for path in paths}
    first = next(iter(files.values()))
    for one in files.values():
        if one.categories != first.categories:
            raise DatasetError(
                f"{one.path.name} and {first.path.name} have different categories; import them "
                "one by one, from folders of their own."
            )
    if taxonomy is None:
        taxonomy = own_taxonomy(folder) or coco_taxonomy(first, folder)
    attributes: dict[str, Any] = {}
    for one in files.values():
        for annotation in one.annotations():
            survey(attributes, segment_attributes(annotation))
    return Dataset(
        taxonomy=taxonomy,
        items=_items(files),
        read=partial(_read, folder, taxonomy),
        total=sum(one.images_count for one in files.values()),
        attributes=attributes,
        problems=tuple(problem for one in files.values() for problem in file_problems(one)),
    )


def _items(files: Mapping[str, CocoFile]) -> Iterator[Item]:
    """Yield the images of one file in its order, those of several by their ids."""
    if len(files) == 1:
        yield from (item for _, item in _file_items(files))
        return
    seen: set[int] = set()
    for file in files.values():
        ids = file.integer_ids()
        if ids is None or not seen.isdisjoint(ids):
            # Ids that mean two images are none.
            yield from (replace(item, task_id=None) for _, item in _file_items(files))
            return
        seen.update(ids)
    streams = [_file_items({split: file}) for split, file in files.items()]
    yield from (item for _, item in heapq.merge(*streams, key=lambda pair: pair[0]))


def _file_items(files: Mapping[str, CocoFile]) -> Iterator[tuple[int, Item]]:
    for split, file in files.items():
        for name, task_id, record, entries in items_of(file):
            yield task_id or 0, Item(name, (record, entries, split), task_id)


def _read(folder: DatasetFolder, taxonomy: Taxonomy, item: Item) -> ImportedImage:
    record, entries, split = item.record
    size = stated_size(record, item.name)
    file_name, reference = picture(folder, record, item.name)
    segments: list[ImportedSegment] = []
    problems: list[Problem] = []
    for annotation in entries:
        found = _segment(annotation, taxonomy, size, item.name)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            segments.append(found)
    data = {"split": split} if split else {}
    return ImportedImage(file_name, *size, tuple(segments), reference, data, tuple(problems))


def _segment(
    annotation: Mapping[str, Any], taxonomy: Taxonomy, size: tuple[int, int], name: str
) -> ImportedSegment | Problem:
    number, class_id = annotation.get("id"), annotation.get("category_id")
    place = f"Annotation {number!r} of {name}"
    one = taxonomy.by_id.get(class_id) if isinstance(class_id, int) else None
    if one is None:
        text = f"{place} has the category {class_id!r}, which the data set does not name"
        return Problem("unknown-category", f"{text}; it is left out.")
    try:
        mask = _mask(annotation.get("segmentation"), size)
    except (MaskError, TypeError, ValueError, OverflowError) as error:
        return Problem("damaged-mask", f"{place} is left out: {error}")
    if mask.is_empty:
        return Problem("segment-without-pixels", f"{place} has no pixel; it is left out.")
    source = {"annotation_id": number} if isinstance(number, int | str) else {}
    return ImportedSegment(one.name, mask, source, segment_attributes(annotation))


def _mask(segmentation: Any, size: tuple[int, int]) -> Mask:
    """Return the pixels of a COCO segmentation of an image of (height, width).

    Raises:
        MaskError: it is damaged, missing or belongs to another size.
    """
    height_px, width_px = size
    if isinstance(segmentation, Mapping):
        stated = segmentation.get("size")
        if stated != [height_px, width_px]:
            raise MaskError(
                f"its RLE is of the size {stated} (height, width), the image of "
                f"{[height_px, width_px]}."
            )
        return Mask.from_coco_rle(segmentation)
    if not isinstance(segmentation, list) or not segmentation:
        raise MaskError("it has neither an RLE nor polygons as its segmentation.")
    for ring in segmentation:
        if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
            raise MaskError("a polygon of it is no list of at least 3 points x, y, x, y ...")
        if len(ring) > _MAX_POLYGON_NUMBERS:
            raise MaskError(f"a polygon of it has more than {_MAX_POLYGON_NUMBERS // 2:,} points.")
        # Coordinates far outside would make pycocotools draw for hours.
        limit = 4 * (height_px + width_px)
        if not all(isinstance(one, int | float) and abs(one) <= limit for one in ring):
            raise MaskError("a polygon of it has a point that is no number or far outside.")
    from pycocotools import mask as coco_mask

    drawn = coco_mask.merge(coco_mask.frPyObjects(segmentation, height_px, width_px))
    return Mask.from_coco_rle(drawn)
