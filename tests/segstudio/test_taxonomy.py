"""Taxonomies: the strict YAML, aliases and VOID, deriving, and the check against an interface."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from segstudio.boundary_rules import boundary_rules_html, boundary_rules_text
from segstudio.colors import distinct_colors, parse_color
from segstudio.label_config import LabelConfig, parse_label_config
from segstudio.taxonomy import (
    ConceptCode,
    SegmentClass,
    Taxonomy,
    TaxonomyError,
    check_taxonomy,
    derive_taxonomy,
    dump_taxonomy,
    load_taxonomy,
)
from segstudio.taxonomy_yaml import parse_taxonomy

FULL = """
name: Street
version: 2
void: {id: 254, color: "#010203", labels: [Skip, "Don't know"]}
unlabelled: {id: 253}
classes:
  - {id: 7, name: Road, kind: stuff, color: "#804080", supercategory: flat, train_id: 0}
  - id: 26
    name: Car
    color: rgb(0, 0, 142)
    aliases: [Auto, Van]
    boundary_rule: |
      With mirrors,
      without aerials.
  - {id: 1, name: Ego, ignore: true, kind: stuff, train_id: 255}
"""


def config_with(*labels: str, tag: str = "BrushLabels", extra: str = "") -> LabelConfig:
    rows = "".join(f'<Label value="{label}"/>' for label in labels)
    return parse_label_config(
        f'<View><Image name="i" value="$image"/><{tag} name="b" toName="i">{rows}</{tag}>'
        f"{extra}</View>"
    )


def test_every_key_is_read() -> None:
    taxonomy = parse_taxonomy(FULL)
    assert (taxonomy.name, taxonomy.version) == ("Street", "2")
    assert (taxonomy.void_id, taxonomy.void_color, taxonomy.unlabelled_id) == (254, (1, 2, 3), 253)
    road, car, ego = taxonomy.classes
    assert road == SegmentClass(7, "Road", "stuff", (128, 64, 128), "flat", train_id=0)
    assert (car.kind, car.color, car.aliases) == ("thing", (0, 0, 142), ("Auto", "Van"))
    assert car.boundary_rule == "With mirrors, without aerials."
    assert ego.ignore
    assert taxonomy.scored_classes == (road, car)
    assert taxonomy.by_id[26] is car
    assert taxonomy.by_name["Ego"] is ego


@pytest.mark.parametrize(
    ("label", "name"),
    [("Car", "Car"), ("Auto", "Car"), (" Van ", "Car"), ("Ego", "Ego"), ("car", None)],
)
def test_names_and_aliases_mean_their_class(label: str, name: str | None) -> None:
    found = parse_taxonomy(FULL).by_label(label)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("label", "is_void", "known"),
    [("Skip", True, True), ("Ego", True, True), ("Car", False, True), ("Tree", False, False)],
)
def test_void_is_an_ignore_class_or_a_void_label(label: str, is_void: bool, known: bool) -> None:
    taxonomy = parse_taxonomy(FULL)
    assert taxonomy.is_void_label(label) is is_void
    assert taxonomy.knows(label) is known


def test_dump_reads_back_equal_and_survives_pickling(tmp_path: Path) -> None:
    taxonomy = parse_taxonomy(FULL)
    file = tmp_path / "taxonomy.yaml"
    file.write_text(dump_taxonomy(taxonomy), encoding="utf-8")
    assert load_taxonomy(file) == taxonomy
    assert dump_taxonomy(load_taxonomy(file)) == dump_taxonomy(taxonomy)
    assert taxonomy.by_label("Auto") is not None  # fills the caches before pickling
    assert pickle.loads(pickle.dumps(taxonomy)) == taxonomy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a mapping with the keys"),
        ("- a", "a mapping with the keys"),
        ("{", "no YAML"),
        ("name: x", "no list of classes"),
        ("name: x\nclasses: []", "no list of classes"),
        ("classes: [{id: 1, name: A}]", "name is missing or empty"),
        ("name: x\nclasses: [{id: 1, name: A}]\nclases: 1", 'unknown key "clases"; is classes'),
        ("name: x\nclasses: [{id: 1, name: A, colour: red}]", 'class 1 ("A") has the unknown key'),
        ("name: x\nclasses: [{name: A}]", 'class 1 ("A") has no id'),
        ("name: x\nclasses: [{id: '1', name: A}]", "must be a whole number"),
        ("name: x\nclasses: [{id: true, name: A}]", "must be a whole number"),
        ("name: x\nclasses: [{id: 1, name: no}]", "put the text into quotes"),
        ("name: x\nclasses: [{id: 1, name: A, kind: blob}]", "either thing or stuff"),
        ("name: x\nclasses: [{id: 1, name: A, color: greenish}]", "is no colour"),
        ("name: x\nclasses: [{id: 1, name: A, color: }]", "is no colour"),
        ("name: x\nclasses: [{id: 1, name: A, ignore: 1}]", "either true or false"),
        ("name: x\nclasses: [{id: 1, name: A, aliases: B}]", "a list of texts"),
        (
            "name: x\nclasses: [{id: 1, name: A}, {id: 1, name: B}]",
            'the id 1 to class "A" and to class "B"',
        ),
        (
            "name: x\nclasses: [{id: 1, name: A}, {id: 2, name: A}]",
            'the label "A" to class "A" and to class "A"',
        ),
        (
            "name: x\nclasses: [{id: 1, name: A, aliases: [C]}, {id: 2, name: B, aliases: [C]}]",
            'the label "C" to class "A" and to class "B"',
        ),
        (
            "name: x\nvoid: {labels: [A]}\nclasses: [{id: 1, name: A}]",
            'the label "A" to void and to class "A"',
        ),
        (
            "name: x\nclasses: [{id: 1, name: A, train_id: 3}, {id: 2, name: B, train_id: 3}]",
            "the train_id 3",
        ),
        ("name: x\nclasses: [{id: 0, name: A}]", "to unlabelled pixels and to class"),
        ("name: x\nclasses: [{id: 255, name: A}]", "to VOID and to class"),
        ("name: x\nclasses: [{id: 70000, name: A}]", "ids run from 0 to 65535"),
        ("name: x\nclasses: [{id: 1, name: A, id: 2}]", 'the key "id" is doubled'),
        ("name: &a x\nclasses: [{id: 1, name: *a}]", "anchors and aliases"),
        ("name: !!python/object:os.system x", "no YAML"),
        ("[" * 5000, "cannot be read"),
    ],
)
def test_a_broken_file_is_refused_naming_file_and_place(text: str, words: str) -> None:
    with pytest.raises(TaxonomyError) as caught:
        parse_taxonomy(text, source="classes.yaml")
    assert "classes.yaml" in str(caught.value)
    assert words in str(caught.value)


CODED = """
name: x
classes:
  - id: 1
    name: Tumour
    code:
      {scheme: SCT, value: "52988006", meaning: Lesion,
       category: {scheme: SCT, value: "49755003", meaning: Morphologically Abnormal Structure}}
