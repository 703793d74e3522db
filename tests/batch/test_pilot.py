"""The pilot's page: intervals, what disagreement is about, what production takes."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from batch.pilot import summarize_pilot
from batch.plan_model import Goal, PlanTask, student
from segstudio.cli import main
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation, raw_task

VALUES = (0.8, 0.7, 0.9, 0.75, 0.85, 0.8)
DOUBLE = [
    PlanTask(n, 1, frozenset({"car"}), (1 + n % 2, 2 - n % 2), 2, 30.0, {"car": value})
    for n, value in enumerate(VALUES)
]
RESULT = {
    "classes": [
        {
            "name": "car",
            "disagreement": {
                "pixels": 100, "boundary": 0.7, "shape": 0.2, "missed": 0.1, "mislabelled": 0.0,
            },
        }
    ],
    "checks": {
        "polygons": {
            "classes": [
                {"name": "car", "advice": "polygons", "vertices_needed": 10.0,
                 "lead_time_s": 36.0, "polygon_time_s": 12.0}
            ]
        }
    },
}  # fmt: skip


def test_a_class_has_students_interval_and_advice_with_its_cost():
    found = summarize_pilot(RESULT, DOUBLE, Goal(), 400)
    (car,) = found.classes
    sd = np.std(VALUES, ddof=1)
    half = float(student(6, 0.95)) * sd / np.sqrt(6)
    assert car.interval == pytest.approx((0.8 - half, 0.8 + half))
    assert (car.matter, car.advice, car.cost_ratio) == ("boundary", "polygons", 3.0)
    needed = car.images_needed
    assert float(student(needed, 0.95)) * sd / np.sqrt(needed) <= 0.03
    assert float(student(needed - 1, 0.95)) * sd / np.sqrt(needed - 1) > 0.03


def test_larger_batches_need_more_but_a_smaller_share():
    found = summarize_pilot(RESULT, DOUBLE, Goal(), 400)
    assert [one.images for one in found.production] == [100, 300, 400, 1000, 3000]
    double = [one.double for one in found.production]
    shares = [one.double / one.images for one in found.production]
    assert double == sorted(double) and shares == sorted(shares, reverse=True)
    assert found.production[2].first_hours == pytest.approx(400 * 30 / 3600)
    assert all(one.is_reached for one in found.production)


def test_two_images_tell_no_spread_and_none_gives_no_production():
    found = summarize_pilot(RESULT, DOUBLE[:2], Goal(), 400)
    assert found.classes[0].images_needed is None
    nobody = summarize_pilot(RESULT, [PlanTask(1)], Goal(), 400)
    assert (nobody.classes, nobody.production) == ((), ())


def test_the_page_and_its_figures_are_written(tmp_path):
    shapes = [np.zeros((40, 40), bool) for _ in range(2)]
    shapes[0][5:30, 5:30] = True
    shapes[1][5:30, 5:28] = True
    tasks = [
        raw_task(n, [annotation(2 * n, 1, [("car", shapes[0])], lead_time=20.0),
                     annotation(2 * n + 1, 2, [("car", shapes[n % 2])], lead_time=30.0)])
        for n in range(1, 7)
    ]  # fmt: skip
    source = tmp_path / "tasks.json"
    source.write_text(json.dumps(tasks))
    (tmp_path / "tasks.label-config.xml").write_text(CONFIG_XML)
    ran = CliRunner().invoke(
        main, ["pilot", str(source), "--out", str(tmp_path / "out"), "--workers", "1",
               "--production", "200"],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    figures = json.loads((tmp_path / "out" / "pilot.json").read_text())
    assert (figures["compared_tasks"], figures["annotation_s"]) == (6, 25.0)
    assert figures["classes"][0]["mean"] == pytest.approx((3 * 1 + 3 * 23 / 25) / 6)
    page = (tmp_path / "out" / "pilot.html").read_text()
    assert "What production takes" in page and "tasks.json" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
