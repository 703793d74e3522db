"""The pilot's one page, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from batch.pilot import Pilot, PilotClass
from qa_plugins.report.charts import interval_bar
from qa_plugins.report.html import environment
from segstudio.report_sections import Section
from segstudio.source import Selection

_TEMPLATE: Final = "pilot.html.j2"
KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "boundary": ("along the outline", "#7fa7d6"),
    "shape": ("another shape", "#c3b1e1"),
    "missed": ("missed objects", "#c62828"),
    "mislabelled": ("another class", "#e0a100"),
}
_MATTERS: Final = {
    "boundary": "Outlines: write down where the edge is.",
    "blunder": "Blunders: objects missed or misnamed. Train and show examples.",
    "shape": "Shapes: both drew it, one much larger. Settle what belongs to it.",
    "none": "No disagreement to speak of.",
}
_ADVICE: Final = {
    "boxes": "Boxes are enough",
    "polygons": "Polygons are enough",
    "pixels": "Pixels (brush)",
    "too few": "Too few objects to say",
}


def pilot_page(pilot: Pilot, selection: Selection, sections: Sequence[Section]) -> str:
    """Return the self-contained page: no script, no link."""
    from jinja2 import ChoiceLoader, FileSystemLoader

    made = environment()
    made.loader = ChoiceLoader([FileSystemLoader(Path(__file__).parent), made.loader])
    made.filters["duration"] = duration_text
    rows = [_row(one) for one in pilot.classes]
    rendered: str = made.get_template(_TEMPLATE).render(
        pilot=pilot,
        title=selection.text,
        rows=rows,
        kinds=[{"name": name, "color": color} for name, color in KINDS.values()],
        production=pilot.production,
        wanted=next((one for one in pilot.production if one.images == pilot.images), None),
        sections=sections,
    )
    return rendered


def duration_text(hours: float) -> str:
    """Hours as a reader wants them.

    >>> duration_text(0.27), duration_text(12.4)
    ('16 min', '12 h')
    """
    return f"{hours:.0f} h" if hours >= 2 else f"{60 * hours:.0f} min"


def pilot_json(pilot: Pilot, selection: Selection) -> dict[str, Any]:
    """Return the figures of the page."""
    return {
        "selection": selection.as_json(),
        "goal": {"half_width": pilot.goal.half_width, "confidence": pilot.goal.confidence},
        "tasks": pilot.tasks,
        "compared_tasks": pilot.compared,
        "annotators": list(pilot.annotators),
        "annotation_s": pilot.usual_s if pilot.times_known else None,
        "classes": [
            {
                "name": one.name,
                "tasks": one.tasks,
                "share_of_images": one.share_of_images,
                "mean": one.mean,
                "interval": one.interval,
                "sd": one.sd,
                "matter": one.matter,
                "disagreement": dict(one.shares),
                "advice": one.advice,
                "vertices_needed": one.vertices,
                "object_s": one.object_s,
                "cost_ratio": one.cost_ratio,
                "images_needed": one.images_needed,
            }
            for one in pilot.classes
        ],
        "production": [
            {
                "images": one.images,
                "double_annotations": one.double,
                "first_hours": one.first_hours,
                "double_hours": one.double_hours,
                "random_double_annotations": one.random,
                "is_reached": one.is_reached,
            }
            for one in pilot.production
        ],
    }


def _row(one: PilotClass) -> dict[str, Any]:
    bar = interval_bar(one.mean, None, one.interval, None, weak=(one.mean or 1) < 0.5)
    return {
        "one": one,
        "bar": Markup(bar),  # noqa: S704 - made of numbers only
        "stack": [
            {"share": share * 100, "color": KINDS[kind][1], "name": KINDS[kind][0]}
            for kind, share in one.shares.items()
        ],
        "matter": _MATTERS[one.matter],
        "advice": _ADVICE.get(one.advice, one.advice),
        "cost": _cost(one),
    }


def _cost(one: PilotClass) -> str:
    if one.cost_ratio is None or one.object_s is None:
        return ""
    drawn, polygon = f"as drawn {one.object_s:.0f} s", f"{one.object_s / one.cost_ratio:.0f} s"
    if one.cost_ratio >= 1:
        return f"{drawn}, {one.cost_ratio:.1f} times a polygon ({polygon})"
    return f"{drawn}; a polygon would take {polygon}, {1 / one.cost_ratio:.1f} times that"
