"""What a format gives to the import: classes, images, segments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segstudio.errors import SegstudioError, SourceError
from segstudio.masks import Mask
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy


class DatasetError(SourceError):
    """A folder that is no data set of the format; the sentence says what was looked for."""


class DamagedImageError(SegstudioError):
    """One image of a data set that cannot be read; it is left out, the others go on."""


@dataclass(frozen=True, slots=True)
class ImportedSegment:
    """One segment: its label, its pixels, and what the data set says about it.

    `source` goes into the region's `meta.segstudio` and lets an export restore the same ids.
    `attributes` are answers by name, as `Region.attributes`.
    """

    label: str
    mask: Mask
    source: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """One image with its segments, in their order.

    `file_name` names the picture in the data set's own words or as found in its folder;
    `reference` is where the data set says that it lies (empty where it does not say). `data` are
    further fields for the task's data.
    """

    file_name: str
    height_px: int
    width_px: int
    segments: tuple[ImportedSegment, ...]
    reference: str = ""
    data: Mapping[str, str | int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One image still to be read: its name for messages, and what its format needs to read it.

    `task_id` is the data set's own integer id of the image, if it has one.
    """

    name: str
    record: Any
    task_id: int | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened data set.

    Attributes:
        taxonomy: ids, names, colours, thing or stuff.
        items: the images in the order of the data set; read once.
        read: one item into masks; picklable, raises DamagedImageError.
        total: how many items there are, if known.
        attributes: an example of each attribute's answers, all of its options for a choice: what
            the labelling interface must offer.
        problems: what was wrong with the data set as a whole.
    """

    taxonomy: Taxonomy
    items: Iterable[Item]
    read: Callable[[Item], ImportedImage]
    total: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
