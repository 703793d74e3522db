from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qa_plugins.clips import clip_place
from qa_plugins.drawing import Drawing
from qa_plugins.edge_notes import EdgeNotes
from qa_plugins.own_pictures import most_of
from qa_plugins.report.crops import crop_box, crop_panels
from qa_plugins.report.feedback import feedback_file, habit_sentences
from qa_plugins.report_files import ReportOptions, write_report
from qa_plugins.rule_sheets import disputed_parts, rule_sheets
from qa_plugins.runner import QaRun, run_checks
from qa_plugins.worst import TasksByKey, WorstTasks
from segstudio.label_config import parse_label_config
from segstudio.masks import Mask
from segstudio.plugins import CheckContext
from segstudio.source import open_source
from segstudio.tasks import Task, parse_task
from segstudio.taxonomy import derive_taxonomy
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation, raw_task, write_export

NOTES_XML = CONFIG_XML.replace(
    "</View>",
    '<Choices name="ambiguous" toName="image" perRegion="true"><Choice value="Edge unclear"/>'
    '</Choices><TextArea name="notes" toName="image"/></View>',
)


def box(left: int, top: int, width: int, height: int) -> np.ndarray:
    array = np.zeros((60, 80))
    array[top : top + height, left : left + width] = 1
    return array


def drawing(**classes: np.ndarray) -> Drawing:
    return Drawing({name: Mask.from_dense(array) for name, array in classes.items()}, ())


def test_disputed_parts_are_what_not_all_gave_the_class_the_largest_first() -> None:
    a = drawing(car=box(0, 0, 20, 20) + box(40, 40, 4, 4))
    b = drawing(car=box(0, 0, 20, 10), sky=box(50, 0, 10, 10))
    assert [part.bbox for part in disputed_parts([a, b], "car")] == [
        (0, 10, 20, 10), (40, 40, 4, 4),
    ]  # fmt: skip
    assert [part.area_px for part in disputed_parts([a, b], "sky")] == [100]
    assert disputed_parts([a, a], "car") == []
    assert disputed_parts([a, b], "road") == []


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (box(0, 0, 4, 4), (0, 0, 40, 40)),
        (box(70, 50, 10, 10), (40, 20, 40, 40)),
        (box(0, 20, 80, 2), (0, 0, 80, 60)),
    ],
)
def test_a_crop_shows_the_surroundings_and_stays_in_the_image(
    part: np.ndarray, expected: tuple[int, int, int, int]
) -> None:
    assert crop_box(Mask.from_dense(part)) == expected


def test_who_drew_nothing_in_a_crop_is_named_so() -> None:
    dense = box(0, 0, 20, 20).astype(bool)
    drawings = [("A", {"car": dense}), ("B", {})]
    photo = np.full((120, 160, 3), 90, dtype=np.uint8)  # twice the masks' size
    panels = crop_panels(drawings, "car", (0, 0, 255), (0, 0, 40, 40), (60, 80), photo)
    assert [panel.caption for panel in panels] == ["A", "B: nothing here"]
    assert {(panel.width_px, panel.height_px) for panel in panels} == {(210, 210)}


def test_few_tasks_are_kept_and_no_clip_fills_them() -> None:
    kept = TasksByKey(per_key=3, limit=4)
    for number in range(1, 9):
        task = parse_task(raw_task(number, []))
        kept.offer("car", number, task, "clip=a" if number > 4 else f"clip={number}")
        kept.offer("sky", 10 - number, task)
    kept.offer("road", 0, parse_task(raw_task(9, [])))
    assert [task.id for task, _ in kept.of("car")][:2] == [8, 4]
    assert {task.id for task, _ in kept.by_task()} <= {1, 2, 3, 4, 8}
    assert len(kept.by_task()) <= 4
    assert kept.of("road") == []


