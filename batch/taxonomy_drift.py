"""What became of a taxonomy between two batches: ids are only ever added, and mean one thing.

A delivered label map says 3 and means the class that had the id 3 then. So a class that has
another id, another name or kind, or is gone, is drift; a class that was added is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segstudio.errors import SourceError, UsageError
from segstudio.taxonomy import SegmentClass, Taxonomy, TaxonomyError, load_taxonomy


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference; `is_error` where label maps of the two batches do not mean the same."""

    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class KnownClass:
    """What earlier data says of a class; a kind of None is not known."""

    id: int
    name: str
    kind: str | None = None
    labels: tuple[str, ...] = ()


def drift(earlier: Mapping[int, KnownClass], now: Taxonomy) -> list[Drift]:
    """Compare the classes of an earlier batch with a taxonomy; errors first, each by id."""
    found: list[Drift] = []
    for class_id, old in sorted(earlier.items()):
        same_id = now.by_id.get(class_id)
        if same_id is not None and same_id.name == old.name:
            if old.kind is not None and old.kind != same_id.kind:
                text = f"The class {old.name!r} (id {class_id}) was {old.kind} and is now "
                found.append(Drift(f"{text}{same_id.kind}.", True))
            found += _lost_labels(old, now)
            continue
        moved = now.by_name.get(old.name)
        if moved is not None:
            text = f"The class {old.name!r} had the id {class_id} and has now {moved.id}."
            found.append(Drift(f"{text} Ids are never changed: give it {class_id} again.", True))
        elif same_id is not None and old.name in same_id.aliases:
            text = f"The class {class_id} was called {old.name!r} and is now {same_id.name!r}"
            found.append(Drift(f"{text}; the old name is among its aliases.", True))
        elif (into := now.by_label(old.name)) is not None:
            text = f"The class {old.name!r} (id {class_id}) was merged into {into.name!r}"
            found.append(Drift(f"{text} (id {into.id}). The id must not be used again.", True))
        elif same_id is not None:
            text = f"The id {class_id} meant {old.name!r} and means now {same_id.name!r}."
            found.append(Drift(f"{text} Ids are never used again: take a new one.", True))
        else:
            text = f"The class {old.name!r} (id {class_id}) is gone. Keep it"
            found.append(Drift(f"{text}, with ignore: true where nobody is to draw it.", True))
    for one in sorted(now.classes, key=lambda each: each.id):
        if one.id not in earlier and all(one.name != old.name for old in earlier.values()):
            found.append(Drift(f"The class {one.name!r} (id {one.id}) is new.", False))
    return sorted(found, key=lambda each: not each.is_error)


def require_no_drift(earlier: Path, now: Taxonomy) -> list[str]:
    """Return sentences on what was added since an earlier batch, or that nothing changed.

    Raises:
        TaxonomyError: a class has another id, name or kind by now, or is gone.
    """
    found = drift(read_classes(earlier), now)
    errors = [one.text for one in found if one.is_error]
    if errors:
        raise TaxonomyError(
            f"The taxonomy {now.source or now.name} does not go with {earlier}: {' '.join(errors)}"
        )
    added = [one.text for one in found]
    return added or [f"The classes are those of {earlier}."]


def read_classes(path: Path) -> dict[int, KnownClass]:
    """The classes of an earlier batch: of a taxonomy file, or of an export or delivery.

    Args:
        path: a taxonomy (YAML), a `dataset.json`, or a folder with a `taxonomy.yaml` or a
            `dataset.json` in it or below it.

    Raises:
        UsageError: there is none, or several that differ.
        SourceError: it cannot be read.
    """
    if path.is_dir():
        found = [_of_taxonomy(one) for one in sorted(path.rglob("taxonomy.yaml"))]
        found = found or [_of_data_set(one) for one in sorted(path.rglob("dataset.json"))]
    elif path.suffix.lower() in (".yaml", ".yml"):
        found = [_of_taxonomy(path)]
    else:
        found = [_of_data_set(path)]
    if not found:
        raise UsageError(
            f"{path} holds no taxonomy.yaml and no dataset.json; name the folder of an export or "
            "of a delivery, or a taxonomy."
        )
    if any(one != found[0] for one in found):
        raise UsageError(f"The data sets in {path} have different classes; name one of them.")
    return found[0]


def migrate_taxonomy(taxonomy: Taxonomy, mapping: Mapping[str, str]) -> Taxonomy:
    """The taxonomy after a migration: old names live on as aliases, ids stay or are retired.

    Raises:
        UsageError: the merged classes are not alike (thing and stuff, ignored and not, VOID), so
            that their drawings mean different things.
    """
    groups: dict[str, list[str]] = {}
    for old, new in mapping.items():
        groups.setdefault(new, []).append(old)
    classes = list(taxonomy.classes)
    void_labels = list(taxonomy.void_labels)
    for new, olds in groups.items():
        labels = [*olds, new]
        voids = [label for label in labels if label in void_labels]
        members = [one for one in classes if any(label in one.labels for label in labels)]
        if voids and members:
            raise UsageError(f"{voids[0]!r} is VOID and {members[0].name!r} is a class.")
        if voids:
            void_labels = list(dict.fromkeys([*void_labels, new]))
            continue
        if not members:
            continue
        for one in members[1:]:
            if (one.kind, one.ignore) != (members[0].kind, members[0].ignore):
                raise UsageError(
                    f"The classes {members[0].name!r} and {one.name!r} cannot be merged: one is "
                    "thing or ignored and the other is not. Make them alike in the taxonomy first."
                )
        target = next((one for one in members if new in one.labels), members[0])
        kept = _merged(target, new if new not in target.aliases else target.name, members)
        classes = [kept if one is target else one for one in classes
                   if one is target or one not in members]  # fmt: skip
    return replace(taxonomy, classes=tuple(classes), void_labels=tuple(void_labels))


def _merged(target: SegmentClass, name: str, members: list[SegmentClass]) -> SegmentClass:
    labels = [label for one in [target, *members] for label in one.labels]
    aliases = tuple(label for label in dict.fromkeys(labels) if label != name)
    return replace(target, name=name, aliases=aliases)


def _lost_labels(old: KnownClass, now: Taxonomy) -> list[Drift]:
    lost = [label for label in old.labels if not now.knows(label)]
    return [
        Drift(f"The alias {label!r} of the class {old.name!r} (id {old.id}) is gone.", True)
        for label in lost
    ]


def _of_taxonomy(path: Path) -> dict[int, KnownClass]:
    return {
        one.id: KnownClass(one.id, one.name, one.kind, one.labels)
        for one in load_taxonomy(path).classes
    }


def _of_data_set(path: Path) -> dict[int, KnownClass]:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        found = raw["taxonomy"]["classes"] if "taxonomy" in raw else raw["classes"]
        return {
            int(one["id"]): KnownClass(int(one["id"]), str(one["name"]), one.get("kind"))
            for one in found
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} says no classes that can be read: {error!r}.") from error
