"""Renaming and merging labels: result lists and interfaces, forth and back."""

import pytest

from batch.label_mapping import labels_of, map_config, map_result, parse_mapping, unmap_result
from segstudio.errors import UsageError
from segstudio.label_config import parse_label_config


def region(number, *labels, kind="brushlabels"):
    return {"id": str(number), "from_name": "b", "type": kind, "value": {kind: list(labels)}}


@pytest.mark.parametrize(
    ("renames", "merges", "expected"),
    [
        (["Auto=Car"], [], {"Auto": "Car"}),
        ([], ["Van,Truck=Lorry"], {"Van": "Lorry", "Truck": "Lorry"}),
        ([" A = B "], ["C,D=D"], {"A": "B", "C": "D"}),
    ],
)
def test_what_is_asked_for(renames, merges, expected):
    assert parse_mapping(renames, merges) == expected


@pytest.mark.parametrize(
    ("renames", "merges", "said"),
    [
        (["Auto"], [], "OLD=NEW, not 'Auto'"),
        (["=Car"], [], "OLD=NEW"),
        ([], ["Van=Car"], "A,B=C, not 'Van=Car'"),
        (["A=B", "A=C"], [], "'A' is given twice"),
        (["A=B", "B=A"], [], "both old and new"),
        (["A=B", "B=C"], [], "both old and new"),
        ([], [], "Say what to do"),
        (["A=A"], [], "Say what to do"),
    ],
)
def test_what_cannot_be_done_is_refused(renames, merges, said):
    with pytest.raises(UsageError, match=said):
        parse_mapping(renames, merges)


MERGE = {"Van": "Car", "Truck": "Car"}


def test_labels_are_mapped_and_all_else_stays():
    other = {"id": "x", "type": "choices", "value": {"choices": ["Van"]}}
    given = [region(1, "Van", "Truck"), region(2, "Tree"), other, {"odd": 1}]
    assert map_result(given, MERGE) == [region(1, "Car"), region(2, "Tree"), other, {"odd": 1}]
    assert given[0] == region(1, "Van", "Truck")
    assert labels_of({"odd": 1}) == []


@pytest.mark.parametrize(
    ("now", "before", "mapping", "restored"),
    [
        ([region(1, "Car")], [[region(1, "Van")]], MERGE, [region(1, "Van")]),
        # Drawn with the new label before, or since: nobody knows which of the merged it was.
        ([region(2, "Car")], [[region(1, "Van")]], MERGE, [region(2, "Car")]),
        # Relabelled by somebody since.
        ([region(1, "Tree")], [[region(1, "Van")]], MERGE, [region(1, "Tree")]),
        ([region(1, "Car")], [], {"Auto": "Car"}, [region(1, "Auto")]),
        ([region(1, "Car")], [[region(1, "Van")], [region(1, "Truck")]], MERGE,
         [region(1, "Truck")]),
        ([region(1, "Car")], [[region(1, "Car")]], MERGE, [region(1, "Car")]),
    ],
)  # fmt: skip
def test_going_back_restores_what_is_known(now, before, mapping, restored):
    assert unmap_result(now, before, mapping) == restored


CONFIG = """<View>
  <!-- <Label value="Van"/> stays -->
  <Image name="i" value="$image"/>
  <BrushLabels name="b" toName="i">
    <Label value="Van" background="#00ff00" hotkey="v"/>
    <Label value='Truck'></Label>
    <Label value="Tree &amp; Bush"/>
  </BrushLabels>
  <RectangleLabels name="r" toName="i"><Label value="Car"/><Label value="Truck"/></RectangleLabels>
  <Choices name="c" toName="i" whenLabelValue="Van,Tree"><Choice value="Van"/></Choices>
</View>"""


def test_a_merge_keeps_the_first_label_of_each_control_and_the_rest_to_the_letter():
    assert (
        map_config(CONFIG, MERGE)
        == """<View>
  <!-- <Label value="Van"/> stays -->
  <Image name="i" value="$image"/>
  <BrushLabels name="b" toName="i">
    <Label value="Car" background="#00ff00" hotkey="v"/>
    <Label value="Tree &amp; Bush"/>
  </BrushLabels>
  <RectangleLabels name="r" toName="i"><Label value="Car"/></RectangleLabels>
  <Choices name="c" toName="i" whenLabelValue="Car,Tree"><Choice value="Van"/></Choices>
</View>"""
    )


def test_in_between_old_and_new_labels_are_both_there():
    between = parse_label_config(map_config(CONFIG, MERGE, keep_old=True))
    labels = {one.name: one.label_names for one in between.controls if one.kind != "choices"}
    assert labels == {
        "b": ("Car", "Van", "Truck", "Tree & Bush"),
        "r": ("Car", "Truck"),
    }
    assert between.xml.count("hotkey") == 1
    assert 'whenLabelValue="Van,Tree,Car"' in between.xml


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"Tree & Bush": 'Wood "1" <2>'}, "value='Wood \"1\" &lt;2&gt;'"),
        ({"Nobody": "Car"}, 'value="Van"'),
    ],
)
def test_names_are_escaped_and_absent_labels_change_nothing(mapping, said):
    found = map_config(CONFIG, mapping)
    assert said in found
    parse_label_config(found)
    assert (found == CONFIG) == ("Nobody" in mapping)


def test_of_a_label_with_an_alias_the_alias_is_what_annotations_hold():
    xml = CONFIG.replace('value="Van"', 'value="Lieferwagen" alias="Van"')
    assert '<Label value="Lieferwagen" alias="Bus"' in map_config(xml, {"Van": "Bus"})


def test_a_label_with_content_is_not_dropped_silently():
    xml = CONFIG.replace("<Label value='Truck'></Label>", "<Label value='Truck'>text</Label>")
    with pytest.raises(UsageError, match="'Truck' has content"):
        map_config(xml, MERGE)
