"""Labelling interfaces as the editor reads them, and the sentences for those it could not use."""

from __future__ import annotations

from pathlib import Path

import pytest

from segstudio.label_config import (
    MAX_CONFIG_CHARS,
    LabelConfigError,
    parse_label_config,
    validate_with_sdk,
)

IMAGE = '<Image name="image" value="$image"/>'


def config_of(controls: str, images: str = IMAGE):
    return parse_label_config(f"<View>{images}{controls}</View>")


def test_fixture_project_has_its_controls_labels_and_colours(fixtures_dir: Path) -> None:
    xml = (fixtures_dir / "label_studio" / "label-config.xml").read_text()
    config = parse_label_config(xml)
    assert [(control.name, control.tag, control.kind) for control in config.controls] == [
        ("brush", "BrushLabels", "brush"),
        ("poly", "PolygonLabels", "polygon"),
        ("rect", "RectangleLabels", "rectangle"),
        ("ell", "EllipseLabels", "ellipse"),
        ("kp", "KeyPointLabels", "keypoint"),
        ("bitmask", "BitmaskLabels", "bitmask"),
        ("bitmask2", "BitmaskLabels", "bitmask"),
    ]
    assert [control.name for control in config.smart_controls] == ["brush", "rect", "kp"]
    # "Background" is on the key points only: a prompt, no class.
    assert config.label_names == ("Car", "Road", "Sky", "Wheel")
    assert config.label_colors["Sky"] == "#0000FF"  # the polygons' one comes before the bitmask's
    assert config.images[0].value_key == "image"
    validate_with_sdk(xml)


@pytest.mark.parametrize(
    ("tag", "kind", "is_area"),
    [
        ("Brush", "brush", True),
        ("BrushLabels", "brush", True),
        ("Bitmask", "bitmask", True),
        ("BitmaskLabels", "bitmask", True),
        ("Polygon", "polygon", True),
        ("PolygonLabels", "polygon", True),
        ("Rectangle", "rectangle", True),
        ("RectangleLabels", "rectangle", True),
        ("Ellipse", "ellipse", True),
        ("EllipseLabels", "ellipse", True),
        ("KeyPoint", "keypoint", False),
        ("KeyPointLabels", "keypoint", False),
        ("Choices", "choices", False),
        ("Taxonomy", "taxonomy", False),
    ],
)
def test_every_control_tag_is_read_in_any_case(tag: str, kind: str, is_area: bool) -> None:
    child = "Choice" if kind in {"choices", "taxonomy"} else "Label"
    for written in (tag, tag.lower(), tag.upper()):
        config = config_of(f'<{written} NAME="c" TONAME="image"><{child} value="A"/></{written}>')
        (control,) = config.controls
        assert (control.tag, control.kind, control.to_names) == (tag, kind, ("image",))
        assert control.label_names == ("A",)
        assert config.label_names == (("A",) if is_area else ())


@pytest.mark.parametrize("tag", ["TextArea", "Rating", "Number"])
def test_answers_without_labels_are_controls(tag: str) -> None:
    config = config_of(f'<{tag} name="c" toName="image" perRegion="true"/>')
    assert config.controls_of(tag.lower())[0].per_region  # type: ignore[arg-type]


def test_plain_shapes_take_their_labels_from_a_labels_control() -> None:
    labels = '<Labels name="l" toName="image"><Label value="Car"/></Labels>'
    assert config_of(f'<Brush name="b" toName="image"/>{labels}').label_names == ("Car",)
    # Labels alone mark text or audio, and no pixel; nor do key points.
    assert config_of(labels).label_names == ()
    assert config_of(f'<KeyPoint name="k" toName="image"/>{labels}').label_names == ()


def test_labels_are_found_through_views_but_not_in_a_control_inside() -> None:
    config = config_of(
        '<BrushLabels name="b" toName="image"><View><Header value="x"/><View>'
        '<Label value="Car" hint=" four wheels "/></View></View><!-- no label -->'
        '<Choices name="c" toName="image"><Choice value="yes"/></Choices></BrushLabels>'
    )
    assert config.control("b").label_names == ("Car",)  # type: ignore[union-attr]
    assert config.control("b").labels[0].hint == "four wheels"  # type: ignore[union-attr]
    assert config.control("c").label_names == ("yes",)  # type: ignore[union-attr]