def test_neighbouring_frames_share_a_place_and_one_of_them_is_shown() -> None:
    def frame(number: int, **data: Any) -> Task:
        return parse_task(raw_task(number, [], **data))

    places = [clip_place(frame(n, video="v", frame=n), {}) for n in (0, 24, 25)]
    assert places[0] == places[1] != places[2]
    assert clip_place(frame(7, video="v"), {}) == "task=7"
    assert clip_place(frame(7, clip="c"), {"resample_by": "clip"}) == "clip=c"
    named = {"video": "shot", "frame": "file"}
    assert clip_place(frame(7, shot="s", file="s2/0031.jpg"), named) == "video=s#1"

    worst = WorstTasks(limit=3)
    for number, value in ((1, 0.1), (2, 0.2), (3, 0.3), (4, 0.05)):
        entry = {"miou": value, "worst_class": "car", "classes": {"car": value}}
        worst.offer(frame(number), entry, "near" if number != 3 else "far")
    assert [task.id for task, _ in worst.chosen([])] == [4, 3]


def test_a_place_that_looks_alike_in_two_tasks_is_on_the_sheet_once(tmp_path: Path) -> None:
    def pair(number: int, left: int) -> dict[str, Any]:
        drawn = [[("car", box(left, 10, 20, 20))], [("car", box(left, 10, 20 + number, 34))]]
        people = enumerate(zip((71, 72), drawn, strict=True))
        return raw_task(number, [annotation(10 * number + i, who, one) for i, (who, one) in people])

    source = open_source(str(write_export(tmp_path, [pair(1, 5), pair(2, 6), pair(3, 50)])))
    run = run_checks(
        ["agreement"], source, derive_taxonomy(source.label_config), workers=1, crops=9
    )
    (sheet,) = rule_sheets(
        run.kept.disputed, run.kept.notes, run.result, run.context, {71: "A", 72: "B"},
        run.context.photos.load, 9,
    )  # fmt: skip
    assert [crop.task_id for crop in sheet.crops] == [3, 2]


def noted_task(number: int = 1) -> dict[str, Any]:
    """Two annotators, one of whom notes a doubt on the region and another on the image."""
    cars = [("car", box(5, 5, 30, 20))]
    noted = annotation(10 * number, 71, cars)
    noted["result"][0]["meta"] = {"text": ["Does the <mirror> count?"]}
    answer = {"from_name": "ambiguous", "to_name": "image", "type": "choices"}
    same = {key: noted["result"][0][key] for key in ("id", "original_width", "original_height")}
    noted["result"] += [
        {**answer, **same, "value": {"choices": ["Edge unclear"]}},
        {
            "id": "n1",
            "from_name": "notes",
            "to_name": "image",
            "type": "textarea",
            "value": {"text": ["Fog."]},
        },
    ]
    return raw_task(number, [noted, annotation(10 * number + 1, 72, [("car", box(5, 5, 38, 20))])])


def test_notes_and_doubts_are_read_by_class_and_image() -> None:
    config = parse_label_config(NOTES_XML)
    notes = EdgeNotes()
    notes.offer(parse_task(noted_task()), CheckContext(derive_taxonomy(config), config, {}))
    assert [(one.text, one.annotator_id) for one in notes.of_class["car"]] == [
        ("Does the <mirror> count?", 71)
    ]
    assert notes.doubts_of("car") == (("Edge unclear", 1),)
    assert [one.text for one in notes.of_images] == ["Fog."]


def noted_run(folder: Path) -> QaRun:
    folder.mkdir(exist_ok=True)
    tasks = [noted_task(number) for number in range(1, 4)]
    tasks.append(raw_task(9, [annotation(90 + who, 71 + who, [("sky", box(0, 0, 9, 9))])
                              for who in range(3)]))  # fmt: skip
    path = write_export(folder, tasks)
    (folder / "batch.label-config.xml").write_text(NOTES_XML)
    source = open_source(str(path))
    taxonomy = derive_taxonomy(source.label_config)
    return run_checks(["agreement"], source, taxonomy, workers=1, crops=10, feedback=True)


