"""Data sets in a known format back into Label Studio tasks: one file a format.

A format is a module with `open_dataset(folder, taxonomy)`, which returns a `Dataset`: its
classes, a stream of items (one an image), and a picklable function that reads one of them into
masks. Everything else is the same for all formats and lies in `runner` (parallel reading, what
went wrong, the three files) and `tasks` (the tasks and the labelling interface).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Final

from segstudio.errors import UsageError

if TYPE_CHECKING:
    from exporters.importers.dataset import Dataset
    from exporters.importers.folder import DatasetFolder
    from segstudio.taxonomy import Taxonomy

    OpenDataset = Callable[[DatasetFolder, Taxonomy | None], Dataset]

FORMATS: Final[Mapping[str, str]] = {
    "cityscapes": "exporters.importers.cityscapes",
    "coco-instances": "exporters.importers.coco_instances",
    "coco-panoptic": "exporters.importers.coco_panoptic",
    "pascal-voc": "exporters.importers.pascal_voc",
    "semantic-png": "exporters.importers.semantic_png",
}
ALIASES: Final[Mapping[str, str]] = {"voc": "pascal-voc"}


def format_name(name: str) -> str:
    """Return a format's own name, given that or an alias.

    Raises:
        UsageError: no such format; the message lists those that can be read.

    >>> format_name("voc")
    'pascal-voc'
    """
    found = ALIASES.get(name, name)
    if found in FORMATS:
        return found
    close = get_close_matches(name, [*FORMATS, *ALIASES], n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise UsageError(
        f"There is no import of the format '{name}'.{hint} These can be read: {', '.join(FORMATS)}."
    )


def find_format(name: str) -> OpenDataset:
    """Return the function that opens a data set of the format.

    Raises:
        UsageError: no such format.
    """
    opener: OpenDataset = import_module(FORMATS[format_name(name)]).open_dataset
    return opener
