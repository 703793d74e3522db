"""Labels in use against labels offered."""

import pytest

from batch.label_use import LabelUse, as_json, compare, count_labels
from segstudio.label_config import parse_label_config
from segstudio.tasks import parse_task


def config(*controls):
    return parse_label_config(
        f'<View><Image name="image" value="$image"/>{"".join(controls)}</View>'
    )


def control(tag, name, *labels, more=""):
    inner = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<{tag} name="{name}" toName="image" {more}>{inner}</{tag}>'


def box(name, *labels):
    shape = {"x": 0, "y": 0, "width": 10, "height": 10, "rectanglelabels": list(labels)}
    return {
        "id": f"{name}-{'-'.join(labels)}",
        "type": "rectanglelabels",
        "from_name": name,
        "to_name": "image",
        "original_width": 10,
        "original_height": 10,
        "value": shape,
    }


def task(number, *results, skipped=False):
    annotations = [
        {"id": 100 * number + n, "result": result, "was_cancelled": skipped}
        for n, result in enumerate(results)
    ]
    return parse_task({"id": number, "data": {}, "annotations": annotations})


TASKS = [
    task(1, [box("box", "Car"), box("box", "Car", "Bus")], [box("box", "Car")]),
    task(2, [box("old", "Car")]),
    task(3, [box("box", "Ghost")], skipped=True),
]


def test_regions_annotations_and_tasks_are_counted_and_skipped_ones_left_out():
    use = count_labels(TASKS)
    assert (use.total_tasks, use.total_annotations) == (3, 3)
    assert use.regions == {("box", "Car"): 3, ("box", "Bus"): 1, ("old", "Car"): 1}
    assert use.annotations == {("box", "Car"): 2, ("box", "Bus"): 1, ("old", "Car"): 1}
    assert use.tasks == {("box", "Car"): 1, ("box", "Bus"): 1, ("old", "Car"): 1}


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        (
            config(control("RectangleLabels", "box", "Car", "Van")),
            {
                ("box", "Bus"): ("the interface no longer has this label", True),
                ("box", "Car"): ("", False),
                ("box", "Van"): ("not used", False),
                ("old", "Car"): ("the interface has no such control", True),
            },
        ),
        (
            config(
                control("RectangleLabels", "box", "Car"),
                control("BrushLabels", "old", "Car", "Bus"),
            ),
            {
                ("box", "Bus"): ("only old still has this label", True),
                ("box", "Car"): ("", False),
                ("old", "Bus"): ("not used", False),
                ("old", "Car"): ("", False),
            },
        ),
        (  # labels that come with each task cannot be judged
            config(
                control("RectangleLabels", "box", more='value="$labels"'),
                control("RectangleLabels", "old", "Car"),
            ),
            {("box", "Bus"): ("", False), ("box", "Car"): ("", False), ("old", "Car"): ("", False)},
        ),
        (  # plain shapes take their labels from a Labels control
            config(
                control("Labels", "names", "Car", "Bus"),
                '<Rectangle name="box" toName="image"/><Rectangle name="old" toName="image"/>',
            ),
            {
                ("box", "Bus"): ("", False),
                ("box", "Car"): ("", False),
                ("names", "Bus"): ("", False),
                ("names", "Car"): ("", False),
                ("old", "Car"): ("", False),
            },
        ),
    ],
    ids=["renamed", "moved", "dynamic", "plain shapes"],
)
def test_each_label_is_judged_against_the_interface(interface, expected):
    rows = compare(count_labels(TASKS), interface)
    assert {(row.control, row.label): (row.finding, row.lost) for row in rows} == expected


def test_a_region_without_a_label_is_named():
    use = count_labels([task(1, [box("box")])])
    (car, none) = sorted(
        compare(use, config(control("RectangleLabels", "box", "Car"))), key=lambda row: row.regions
    )
    assert (car.finding, none.label, none.finding) == ("not used", "", "regions without a label")
    assert as_json(use, [none])["labels"][0]["label"] is None


def test_nothing_in_use_is_no_loss():
    rows = compare(LabelUse(), config(control("RectangleLabels", "box", "Car")))
    assert [(row.label, row.lost) for row in rows] == [("Car", False)]
