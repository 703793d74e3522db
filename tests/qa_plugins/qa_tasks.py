"""Raw Label Studio tasks from small arrays, for the tests of the checks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segstudio import brush_rle
from segstudio.label_config import parse_label_config
from segstudio.masks import Mask
from segstudio.plugins import CheckContext
from segstudio.taxonomy import derive_taxonomy

LABELS = ("car", "road", "sky")
CONFIG_XML = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    + "".join(f'<Label value="{label}"/>' for label in LABELS)
    + "</BrushLabels></View>"
)


def context(options: Mapping[str, str] | None = None) -> CheckContext:
    """A context with the classes car, road and sky, all things."""
    config = parse_label_config(CONFIG_XML)
    return CheckContext(derive_taxonomy(config), config, dict(options or {}))


def region(array: Any, label: str, region_id: str, item_index: int | None = None) -> dict[str, Any]:
    """A brush region of a (height, width) array."""
    dense = np.asarray(array, dtype=bool)
    height, width = dense.shape
    raw = {
        "id": region_id,
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": brush_rle.encode(Mask.from_dense(dense)),
            "brushlabels": [label],
        },
    }
    return raw if item_index is None else {**raw, "item_index": item_index}


def annotation(
    annotation_id: int, person: int | None, drawn: Sequence[tuple[str, Any]] = (), **fields: Any
) -> dict[str, Any]:
    """An annotation of (label, array) regions."""
    return {
        "id": annotation_id,
        "completed_by": person,
        "result": [
            region(array, label, f"a{annotation_id}r{index}")
            for index, (label, array) in enumerate(drawn)
        ],
        "was_cancelled": False,
        "ground_truth": False,
        **fields,
    }


def raw_task(task_id: int, annotations: Sequence[dict[str, Any]], **data: Any) -> dict[str, Any]:
    """A task with an image and these annotations."""
    return {
        "id": task_id,
        "data": {"image": f"{task_id:03}.png", **data},
        "annotations": list(annotations),
        "predictions": [],
        "meta": {},
    }


def write_export(folder: Path, tasks: Sequence[dict[str, Any]]) -> Path:
    """An export file with its labelling interface beside it."""
    path = folder / "batch.json"
    path.write_text(json.dumps(list(tasks)))
    (folder / "batch.label-config.xml").write_text(CONFIG_XML)
    return path
