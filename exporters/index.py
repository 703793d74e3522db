"""`images.jsonl` beside every export: which image each file belongs to, and what was said of it.

One JSON object a line, in task order: the file name, where the image is, its size, the task and
annotation it comes from, the files that the format wrote for it, and the answers about the image
as a whole, which most formats have no place for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from exporters.files import atomic_writer, compact_json

FILE_NAME: Final = "images.jsonl"


def write_index(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the index of one file set, streaming."""
    with atomic_writer(folder / FILE_NAME) as file:
        for record in records:
            file.write((compact_json(_entry(record)) + "\n").encode("utf-8"))


def _entry(record: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"file_name": record["file_name"]}
    for key in ("image_file", "reference", "answers"):
        if record.get(key):
            entry[key] = record[key]
    entry |= {
        "height": record["height_px"],
        "width": record["width_px"],
        "task_id": record["task_id"],
        "to_name": record["to_name"],
        "item_index": record["item_index"],
        "annotation_id": record["annotation_id"],
        "annotator_id": record["annotator_id"],
        "files": [name for name in record["files"] if name != record.get("image_file")],
    }
    return entry
