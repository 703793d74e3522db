"""COCO's JSON files, streamed: images and annotations meet in a temporary database on disk.

A COCO file lists images and annotations apart from each other and in any order, and may have
millions of them; grouping them needs no memory this way.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from exporters.importers.classes import (
    ClassEntry,
    card_of,
    color_of,
    make_taxonomy,
)
from exporters.importers.dataset import DamagedImageError, DatasetError
from exporters.importers.folder import DatasetFolder
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy

YES: Final = "yes"
_CROWD_NAMES: Final = frozenset({"iscrowd", "is_crowd", "crowd"})
_PICTURE_FOLDERS: Final = ("", "images", "train2017", "val2017")
_NO_DATA_SETS: Final = frozenset({"dataset.json", "colormap.json", "mmsegmentation.json"})
_BATCH: Final = 1000
_TABLES: Final = """
CREATE TABLE images (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT);
CREATE TABLE annotations (seq INTEGER PRIMARY KEY, image_id TEXT, body TEXT);
"""


class CocoFile:
    """One COCO JSON file: its head in memory, its lists in a database that ends with it."""

    def __init__(self, path: Path) -> None:
        """Read the file once.

        Raises:
            DatasetError: no JSON, cut off, or without the lists that make it COCO.
        """
        self.path = path
        self.info: Mapping[str, Any] = {}
        self.categories: list[Mapping[str, Any]] = []
        self.doubled_images: list[str] = []
        self.images_count = 0
        # A temporary file of SQLite's own, gone with the connection.
        self._db = sqlite3.connect("")
        self._db.executescript(_TABLES)
        self._read()
        self._db.execute("CREATE INDEX by_image ON annotations (image_id)")

    def _read(self) -> None:
        for value in self._items("info"):
            self.info = value
        self.categories.extend(self._items("categories.item"))
        for value in self._items("images.item"):
            row = (_key(value.get("id")), json.dumps(value))
            added = self._db.execute("INSERT OR IGNORE INTO images (id, body) VALUES (?, ?)", row)
            if added.rowcount:
                self.images_count += 1
            elif len(self.doubled_images) < _BATCH:
                self.doubled_images.append(str(value.get("id")))
        self._db.executemany(
            "INSERT INTO annotations (image_id, body) VALUES (?, ?)",
            (
                (_key(value.get("image_id")), json.dumps(value))
                for value in self._items("annotations.item")
            ),
        )
        if not self.images_count:
            raise DatasetError(f"{self.path} is no COCO file, or an empty one: it lists no images.")

    def _items(self, prefix: str) -> Iterator[Mapping[str, Any]]:
        """Yield the objects below a prefix; a pass of its own over the file, in compiled code."""
        import ijson

        try:
            with self.path.open("rb") as file:
                for value in ijson.items(file, prefix, use_float=True):
                    if isinstance(value, dict):
                        yield value
        except ijson.JSONError as error:
            reason = " ".join(str(error).split())
            raise DatasetError(
                f"{self.path} is not valid JSON: {reason}. It may be cut off; copy it again."
            ) from error
        except (OSError, UnicodeDecodeError, RecursionError) as error:
            raise DatasetError(f"{self.path} cannot be read: {error}.") from error

    def images(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Yield each image with its annotations, both in the file's order."""
        last = 0
        while rows := self._db.execute(
            "SELECT seq, id, body FROM images WHERE seq > ? ORDER BY seq LIMIT ?", (last, _BATCH)
        ).fetchall():
            last = rows[-1][0]
            for _, image_id, body in rows:
                found = self._db.execute(
                    "SELECT body FROM annotations WHERE image_id = ? ORDER BY seq", (image_id,)
                )
                yield json.loads(body), [json.loads(text) for (text,) in found]

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Yield every annotation in the file's order."""
        for (body,) in self._db.execute("SELECT body FROM annotations ORDER BY seq"):
            yield json.loads(body)

    def stray_annotations(self) -> int:
        """Return how many annotations belong to no image of the file."""
        query = (
            "SELECT COUNT(*) FROM annotations WHERE image_id IS NULL "
            "OR image_id NOT IN (SELECT id FROM images WHERE id IS NOT NULL)"
        )
        return int(self._db.execute(query).fetchone()[0])

    def integer_ids(self) -> list[int] | None:
        """Return the images' ids if all are integers from 0 up, as those of tasks; else None."""
        query = "SELECT COUNT(*) FROM images WHERE id IS NULL OR id NOT GLOB 'i[0-9]*'"
        if self._db.execute(query).fetchone()[0]:
            return None
        return [int(text[1:]) for (text,) in self._db.execute("SELECT id FROM images")]


