"""Semantic label maps: a PNG per image whose pixels are class ids, or colours of classes.

Read are `masks/` (ours), `annotations/`, `ann_dir/`, `labels/` and `SegmentationClass/`, each
with folders below it, and everything in one folder. What the ids mean is taken from the first
there is of: `--taxonomy`, `taxonomy.yaml`, `colormap.json` (ours), `classes.txt` (a name a line,
the first is id 0), else from the ids in use and the PNGs' palettes.

Which pixels belong to which object a label map does not say: each class is one region.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters.importers.classes import (
    ClassEntry,
    card_of,
    color_of,
    make_taxonomy,
    own_taxonomy,
    with_void_label,
)
from exporters.importers.dataset import (
    DamagedImageError,
    Dataset,
    DatasetError,
    ImportedImage,
    ImportedSegment,
    Item,
)
from exporters.importers.folder import DatasetFolder
from exporters.importers.label_images import Color, masks_by_value, palette_of, read_label_map
from exporters.importers.listing import ListedImage, items_of, listed_images, picture_name
from segstudio.masks import Mask
from segstudio.tasks import Problem
from segstudio.taxonomy import MAX_CLASS_ID, Taxonomy

_MASK_FOLDERS: Final = ("masks", "annotations", "ann_dir", "labels", "SegmentationClass", "")
_PICTURE_FOLDERS: Final = ("images", "img_dir", "JPEGImages", "")
_CLASS_FILES: Final = ("classes.txt", "masks/classes.txt")


def open_dataset(folder: DatasetFolder, taxonomy: Taxonomy | None) -> Dataset:
    """Open a folder of label maps; without a colour map every PNG is read once to see its ids.

    Raises:
        DatasetError: no PNG at all, or none that is a label map.
    """
    listed = listed_images(folder, ".png")
    where = "masks" if listed is not None else mask_folder(folder, _MASK_FOLDERS)
    if taxonomy is None:
        taxonomy = own_taxonomy(folder) or _named_classes(folder) or _classes_in_use(folder, where)
    taxonomy, void_label = with_void_label(taxonomy)
    return Dataset(
        taxonomy=taxonomy,
        items=items_of(listed if listed is not None else _found(folder, where)),
        read=partial(_read, folder, taxonomy, void_label),
    )


def mask_folder(folder: DatasetFolder, candidates: Iterable[str]) -> str:
    """Return the first of the folders that holds a PNG.

    Raises:
        DatasetError: none does.
    """
    for name in candidates:
        if next(_masks(folder, name), None) is not None:
            return name
    raise DatasetError(
        f"{folder.root} holds no PNG label maps: not in it, nor in "
        f"{', '.join(one for one in candidates if one)}."
    )


def label_segments(
    masks: Mapping[int, Mask], taxonomy: Taxonomy, void_label: str, name: str
) -> tuple[list[ImportedSegment], list[Problem]]:
    """Return one segment a class of a label map, VOID among them, and ids that mean nothing.

    Args:
        masks: the pixels of each id.
        taxonomy: what the ids mean.
        void_label: the label of VOID pixels.
        name: how messages call the label map.
    """
    segments, problems = [], []
    for number, mask in masks.items():
        one = taxonomy.by_id.get(number)
        # VOID first: an id that means both is not to be judged.
        if number == taxonomy.void_id:
            segments.append(ImportedSegment(void_label, mask, {"class_id": number}))
        elif number == taxonomy.unlabelled_id:
            continue
        elif one is not None:
            segments.append(ImportedSegment(one.name, mask, {"class_id": number}))
        else:
            text = f"{name} has {mask.area_px} pixels of the id {number}, which no class has"
            problems.append(Problem("unknown-category", f"{text}; they are left out."))
    return segments, problems


def id_colors(taxonomy: Taxonomy) -> dict[Color, int]:
    """Return which id each colour means, for label maps stored in true colour."""
    colors = {(0, 0, 0): taxonomy.unlabelled_id}
    colors[taxonomy.void_color] = taxonomy.void_id
    if taxonomy.void_color == (0, 0, 0):
        colors[0, 0, 0] = taxonomy.unlabelled_id
    for one in reversed(taxonomy.classes):
        colors[one.color] = one.id
    return colors


def _masks(folder: DatasetFolder, where: str) -> Iterator[Path]:
    """Yield the label maps below a folder; in the data set's own folder not its pictures.

    Beside a label map x.png its picture is called x.jpg or the like, or lies below images/.
    """
    base = folder.path(where) if where else folder.root
    if not base.is_dir():
        return
    for path in folder.files(".png", where):
        relative = path.relative_to(folder.root)
        if not where and relative.parts[0] in (*_PICTURE_FOLDERS[:3], "overlays"):
            continue
        if not where and relative.name == "contact-sheet.png":
            continue
        yield path


def _found(folder: DatasetFolder, where: str) -> Iterator[ListedImage]:
    for path in _masks(folder, where):
        yield ListedImage((folder.relative(path),))


def _named_classes(folder: DatasetFolder) -> Taxonomy | None:
    """Return the taxonomy of colormap.json or classes.txt, None where neither is there."""
    colormap = folder.json("colormap.json")
    if colormap is not None:
        return _colormap_taxonomy(folder, colormap)
    for name in _CLASS_FILES:
        lines = folder.text_lines(name)
        if lines:
            entries = [ClassEntry(number, line) for number, line in enumerate(lines)]
            void = [one for one in entries if one.name.lower() in ("void", "ignore")]
            rest = [one for one in entries if one not in void]
            return make_taxonomy(rest, name=folder.root.name, void_id=void[0].id if void else None)
    return None


def _colormap_taxonomy(folder: DatasetFolder, colormap: Mapping[str, Any]) -> Taxonomy:
    about = card_of(folder).get("taxonomy", {})
    void_color = (0, 0, 0)
    entries = []
    try:
        for one in colormap["entries"]:
            color = color_of(one.get("color"))
            if one.get("kind") in ("thing", "stuff"):
                is_thing = one["kind"] == "thing"
                entries.append(ClassEntry(int(one["id"]), str(one["name"]), color, is_thing))
            elif one.get("kind") == "void" and color is not None:
                void_color = color
        return make_taxonomy(
            entries,
            name=str(about.get("name") or folder.root.name),
            version=str(about.get("version") or "1"),
            void_id=int(colormap["ignore_index"]),
            void_color=void_color,
            unlabelled_id=int(colormap["unlabelled_id"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{folder.root / 'colormap.json'} is damaged ({error!r}); repair or remove it."
        ) from error


def _classes_in_use(folder: DatasetFolder, where: str) -> Taxonomy:
    """Return a taxonomy of the ids that the label maps use: 0 unlabelled, 255 VOID."""
    used: set[int] = set()
    palette: dict[int, Color] = {}
    for path in _masks(folder, where):
        name = folder.relative(path)
        try:
            checked = folder.path(name)
            used.update(int(one) for one in np.unique(read_label_map(checked, name, {})))
            palette = palette or palette_of(checked)
        except DamagedImageError:
            continue  # reported when it is read
    ids = sorted(number for number in used - {0, 255} if number <= MAX_CLASS_ID)
    if not ids:
        raise DatasetError(
            f"The PNGs below {folder.root / where} have no class ids, or are coloured and lack a "
            "colormap.json; give the classes with --taxonomy."
        )
    colors = [palette.get(number) for number in ids]
    distinct = len(set(colors)) == len(colors)
    entries = [
        ClassEntry(number, f"class {number}", color if distinct else None)
        for number, color in zip(ids, colors, strict=True)
    ]
    return make_taxonomy(entries, name=folder.root.name, void_id=255, unlabelled_id=0)


def _read(folder: DatasetFolder, taxonomy: Taxonomy, void_label: str, item: Item) -> ImportedImage:
    listed: ListedImage = item.record
    name = listed.files[0]
    ids = read_label_map(folder.path(name), name, id_colors(taxonomy))
    segments, problems = label_segments(masks_by_value(ids), taxonomy, void_label, name)
    height_px, width_px = ids.shape
    return ImportedImage(
        listed.file_name or picture_name(folder, name, _MASK_FOLDERS, _PICTURE_FOLDERS),
        height_px,
        width_px,
        tuple(segments),
        listed.reference,
        problems=tuple(problems),
    )
