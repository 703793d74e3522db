"""What changed between two deliveries: tasks, annotations, classes, pixels. Pure but for reading.

Everything but moved pixels follows from the two manifests. Where both deliveries hold label maps
of one format (`semantic-png`), those of changed tasks are compared pixel by pixel: a mask that
moved has as many pixels as before.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from batch.delivery_files import DeliveryFiles
from segstudio.errors import SourceError

LABEL_MAPS: Final = "semantic-png"
_HEAD_KEYS: Final[Mapping[str, str]] = {
    "selection": "what was selected",
    "taxonomy": "the taxonomy",
    "label_config": "the labelling interface",
    "guideline": "the guideline",
    "gates": "the gates or their results",
    "verdict": "the verdict",
    "override": "the override",
    "format_options": "the options of the formats",
    "versions": "the software",
    "signature": "the signature's key",
}
_MAX_INDEX_BYTES: Final = 1 << 30
_MAX_MAP_BYTES: Final = 1 << 29


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class in both deliveries, by its id; None where one of them lacks it.

    `gained_px` and `lost_px` count pixels of changed tasks that got or lost the class, None where
    the deliveries hold no label maps to compare.
    """

    id: int
    name_before: str | None
    name_after: str | None
    segments_before: int
    segments_after: int
    pixels_before: int
    pixels_after: int
    gained_px: int | None = None
    lost_px: int | None = None

    @property
    def is_change(self) -> bool:
        """Whether anything of it differs."""
        return (
            self.name_before != self.name_after
            or self.segments_before != self.segments_after
            or self.pixels_before != self.pixels_after
            or bool(self.gained_px or self.lost_px)
        )


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A task whose delivered annotations differ.

    `redrawn` says that the drawings do and not only who saved them when; `pixels` is by class id
    how many pixels more or fewer there are.
    """

    id: int
    redrawn: bool
    pixels: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DeliveryDiff:
    """What changed from one delivery to another; task ids are ascending."""

    added: tuple[int, ...]
    removed: tuple[int, ...]
    changed: tuple[TaskChange, ...]
    unchanged: int
    classes: tuple[ClassChange, ...]
    formats_added: tuple[str, ...]
    formats_removed: tuple[str, ...]
    settings: tuple[str, ...]
    files_changed: int
    compared_pixels: bool
    head: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether the two deliveries are the same, file for file."""
        return not (self.files_changed or self.settings or self.added or self.removed)

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        classes = [asdict(one) for one in self.classes if one.is_change]
        return {
            **asdict(self),
            "classes": classes,
            "head": {k: list(v) for k, v in self.head.items()},
        }


def compare(before: DeliveryFiles, after: DeliveryFiles) -> DeliveryDiff:
    """Compare two deliveries.

    Raises:
        SourceError: one of them has no manifest, or a label map that cannot be read.
    """
    old, new = before.manifest(), after.manifest()
    old_tasks, new_tasks = _delivered_tasks(old, before), _delivered_tasks(new, after)
    both = sorted(old_tasks.keys() & new_tasks.keys())
    try:
        changes = [_task_change(one, old_tasks[one], new_tasks[one]) for one in both]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SourceError(
            f"The tasks in a manifest of {before.place} or {after.place} are damaged."
        ) from error
    changed = tuple(one for one in changes if one is not None)
    moved: dict[int, list[int]] | None = None
    if LABEL_MAPS in old["formats"] and LABEL_MAPS in new["formats"]:
        ids = {one.id for one in changed} | (old_tasks.keys() ^ new_tasks.keys())
        moved = _moved_pixels(before, after, ids)
    old_files = {one["path"]: one["sha256"] for one in old["files"]}
    new_files = {one["path"]: one["sha256"] for one in new["files"]}
    paths = old_files.keys() | new_files.keys()
    try:
        classes = _class_changes(old["classes"], new["classes"], moved)
    except (KeyError, TypeError) as error:
        raise SourceError(
            f"The classes in a manifest of {before.place} or {after.place} are damaged."
        ) from error
    head = {key: (old.get(key), new.get(key)) for key in _HEAD_KEYS if old.get(key) != new.get(key)}
    return DeliveryDiff(
        added=tuple(sorted(new_tasks.keys() - old_tasks.keys())),
        removed=tuple(sorted(old_tasks.keys() - new_tasks.keys())),
        changed=changed,
        unchanged=len(both) - len(changed),
        classes=classes,
        formats_added=tuple(sorted(new["formats"].keys() - old["formats"].keys())),
        formats_removed=tuple(sorted(old["formats"].keys() - new["formats"].keys())),
        settings=tuple(_HEAD_KEYS[key] for key in head),
        files_changed=sum(old_files.get(path) != new_files.get(path) for path in paths),
        compared_pixels=moved is not None,
        head=head,
    )


