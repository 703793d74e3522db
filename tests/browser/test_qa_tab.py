"""The tab of `segstudio qa --write-back`, written while annotators work, as a lead sees it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from qa_plugins.command import qa
from qa_plugins.write_back import TAB_TITLE
from segstudio.client import connect
from tests.batch.people import CONFIG, box, people
from tests.browser.editor import Editor
from tests.browser.scene import ball_on_ground, encode

ID_COLUMN_PX = 150
WIDTHS = (40, 20, 8, 30)
"""How wide the third annotator draws the car on each task; the others draw 40 pixels."""


def test_three_annotators_a_write_back_while_one_saves_and_the_tab_with_the_worst_first(
    editor: Editor,
    label_studio: Any,
    project_factory: Callable[..., Any],
    picture: Callable[[str], None],
    tmp_path: Path,
) -> None:
    photo = "data:image/png;base64," + base64.b64encode(encode(ball_on_ground())).decode()
    project = project_factory(CONFIG, title="Streets", maximum_annotations=3)
    source = f"project:{project.id}"
    with (
        people(label_studio, "qa-ann", "qa-bob", "qa-eve") as (ann, bob, eve),
        connect(label_studio.url, label_studio.api_key) as client,
    ):
        body = [{"data": {"image": photo, "number": n}} for n in range(len(WIDTHS))]
        client.request("POST", f"/api/projects/{project.id}/import", json=body)
        rows = client.get_json("/api/tasks/", project=project.id)["tasks"]
        ids = sorted(int(one["id"]) for one in rows)
        saved: dict[int, float] = {}
        last: dict[int, int] = {}
        for task_id, width in zip(ids, WIDTHS, strict=True):
            for person in (ann, bob):
                person.submit(task_id, box("Car", 20, 20, 40, 40))
            last[task_id] = eve.submit(task_id, box("Car", 20, 20, width, 40))

        stop = threading.Event()

        def keep_saving() -> None:
            lead_time_s = 10.0
            while not stop.is_set():
                for task_id in ids:
                    lead_time_s += 1
                    path = f"/api/annotations/{last[task_id]}/"
                    eve.client.request("PATCH", path, json={"lead_time": lead_time_s})
                    saved[last[task_id]] = lead_time_s

        saving = threading.Thread(target=keep_saving)
        saving.start()
        try:
            done = CliRunner().invoke(
                qa,
                ["agreement", source, "--out", str(tmp_path), "--workers", "1", "--write-back",
                 "--url", label_studio.url, "--api-key", label_studio.api_key],
                catch_exceptions=False,
            )  # fmt: skip
        finally:
            stop.set()
            saving.join()
        assert done.exit_code == 0, done.output
        assert "4 tasks written" in done.output

        # Nothing that was told to be saved is gone, and every task has its record.
        stored = [client.get_json(f"/api/tasks/{one}/") for one in ids]
        found = {one["id"]: one["lead_time"] for task in stored for one in task["annotations"]}
        assert saved and {one: found[one] for one in saved} == saved
        assert all(len(task["annotations"]) == 3 for task in stored)
        mious = [task["data"]["qa_miou"] for task in stored]
        assert mious == pytest.approx([(1 + 2 * width / 40) / 3 for width in WIDTHS])
        assert stored[0]["data"]["qa_verdict"] == "ok"

        views = client.get_json("/api/dm/views/", project=project.id)
        (view,) = [int(one["id"]) for one in views if one["data"]["title"] == TAB_TITLE]
        page = editor.page
        page.goto(f"{label_studio.url}/projects/{project.id}/data?tab={view}")
        page.get_by_text(TAB_TITLE, exact=True).first.wait_for()
        for title in ("qa_miou", "qa_verdict", "qa_worst_class", "qa_stale"):
            page.get_by_text(title, exact=True).last.wait_for()
        page.get_by_text("rework", exact=True).first.wait_for()
        picture("tab")
        heights_px = {task_id: height_px(page, task_id) for task_id in ids}
        assert heights_px.pop(ids[0]) is None
        assert sorted(heights_px, key=lambda one: heights_px[one] or -1.0) == [
            ids[2],
            ids[1],
            ids[3],
        ]


def height_px(page: Any, task_id: int) -> float | None:
    """Where a task's row is; ids are the column on the left, counts further right look alike."""
    found = page.get_by_text(str(task_id), exact=True).all()
    places = [box for box in (one.bounding_box() for one in found) if box]
    return min((box["y"] for box in places if box["x"] < ID_COLUMN_PX), default=None)
