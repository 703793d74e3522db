"""Taxonomies of two batches compared; a taxonomy migrated along with its labels."""

import pytest
from click.testing import CliRunner

from batch.taxonomy_drift import KnownClass, drift, migrate_taxonomy, read_classes
from segstudio.cli import main
from segstudio.errors import SourceError, UsageError
from segstudio.taxonomy import SegmentClass, Taxonomy, dump_taxonomy


def taxonomy(*classes, **more):
    return Taxonomy("t", classes, **more)


CAR, TREE = SegmentClass(1, "Car", aliases=("Auto",)), SegmentClass(2, "Tree")
EARLIER = {1: KnownClass(1, "Car", "thing", ("Car",)), 2: KnownClass(2, "Tree", "thing")}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ([CAR, TREE], []),
        ([CAR, SegmentClass(5, "Tree")], ["'Tree' had the id 2 and has now 5"]),
        ([CAR, SegmentClass(2, "Bush")], ["The id 2 meant 'Tree' and means now 'Bush'"]),
        ([CAR, SegmentClass(2, "Bush", aliases=("Tree",))],
         ["was called 'Tree' and is now 'Bush'; the old name is among its aliases"]),
        ([SegmentClass(1, "Car", aliases=("Tree",))], ["'Tree' (id 2) was merged into 'Car'"]),
        ([CAR], ["'Tree' (id 2) is gone"]),
        ([CAR, SegmentClass(2, "Tree", kind="stuff")], ["was thing and is now stuff"]),
        ([SegmentClass(2, "Car"), SegmentClass(1, "Tree")], ["had the id 1", "had the id 2"]),
    ],
)  # fmt: skip
def test_whatever_makes_old_label_maps_mean_something_else_is_an_error(now, said):
    errors = [one.text for one in drift(EARLIER, taxonomy(*now)) if one.is_error]
    assert len(errors) == len(said)
    assert all(part in text for part, text in zip(said, errors, strict=True))


def test_an_added_class_is_no_error_and_a_lost_alias_is():
    added = drift(EARLIER, taxonomy(CAR, TREE, SegmentClass(3, "Bus")))
    assert [(one.text, one.is_error) for one in added] == [
        ("The class 'Bus' (id 3) is new.", False)
    ]
    known = {1: KnownClass(1, "Car", "thing", ("Car", "Auto"))}
    (lost,) = drift(known, taxonomy(SegmentClass(1, "Car")))
    assert "The alias 'Auto' of the class 'Car' (id 1) is gone" in lost.text


def test_classes_are_read_from_a_taxonomy_an_export_or_its_card(tmp_path):
    data = tmp_path / "delivery" / "coco"
    data.mkdir(parents=True)
    (data / "dataset.json").write_text('{"classes": [{"id": 1, "name": "Car", "pixels": 9}]}')
    by_card = {1: KnownClass(1, "Car")}
    assert read_classes(data / "dataset.json") == read_classes(tmp_path / "delivery") == by_card
    (data / "taxonomy.yaml").write_text(dump_taxonomy(taxonomy(CAR, TREE)))
    whole = read_classes(tmp_path / "delivery")
    assert whole[1] == KnownClass(1, "Car", "thing", ("Car", "Auto"))
    (tmp_path / "other.yaml").write_text(dump_taxonomy(taxonomy(TREE)))
    (data.parent / "taxonomy.yaml").write_text(dump_taxonomy(taxonomy(TREE)))
    with pytest.raises(UsageError, match="different classes"):
        read_classes(tmp_path / "delivery")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no taxonomy\.yaml"):
        read_classes(tmp_path / "empty")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(SourceError, match="no classes"):
        read_classes(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"Car": "Wagen"}, [SegmentClass(1, "Wagen", aliases=("Car", "Auto")), TREE]),
        ({"Tree": "Car"}, [SegmentClass(1, "Car", aliases=("Auto", "Tree"))]),
        ({"Car": "X", "Tree": "X"}, [SegmentClass(1, "X", aliases=("Car", "Auto", "Tree"))]),
        ({"Nobody": "Y"}, [CAR, TREE]),
    ],
)
def test_a_migrated_taxonomy_keeps_ids_and_knows_old_names(mapping, expected):
    assert migrate_taxonomy(taxonomy(CAR, TREE), mapping).classes == tuple(expected)


@pytest.mark.parametrize(
    ("now", "mapping", "said"),
    [
        ([CAR, SegmentClass(2, "Road", kind="stuff")], {"Road": "Car"}, "cannot be merged"),
        ([CAR, SegmentClass(2, "Glare", ignore=True)], {"Glare": "Car"}, "cannot be merged"),
        ([CAR], {"Skip": "Car"}, "'Skip' is VOID"),
    ],
)
def test_classes_that_are_not_alike_are_not_merged(now, mapping, said):
    with pytest.raises(UsageError, match=said):
        migrate_taxonomy(taxonomy(*now, void_labels=("Skip",)), mapping)


def test_labels_check_refuses_a_changed_id(tmp_path):
    xml = ('<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">'
           '<Label value="Car"/><Label value="Auto"/></BrushLabels></View>')  # fmt: skip
    (tmp_path / "x.json").write_text("[]")
    (tmp_path / "x.label-config.xml").write_text(xml)
    (tmp_path / "old.yaml").write_text(dump_taxonomy(taxonomy(CAR)))
    call = ["labels", "check", str(tmp_path / "x.json"), "--against", str(tmp_path / "old.yaml")]
    for number, code, said in ((1, 0, "The classes are those of"), (4, 3, "has now 4")):
        now = taxonomy(SegmentClass(number, "Car", aliases=("Auto",)))
        (tmp_path / "new.yaml").write_text(dump_taxonomy(now))
        found = CliRunner().invoke(main, [*call, "--taxonomy", str(tmp_path / "new.yaml")])
        assert (found.exit_code, said in found.output) == (code, True), found.output