def test_the_page_has_sheets_trend_and_feedback(tmp_path: Path) -> None:
    run = noted_run(tmp_path)
    history = tmp_path / "history.sqlite"
    for batch in ("b1", "b2"):
        options = ReportOptions(
            tmp_path / batch, False, (), 2, history=history, batch=batch, feedback=True
        )
        write_report(run, options)
    page = (tmp_path / "b2" / "qa.html").read_text(encoding="utf-8")
    assert page.count('<div class="crop">') == 1  # the tasks look alike
    assert "“Does the &lt;mirror&gt; count?”" in page and "Edge unclear <b>3×</b>" in page
    assert "Fog." in page
    assert "is as high as that of the one before" in page and "<polyline" in page
    assert "first batch of the history" in (tmp_path / "b1" / "qa.html").read_text()
    pages = sorted((tmp_path / "b2" / "feedback").iterdir())
    assert [one.name for one in pages] == [
        "annotator-a.html", "annotator-b.html", "annotator-c.html",
    ]  # fmt: skip
    for one in pages:
        text = one.read_text(encoding="utf-8")
        letter = one.stem[-1].upper()
        others = {"A", "B", "C"} - {letter}
        assert f"Feedback for Annotator {letter}" in text
        assert not any(f"Annotator {other}" in text for other in others)
    assert sum("differ most" in one.read_text() for one in pages) == 2


def test_habits_are_said_to_the_person_and_name_nobody_else() -> None:
    habit = {
        "kind": "only-one", "annotator": 71, "class": "car", "value": 0.9, "count": 9, "of": 10,
        "unit": "object", "p_value": 0.01, "other_class": None, "versus": 72,
    }  # fmt: skip
    wide = {**habit, "kind": "offset", "value": 3.14, "versus": None}
    people = [{"id": person, "tasks": 3} for person in (71, 72, 73)]
    found = {"boundary": {"habits": [wide, habit, {**wide, "annotator": 72}]}}
    (only, evidence), (offset, _) = habit_sentences({"checks": found, "annotators": people}, 71)
    assert "72" not in only and evidence == "9 of 10 objects"
    assert "3.1 px wider than the others’" in offset and "inwards" in offset
    pair = {"checks": found, "annotators": people[:2]}
    assert habit_sentences(pair, 71)[1][0].endswith("wider than the other annotator’s.")
    assert feedback_file("../x") == "x.html"


def test_the_habits_that_matter_most_come_first_and_no_class_takes_all_places() -> None:
    def habit(name: str, value: float, kind: str = "offset") -> dict[str, Any]:
        return {
            "kind": kind, "annotator": 71, "class": name, "value": value, "count": 9, "of": 10,
            "unit": "task", "p_value": 0.01, "other_class": None, "versus": None,
        }  # fmt: skip

    habits = [habit("sky", 1.0), habit("car", -4.0), habit("car", 4.5, "shift-x")]
    habits += [habit("car", 3.0, "shift-y"), habit("road", 0.9, "missing")]
    people = [{"id": person, "tasks": 3} for person in (71, 72, 73)]
    result = {"checks": {"boundary": {"habits": habits}}, "annotators": people}
    said = [text for text, _ in habit_sentences(result, 71)]
    assert [next(name for name in ("car", "sky", "road") if name in text) for text in said] == [
        "road", "car", "car", "sky", "car",
    ]  # fmt: skip
    assert "further right" in said[1] and "narrower" in said[2] and "further down" in said[4]


def test_most_of_the_others_is_at_least_half() -> None:
    three = [drawing(car=box(0, 0, width, 10)) for width in (10, 20, 30)]
    assert most_of(three, 60, 80)["car"].bbox == (0, 0, 20, 10)
    assert most_of([*three[:1], drawing(), drawing()], 60, 80) == {}
