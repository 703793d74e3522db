from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from qa_plugins.history import read_history, record_batch
from qa_plugins.report.trend import trend_chart, trend_lines
from segstudio.errors import UsageError


def result(car: float, sky: float, source: str = "project 1") -> dict[str, Any]:
    def iou(value: float) -> dict[str, Any]:
        interval = [value - 0.05, value + 0.02]
        return {"accumulated": value, "per_image": value, "ci95_accumulated": interval}

    values = {"car": car, "sky": sky}
    return {
        "source": source,
        "batch": {
            "compared_tasks": 3,
            "pairs": 3,
            "verdict": "pass",
            "miou": {
                "accumulated": (car + sky) / 2,
                "ci95_accumulated": [0.5, 0.9],
            },
        },
        "classes": [{"name": name, "iou": iou(value)} for name, value in values.items()],
        "tasks": [{"id": 1, "miou": car, "classes": values, "annotators": [1, 2]}],
    }


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


def test_the_same_batch_twice_is_one_row_and_rework_moves_its_point(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.sqlite"
    assert record_batch(path, result(0.9, 0.5), "b1", 0.84, day(1))
    assert record_batch(path, result(0.9, 0.6), "b2", 0.84, day(2))
    again = copy.deepcopy(result(0.9, 0.5))
    again["batch"]["verdict"] = "fail"
    assert not record_batch(path, again, "b1", 0.95, day(3))
    first, second = read_history(path)
    assert (first.label, first.verdict, first.threshold) == ("b1", "fail", 0.95)
    assert first.measured_at.startswith("2026-01-01")
    assert second.classes["sky"].value == 0.6
    assert record_batch(path, result(0.9, 0.8), "b1", 0.84, day(4))
    reworked, _ = read_history(path)
    assert (reworked.label, reworked.classes["sky"].value) == ("b1", 0.8)


def test_a_batch_without_comparison_is_no_point(tmp_path: Path) -> None:
    empty = result(0.9, 0.5)
    empty["batch"]["compared_tasks"] = 0
    assert not record_batch(tmp_path / "history.sqlite", empty)
    assert not (tmp_path / "history.sqlite").exists()


@pytest.mark.parametrize("kind", ["text", "other"])
def test_a_file_that_is_no_history_is_left_alone(tmp_path: Path, kind: str) -> None:
    import sqlite3

    path = tmp_path / "notes.sqlite"
    if kind == "text":
        path.write_text("shopping list " * 100)
    else:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE mine (x)")
        other.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="file of its own"):
        record_batch(path, result(0.9, 0.5))
    assert path.read_bytes() == before


def test_the_chart_has_the_mean_the_weakest_classes_intervals_and_the_threshold(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history.sqlite"
    record_batch(path, result(0.9, 0.5), "<b>1", 0.84, day(1))
    assert trend_chart(read_history(path)) == ""
    record_batch(path, result(0.95, 0.7), "b2", 0.84, day(2))
    history = read_history(path)
    assert [line.name for line in trend_lines(history)] == ["mean IoU", "sky", "car"]
    svg = trend_chart(history)
    assert "&lt;b&gt;1" in svg and "<b>1" not in svg
    assert svg.count("<polyline") == 3 and svg.count("<circle") == 6
    assert svg.count("stroke-dasharray") == 2
    assert svg.count('opacity="0.22"') == 6
