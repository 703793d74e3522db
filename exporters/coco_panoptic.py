"""COCO panoptic: a PNG of segment ids per image and one JSON of what each id is.

Layout: `panoptic.json`, `panoptic/<image>.png`. Conventions of panopticapi: the id of a pixel is
R + 256 G + 65536 B, VOID and unlabelled pixels are 0, `bbox` is [x, y, width, height] in pixels,
`area` counts pixels, image ids are integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exporters.coco_entries import coco_categories, coco_image
from exporters.files import write_bytes, write_json_lists
from exporters.flags import CROWD, is_flagged
from exporters.panoptic_ids import id_to_color, segment_ids
from exporters.png import painted_png
from exporters.records import image_record, known_ids, scene_of, with_image_ids
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext
from segstudio.scene import Scene


class CocoPanopticExporter:
    """Writes COCO panoptic."""

    name = "coco-panoptic"
    summary = "COCO panoptic: PNGs of segment ids and one panoptic.json"
    next_step = "PQ with panopticapi or torchmetrics: read panoptic.json and the folder panoptic/."

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Write the PNG of one image; the record holds its `segments_info`."""
        scene = scene_of(image, context)
        taxonomy = context.taxonomy
        classes = [taxonomy.by_id[segment.class_id] for segment in scene.segments]
        ids = segment_ids(
            [(one.color, not one.is_thing) for one in classes],
            reserved=[one.color for one in taxonomy.scored_classes if not one.is_thing],
            known=known_ids(scene, image, "segment_id"),
        )
        file = f"panoptic/{image.file_stem}.png"
        write_bytes(context.out_dir / file, _picture(scene, ids))
        segments_info = []
        for segment_id, segment in zip(ids, scene.segments, strict=True):
            info: dict[str, Any] = {
                "id": segment_id,
                "category_id": segment.class_id,
                "area": segment.mask.area_px,
                "bbox": list(segment.mask.bbox),
                "iscrowd": int(is_flagged(segment.attributes, CROWD)),
            }
            if segment.attributes:
                info["attributes"] = dict(segment.attributes)
            segments_info.append(info)
        return image_record(image, [file], segments_info=segments_info)

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write panoptic.json."""
        write_json_lists(
            context.out_dir / "panoptic.json",
            {
                "info": {"description": context.taxonomy.name, "version": context.taxonomy.version},
                "licenses": [],
                "categories": coco_categories(context.taxonomy),
            },
            {
                "images": (coco_image(*pair) for pair in with_image_ids(records)),
                "annotations": (_annotation_entry(*pair) for pair in with_image_ids(records)),
            },
        )


def _picture(scene: Scene, ids: list[int]) -> bytes:
    painted = [
        (segment.mask.runs, id_to_color(segment_id))
        for segment, segment_id in zip(scene.segments, ids, strict=True)
    ]
    return painted_png(painted, scene.height_px, scene.width_px)


def _annotation_entry(image_id: int, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "file_name": f"{record['stem']}.png",
        "segments_info": record["segments_info"],
    }
