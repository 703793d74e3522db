"""Renaming and merging labels in result lists and labelling interfaces: pure, on JSON and XML.

A mapping says for each old label its new one. No new label is an old one of the same mapping, so
that a half-migrated project can always be told from a finished one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from segstudio.errors import UsageError

_TAG: Final = re.compile(
    r"""<!--.*?-->|<(?P<close>/?)(?P<name>[A-Za-z_][\w.:-]*)"""
    r"""(?P<attributes>(?:\s+[\w.:-]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*(?P<empty>/?)>""",
    re.DOTALL,
)
_ATTRIBUTE: Final = re.compile(r"""([\w.:-]+)(\s*=\s*)("[^"]*"|'[^']*')""")
_CONDITIONS: Final = ("whenlabelvalue",)


def parse_mapping(renames: Iterable[str], merges: Iterable[str]) -> dict[str, str]:
    """Read ``OLD=NEW`` and ``A,B=C`` into old label -> new label.

    Raises:
        UsageError: a text of another form, a label that is renamed twice, or a new label that is
            an old one too (a swap or a chain: do them one after the other).

    >>> parse_mapping(["Auto=Car"], ["Van,Truck=Van"])
    {'Auto': 'Car', 'Truck': 'Van'}
    """
    mapping: dict[str, str] = {}
    for option, texts in (("--rename", renames), ("--merge", merges)):
        for text in texts:
            left, equals, new = (part.strip() for part in text.partition("="))
            olds = [one.strip() for one in left.split(",")] if option == "--merge" else [left]
            if not (equals and new and all(olds)) or (option == "--merge" and len(olds) < 2):
                form = "OLD=NEW" if option == "--rename" else "A,B=C"
                raise UsageError(f"{option} takes {form}, not {text!r}.")
            for old in olds:
                if old in mapping:
                    raise UsageError(f"The label {old!r} is given twice.")
                if old != new:
                    mapping[old] = new
    for new in mapping.values():
        if new in mapping:
            raise UsageError(
                f"The label {new!r} is both old and new. Half-way nobody could tell which is which:"
                " migrate to a third name first, then in a second call to the one you want."
            )
    if not mapping:
        raise UsageError("Say what to do, with --rename OLD=NEW or --merge A,B=C.")
    return mapping


def labels_of(region: Any) -> list[str]:
    """The labels of one item of a result list; none for what is no labelled region."""
    value = region.get("value") if isinstance(region, Mapping) else None
    if not isinstance(value, Mapping):
        return []
    return [
        label
        for key, labels in value.items()
        if key.endswith("labels") and isinstance(labels, list)
        for label in labels
        if isinstance(label, str)
    ]


def map_result(result: list[Any], mapping: Mapping[str, str]) -> list[Any]:
    """The result list with new labels for old; equal to what was given where none is old.

    A region whose labels become the same one keeps it once.
    """
    return [
        _with_labels(region, lambda labels: list(dict.fromkeys(mapping.get(x, x) for x in labels)))
        if any(label in mapping for label in labels_of(region))
        else region
        for region in result
    ]


def unmap_result(
    result: list[Any], before: Iterable[list[Any]], mapping: Mapping[str, str]
) -> list[Any]:
    """The result list with the labels that its regions had before a migration.

    A region that is known from before (by its id) and still has the labels that the migration
    gave it gets its old ones. Another with a new label gets the old one back where only one was
    renamed to it; where several were merged, nobody knows which, and it stays.

    Args:
        result: as it is now; regions drawn, moved or removed since stay so.
        before: result lists of the same annotation from before, the oldest first.
        mapping: the migration's.
    """
    known: dict[tuple[Any, Any], Any] = {}
    for earlier in before:
        known |= {_key(region): region for region in earlier if isinstance(region, Mapping)}
    sources: dict[str, list[str]] = {}
    for old, new in mapping.items():
        sources.setdefault(new, []).append(old)
    back = {new: olds[0] for new, olds in sources.items() if len(olds) == 1}
    restored = []
    for region in result:
        labels = labels_of(region)
        if not any(label in sources for label in labels):
            restored.append(region)
            continue
        drawn = known.get(_key(region))
        if drawn is not None and labels_of(map_result([drawn], mapping)[0]) == labels:
            old_lists = {key: one for key, one in drawn["value"].items() if key.endswith("labels")}
            restored.append({**region, "value": {**region["value"], **old_lists}})
        elif drawn is None:
            restored.append(_with_labels(region, lambda given: [back.get(x, x) for x in given]))
        else:
            restored.append(region)
    return restored


def map_config(xml: str, mapping: Mapping[str, str], *, keep_old: bool = False) -> str:
    """The labelling interface with new labels for old; everything else stays to the letter.

    In each control the first label of several that are merged becomes the new one, unless the
    control has the new one already; the others go. Label tags and `whenLabelValue` are changed.

    Args:
        xml: the interface.
        mapping: old label -> new label, as stored (of a label with an alias, the alias).
        keep_old: keep the old labels beside the new ones, for the time in between.

    Raises:
        UsageError: a label that would go has content of its own.
    """
    present = _labels_by_control(xml)
    done: dict[int, set[str]] = {key: set(labels) for key, labels in present.items()}
    parts: list[str] = []
    position, depth = 0, _Controls()
    skip_closing = ""
    for match in _TAG.finditer(xml):
        if match["name"] is None:
            continue
        control = depth.enter(match)
        before, text = xml[position : match.start()], match[0]
        position = match.end()
        if skip_closing and match["close"]:
            if before.strip():
                raise UsageError(
                    f"The label {skip_closing!r} has content of its own; remove that by hand."
                )
            skip_closing = ""
            continue
        text = _map_conditions(match, mapping, keep_old)
        stored = _stored_label(match)
        new = mapping.get(stored or "")
        if stored is None or new is None:
            parts += [before, text]
            continue
        fresh = new not in done[control]
        done[control].add(new)
        renamed = _with_label(text, new)
        if keep_old:
            if fresh:
                parts += [before, _self_closed(_without(renamed, "hotkey"))]
            parts += [before if not (fresh and before.strip()) else "", text]
        elif fresh:
            parts += [before, renamed]
        else:
            parts.append(before.rstrip() if not before.strip() else before)
            skip_closing = "" if match["empty"] else stored
    return "".join([*parts, xml[position:]])


class _Controls:
    """Which control a tag stands in, counted in document order; 0 outside of all."""

    def __init__(self) -> None:
        self._open: list[int] = [0]
        self._count = 0

    def enter(self, match: re.Match[str]) -> int:
        """Take a tag; return the number of the control that holds it."""
        if match["close"]:
            if len(self._open) > 1:
                self._open.pop()
            return self._open[-1]
        inside = self._open[-1]
        names = {name.lower() for name, _, _ in _ATTRIBUTE.findall(match["attributes"])}
        if "toname" in names or match["name"].lower().endswith("labels"):
            self._count += 1
            own = self._count
        else:
            own = inside
        if not match["empty"]:
            self._open.append(own)
        return inside


def _labels_by_control(xml: str) -> dict[int, list[str]]:
    depth = _Controls()
    found: dict[int, list[str]] = {}
    for match in _TAG.finditer(xml):
        if match["name"] is None:
            continue
        control = depth.enter(match)
        stored = _stored_label(match)
        labels = found.setdefault(control, [])
        if stored is not None:
            labels.append(stored)
    return found


def _stored_label(match: re.Match[str]) -> str | None:
    """The text that annotations hold for a Label tag; None for any other tag."""
    if match["close"] or match["name"].lower() != "label":
        return None
    found = {
        name.lower(): html.unescape(value[1:-1])
        for name, _, value in _ATTRIBUTE.findall(match["attributes"])
    }
    return found.get("alias") or found.get("value")


def _with_label(tag: str, new: str) -> str:
    has_alias = any(name.lower() == "alias" for name, _, _ in _ATTRIBUTE.findall(tag))
    wanted = "alias" if has_alias else "value"

    def change(match: re.Match[str]) -> str:
        is_it = match[1].lower() == wanted
        return f"{match[1]}{match[2]}{quoteattr(new)}" if is_it else match[0]

    return _ATTRIBUTE.sub(change, tag)


def _without(tag: str, attribute: str) -> str:
    pattern = rf"""\s+{attribute}\s*=\s*(?:"[^"]*"|'[^']*')"""
    return re.sub(pattern, "", tag, flags=re.IGNORECASE)


def _self_closed(tag: str) -> str:
    return tag if tag.endswith("/>") else f"{tag[:-1]}/>"


def _map_conditions(match: re.Match[str], mapping: Mapping[str, str], keep_old: bool) -> str:
    def change(one: re.Match[str]) -> str:
        if one[1].lower() not in _CONDITIONS:
            return one[0]
        labels = html.unescape(one[3][1:-1]).split(",")
        if not any(label.strip() in mapping for label in labels):
            return one[0]
        new = [mapping.get(label.strip(), label.strip()) for label in labels]
        kept = [label.strip() for label in labels] if keep_old else []
        return f"{one[1]}{one[2]}{quoteattr(','.join(dict.fromkeys([*kept, *new])))}"

    return _ATTRIBUTE.sub(change, match[0]) if not match["close"] else match[0]


def _with_labels(region: Mapping[str, Any], change: Any) -> dict[str, Any]:
    value = {
        key: change(one) if key.endswith("labels") and isinstance(one, list) else one
        for key, one in region["value"].items()
    }
    return {**region, "value": value}


def _key(region: Any) -> tuple[Any, Any]:
    return (region.get("id"), region.get("from_name")) if isinstance(region, Mapping) else (0, 0)