"""


def test_codes_are_read_and_written(tmp_path: Path) -> None:
    taxonomy = parse_taxonomy(CODED)
    code = ConceptCode("SCT", "52988006", "Lesion", ConceptCode(
        "SCT", "49755003", "Morphologically Abnormal Structure"
    ))  # fmt: skip
    assert taxonomy.classes[0].code == code
    assert parse_taxonomy(dump_taxonomy(taxonomy)) == taxonomy


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"52988006"', "52988006", "code, value is 52988006; it must be a text"),
        ('"52988006"', f'"{"5" * 17}"', "DICOM holds 16 characters"),
        ("meaning: Lesion", 'meaning: "a\\\\b"', "no backslash"),
        ("value:", "code:", 'the unknown key "code"'),
        ("category:", "kind:", 'the unknown key "kind"'),
    ],
)
def test_a_code_that_dicom_cannot_hold_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(TaxonomyError) as caught:
        parse_taxonomy(CODED.replace(old, new, 1))
    assert words in str(caught.value)
    assert 'class 1 ("Tumour"), code' in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match="cannot be read"):
        load_taxonomy(tmp_path / "none.yaml")


def test_classes_without_colour_get_distinct_ones() -> None:
    taxonomy = parse_taxonomy(
        'name: x\nclasses: [{id: 1, name: A, color: "#E62E2E"}, {id: 2, name: B}, {id: 3, name: C}]'
    )
    colors = [one.color for one in taxonomy.classes]
    assert colors[0] == (230, 46, 46)  # the first of the made colours: taken, so not given again
    assert len(set(colors)) == 3


def test_derived_ids_follow_the_interface_and_skip_void() -> None:
    taxonomy = derive_taxonomy(config_with(*(f"c{number}" for number in range(300))))
    assert [one.id for one in taxonomy.classes[253:256]] == [254, 256, 257]
    assert taxonomy.by_name["c0"].id == 1
    assert len({one.color for one in taxonomy.classes}) == 300
    assert all(one.is_thing for one in taxonomy.classes)


def test_derived_colours_are_the_interfaces_unless_two_share_one() -> None:
    config = parse_label_config(
        '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">'
        '<Label value="A" background="red"/><Label value="B" background="#FF0000"/>'
        '<Label value="C" background="rgba(0, 0, 255, 0.7)"/><Label value="D" background="?"/>'
        "</BrushLabels></View>"
    )
    taxonomy = derive_taxonomy(config)
    assert taxonomy == derive_taxonomy(config)
    colors = [one.color for one in taxonomy.classes]
    assert colors[0] == (255, 0, 0)
    assert colors[2] == (0, 0, 255)
    assert len(set(colors)) == 4


def test_derived_taxonomy_of_labels_that_differ_by_blanks_has_one_class() -> None:
    config = config_with(
        "Car", extra='<PolygonLabels name="p"><Label value="Car "/></PolygonLabels>'
    )
    taxonomy = derive_taxonomy(config)
    assert [one.name for one in taxonomy.classes] == ["Car"]
    assert taxonomy.by_label("Car ") == taxonomy.classes[0]
    assert check_taxonomy(taxonomy, config) == []


def test_a_derived_taxonomy_fits_its_interface_and_an_empty_one_has_no_classes() -> None:
    config = config_with("Car", "Road")
    assert check_taxonomy(derive_taxonomy(config), config) == []
    assert derive_taxonomy(config_with("Car", tag="KeyPointLabels")).classes == ()


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [
        (("Road", "Car", "Ego"), []),
        (("Road", "Auto", "Ego", "Skip"), []),
        (("Road", "Car", "Auto", "Ego"), []),
        (("Road", "Ego"), [("class-without-label", '"Car"')]),
        (("Road", "Car", "Ego", "Tree"), [("label-without-class", '"Tree"')]),
        (("Road", "Ego", "car"), [("class-without-label", "Car"), ("label-without-class", "car")]),
    ],
)
def test_check_names_what_is_missing_on_either_side(
    labels: tuple[str, ...], kinds: list[tuple[str, str]]
) -> None:
    problems = check_taxonomy(parse_taxonomy(FULL, "t.yaml"), config_with(*labels))
    assert [problem.kind for problem in problems] == [kind for kind, _ in kinds]
    for problem, (_, name) in zip(problems, kinds, strict=True):
        assert name in problem.message
        assert "t.yaml" in problem.message


def test_check_finds_prompts_whose_answer_has_nowhere_to_go() -> None:
    clicks = '<KeyPointLabels name="k" smart="{}"><Label value="Bus"/></KeyPointLabels>'
    smart = config_with("Road", "Car", "Ego", extra=clicks.format("true"))
    (problem,) = check_taxonomy(parse_taxonomy(FULL), smart)
    assert problem.kind == "prompt-without-area"
    assert '"Bus"' in problem.message
    landmarks = config_with("Road", "Car", "Ego", extra=clicks.format("false"))
    assert check_taxonomy(parse_taxonomy(FULL), landmarks) == []


def test_labels_that_come_with_tasks_cannot_be_missed() -> None:
    config = parse_label_config(
        '<View><Image name="i" value="$image"/><BrushLabels name="b" value="$labels"/></View>'
    )
    assert check_taxonomy(parse_taxonomy(FULL), config) == []


def test_boundary_rules_name_every_class_and_escape_html() -> None:
    taxonomy = Taxonomy(
        "T & co",
        (
            SegmentClass(1, "<b>", "stuff", (255, 0, 0), boundary_rule="a < b"),
            SegmentClass(2, "Cell"),
            SegmentClass(3, "Blur", ignore=True),
        ),
    )
    assert boundary_rules_text(taxonomy).splitlines() == [
        "T & co: what belongs to each class",
        "- <b> (one area): a < b",
        "- Cell (each object by itself): no rule written yet.",
        "- Blur (not scored): no rule written yet.",
    ]
    page = boundary_rules_html(taxonomy)
    assert "<b>&lt;b&gt;</b>" in page
    assert "a &lt; b" in page
    assert "T &amp; co" in page
    assert '<td bgcolor="#FF0000">' in page
    assert "style" not in page


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("#f00", (255, 0, 0)),
        ("#F00A", (255, 0, 0)),
        ("#00ff0080", (0, 255, 0)),
        (" rgba(1,2,3,.5) ", (1, 2, 3)),
        ("rgb(1 2 3 / 50%)", (1, 2, 3)),
        ("rgb(300, 0, 0)", (255, 0, 0)),
        ("hsl(120, 100%, 50%)", (0, 255, 0)),
        ("CornflowerBlue", (100, 149, 237)),
        ("", None),
        ("#ff", None),
        ("url(x)", None),
    ],
)
def test_css_colours(text: str, color: tuple[int, int, int] | None) -> None:
    assert parse_color(text) == color


def test_distinct_colours_avoid_those_taken() -> None:
    first = distinct_colors(5)
    assert not set(distinct_colors(5, taken=first)) & set(first)
    assert distinct_colors(0) == ()