def _delivered_tasks(manifest: Mapping[str, Any], files: DeliveryFiles) -> dict[int, Any]:
    try:
        return {
            task["id"]: {
                "annotations": [one for one in task["annotations"] if one["delivered"]],
                "classes": task.get("classes", {}),
            }
            for task in manifest["tasks"]
            if any(one["delivered"] for one in task["annotations"])
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"The tasks in the manifest of {files.place} are damaged.") from error


def _task_change(
    task_id: int, before: Mapping[str, Any], after: Mapping[str, Any]
) -> TaskChange | None:
    def hashes(task: Mapping[str, Any], key: str) -> list[str]:
        return sorted(str(one[key]) for one in task["annotations"])

    old, new = before["classes"], after["classes"]
    pixels = {
        class_id: difference
        for class_id in sorted(old.keys() | new.keys(), key=int)
        if (difference := new.get(class_id, [0, 0])[1] - old.get(class_id, [0, 0])[1])
    }
    redrawn = hashes(before, "drawing") != hashes(after, "drawing")
    if hashes(before, "sha256") == hashes(after, "sha256") and old == new:
        return None
    return TaskChange(task_id, redrawn, pixels)


def _class_changes(
    before: Iterable[Mapping[str, Any]],
    after: Iterable[Mapping[str, Any]],
    moved: Mapping[int, list[int]] | None,
) -> tuple[ClassChange, ...]:
    old = {one["id"]: one for one in before}
    new = {one["id"]: one for one in after}
    changes = []
    for class_id in sorted(old.keys() | new.keys()):
        was, now = old.get(class_id), new.get(class_id)
        gained_lost = (None, None) if moved is None else tuple(moved.get(class_id, (0, 0)))
        changes.append(
            ClassChange(
                class_id,
                was["name"] if was else None,
                now["name"] if now else None,
                was["segments"] if was else 0,
                now["segments"] if now else 0,
                was["pixels"] if was else 0,
                now["pixels"] if now else 0,
                *gained_lost,
            )
        )
    return tuple(changes)


def _moved_pixels(
    before: DeliveryFiles, after: DeliveryFiles, task_ids: set[int]
) -> dict[int, list[int]]:
    """Count, by class id, pixels of these tasks that got the class and that lost it."""
    old, new = _label_maps(before, task_ids), _label_maps(after, task_ids)
    counts: dict[int, list[int]] = {}
    for key in sorted(old.keys() | new.keys()):
        was = _read_map(before, old[key]) if key in old else None
        now = _read_map(after, new[key]) if key in new else None
        if was is not None and now is not None and was.shape == now.shape:
            differs = was != now
            _count(counts, now[differs], 0)
            _count(counts, was[differs], 1)
            continue
        if now is not None:
            _count(counts, now.ravel(), 0)
        if was is not None:
            _count(counts, was.ravel(), 1)
    return counts


def _count(counts: dict[int, list[int]], ids: NDArray[Any], place: int) -> None:
    for class_id, pixels in zip(*np.unique(ids, return_counts=True), strict=True):
        counts.setdefault(int(class_id), [0, 0])[place] += int(pixels)


def _label_maps(files: DeliveryFiles, task_ids: set[int]) -> dict[tuple[Any, ...], str]:
    """Return the label map of each image of these tasks, by what names the image."""
    folder = f"data/{LABEL_MAPS}"
    found = {}
    for name in files.names():
        if not (name.startswith(f"{folder}/") and name.endswith("/images.jsonl")):
            continue
        base = name.removesuffix("images.jsonl")
        try:
            for line in files.read(name, _MAX_INDEX_BYTES).splitlines():
                entry = json.loads(line)
                if entry["task_id"] in task_ids:
                    key = (base, entry["task_id"], entry["to_name"], entry["item_index"])
                    found[key] = base + entry["files"][0]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise SourceError(f"{name} of {files.place} is damaged: {error}.") from error
    return found


def _read_map(files: DeliveryFiles, name: str) -> NDArray[Any]:
    from PIL import Image, UnidentifiedImageError

    from segstudio.pixels import MAX_PIXELS

    try:
        with Image.open(io.BytesIO(files.read(name, _MAX_MAP_BYTES)), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SourceError(f"{name} of {files.place} has too many pixels.")
            return np.asarray(image)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise SourceError(f"{name} of {files.place} is no label map: {error}.") from error
