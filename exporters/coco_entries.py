"""What the COCO formats say alike: categories and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segstudio.taxonomy import Taxonomy


def coco_categories(taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Return the categories: all scored classes, a class without a supercategory being its own."""
    return [
        {
            "id": one.id,
            "name": one.name,
            "supercategory": one.supercategory or one.name,
            "isthing": int(one.is_thing),
            "color": list(one.color),
        }
        for one in taxonomy.scored_classes
    ]


def coco_image(image_id: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of an image, with its address and its own answers where it has some."""
    entry = {
        "id": image_id,
        "file_name": record["file_name"],
        "height": record["height_px"],
        "width": record["width_px"],
        "task_id": record["task_id"],
    }
    if record["reference"]:
        entry["coco_url"] = record["reference"]
    if record.get("answers"):
        entry["attributes"] = record["answers"]
    return entry
