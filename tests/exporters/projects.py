"""Small projects to export: tasks whose regions come from literal masks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporters.runner import ExportSummary, run_export
from segstudio import brush_rle
from segstudio.export_file import FileSource
from segstudio.source import TaskFilter
from segstudio.taxonomy import SegmentClass, Taxonomy

CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="car"/><Label value="road"/>
<Label value="glare"/></BrushLabels>
<Choices name="iscrowd" toName="image" perRegion="true"><Choice value="yes"/></Choices>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="car"/></KeyPointLabels>
</View>"""

TAXONOMY = Taxonomy(
    name="streets",
    classes=(
        SegmentClass(1, "car", color=(220, 20, 60), supercategory="vehicle"),
        SegmentClass(7, "road", kind="stuff", color=(128, 64, 128)),
        SegmentClass(9, "glare", ignore=True),
    ),
)


def brush(
    region_id: str, label: str, dense: Any, *, to_name: str = "image", **more: Any
) -> dict[str, Any]:
    array = np.asarray(dense, bool)
    return {
        "id": region_id,
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": to_name,
        "original_width": array.shape[1],
        "original_height": array.shape[0],
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": [int(byte) for byte in brush_rle.encode(array)],
            "brushlabels": [label],
        },
        **more,
    }


def box(top: int, left: int, bottom: int, right: int, shape: tuple[int, int] = (8, 10)) -> Any:
    dense = np.zeros(shape, bool)
    dense[top:bottom, left:right] = True
    return dense


def annotation(
    annotation_id: int, user: int | None, result: Sequence[Mapping[str, Any]], **more: Any
) -> dict[str, Any]:
    return {
        "id": annotation_id,
        "completed_by": user,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-02T00:00:00Z",
        **more,
    }


def task(
    task_id: int, image: str | None, *annotations: Mapping[str, Any], **data: Any
) -> dict[str, Any]:
    fields = dict(data) if image is None else {"image": image, **data}
    return {"id": task_id, "data": fields, "annotations": list(annotations), "predictions": []}


def source_of(folder: Path, tasks: Sequence[Any], config: str = CONFIG) -> FileSource:
    """Write tasks and a labelling interface into a folder and open them as a source."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tasks.json").write_text(json.dumps(tasks))
    (folder / "tasks.label-config.xml").write_text(config)
    return FileSource(str(folder / "tasks.json"), TaskFilter())


def run(format_name: str, source: FileSource, out: Path, **options: Any) -> ExportSummary:
    """Export in this process, under TAXONOMY unless told otherwise."""
    settings = {"taxonomy": TAXONOMY, "workers": 1, "show_progress": False, **options}
    return run_export(format_name, source, out, **settings)


def panoptic(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "panoptic.json").read_text())
    return found


def panoptic_ids(path: Path) -> NDArray[np.int64]:
    """The ids of a panoptic PNG, by Pillow and arithmetic alone."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        rgb = np.asarray(image).astype(np.int64)
    return rgb @ np.array([1, 256, 65536])


def segments(out: Path, stem: str) -> list[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """Each segment of an exported image with its pixels; checks that PNG and JSON agree."""
    by_name = {one["file_name"]: one for one in panoptic(out)["annotations"]}
    infos = by_name[f"{stem}.png"]["segments_info"]
    ids = panoptic_ids(out / "panoptic" / f"{stem}.png")
    assert {info["id"] for info in infos} == set(np.unique(ids).tolist()) - {0}
    assert len({info["id"] for info in infos}) == len(infos)
    found = []
    for info in infos:
        pixels = ids == info["id"]
        rows, columns = np.nonzero(pixels)
        x, y = columns.min(), rows.min()
        assert info["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
        assert info["area"] == pixels.sum()
        found.append((info, pixels))
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