def coco_taxonomy(file: CocoFile, folder: DatasetFolder) -> Taxonomy:
    """Return the taxonomy of a COCO file's categories.

    Raises:
        DatasetError: a category without an integer id, doubled ids, or none at all.
    """
    entries = []
    for one in file.categories:
        number = one.get("id")
        if not isinstance(number, int):
            raise DatasetError(
                f"{file.path} has a category with the id {number!r}; ids are whole numbers."
            )
        name = str(one.get("name") or "")
        above = str(one.get("supercategory") or "") or None
        is_thing = one.get("isthing", 1) in (1, True)
        color = color_of(one.get("color"))
        entries.append(ClassEntry(number, name, color, is_thing, above))
    about = card_of(folder).get("taxonomy", {})
    void_id, unlabelled_id = about.get("void_id"), about.get("unlabelled_id")
    return make_taxonomy(
        entries,
        name=str(file.info.get("description") or file.path.parent.name),
        version=str(file.info.get("version") or "1"),
        void_id=void_id if isinstance(void_id, int) else None,
        unlabelled_id=unlabelled_id if isinstance(unlabelled_id, int) else None,
    )


def segment_attributes(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return a segment's attributes; `iscrowd` becomes one where they do not say it."""
    found = info.get("attributes")
    attributes = dict(found) if isinstance(found, dict) else {}
    if info.get("iscrowd") in (1, True) and not _CROWD_NAMES & {key.lower() for key in attributes}:
        attributes["iscrowd"] = [YES]
    return attributes


def survey(attributes: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Note what answers there are: an example each, of lists of texts all options."""
    for name, answer in found.items():
        known = attributes.setdefault(name, answer)
        if isinstance(known, list) and isinstance(answer, list):
            attributes[name] = known + [one for one in answer if one not in known]


def json_files(folder: DatasetFolder, kind: str) -> list[Path]:
    """Return the JSON files of a COCO data set: `<kind>.json`, `<kind>_*.json`, or the only JSON.

    Raises:
        DatasetError: none, or several of other names to choose from.
    """
    ours = folder.path(f"{kind}.json")
    if ours.is_file():
        return [ours]
    jsons = [one for one in folder.files(".json") if one.name not in _NO_DATA_SETS]
    named = [one for one in jsons if one.name.startswith(f"{kind}_")]
    found = named or jsons
    if not found:
        raise DatasetError(
            f"{folder.root} holds no {kind}.json and no other JSON; give the folder that has the "
            "annotations' JSON in it."
        )
    if not named and len(found) > 1:
        raise several_files(folder, found, kind)
    return [folder.path(folder.relative(one)) for one in found]


def several_files(folder: DatasetFolder, found: list[Path], kind: str) -> DatasetError:
    """Return the error that names the files between which there is no choosing."""
    names = ", ".join(one.name for one in found[:4]) + (", ..." if len(found) > 4 else "")
    return DatasetError(
        f"{folder.root} holds {len(found)} JSON files ({names}); give a folder with one data set, "
        f"or name the right one {kind}.json."
    )


def file_problems(file: CocoFile) -> tuple[Problem, ...]:
    """Return what is wrong between the lists of a COCO file."""
    problems = [
        Problem(
            "doubled-image",
            f"The image id {image_id} is in the list of images more than once; the first counts.",
        )
        for image_id in file.doubled_images
    ]
    strays = file.stray_annotations()
    if strays:
        problems.append(
            Problem(
                "stray-annotation",
                f"{strays} annotations belong to no image of {file.path.name}; they are left out.",
            )
        )
    return tuple(problems)


def stated_size(record: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Return (height_px, width_px) as a COCO image entry states them.

    Raises:
        DamagedImageError: they are no positive whole numbers.
    """
    height_px, width_px = record.get("height"), record.get("width")
    if not isinstance(height_px, int) or not isinstance(width_px, int):
        raise DamagedImageError(
            f"{name} has the height {height_px!r} and the width {width_px!r} in the JSON; they are "
            "whole numbers of pixels."
        )
    if height_px < 1 or width_px < 1:
        raise DamagedImageError(f"{name} is {width_px} x {height_px} pixels in the JSON.")
    return height_px, width_px


def picture(folder: DatasetFolder, record: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the picture's name in the folder, and where the JSON says that it lies.

    Raises:
        DamagedImageError: a file name that leads out of the folder, or none.
    """
    file_name = record.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise DamagedImageError(f"{name} has no file_name in the JSON.")
    reference = record.get("coco_url")
    found = folder.picture(file_name, _PICTURE_FOLDERS)
    return found, reference if isinstance(reference, str) else ""


def items_of(file: CocoFile) -> Iterator[tuple[str, int | None, dict[str, Any], list[Any]]]:
    """Yield name, integer id (or None), entry and annotations of each image."""
    by_id = file.integer_ids() is not None
    for record, entries in file.images():
        name = str(record.get("file_name") or f"image {record.get('id')}")
        yield name, record["id"] if by_id else None, record, entries


def _key(value: Any) -> str | None:
    """Tell 1 from "1": what makes two ids the same."""
    if isinstance(value, int):
        return f"i{value}"
    return f"s{value}" if isinstance(value, str) else None
