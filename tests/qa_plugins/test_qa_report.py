from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qa_plugins.gates import load_gates, parse_gates
from qa_plugins.report.charts import heat_color, interval_bar
from qa_plugins.report.csv import tasks_csv
from qa_plugins.report.json import to_json, write_atomically
from qa_plugins.report.overlays import disagreement_panels
from qa_plugins.report.people import display_names
from qa_plugins.report_files import ReportOptions, write_report
from qa_plugins.runner import QaRun, run_checks
from segstudio.masks import Mask
from segstudio.plugins import CheckContext
from segstudio.report_sections import Finding, NameOf, Picture, Section, Table
from segstudio.source import open_source
from segstudio.taxonomy import derive_taxonomy
from tests.qa_plugins.qa_tasks import annotation, raw_task, write_export


def square(size: int, height: int = 60) -> np.ndarray:
    array = np.zeros((height, 60))
    array[10 : 10 + size, 10 : 10 + size] = 1
    return array


def made_run(folder: Path, gates: str | None = None) -> QaRun:
    """Eight tasks: cars agree well, the sky hardly; one task with a hostile class and name."""
    tasks = []
    for number in range(1, 9):
        thin = np.zeros((60, 60))
        thin[50:53, number : number + 30] = 1
        moved = np.roll(thin, 2, axis=0)
        tasks.append(
            raw_task(
                number,
                [
                    annotation(10 * number, 71, [("car", square(30)), ("sky", thin)]),
                    annotation(10 * number + 1, 72, [("car", square(30)), ("sky", moved)]),
                    annotation(10 * number + 2, 73, was_cancelled=True),
                ],
            )
        )
    source = open_source(str(write_export(folder, tasks)))
    taxonomy = derive_taxonomy(source.label_config)
    gate_set = parse_gates(gates) if gates else load_gates(None)
    return run_checks(["agreement"], source, taxonomy, gates=gate_set, workers=1)


def report(run: QaRun, folder: Path, **options: Any) -> str:
    given = {"names": False, "images": (), "pictures": 6, **options}
    write_report(run, ReportOptions(folder, **given))
    return (folder / "qa.html").read_text(encoding="utf-8")


def test_a_low_class_next_to_a_good_mean_is_said_first(tmp_path: Path) -> None:
    run = made_run(tmp_path, "gates: [{metric: miou, threshold: 0.5}]")
    assert run.result["batch"]["verdict"] == "pass"
    page = report(run, tmp_path)
    assert page.index("sky is at 0.20") < page.index("What to do next")
    assert "hides it" in page
    assert '<span class="low">LOW</span>' in page


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = report(made_run(tmp_path), tmp_path)
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert page.count("data:image/jpeg;base64,") >= 3


