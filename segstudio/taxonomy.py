"""The classes of a project: ids, thing or stuff, colours, hierarchy, ignore, VOID.

A taxonomy is one YAML file. It says which labels of the labelling interface mean which class
(`aliases` merge several labels into one class), which number a class has in label maps, and in a
sentence or two where the class ends (`boundary_rule`), which annotators can be shown.

Two things that are no class stay apart in label maps: VOID pixels, which someone marked as not to
be judged (an `ignore` class or a label of `void: labels:`), take `void_id`; unlabelled pixels,
which no region covers, take `unlabelled_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from segstudio.colors import distinct_colors, format_color, parse_color
from segstudio.label_config import LabelConfig
from segstudio.tasks import Problem

Color = tuple[int, int, int]
Key = TypeVar("Key", int, str)

MAX_CLASS_ID: Final = 65_535
"""Class ids fit 16 bits, the widest that the label-map formats hold."""


class TaxonomyError(ValueError):
    """A taxonomy that cannot be used; the sentence names the file and the class."""


@dataclass(frozen=True, slots=True)
class ConceptCode:
    """What a class is called in a coding scheme (SCT is SNOMED CT), as DICOM writes it.

    `category` is the coded kind of thing that it is (an anatomical structure, a lesion); None
    leaves it to the export.
    """

    scheme: str
    value: str
    meaning: str
    category: ConceptCode | None = None


@dataclass(frozen=True, slots=True)
class SegmentClass:
    """One class of segments.

    A `thing` is counted object by object, `stuff` is one segment per image. `aliases` are further
    labels that mean this class. An `ignore` class is drawn by annotators but never trained on or
    scored: its pixels are VOID. `train_id` is an optional second numbering for data sets that have
    one (Cityscapes). `code` names the class in a coding scheme, for DICOM.
    """

    id: int
    name: str
    kind: Literal["thing", "stuff"] = "thing"
    color: Color = (128, 128, 128)
    supercategory: str | None = None
    aliases: tuple[str, ...] = ()
    ignore: bool = False
    boundary_rule: str = ""
    train_id: int | None = None
    code: ConceptCode | None = None

    @property
    def is_thing(self) -> bool:
        """Say whether objects of this class are counted one by one."""
        return self.kind == "thing"

    @property
    def labels(self) -> tuple[str, ...]:
        """Return every label that means this class: its name, then its aliases."""
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Taxonomy:
    """The classes of a project in the order of its file, and the numbers of what is no class."""

    name: str
    classes: tuple[SegmentClass, ...]
    version: str = "1"
    void_id: int = 255
    void_color: Color = (0, 0, 0)
    void_labels: tuple[str, ...] = ()
    unlabelled_id: int = 0
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _check_consistency(self)

    @cached_property
    def by_id(self) -> Mapping[int, SegmentClass]:
        """Return the classes by id."""
        return {segment_class.id: segment_class for segment_class in self.classes}

    @cached_property
    def by_name(self) -> Mapping[str, SegmentClass]:
        """Return the classes by name."""
        return {segment_class.name: segment_class for segment_class in self.classes}

    @cached_property
    def scored_classes(self) -> tuple[SegmentClass, ...]:
        """Return the classes that are trained on and compared: all but the ignored ones."""
        return tuple(segment_class for segment_class in self.classes if not segment_class.ignore)

    @cached_property
    def _by_label(self) -> Mapping[str, SegmentClass]:
        return {label: one for one in self.classes for label in one.labels}

    @cached_property
    def _by_stripped_label(self) -> Mapping[str, SegmentClass]:
        return {label.strip(): one for label, one in self._by_label.items()}

    @cached_property
    def _stripped_void_labels(self) -> frozenset[str]:
        return frozenset(label.strip() for label in self.void_labels)

    def by_label(self, label: str) -> SegmentClass | None:
        """Return the class that a label of the interface means, or None.

        Names and aliases count, exactly as written; blanks around a label do not.
        """
        return self._by_label.get(label) or self._by_stripped_label.get(label.strip())

    def is_void_label(self, label: str) -> bool:
        """Say whether regions of this label are VOID: one of `void_labels`, or an ignore class."""
        if label.strip() in self._stripped_void_labels:
            return True
        found = self.by_label(label)
        return found is not None and found.ignore

    def knows(self, label: str) -> bool:
        """Say whether the label means a class or VOID."""
        return self.is_void_label(label) or self.by_label(label) is not None


def derive_taxonomy(config: LabelConfig, name: str = "derived") -> Taxonomy:
    """Make a taxonomy from a labelling interface alone.

    Ids count from 1 in the interface's order, skipping 255 (VOID); every class is a thing; colours
    are the interface's, and where it has none, or one that another class has already, distinct
    ones that depend on nothing but the order. An interface without labels gives no classes.
    """
    labels = tuple(dict.fromkeys(label.strip() for label in config.label_names if label.strip()))
    written = {label.strip(): color for label, color in config.label_colors.items()}
    wanted: list[Color | None] = []
    for label in labels:
        color = parse_color(written.get(label, ""))
        wanted.append(None if color in wanted else color)
    fresh = iter(distinct_colors(len(labels), taken=[color for color in wanted if color]))
    ids = [number for number in range(1, len(labels) + 2) if number != 255]
    return Taxonomy(
        name=name,
        classes=tuple(
            SegmentClass(id=class_id, name=label, color=color if color else next(fresh))
            for class_id, label, color in zip(ids, labels, wanted, strict=False)
        ),
        source="the labelling interface",
    )


def load_taxonomy(path: str | Path) -> Taxonomy:
    """Read a taxonomy file.

    Raises:
        TaxonomyError: a file that is missing, no YAML, or whose content breaks a rule.
    """
    from segstudio.taxonomy_yaml import parse_taxonomy

    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"The taxonomy {file} cannot be read: {error}.") from error
    return parse_taxonomy(text, source=str(file))


@lru_cache(maxsize=4)
def dump_taxonomy(taxonomy: Taxonomy) -> str:
    """Write a taxonomy as YAML that `load_taxonomy` reads back equal.

    The same taxonomy always gives the same text; what has its default value is left out.
    """
    import yaml

    document: dict[str, Any] = {"name": taxonomy.name, "version": taxonomy.version}
    void: dict[str, Any] = {"id": taxonomy.void_id, "color": format_color(taxonomy.void_color)}
    if taxonomy.void_labels:
        void["labels"] = list(taxonomy.void_labels)
    document["void"] = void
    document["unlabelled"] = {"id": taxonomy.unlabelled_id}
    document["classes"] = [_class_document(one) for one in taxonomy.classes]
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text


def check_taxonomy(taxonomy: Taxonomy, config: LabelConfig) -> list[Problem]:
    """Compare a taxonomy with a labelling interface.

    Returns:
        One problem per class that no control offers (kind ``class-without-label``), per label
        that means no class (``label-without-class``), and per key-point label on which no control
        could draw an area, so that a click with it has no mask to go to
        (``prompt-without-area``). Nothing to complain of gives an empty list. Labels that come
        with each task cannot be known from the interface: where there are any, classes without a
        label are not reported.
    """
    problems: list[Problem] = []
    file = taxonomy.source or taxonomy.name
    offered = config.label_names
    offered_classes = {one.name for one in map(taxonomy.by_label, offered) if one}
    if not config.has_dynamic_labels:
        problems.extend(
            Problem(
                kind="class-without-label",
                message=f'Class "{one.name}" of the taxonomy {file} has no label in the labelling '
                "interface: add a label of that name to a control, or list the label that means it "
                "under the class's aliases.",
            )
            for one in taxonomy.classes
            if one.name not in offered_classes
        )
    problems.extend(
        Problem(
            kind="label-without-class",
            message=f'Label "{label}" of the labelling interface means no class of the taxonomy '
            f"{file}: add a class of that name, or list it under a class's aliases or under "
            "void labels.",
        )
        for label in labels_without_class(taxonomy, offered)
    )
    for control in config.controls_of("keypoint"):
        if not control.smart:
            continue
        problems.extend(
            Problem(
                kind="prompt-without-area",
                message=f'Key point label "{label}" of control "{control.name}" is on no control '
                "that draws an area, so an answer to a click with it has nowhere to go: give the "
                "brush (or polygon, rectangle, bitmask) control the same label.",
            )
            for label in control.label_names
            if label not in offered
        )
    return problems


def require_fit(taxonomy: Taxonomy, config: LabelConfig) -> None:
    """Refuse a taxonomy and a labelling interface of which one has a class the other lacks.

    Raises:
        TaxonomyError: names every such class and label, see `check_taxonomy`.
    """
    misfits = ("class-without-label", "label-without-class")
    sentences = [one.message for one in check_taxonomy(taxonomy, config) if one.kind in misfits]
    if sentences:
        raise TaxonomyError(" ".join(sentences))


def labels_without_class(taxonomy: Taxonomy, labels: Iterable[str]) -> tuple[str, ...]:
    """Return the labels that mean neither a class nor VOID, each once, in their order."""
    return tuple(dict.fromkeys(label for label in labels if not taxonomy.knows(label)))


def _class_document(one: SegmentClass) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": one.id,
        "name": one.name,
        "kind": one.kind,
        "color": format_color(one.color),
    }
    if one.train_id is not None:
        document["train_id"] = one.train_id
    if one.supercategory is not None:
        document["supercategory"] = one.supercategory
    if one.aliases:
        document["aliases"] = list(one.aliases)
    if one.ignore:
        document["ignore"] = True
    if one.code is not None:
        document["code"] = _code_document(one.code)
    if one.boundary_rule:
        document["boundary_rule"] = one.boundary_rule
    return document


def _code_document(code: ConceptCode) -> dict[str, Any]:
    document: dict[str, Any] = {
        "scheme": code.scheme,
        "value": code.value,
        "meaning": code.meaning,
    }
    if code.category is not None:
        document["category"] = _code_document(code.category)
    return document


def _check_consistency(taxonomy: Taxonomy) -> None:
    """Refuse doubled ids, names, labels and train ids, and ids that collide or do not fit."""
    where = f"The taxonomy {taxonomy.source or taxonomy.name}"
    _check_id(where, "void", taxonomy.void_id)
    _check_id(where, "unlabelled", taxonomy.unlabelled_id)
    owner_of_id: dict[int, str] = {
        taxonomy.unlabelled_id: "unlabelled pixels",
        taxonomy.void_id: "VOID",
    }
    owner_of_label: dict[str, str] = {label.strip(): "void" for label in taxonomy.void_labels}
    owner_of_train_id: dict[int, str] = {}
    for one in taxonomy.classes:
        _check_id(where, f'class "{one.name}"', one.id)
        _claim(owner_of_id, one.id, f'class "{one.name}"', f"{where} gives the id {one.id}")
        for label in one.labels:
            _claim(
                owner_of_label,
                label.strip(),
                f'class "{one.name}"',
                f'{where} gives the label "{label}"',
            )
        if one.train_id is not None and not one.ignore:
            _claim(
                owner_of_train_id,
                one.train_id,
                f'class "{one.name}"',
                f"{where} gives the train_id {one.train_id}",
            )


def _check_id(where: str, what: str, number: int) -> None:
    if not 0 <= number <= MAX_CLASS_ID:
        raise TaxonomyError(
            f"{where} gives {what} the id {number}; ids run from 0 to {MAX_CLASS_ID}."
        )


def _claim(owners: dict[Key, str], key: Key, claimant: str, sentence: str) -> None:
    if key in owners:
        raise TaxonomyError(
            f"{sentence} to {owners[key]} and to {claimant}; each must be used once."
        )
    owners[key] = claimant
