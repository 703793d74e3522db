"""Small batches to deliver: two annotators whose masks are literal boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batch.deliver import Delivered, deliver
from batch.delivery_settings import DeliverySettings
from segstudio.export_file import FileSource
from tests.exporters.projects import TAXONOMY, annotation, box, brush, source_of, task

SHAPE = (24, 32)
GATES = "gates: [{metric: miou, threshold: 0.8, min_tasks: 3}]"
TASKS = 6


def drawing(number: int, shift_px: int = 0) -> list[dict[str, Any]]:
    """A car of 10 x 10 pixels and a road of 6 rows."""
    return [
        brush(f"car{number}", "car", box(2, 4 + shift_px, 12, 14 + shift_px, SHAPE)),
        brush(f"road{number}", "road", box(18, 0, 24, 32, SHAPE)),
    ]


def batch_of(folder: Path, *, shift_px: int = 0, drop: int = 0, extra: int = 0) -> FileSource:
    """Tasks 1 to 6 by users 5 and 6; of task 1, user 5 drew the car further right.

    `drop` tasks are missing at the beginning, `extra` ones are added at the end.
    """
    tasks = [
        task(
            number,
            f"/{number}.png",
            annotation(10 * number, 5, drawing(number, shift_px if number == 1 else 0)),
            annotation(10 * number + 1, 6, drawing(number)),
        )
        for number in range(1 + drop, TASKS + extra + 1)
    ]
    return source_of(folder, tasks)


def settings_of(folder: Path, **changes: Any) -> DeliverySettings:
    """Two formats, user 5's annotations, gates that the batch reaches."""
    gates = folder / "gates.yaml"
    gates.parent.mkdir(parents=True, exist_ok=True)
    gates.write_text(changes.pop("gates_text", GATES))
    values: dict[str, Any] = {
        "formats": ("semantic-png", "coco-panoptic"),
        "gates": str(gates),
        "annotations": "user:5",
        "pictures": 1,
    }
    return DeliverySettings(**{**values, **changes})


def make(source: FileSource, place: Path, settings: DeliverySettings, **more: Any) -> Delivered:
    """Deliver in this process."""
    options = {"workers": 1, "show_progress": False, **more}
    return deliver(source, TAXONOMY, place, settings, **options)


def manifest(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "manifest.json").read_text())
    return found
