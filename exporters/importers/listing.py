"""Which images a data set of label images has: by `images.jsonl` of our export, else as found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from exporters.importers.dataset import DatasetError, Item
from exporters.importers.folder import DatasetFolder

INDEX: Final = "images.jsonl"
_MAX_LINE_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image: the label images that the format wrote for it, and what is known of the rest.

    `file_name` and `reference` are those of the picture, empty where nothing is said of it.
    """

    files: tuple[str, ...]
    file_name: str = ""
    reference: str = ""
    task_id: int | None = None


def listed_images(folder: DatasetFolder, ending: str) -> Iterable[ListedImage] | None:
    """Return the images of an export's `images.jsonl`, in its order; None where there is none.

    Args:
        folder: the data set.
        ending: how the names of the format's label images end; an index that names none of
            them is another format's and counts as none.

    Raises:
        DatasetError: the index is damaged.
    """
    if not folder.path(INDEX).is_file():
        return None
    ids: Counter[int | None] = Counter()
    for one in _Index(folder, ending):
        ids[one.task_id] += 1
    if not ids:
        return None
    # A task with several images has one id for all of them: then none is taken over.
    return _Index(folder, ending, with_ids=max(ids.values()) == 1 and None not in ids)


def items_of(images: Iterable[ListedImage]) -> Iterator[Item]:
    """Yield an item for each image, named after its first label image."""
    for one in images:
        yield Item(one.files[0], one, one.task_id)


def picture_name(
    folder: DatasetFolder,
    mask: str,
    mask_folders: Iterable[str],
    picture_folders: Iterable[str],
) -> str:
    """Return the name of the picture of a label image: the one found, else the same with .jpg."""
    heads = (f"{one}/" for one in mask_folders if one)
    below = next((mask.removeprefix(head) for head in heads if mask.startswith(head)), mask)
    stem = below.removesuffix(".png")
    return folder.picture_of(stem, picture_folders, besides=mask) or f"{stem}.jpg"


@dataclass(frozen=True, slots=True)
class _Index:
    """The entries of `images.jsonl`, streamed as often as asked."""

    folder: DatasetFolder
    ending: str
    with_ids: bool = True

    def __iter__(self) -> Iterator[ListedImage]:
        return _entries(self.folder, self.ending, with_ids=self.with_ids)


def _entries(folder: DatasetFolder, ending: str, *, with_ids: bool) -> Iterator[ListedImage]:
    path = folder.path(INDEX)
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE_BYTES):
                number += 1
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise DatasetError(f"Line {number} of {path} is no JSON object.")
                found = _entry(entry, ending, with_ids)
                if found is not None:
                    yield found
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged: {error}; repair or remove it.") from error


def _entry(entry: dict[str, Any], ending: str, with_ids: bool) -> ListedImage | None:
    named = entry.get("files")
    files = tuple(
        one
        for one in (named if isinstance(named, list) else [])
        if isinstance(one, str) and one.endswith(ending)
    )
    if not files:
        return None
    task_id = entry.get("task_id")
    texts = [entry.get("image_file") or entry.get("file_name"), entry.get("reference")]
    file_name, reference = (one if isinstance(one, str) else "" for one in texts)
    return ListedImage(
        files, file_name, reference, task_id if with_ids and isinstance(task_id, int) else None
    )
