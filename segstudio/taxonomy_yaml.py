"""The strict reading of a taxonomy's YAML: every key known, every value of its type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

import yaml

from segstudio.colors import distinct_colors, parse_color
from segstudio.taxonomy import Color, ConceptCode, SegmentClass, Taxonomy, TaxonomyError

MAX_TAXONOMY_CHARS: Final = 4 * 1024 * 1024
_TOP_KEYS: Final = ("name", "version", "void", "unlabelled", "classes")
_VOID_KEYS: Final = ("id", "color", "labels")
_UNLABELLED_KEYS: Final = ("id",)
_CLASS_KEYS: Final = (
    "id",
    "name",
    "kind",
    "color",
    "train_id",
    "supercategory",
    "aliases",
    "ignore",
    "code",
    "boundary_rule",
)
_CATEGORY_KEYS: Final = ("scheme", "value", "meaning")
_CODE_KEYS: Final = (*_CATEGORY_KEYS, "category")
_MAX_CODE_CHARS: Final = {"scheme": 16, "value": 16, "meaning": 64}  # DICOM's SH and LO


def parse_taxonomy(text: str, source: str = "text") -> Taxonomy:
    """Read a taxonomy from YAML.

    Args:
        text: the YAML document.
        source: where it came from, for the sentences of errors.

    Raises:
        TaxonomyError: no YAML, an unknown or doubled key, a value of the wrong type, a bad colour,
            a doubled id, name, alias or train_id.
    """
    where = f"The taxonomy {source}"
    document = _load_yaml(text, where)
    top = _mapping(document, _TOP_KEYS, where)
    void = _mapping(top.get("void", {}), _VOID_KEYS, f"{where}, void")
    unlabelled = _mapping(top.get("unlabelled", {}), _UNLABELLED_KEYS, f"{where}, unlabelled")
    rows = top.get("classes")
    if not isinstance(rows, list) or not rows:
        raise TaxonomyError(f"{where} has no list of classes; it needs at least one.")
    return Taxonomy(
        name=_text(top.get("name"), f"{where}, name"),
        version=_version(top.get("version", "1"), f"{where}, version"),
        void_id=_integer(void.get("id", 255), f"{where}, void id"),
        void_color=_color(void.get("color", "#000000"), f"{where}, void color"),
        void_labels=_texts(void.get("labels", []), f"{where}, void labels"),
        unlabelled_id=_integer(unlabelled.get("id", 0), f"{where}, unlabelled id"),
        classes=_classes(rows, where),
        source=source,
    )


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses doubled keys, which YAML forbids and PyYAML lets the last win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'the key "{key_node.value}" is doubled', key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # Anchors that refer to anchors can make a small file huge; a taxonomy needs none.
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None,
                None,
                "anchors and aliases (& and *) are not used",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)


def _load_yaml(text: str, where: str) -> object:
    if len(text) > MAX_TAXONOMY_CHARS:
        raise TaxonomyError(f"{where} has {len(text)} characters; at most {MAX_TAXONOMY_CHARS}.")
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise TaxonomyError(f"{where} is no YAML that can be read: {error}.") from error
    except (RecursionError, ValueError) as error:  # nested too deep; impossible dates and numbers
        raise TaxonomyError(f"{where} cannot be read: {error}.") from error


def _classes(rows: list[object], where: str) -> tuple[SegmentClass, ...]:
    colors = [
        parse_color(str(row["color"])) for row in rows if isinstance(row, dict) and "color" in row
    ]
    spare = iter(distinct_colors(len(rows), taken=[color for color in colors if color]))
    return tuple(_segment_class(row, index, where, spare) for index, row in enumerate(rows, 1))


def _segment_class(row: object, index: int, where: str, spare: Any) -> SegmentClass:
    at = f"{where}, class {index}"
    if isinstance(row, Mapping) and isinstance(row.get("name"), str):
        at = f'{at} ("{row["name"]}")'
    entries = _mapping(row, _CLASS_KEYS, at)
    if "id" not in entries:
        raise TaxonomyError(f"{at} has no id; give it a whole number.")
    kind = entries.get("kind", "thing")
    if kind not in ("thing", "stuff"):
        raise TaxonomyError(f'{at}: kind is "{kind}"; it is either thing or stuff.')
    supercategory = entries.get("supercategory")
    train_id = entries.get("train_id")
    return SegmentClass(
        id=_integer(entries["id"], f"{at}, id"),
        name=_text(entries.get("name"), f"{at}, name"),
        kind=kind,
        color=_color(entries["color"], f"{at}, color") if "color" in entries else next(spare),
        supercategory=None
        if supercategory is None
        else _text(supercategory, f"{at}, supercategory"),
        aliases=_texts(entries.get("aliases", []), f"{at}, aliases"),
        ignore=_boolean(entries.get("ignore", False), f"{at}, ignore"),
        boundary_rule=" ".join(_text(entries["boundary_rule"], f"{at}, boundary_rule").split())
        if entries.get("boundary_rule")
        else "",
        train_id=None if train_id is None else _integer(train_id, f"{at}, train_id"),
        code=_code(entries["code"], f"{at}, code") if "code" in entries else None,
    )


def _code(value: object, where: str, keys: tuple[str, ...] = _CODE_KEYS) -> ConceptCode:
    entries = _mapping(value, keys, where)
    texts = {key: _text(entries.get(key), f"{where}, {key}") for key in _CATEGORY_KEYS}
    for key, text in texts.items():
        if len(text) > _MAX_CODE_CHARS[key] or "\\" in text:
            raise TaxonomyError(
                f"{where}, {key} is {_shown(text)}; DICOM holds {_MAX_CODE_CHARS[key]} characters "
                "there, and no backslash."
            )
    category = entries.get("category")
    return ConceptCode(
        **texts,
        category=None
        if category is None
        else _code(category, f"{where}, category", _CATEGORY_KEYS),
    )


def _mapping(value: object, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TaxonomyError(
            f"{where} is {_shown(value)}; it must be a mapping with the keys {', '.join(keys)}."
        )
    for key in value:
        if key not in keys:
            close = get_close_matches(str(key), keys, n=1)
            advice = f"; is {close[0]} meant?" if close else f"; the keys are {', '.join(keys)}."
            raise TaxonomyError(f'{where} has the unknown key "{key}"{advice}')
    return value


def _text(value: object, where: str) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    advice = (
        " YAML reads yes, no, on, off, dates and numbers as such; put the text into quotes."
        if isinstance(value, bool | int | float) or type(value).__name__ in {"date", "datetime"}
        else ""
    )
    raise TaxonomyError(f"{where} is {_shown(value)}; it must be a text.{advice}")


def _version(value: object, where: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    return _text(value, where)


def _integer(value: object, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TaxonomyError(f"{where} is {_shown(value)}; it must be a whole number.")


def _boolean(value: object, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise TaxonomyError(f"{where} is {_shown(value)}; it is either true or false.")


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TaxonomyError(f"{where} is {_shown(value)}; it must be a list of texts.")
    return tuple(_text(item, where) for item in value)


def _color(value: object, where: str) -> Color:
    color = parse_color(value) if isinstance(value, str) else None
    if color is None:
        raise TaxonomyError(
            f'{where} is {_shown(value)}, which is no colour; write it in quotes, as "#RRGGBB".'
        )
    return color


def _shown(value: object) -> str:
    if value is None:
        return "missing or empty"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
