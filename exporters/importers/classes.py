"""The classes of a data set as a taxonomy: its own ids, names and colours, made fit for both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from exporters.importers.dataset import DatasetError
from exporters.importers.folder import DatasetFolder
from segstudio.colors import distinct_colors
from segstudio.taxonomy import (
    MAX_CLASS_ID,
    Color,
    SegmentClass,
    Taxonomy,
    TaxonomyError,
    load_taxonomy,
)

CARD: Final = "dataset.json"
TAXONOMY_FILE: Final = "taxonomy.yaml"
_VOID_NAME: Final = "void"
# What XML 1.0 cannot hold, and line breaks, which a label cannot.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]+")


@dataclass(frozen=True, slots=True)
class ClassEntry:
    """One class as a data set names it; what it does not say is None."""

    id: int
    name: str
    color: Color | None = None
    is_thing: bool = True
    supercategory: str | None = None
    train_id: int | None = None


def make_taxonomy(
    entries: Iterable[ClassEntry],
    *,
    name: str,
    version: str = "1",
    void_id: int | None = None,
    void_color: Color = (0, 0, 0),
    unlabelled_id: int | None = None,
) -> Taxonomy:
    """Make a taxonomy of a data set's classes.

    Names are stripped of what a label cannot hold; of two equal ones the later gets its id
    added. Missing colours become distinct ones. Without a `void_id` it is 255, else the highest
    free id; unlabelled pixels are 0, or VOID where 0 is a class.

    Raises:
        DatasetError: no class at all, doubled ids, ids beyond 65535.
    """
    rows = list(entries)
    if not rows:
        raise DatasetError(f"{name} names no classes, so nothing can be labelled.")
    ids = {row.id for row in rows}
    if void_id is None:
        void_id = 255
        if void_id in ids or void_id == unlabelled_id:
            void_id = next(
                number
                for number in range(MAX_CLASS_ID, -1, -1)
                if number not in ids and number != unlabelled_id
            )
    if unlabelled_id is None:
        unlabelled_id = 0 if 0 not in ids and void_id != 0 else void_id
    fresh = iter(distinct_colors(len(rows), taken={row.color for row in rows if row.color}))
    seen: set[str] = set()
    classes = []
    for row in rows:
        label = _clean(row.name) or f"class {row.id}"
        if label in seen:
            label = f"{label} ({row.id})"
        seen.add(label)
        classes.append(
            SegmentClass(
                id=row.id,
                name=label,
                kind="thing" if row.is_thing else "stuff",
                color=row.color if row.color is not None else next(fresh),
                supercategory=row.supercategory,
                train_id=row.train_id,
            )
        )
    try:
        return Taxonomy(
            name=_clean(name) or "imported",
            version=version,
            classes=tuple(classes),
            void_id=void_id,
            void_color=void_color,
            unlabelled_id=unlabelled_id,
            source=name,
        )
    except TaxonomyError as error:
        raise DatasetError(f"The classes of the data set cannot be used. {error}") from error


def own_taxonomy(folder: DatasetFolder) -> Taxonomy | None:
    """Return the taxonomy that the folder's own `taxonomy.yaml` holds, else None.

    Raises:
        DatasetError: there is one, and it cannot be used.
    """
    path = folder.path(TAXONOMY_FILE)
    if not path.is_file():
        return None
    try:
        return load_taxonomy(path)
    except TaxonomyError as error:
        raise DatasetError(str(error)) from error


def card_of(folder: DatasetFolder) -> Mapping[str, Any]:
    """Return the card of an export of segstudio in the folder, {} where there is none."""
    card = folder.json(CARD)
    return card if card is not None and isinstance(card.get("taxonomy"), dict) else {}


def card_taxonomy(folder: DatasetFolder) -> Taxonomy | None:
    """Return the taxonomy that an export's card tells: all but supercategories and train ids."""
    card = card_of(folder)
    if not card or not isinstance(card.get("classes"), list):
        return None
    about = card["taxonomy"]
    try:
        return make_taxonomy(
            [
                ClassEntry(
                    int(one["id"]),
                    str(one["name"]),
                    color_of(one.get("color")),
                    one.get("kind") != "stuff",
                )
                for one in card["classes"]
            ],
            name=str(about.get("name", "")),
            version=str(about.get("version", "1")),
            void_id=int(about["void_id"]),
            unlabelled_id=int(about["unlabelled_id"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"The card {folder.root / CARD} is damaged ({error!r}); repair or remove it."
        ) from error


def with_void_label(taxonomy: Taxonomy) -> tuple[Taxonomy, str]:
    """Return the taxonomy with a label that means VOID, and that label.

    A void label or an ignored class that is there is taken; else "void" is added.
    """
    if taxonomy.void_labels:
        return taxonomy, taxonomy.void_labels[0]
    ignored = next((one.name for one in taxonomy.classes if one.ignore), None)
    if ignored is not None:
        return taxonomy, ignored
    label = _VOID_NAME
    while taxonomy.by_label(label) is not None:
        label += "_"
    return replace(taxonomy, void_labels=(label,)), label


def color_of(value: Any) -> Color | None:
    """Return a colour that a JSON gives as [red, green, blue], None for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    if not all(isinstance(one, int) and 0 <= one <= 255 for one in value):
        return None
    return value[0], value[1], value[2]


def _clean(text: str) -> str:
    return _UNFIT.sub(" ", text).strip()
