"""One image to export, and its way to disk and to a worker: packed, by value alone.

The packed bytes are equal where the content is (no references, no identities), so that a digest
of them says whether an image changed.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Final

from segstudio.images import AnnotatedImage, ImageKey
from segstudio.tasks import Region

# The last version without references.
_MARSHAL_VERSION: Final = 2
_of_region = attrgetter(*(one.name for one in fields(Region)))
_of_image = attrgetter(*(one.name for one in fields(AnnotatedImage)))
_KEY, _REGIONS, _STEM, _TASK_DATA, _ANSWERS = (
    [one.name for one in fields(AnnotatedImage)].index(name)
    for name in ("key", "regions", "file_stem", "task_data", "answers")
)


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One image to export.

    `folder` is the file set it belongs to, "" for the only one. `drawn` holds each annotator's
    regions where a consensus is to be found, and is empty otherwise. `losses` counts what was lost
    on the way here.
    """

    folder: str
    image: AnnotatedImage
    drawn: tuple[tuple[Region, ...], ...] = ()
    losses: Mapping[str, int] = field(default_factory=dict)


def pack_item(item: WorkItem) -> bytes:
    """Return the whole as bytes."""
    drawn = tuple(_plain_regions(regions) for regions in item.drawn)
    image = _plain_image(item.image, _plain_regions(item.image.regions))
    return marshal.dumps((item.folder, image, drawn, dict(item.losses)), _MARSHAL_VERSION)


def unpack_item(packed: bytes, file_stem: str | None = None) -> WorkItem:
    """Return the whole, its image under another file stem where one is given."""
    folder, image, drawn, losses = marshal.loads(packed)  # noqa: S302 - our own spool
    return WorkItem(
        folder, _image(image, file_stem), tuple(map(_regions, drawn)), losses
    )  # fmt: skip


def pack_head(item: WorkItem) -> bytes:
    """Return the folder and the image without its regions, answers and data, as bytes."""
    image = replace(item.image, answers={}, task_data={})
    return marshal.dumps((item.folder, _plain_image(image, ())), _MARSHAL_VERSION)


def unpack_head(packed: bytes) -> tuple[str, AnnotatedImage]:
    """Return the folder and the image without its regions, answers and data."""
    folder, image = marshal.loads(packed)  # noqa: S302 - our own spool
    return folder, _image(image, None)


def _plain_image(image: AnnotatedImage, regions: tuple[Any, ...]) -> tuple[Any, ...]:
    values = list(_of_image(image))
    values[_KEY] = tuple(image.key)
    values[_REGIONS] = regions
    values[_TASK_DATA] = dict(image.task_data)
    values[_ANSWERS] = dict(image.answers)
    return tuple(values)


def _image(plain: tuple[Any, ...], file_stem: str | None) -> AnnotatedImage:
    values = list(plain)
    values[_KEY] = ImageKey(*values[_KEY])
    values[_REGIONS] = _regions(values[_REGIONS])
    if file_stem is not None:
        values[_STEM] = file_stem
    return AnnotatedImage(*values)


def _plain_regions(regions: Iterable[Region]) -> tuple[Any, ...]:
    return tuple(_of_region(region) for region in regions)


def _regions(plain: Iterable[tuple[Any, ...]]) -> tuple[Region, ...]:
    return tuple(Region(*values) for values in plain)
