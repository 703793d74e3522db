"""The YAML schema of the format `custom`: parsed, checked, and refused with a sentence.

The schema is one file that a team keeps under version control; `docs/formats.md` explains every
key with an example that the tests run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Final, Literal, get_args

import yaml

from exporters.splits import SplitRule
from segstudio.colors import parse_color
from segstudio.errors import UsageError
from segstudio.taxonomy import Taxonomy

FileType = Literal["label-map", "color-map", "instance-map", "masks", "text"]
Per = Literal["image", "class", "segment", "split", "dataset"]
Stuff = Literal["class", "number", "zero"]
Others = Literal["error", "unlabelled", "void"]

_LARGEST: Final[Mapping[str, int]] = {
    "uint8": 255,
    "uint16": 65_535,
    "rgb24": (1 << 24) - 1,
    "int32": (1 << 31) - 1,
}
_VALUE: Final = re.compile(r"\s*(?:class\s*\*\s*(\d+)\s*\+\s*)?number\s*")
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_PLACES: Final[Mapping[Per, frozenset[str]]] = {
    "image": frozenset({"split", "stem", "task_id"}),
    "class": frozenset({"split", "stem", "task_id", "class", "class_id"}),
    "segment": frozenset({"split", "stem", "task_id", "class", "class_id", "number"}),
    "split": frozenset({"split"}),
    "dataset": frozenset(),
}
_NEEDED: Final[Mapping[Per, tuple[frozenset[str], ...]]] = {
    "image": (frozenset({"stem"}),),
    "class": (frozenset({"stem"}), frozenset({"class", "class_id"})),
    "segment": (frozenset({"stem"}), frozenset({"number"})),
    "split": (frozenset({"split"}),),
    "dataset": (),
}
_OURS: Final = frozenset({"readme.md", "dataset.json", "taxonomy.yaml", "contact-sheet.jpg"})


@dataclass(frozen=True, slots=True)
class OutputClass:
    """A class of the data set, and the taxonomy's classes that become it."""

    id: int
    name: str
    sources: tuple[str, ...]
    color: tuple[int, int, int]
    is_thing: bool


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One kind of file that the schema asks for.

    `dtype` is the width of a map's values; `class_step` is K in ``class * K + number``, 0 where an
    instance's value is its number alone.
    """

    type: FileType
    path: str
    per: Per = "image"
    dtype: str = "uint8"
    palette: bool = True
    class_step: int = 0
    first_number: int = 1
    stuff: Stuff = "class"
    foreground: int = 255
    template: str = ""
    segments: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """A checked schema, its classes resolved against a taxonomy.

    `class_ids` maps the taxonomy's class ids to output classes; ids that it lacks follow `others`.
    """

    name: str
    classes: tuple[OutputClass, ...]
    files: tuple[OutputFile, ...]
    splits: SplitRule = field(default_factory=SplitRule)
    others: Others = "error"
    unlabelled: int = 0
    void: int = 255
    class_ids: Mapping[int, OutputClass] = field(default_factory=dict)


@lru_cache(maxsize=4)
def parse_schema(text: str, taxonomy: Taxonomy, where: str = "the schema") -> Schema:
    """Parse a schema and resolve its classes.

    Raises:
        UsageError: no YAML, an unknown key, a class that the taxonomy lacks or that two entries
            claim, an id that does not fit, a path that leaves the folder or that two files share.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is no YAML: {error}") from error
    top = _mapping(
        document,
        where,
        {"name", "classes", "others", "unlabelled", "void", "splits", "files"},
        required={"classes", "files"},
    )
    others: Others = _choice(top.get("others", "error"), get_args(Others), f"{where}: others")
    unlabelled = _integer(top.get("unlabelled", 0), f"{where}: unlabelled")
    void = _integer(top.get("void", 255), f"{where}: void")
    classes = tuple(
        _class(row, taxonomy, f"{where}: class {number}")
        for number, row in enumerate(_list(top["classes"], f"{where}: classes"), start=1)
    )
    class_ids = _resolve(classes, taxonomy, others, where)
    _check_ids(classes, unlabelled, void, where)
    files = tuple(
        _file(row, f"{where}: file {number}")
        for number, row in enumerate(_list(top["files"], f"{where}: files"), start=1)
    )
    _check_files(files, classes, max(unlabelled, void), where)
    splits = _splits(top.get("splits"), f"{where}: splits")
    if "splits" not in top and any("{split}" in file.path for file in files):
        raise UsageError(f"{where} has paths with {{split}} but no 'splits'; say who goes where.")
    return Schema(
        name=str(top.get("name", "custom")),
        classes=classes,
        files=files,
        splits=splits,
        others=others,
        unlabelled=unlabelled,
        void=void,
        class_ids=class_ids,
    )


