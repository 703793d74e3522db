"""The QA result as one self-contained page: no script, no link, pictures inside.

Readable in a minute: the verdict, the classes with the weakest first, what to do next. People are
letters unless their names are asked for.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from markupsafe import Markup

from qa_plugins.edge_notes import EdgeNote
from qa_plugins.history import BatchRecord
from qa_plugins.report.advice import confusions, is_hidden_by_mean, next_steps, weak_classes
from qa_plugins.report.charts import heat_color, interval_bar
from qa_plugins.report.crops import RuleSheet
from qa_plugins.report.csv import worst_first
from qa_plugins.report.overlays import Panel
from qa_plugins.report.trend import trend_chart
from segstudio.report_sections import Section

MAX_ERRORS = 60
MAX_TASK_ROWS = 12
MAX_MATRIX = 24
MAX_CONFUSIONS = 8
MAX_NOTES = 8
MAX_GATE_TASKS = 6
MAX_FINDINGS = 12

_VERDICTS = {
    "pass": ("Pass", "pass", "✓"),
    "fail": ("Fail", "fail", "✕"),
    "n/a": ("Not judged", "na", "–"),
}
_KEPT_OUT = {
    "skipped": "skipped by the annotator",
    "ground_truth": "marked as ground truth",
    "second_by_same_person": "a further one by the same person",
    "no_annotator": "without an annotator",
    "unreadable": "could not be read whole",
}
_CONFLICTS = {
    "only_one": "objects that only one of two people drew",
    "mismatching_label": "objects under two different classes",
    "low_overlap": "objects that overlap less than 0.8",
    "in_parts": "objects that one drew as one and the other as several",
    "covered": "objects that the other drew as part of a larger one",
}


@dataclass(frozen=True, slots=True)
class TaskPicture:
    """Why a task is shown, and its panels; ``note`` says when the photo is missing."""

    task_id: int
    reason: str
    panels: tuple[Panel, ...]
    note: str = ""


def render_report(
    result: Mapping[str, Any],
    *,
    title: str,
    people: Mapping[int, str],
    colors: Mapping[str, tuple[int, int, int]],
    rules: Mapping[str, str],
    pictures: Sequence[TaskPicture] = (),
    sections: Sequence[Section] = (),
    sheets: Sequence[RuleSheet] = (),
    image_notes: Sequence[EdgeNote] = (),
    history: Sequence[BatchRecord] = (),
) -> str:
    """Render one QA result.

    Args:
        result: what ``qa.json`` holds.
        title: where the tasks came from.
        people: what to call each annotator.
        colors: colour of each class.
        rules: the boundary rule of each class that has one.
        pictures: overlays of some tasks, in the order to show them.
        sections: what each check shows.
        sheets: the disputed places and the notes of the classes, in the order to show them.
        image_notes: what annotators wrote about whole images.
        history: the batches of the trend with this one, where a history is kept.
    """
    batch = result["batch"]
    weak = weak_classes(result)
    threshold = required_miou(batch)
    label, css, icon = _VERDICTS[batch["verdict"]]
    template = environment().get_template("report.html.j2")
    page: str = template.render(
        title=title,
        batch=batch,
        verdict={"label": label, "css": css, "icon": icon},
        weak=weak,
        hidden=is_hidden_by_mean(result, weak),
        weak_names={entry["name"] for entry in weak},
        threshold=threshold,
        classes=_class_rows(result, weak, colors, rules),
        absent=[one["name"] for one in result["classes"] if one["iou"]["accumulated"] is None],
        steps=next_steps(result, people, sections),
        sections=sections,
        has_agreement=bool(batch["compared_tasks"] or result["annotators"] or not sections),
        gates=[{**gate, "subject": _subject(gate, people)} for gate in batch["gates"]],
        matrix=_matrix(result, people),
        tasks=[task for task in worst_first(result["tasks"]) if task["miou"] is not None][
            :MAX_TASK_ROWS
        ],
        task_by_id={task["id"]: task for task in result["tasks"]},
        pictures=pictures,
        shared_note=shared_note(pictures),
        color_of={name: "#{:02x}{:02x}{:02x}".format(*color) for name, color in colors.items()},
        conflict_counts=lambda task: _conflict_text(task["conflicts"]),
        confusions=confusions(result)[:MAX_CONFUSIONS],
        errors=result["errors"][:MAX_ERRORS],
        error_total=len(result["errors"]),
        kept_out=[
            (_KEPT_OUT.get(reason, reason), count) for reason, count in batch["kept_out"].items()
        ],
        conflicts=_conflict_counts(batch["conflicts"]),
        sheets=sheets,
        image_notes=image_notes[:MAX_NOTES],
        max_notes=MAX_NOTES,
        max_gate_tasks=MAX_GATE_TASKS,
        max_findings=MAX_FINDINGS,
        who=lambda note: people.get(note.annotator_id, "somebody"),
        history=history,
        trend=Markup(trend_chart(history)),  # noqa: S704 - names are escaped in it
        trend_note=_trend_note(history),
        rework=sum(task.get("verdict") == "rework" for task in result["tasks"]),
    )
    return page


def _trend_note(history: Sequence[BatchRecord]) -> str:
    """How the latest batch stands to the one before it, in one sentence."""
    known = [one for one in history if one.miou is not None]
    if len(known) < 2 or known[-1].miou is None or known[-2].miou is None:
        return "This is the first batch of the history; the next one makes a trend."
    step = known[-1].miou.value - known[-2].miou.value
    side = "above" if step > 0 else "below"
    how = "as high as" if abs(step) < 0.005 else f"{abs(step):.2f} {side}"
    return f"Mean IoU of the latest batch, “{known[-1].label}”, is {how} that of the one before."


class HasNote(Protocol):
    """A picture that may say why it has no photo."""

    @property
    def note(self) -> str:
        """The sentence; empty where the photo is there."""


def shared_note(pictures: Sequence[HasNote]) -> str:
    """One sentence where no picture has its photo, so that it is said once."""
    notes = [picture.note for picture in pictures]
    return notes[0] if len(notes) > 1 and all(notes) else ""


def _class_rows(
    result: Mapping[str, Any],
    weak: Sequence[Mapping[str, Any]],
    colors: Mapping[str, tuple[int, int, int]],
    rules: Mapping[str, str],
) -> list[dict[str, Any]]:
    weak_names = {entry["name"] for entry in weak}
    threshold = required_miou(result["batch"])
    drawn = [entry for entry in result["classes"] if entry["iou"]["accumulated"] is not None]
    drawn.sort(key=lambda entry: (entry["iou"]["accumulated"], entry["name"]))
    return [
        {
            **entry,
            "weak": entry["name"] in weak_names,
            "color": "#{:02x}{:02x}{:02x}".format(*colors.get(entry["name"], (128, 128, 128))),
            "rule": rules.get(entry["name"], ""),
            "bar": Markup(  # noqa: S704 - made of numbers only
                interval_bar(
                    entry["iou"]["accumulated"],
                    entry["iou"]["per_image"],
                    entry["iou"]["ci95_accumulated"],
                    threshold,
                    weak=entry["name"] in weak_names,
                )
            ),
        }
        for entry in drawn
    ]


def required_miou(batch: Mapping[str, Any]) -> float | None:
    """The IoU between annotators that the gates ask for; None where they ask for something else."""
    for gate in batch["gates"]:
        between_annotators = gate["against"] == "annotators" and not gate["where"]
        if between_annotators and gate["metric"].startswith(("miou", "iou")):
            return float(gate["threshold"])
    return None


def _matrix(result: Mapping[str, Any], people: Mapping[int, str]) -> dict[str, Any]:
    ids = [entry["id"] for entry in result["annotators"] if entry["tasks"]]
    ids.sort(key=lambda person: (len(people[person]), people[person]))
    cells = {}
    for pair in result["pairs"]:
        cells[pair["a"], pair["b"]] = cells[pair["b"], pair["a"]] = pair
    shown = ids[:MAX_MATRIX]
    own = {entry["id"]: entry for entry in result["annotators"]}
    rows = [
        {
            "name": people[row],
            "miou": own[row]["miou"]["accumulated"],
            "tasks": own[row]["tasks"],
            "cells": [
                None
                if row == column
                else {
                    "pair": cells.get((row, column)),
                    "color": heat_color((cells.get((row, column)) or {}).get("miou")),
                }
                for column in shown
            ],
        }
        for row in shown
    ]
    return {
        "names": [people[person] for person in shown],
        "rows": rows,
        "left_out": len(ids) - len(shown),
    }


def _subject(gate: Mapping[str, Any], people: Mapping[int, str]) -> str:
    if gate["scope"] == "annotator" and gate["subject"] is not None:
        return people.get(gate["subject"], "an annotator")
    return "" if gate["subject"] is None else str(gate["subject"])


def _conflict_counts(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Conflicts in words; which of two peers is the first says nothing, so those two are one."""
    kinds = Counter(counts)
    kinds["only_one"] = kinds.pop("missing", 0) + kinds.pop("extra", 0)
    kinds["in_parts"] = kinds.pop("split", 0) + kinds.pop("merged", 0)
    return [(_CONFLICTS.get(kind, kind), count) for kind, count in kinds.most_common() if count]


def _conflict_text(conflicts: Sequence[Mapping[str, Any]]) -> str:
    kinds = Counter(conflict["type"] for conflict in conflicts)
    single = kinds["missing"] + kinds["extra"]
    parts = [
        (single, "drawn by one of two only"),
        (kinds["mismatching_label"], "under two classes"),
        (kinds["low_overlap"], "with low overlap"),
        (kinds["split"] + kinds["merged"], "in one piece or several"),
        (kinds["covered"], "inside another"),
    ]
    return ", ".join(f"{count} {text}" for count, text in parts if count) or "no object conflicts"


def _cell(value: object) -> str:
    """A table's value as text: a number with three decimals, nothing as a dash."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


@functools.cache
def environment() -> Any:
    """The templates beside this file, with the filters that they use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = lambda value: "–" if value is None else f"{value:.3f}"
    environment.filters["short"] = lambda value: "–" if value is None else f"{value:.2f}"
    environment.filters["cell"] = _cell
    environment.filters["thousands"] = lambda value: f"{value:,}".replace(",", " ")
    environment.filters["interval"] = lambda value: (
        "–" if value is None else f"{value[0]:.3f} – {value[1]:.3f}"
    )
    return environment
