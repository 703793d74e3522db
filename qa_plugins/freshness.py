"""Whether a task's agreement record is still about the annotations that the task has now.

The record keeps a digest of what was compared: who, which annotation, which regions. A later run
that finds another one knows that somebody has drawn, skipped or deleted since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from qa_plugins.raters import select_raters
from segstudio.regions import Region
from segstudio.tasks import Task

RECORD_KEY: Final = "agreement"
"""The record's key below a task's `meta.segstudio`."""

DIGEST_KEY: Final = "digest"
_DIGEST_CHARS: Final = 16


def annotations_digest(task: Task) -> str:
    """16 hex digits that change when an annotation that is compared changes, comes or goes.

    Lead times, notes, region ids and what is never compared (skipped, ground truth) change nothing;
    nor does the order in which the server lists annotations.
    """
    hasher = hashlib.sha256()
    for rater in select_raters(task).raters:
        head = [rater.annotator_id, rater.annotation.id, len(rater.annotation.regions)]
        hasher.update(json.dumps(head).encode())
        for region in rater.annotation.regions:
            _add_region(hasher, region)
    return hasher.hexdigest()[:_DIGEST_CHARS]


def recorded_digest(task: Task) -> str | None:
    """The digest in the task's agreement record; "" where a record has none, None without one."""
    ours = task.meta.get("segstudio")
    record = ours.get(RECORD_KEY) if isinstance(ours, Mapping) else None
    if record is None:
        return None
    digest = record.get(DIGEST_KEY) if isinstance(record, Mapping) else None
    return digest if isinstance(digest, str) else ""


def _add_region(hasher: Any, region: Region) -> None:
    value = dict(region.value)
    stream = value.pop("rle", None)
    head = [
        region.kind, region.to_name, region.item_index, list(region.labels),
        region.original_width_px, region.original_height_px, value,
    ]  # fmt: skip
    hasher.update(json.dumps(head, sort_keys=True, default=str).encode())
    if stream is not None:
        # As bytes: the text of a long stream takes several times as long as hashing it.
        try:
            hasher.update(bytes(stream))
        except (TypeError, ValueError):
            hasher.update(repr(stream).encode())