def safe_part(text: str) -> str:
    """Return a text as one harmless part of a path: no separator, no leading dot, not empty.

    >>> safe_part("../traffic light"), safe_part("ß/漢")
    ('traffic_light', 'ß_漢')
    """
    return re.sub(r"[^\w.\-]+", "_", text).strip("._") or "_"


def _class(row: object, taxonomy: Taxonomy, where: str) -> OutputClass:
    entry = _mapping(row, where, {"id", "name", "from", "color", "kind"}, required={"id", "name"})
    name = str(entry["name"])
    given = entry.get("from", name)
    sources = tuple(str(one) for one in (given if isinstance(given, list) else [given]))
    for source in sources:
        if source not in taxonomy.by_name:
            raise UsageError(
                f"{where} takes '{source}', which is no class of the taxonomy; its classes are "
                f"{', '.join(taxonomy.by_name)}."
            )
    first = taxonomy.by_name[sources[0]] if sources else None
    if first is None:
        raise UsageError(f"{where} takes no class of the taxonomy; name one under 'from'.")
    color = parse_color(str(entry["color"])) if "color" in entry else first.color
    if color is None:
        raise UsageError(f"{where}: '{entry['color']}' is no colour; write it like '#dc143c'.")
    things = any(taxonomy.by_name[source].is_thing for source in sources)
    default = "thing" if things else "stuff"
    kind = _choice(entry.get("kind", default), ("thing", "stuff"), f"{where}: kind")
    return OutputClass(_integer(entry["id"], f"{where}: id"), name, sources, color, kind == "thing")


def _resolve(
    classes: tuple[OutputClass, ...], taxonomy: Taxonomy, others: str, where: str
) -> dict[int, OutputClass]:
    class_ids: dict[int, OutputClass] = {}
    for one in classes:
        for source in one.sources:
            source_id = taxonomy.by_name[source].id
            if source_id in class_ids:
                raise UsageError(
                    f"{where}: '{source}' becomes '{class_ids[source_id].name}' and '{one.name}'; "
                    "a class can go to one place only."
                )
            class_ids[source_id] = one
    left = [one.name for one in taxonomy.scored_classes if one.id not in class_ids]
    if left and others == "error":
        raise UsageError(
            f"{where} says nothing about {', '.join(left)}; name them under a class's 'from', or "
            "write 'others: unlabelled' or 'others: void' to leave them out."
        )
    return class_ids


def _check_ids(classes: tuple[OutputClass, ...], unlabelled: int, void: int, where: str) -> None:
    taken = {unlabelled: "unlabelled", void: "void"}
    for one in classes:
        if one.id in taken:
            raise UsageError(
                f"{where}: the id {one.id} is both '{taken[one.id]}' and '{one.name}'."
            )
        taken[one.id] = one.name


def _file(row: object, where: str) -> OutputFile:
    entry = _mapping(
        row,
        where,
        {
            "type", "path", "per", "dtype", "palette", "value", "first_number", "stuff",
            "foreground", "template", "segments",
        },
        required={"type", "path"},
    )  # fmt: skip
    kind: FileType = _choice(entry["type"], get_args(FileType), f"{where}: type")
    per: Per = _choice(
        entry.get("per", "segment" if kind == "masks" else "image"),
        {"masks": ("class", "segment"), "text": ("image", "split", "dataset")}.get(
            kind, ("image",)
        ),
        f"{where}: per",
    )
    value = _VALUE.fullmatch(str(entry.get("value", "number")))
    if value is None:
        raise UsageError(
            f"{where}: the value '{entry['value']}' is neither 'number' nor like "
            "'class * 1000 + number'."
        )
    if kind == "text" and not isinstance(entry.get("template"), str):
        raise UsageError(f"{where} is a text and needs a template.")
    dtype = _choice(entry.get("dtype", "uint8"), tuple(_LARGEST), f"{where}: dtype")
    path = str(entry["path"])
    _check_path(path, kind, per, dtype, where)
    step = int(value[1] or 0)
    return OutputFile(
        type=kind,
        path=path,
        per=per,
        dtype=dtype,
        palette=_boolean(entry.get("palette", True), f"{where}: palette"),
        class_step=step,
        first_number=_integer(
            entry.get("first_number", 0 if step else 1), f"{where}: first_number"
        ),
        stuff=_choice(
            entry.get("stuff", "class" if step else "zero"), get_args(Stuff), f"{where}: stuff"
        ),
        foreground=_integer(entry.get("foreground", 255), f"{where}: foreground", 255),
        template=str(entry.get("template", "")),
        segments=_boolean(entry.get("segments", False), f"{where}: segments"),
    )


