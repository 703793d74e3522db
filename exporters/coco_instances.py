"""COCO instances: one JSON a split with every object's mask, box and area.

Layout: `annotations/instances_<split>.json`. Masks are compressed RLE, as pycocotools writes it,
or polygons where pycocotools draws them as the very mask. `bbox` is [x, y, width, height] and
`area` a count of pixels; both come from the pixels. Image and annotation ids are integers,
category ids are the taxonomy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from exporters.coco_entries import coco_categories, coco_image
from exporters.files import write_json_lists
from exporters.flags import CROWD, is_flagged
from exporters.instances import INSTANCE_OPTIONS, Instance, instances_of
from exporters.options import SPLIT_OPTIONS, check_options, image_split
from exporters.records import image_record, with_image_ids
from segstudio.images import AnnotatedImage
from segstudio.masks import Mask
from segstudio.plugins import ExportContext
from segstudio.polygons import mask_polygons
from segstudio.taxonomy import Taxonomy

_OPTIONS: Final = {
    "segmentation": ("rle", "polygons-where-exact"),
    **INSTANCE_OPTIONS,
    **SPLIT_OPTIONS,
}


class CocoInstancesExporter:
    """Writes COCO instances."""

    name = "coco-instances"
    summary = "COCO instances: one JSON a split, masks as RLE or as polygons where exact"
    next_step = "Load annotations/instances_<split>.json with pycocotools, torchvision, Detectron2."

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Check the options before anything is written."""
        return check_options(options, _OPTIONS, self.name)

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Return the record of one image with its annotations; there is no file of its own."""
        instances, losses = instances_of(image, context)
        as_polygons = context.options.get("segmentation") == "polygons-where-exact"
        return image_record(
            image,
            [],
            split=image_split(image, context.options),
            annotations=[_annotation(one, as_polygons) for one in instances],
            losses=losses,
        )

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write the JSON of each split."""
        for split in sorted({record["split"] for record in records}):
            write_json_lists(
                context.out_dir / "annotations" / f"instances_{split}.json",
                {
                    "info": {
                        "description": context.taxonomy.name,
                        "version": context.taxonomy.version,
                    },
                    "licenses": [],
                    "categories": coco_categories(context.taxonomy),
                },
                {
                    "images": _image_entries(records, split),
                    "annotations": _annotation_entries(records, split),
                },
            )


def _annotation(instance: Instance, as_polygons: bool) -> dict[str, Any]:
    is_crowd = is_flagged(instance.attributes, CROWD)
    # Readers take a crowd's mask for RLE without looking.
    polygons = _exact_polygons(instance.mask) if as_polygons and not is_crowd else None
    entry: dict[str, Any] = {
        "category_id": instance.segment_class.id,
        "segmentation": _rle(instance.mask) if polygons is None else polygons,
        "area": instance.mask.area_px,
        "bbox": list(instance.mask.bbox),
        "iscrowd": int(is_crowd),
    }
    if instance.attributes:
        entry["attributes"] = dict(instance.attributes)
    return entry


def _rle(mask: Mask) -> dict[str, Any]:
    rle = mask.to_coco_rle()
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _exact_polygons(mask: Mask) -> list[list[float]] | None:
    """Return one ring a part where pycocotools draws them as the very mask; else None.

    A hole has no place among COCO's polygons, whose union is the mask.
    """
    from pycocotools import mask as coco_mask

    parts = mask_polygons(mask)
    if any(holes for _, holes in parts):
        return None
    polygons: list[list[float]] = [np.ravel(exterior).tolist() for exterior, _ in parts]
    drawn = coco_mask.merge(coco_mask.frPyObjects(polygons, mask.height_px, mask.width_px))
    return polygons if drawn["counts"] == mask.to_coco_rle()["counts"] else None


def _image_entries(records: Iterable[Mapping[str, Any]], split: str) -> Iterator[dict[str, Any]]:
    for image_id, record in with_image_ids(records):
        if record["split"] != split:
            continue
        yield coco_image(image_id, record)


def _annotation_entries(
    records: Iterable[Mapping[str, Any]], split: str
) -> Iterator[dict[str, Any]]:
    """Number the annotations of all splits from 1, so that an id means one object."""
    number = 0
    for image_id, record in with_image_ids(records):
        for annotation in record["annotations"]:
            number += 1
            if record["split"] == split:
                yield {"id": number, "image_id": image_id, **annotation}