def test_people_are_letters_unless_names_are_asked_for(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    hidden, shown = report(run, tmp_path), report(run, tmp_path, names=True)
    assert "user 71" not in hidden
    assert "Annotator A" in hidden
    assert "user 71" in shown


def test_a_missing_photo_is_said_and_changes_no_number(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    page = report(run, tmp_path / "without")
    assert "the photo could not be had" in page
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(1, 9):
        Image.new("RGB", (60, 60), (90, 120, 40)).save(photos / f"{number:03}.png")
    with_photos = report(run, tmp_path / "with", images=(photos,))
    assert "the photo could not be had" not in with_photos
    for name in ("qa.json", "tasks.csv"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        report(made_run(tmp_path), tmp_path / name)
    for file in ("qa.json", "qa.html", "tasks.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_class_names_cannot_break_the_page(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    text = json.dumps(run.result).replace('"sky"', '"<img src=x onerror=alert(1)>"')
    run.result = json.loads(text)
    page = report(run, tmp_path, pictures=0)
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_qa_json_has_the_stated_keys_unrounded(tmp_path: Path) -> None:
    report(made_run(tmp_path, "gates: [{metric: miou, threshold: 0.9}]"), tmp_path)
    result = json.loads((tmp_path / "qa.json").read_text())
    batch = result["batch"]
    assert {"tasks", "compared_tasks", "pairs", "miou", "verdict", "gates"} <= set(batch)
    assert (batch["tasks"], batch["compared_tasks"], batch["pairs"]) == (8, 8, 8)
    assert batch["verdict"] == "fail"
    assert {"accumulated", "per_image", "ci95"} <= set(batch["miou"])
    assert batch["miou"]["accumulated"] == (1.0 + 30 / 150) / 2
    for entry in result["classes"]:
        assert {"name", "iou", "dice", "boundary_iou", "tasks", "pixels"} <= set(entry)
    assert {"a", "b", "miou", "tasks"} <= set(result["pairs"][0])
    assert {"id", "miou", "classes", "conflicts"} <= set(result["tasks"][0])
    assert result["errors"] == []


def test_tasks_csv_is_worst_first_with_a_column_a_class(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    run.result["tasks"][3].update(miou=0.1)
    run.result["tasks"][4].update(miou=None, classes={})
    rows = list(csv.DictReader(io.StringIO(tasks_csv(run.result))))
    assert rows[0]["task_id"] == "4"
    assert rows[-1]["task_id"] == "5"
    assert rows[-1]["iou car"] == ""
    assert float(rows[1]["iou sky"]) == pytest.approx(0.2)


def test_a_cell_that_looks_like_a_formula_is_disarmed() -> None:
    entry = {"id": 1, "image": "=HYPERLINK(1)", "miou": 1.0, "classes": {}, "conflicts": []}
    assert "'=HYPERLINK(1)" in tasks_csv({"tasks": [entry]})


@pytest.mark.parametrize(
    "value",
    [
        {}, [], {"a": [], "b": {}}, [[1, [2]], {"c": None, "d": [True, False]}],
        {"text": 'e\u00e9 "quoted" \\ \n\x01', "\u00fc": 1e16, "small": 1e-7, "int": -(10**30)},
    ],
)  # fmt: skip
def test_qa_json_is_laid_out_as_the_standard_library_does(value):
    assert to_json(value) == json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def test_json_has_no_nan_and_no_half_file(tmp_path: Path) -> None:
    assert json.loads(to_json({"x": float("nan"), "y": np.float64(0.5), "z": (1,)})) == {
        "x": None, "y": 0.5, "z": [1],
    }  # fmt: skip
    target = tmp_path / "deep" / "qa.json"
    write_atomically(target, "one")
    write_atomically(target, "two")
    assert target.read_text() == "two"
    assert [path.name for path in target.parent.iterdir()] == ["qa.json"]


def test_letters_do_not_follow_the_order_of_the_ids() -> None:
    names = display_names(range(1, 30))
    assert len(set(names.values())) == 29
    assert [names[person] for person in range(1, 27)] != sorted(names.values())[:26]


def test_the_first_panel_is_red_where_two_differ_and_nowhere_else() -> None:
    a, b = np.zeros((100, 100), dtype=bool), np.zeros((100, 100), dtype=bool)
    a[:, :60], b[:, :40] = True, True
    drawings = [("A", {"car": Mask.from_dense(a)}), ("B", {"car": Mask.from_dense(b)})]
    panels = disagreement_panels(drawings, {"car": (0, 0, 255)}, 100, 100, None)
    assert [panel.caption for panel in panels] == ["Where they differ", "A", "B"]
    pixels = decoded(panels[0].uri)
    reddish = (pixels[..., 0].astype(int) - pixels[..., 1]) > 60
    width = pixels.shape[1]
    assert reddish[:, int(width * 0.42) : int(width * 0.58)].all()
    assert not reddish[:, : int(width * 0.38)].any()
    assert not reddish[:, int(width * 0.62) :].any()


def test_who_drew_nothing_is_named_so() -> None:
    drawings = [("A", {"car": Mask.full(20, 30)}), ("B", {})]
    panels = disagreement_panels(drawings, {}, 20, 30, None)
    assert panels[2].caption == "B: drew nothing"


def decoded(uri: str) -> np.ndarray:
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_bar_stays_on_its_scale() -> None:
    svg = interval_bar(1.0, None, (0.5, 1.0), 0.84, weak=False)
    numbers = [float(one) for one in re.findall(r'(?:cx|x1|x2)="([\d.]+)"', svg)]
    assert max(numbers) <= 240
    assert heat_color(1.0) != heat_color(0.5) != heat_color(None)


class CountsRegions:
    """A check of a team of its own, with something to show."""

    name = "counts"
    summary = "Counts annotations."

    def measure(self, task: Any, context: CheckContext) -> int:
        return len(task.annotations)

    def summarize(self, measurements: Any, context: CheckContext) -> dict[str, Any]:
        return {"annotations": sum(measurements), "annotators": [{"id": 71}]}

    def report(self, summary: dict[str, Any], names: NameOf) -> Section:
        return Section(
            "Counts <b>",
            findings=[
                Finding(f"{names(71)} is here.", "As expected.", "warning", "Greet everybody.")
            ],
            tables=[
                Table(["What", "How many"], [["annotations", summary["annotations"]], ["x", None]])
            ],
            pictures=[Picture("A dot", "data:image/png;base64,AA==", 10, 10)],
        )


def test_a_check_puts_a_section_on_the_page_and_a_step_at_its_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qa_plugins.runner.find_check", lambda name: CountsRegions())
    tasks = [raw_task(1, [annotation(10, 71, [("car", square(30))])])]
    source = open_source(str(write_export(tmp_path, tasks)))
    run = run_checks(["counts"], source, derive_taxonomy(source.label_config), workers=1)
    page = report(run, tmp_path)
    assert "Counts &lt;b&gt;" in page and "What the checks found" in page
    assert page.index("Greet everybody.") < page.index("Counts &lt;b&gt;")
    assert "annotator A is here." in page or "A is here." in page
    assert '<td class="num left">1</td>' in page and "<td>–</td>" in page


def test_a_picture_from_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is loaded from elsewhere"):
        Picture("x", "https://example.org/x.png", 1, 1)