def _check_path(path: str, kind: FileType, per: Per, dtype: str, where: str) -> None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.name:
        raise UsageError(f"{where}: the path '{path}' leaves the output folder.")
    if pure.name.startswith(".") or path.lower() in _OURS:
        raise UsageError(f"{where}: the name '{path}' is kept for the export's own files.")
    places = set(_PLACE.findall(path))
    if unknown := places - _PLACES[per]:
        raise UsageError(
            f"{where}: the path has {{{min(unknown)}}}; a file per {per} knows "
            f"{', '.join('{' + one + '}' for one in sorted(_PLACES[per])) or 'no places'}."
        )
    for needed in _NEEDED[per]:
        if not needed & places:
            raise UsageError(
                f"{where}: the path '{path}' needs {{{'} or {'.join(sorted(needed))}}}, else the "
                f"files of one {per} would overwrite another's."
            )
    endings = {"text": None, "color-map": {".png"}, "masks": {".png"}}.get(kind, {".png", ".npy"})
    if endings is not None and pure.suffix not in endings:
        raise UsageError(f"{where}: a {kind} is written as {' or '.join(sorted(endings))}.")
    if kind in {"label-map", "instance-map"}:
        possible = {".png": {"uint8", "uint16", "rgb24"}, ".npy": {"uint8", "uint16", "int32"}}
        if dtype not in possible[pure.suffix]:
            raise UsageError(
                f"{where}: {pure.suffix} cannot hold {dtype}; choose one of "
                f"{', '.join(sorted(possible[pure.suffix]))}."
            )


def _check_files(
    files: tuple[OutputFile, ...], classes: tuple[OutputClass, ...], largest_other: int, where: str
) -> None:
    paths = [one.path for one in files]
    if doubled := {path for path in paths if paths.count(path) > 1}:
        raise UsageError(f"{where}: two files have the path '{min(doubled)}'.")
    by_part: dict[str, str] = {}
    for one in classes:
        part = safe_part(one.name).casefold()
        if part in by_part and any("{class}" in path for path in paths):
            raise UsageError(
                f"{where}: as file names '{by_part[part]}' and '{one.name}' are the same; use "
                "{class_id} in the path."
            )
        by_part[part] = one.name
    largest = max([largest_other, *(one.id for one in classes)])
    for file in files:
        if file.type == "label-map" and largest > _LARGEST[file.dtype]:
            raise UsageError(
                f"{where}: the id {largest} does not fit the {file.dtype} of '{file.path}'."
            )


def largest_value(dtype: str) -> int:
    """Return the largest value that a map of this dtype holds."""
    return _LARGEST[dtype]


def _splits(value: object, where: str) -> SplitRule:
    if value is None:
        return SplitRule()
    entry = _mapping(value, where, {"field", "values", "default", "shares", "group", "seed"})
    shares = _mapping(entry.get("shares", {}), f"{where}: shares")
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not share > 0:
            raise UsageError(f"{where}: the share of '{name}' is {share!r}, not a positive number.")
    if shares and "field" in entry:
        raise UsageError(f"{where} has both a field and shares; which of them decides?")
    if not (shares or "field" in entry or "default" in entry):
        raise UsageError(f"{where} needs shares, a field, or a default.")
    values = _mapping(entry.get("values", {}), f"{where}: values")
    return SplitRule(
        default=str(entry.get("default", "")),
        field_name=str(entry.get("field", "")),
        values={str(key): str(name) for key, name in values.items()},
        shares={str(name): float(share) for name, share in shares.items()},
        group=str(entry.get("group", "{task_id}")),
        seed=str(entry.get("seed", "")),
    )


def _mapping(
    value: object, where: str, keys: set[str] | None = None, required: set[str] | None = None
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {value!r}, not a mapping of keys to values.")
    named = {str(key): item for key, item in value.items()}
    if keys is not None and (unknown := sorted(set(named) - keys)):
        raise UsageError(
            f"{where} has the key '{unknown[0]}'; known are {', '.join(sorted(keys))}."
        )
    if missing := sorted((required or set()) - set(named)):
        raise UsageError(f"{where} lacks '{missing[0]}'.")
    return named


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{where} is {value!r}, not a list with at least one entry.")
    return value


def _choice(value: object, choices: tuple[Any, ...], where: str) -> Any:
    if value not in choices:
        raise UsageError(f"{where} is '{value}'; choose one of {', '.join(choices)}.")
    return value


def _integer(value: object, where: str, largest: int = (1 << 31) - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise UsageError(f"{where} is {value!r}, not a whole number from 0 to {largest}.")
    return value


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{where} is {value!r}, neither true nor false.")
    return value