def test_an_alias_is_what_annotations_hold() -> None:
    config = config_of(
        '<BrushLabels name="b" toName="image"><Label value="Car (any)" alias="car"/>'
        '<Label value="Bus" alias=""/><Label alias="van"/></BrushLabels>'
    )
    assert config.label_names == ("car", "Bus", "van")
    assert config.controls[0].labels[0].value == "Car (any)"


def test_labels_are_taken_verbatim() -> None:
    config = config_of(
        '<BrushLabels name="b" toName="image"><Label value=" Car &amp; van "/></BrushLabels>'
    )
    assert config.label_names == (" Car & van ",)


def test_labels_that_come_with_the_task_are_marked_dynamic() -> None:
    config = config_of('<BrushLabels name="b" toName="image" value="$classes"/>')
    assert config.has_dynamic_labels
    assert not config_of('<BrushLabels name="b" toName="image"/>').has_dynamic_labels


def test_several_images_lists_and_several_targets() -> None:
    config = config_of(
        '<BrushLabels name="b" toName="left, right ,left"><Label value="A"/></BrushLabels>',
        '<Image name="left" value="$l.url"/><Image name="right" valueList="$pages"/>'
        '<Image name="fixed" value="/static/$name/1.png"/>',
    )
    assert [(image.name, image.value_key, image.is_list) for image in config.images] == [
        ("left", "l.url", False),
        ("right", "pages", True),
        ("fixed", "", False),
    ]
    assert config.controls[0].to_names == ("left", "right")


def test_a_control_without_to_name_belongs_to_the_only_object() -> None:
    assert config_of('<Brush name="b"/>').controls[0].to_names == ("image",)


def test_labels_for_text_beside_an_image_are_no_classes() -> None:
    config = config_of(
        '<BrushLabels name="b" toName="image"><Label value="Car"/></BrushLabels>'
        '<Labels name="l" toName="text"><Label value="Noun"/></Labels>',
        IMAGE + '<Text name="text" value="$text"/>',
    )
    assert config.label_names == ("Car",)


def test_controls_that_say_nothing_about_pixels_are_named_as_ignored() -> None:
    config = config_of('<VectorLabels name="v" toName="image"><Label value="A"/></VectorLabels>')
    assert config.controls == ()
    assert config.ignored == ("v (VectorLabels)",)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("", "empty"),
        ("<View>", "not well-formed"),
        ("not xml", "not well-formed"),
        ("<View/>", "no Image tag"),
        ('<View><Text name="t" value="$t"/></View>', "no Image tag"),
        ('<View><Image name="i"/></View>', 'Image "i" has neither value nor valueList'),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "document type or entities"),
        (f'<View>{IMAGE}<Brush toName="image"/></View>', "Brush control has no name"),
        (f'<View>{IMAGE}<Brush name="b" toName="photo"/></View>', 'toName="photo"'),
        (
            f'<View>{IMAGE}<Text name="t" value="$t"/><Brush name="b"/></View>',
            'Brush "b" has no toName',
        ),
        (f'<View>{IMAGE}<Brush name="image" toName="image"/></View>', '"image" more than once'),
        (
            f'<View>{IMAGE}<Brush name="b" toName="image"/>'
            '<Polygon name="b" toName="image"/></View>',
            '"b" more than once',
        ),
        (
            f'<View>{IMAGE}<BrushLabels name="b" toName="image"><Label value="Car"/>'
            '<View><Label value="Auto" alias="Car"/></View></BrushLabels></View>',
            'BrushLabels "b" has the label "Car" more than once',
        ),
        ("<View>" + " " * MAX_CONFIG_CHARS + "</View>", "are not read"),
    ],
)
def test_an_interface_that_cannot_be_used_is_refused_in_a_sentence(xml: str, words: str) -> None:
    with pytest.raises(LabelConfigError) as caught:
        parse_label_config(xml)
    assert words in str(caught.value)


def test_the_same_leaf_may_stand_under_two_branches_of_a_taxonomy() -> None:
    config = config_of(
        '<Taxonomy name="t" toName="image"><Choice value="A"><Choice value="other"/></Choice>'
        '<Choice value="B"><Choice value="other"/></Choice></Taxonomy>'
    )
    assert config.controls[0].label_names == ("A", "other", "B", "other")


def test_the_sdk_has_its_say() -> None:
    with pytest.raises(LabelConfigError, match="SDK refuses"):
        validate_with_sdk(f'<View>{IMAGE}<Brush name="b" toName="nothing"/></View>')
