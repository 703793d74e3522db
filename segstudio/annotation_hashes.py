"""Hashes of what annotators drew: has an annotation changed, and is this the one that was used?

`drawing_hash` covers what decides masks and classes; `annotation_hash` adds who and when. Ids,
scores, lead times and notes are in neither, so that the same drawing read from an export file and
from the server has the same hash.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from segstudio.regions import Region
from segstudio.tasks import Annotation


def annotation_hash(annotation: Annotation) -> str:
    """The sha256, in 64 hex digits, of what decides an annotation's masks, of whose it is and when.

    It changes when somebody draws, relabels or reorders (a later region lies on top), answers,
    skips, marks as ground truth or saves again. Times count in UTC, however they are written.
    """
    head = [
        drawing_hash(annotation),
        annotation.completed_by,
        annotation.was_cancelled,
        annotation.ground_truth,
        utc_text(annotation.created_at),
        utc_text(annotation.updated_at),
    ]
    return hashlib.sha256(_canonical(head)).hexdigest()


def drawing_hash(annotation: Annotation) -> str:
    """The sha256, in 64 hex digits, of regions in drawing order and answers; nothing else.

    A region that could not be read counts with what was said of it, so that a damaged annotation
    never has the hash of an empty one.
    """
    hasher = hashlib.sha256()
    for region in annotation.regions:
        add_region(hasher, region)
    unread = [[one.kind, one.region_id] for one in annotation.problems if one.is_loss]
    hasher.update(_canonical([len(annotation.regions), annotation.answers, unread]))
    return hasher.hexdigest()


def add_region(hasher: Any, region: Region) -> None:
    """Put what decides a region's pixels, class and identity into a hash."""
    value = dict(region.value)
    stream = value.pop("rle", None)
    attributes = {key: one for key, one in region.attributes.items() if key != "note"}
    hasher.update(
        _canonical([
            region.kind, region.from_name, region.to_name, region.item_index, region.labels,
            region.original_width_px, region.original_height_px, value, attributes, region.source,
        ])
    )  # fmt: skip
    if stream is not None:
        # As bytes: the text of a long stream takes several times as long as hashing it.
        try:
            hasher.update(bytes(stream))
        except (TypeError, ValueError):
            hasher.update(repr(stream).encode())


def utc_text(moment: str | None) -> str | None:
    """The same moment in UTC with microseconds; a time without a zone is taken for UTC.

    What is no time stays as it is.

    >>> utc_text("2026-11-21T08:00:00+02:00")
    '2026-11-21T06:00:00.000000Z'
    """
    if not moment:
        return None
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    aware = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _canonical(value: Any) -> bytes:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str
    ).encode("utf-8", "surrogatepass")
