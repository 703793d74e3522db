"""The tabs of a round of rework, as the people who work in them see them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from segstudio.cli import main
from segstudio.client import connect
from tests.batch.people import CONFIG, box, people
from tests.browser.editor import Editor
from tests.browser.scene import ball_on_ground, encode


@pytest.mark.parametrize(("mode", "tab"), [("fix", ""), ("adjudicate", "decide")])
def test_a_tab_shows_its_tasks_with_what_to_look_at_and_the_drawings_beside_each_other(
    mode: str,
    tab: str,
    editor: Editor,
    label_studio: Any,
    project_factory: Callable[..., Any],
    picture: Callable[[str], None],
    tmp_path: Path,
) -> None:
    scene = ball_on_ground()
    photo = "data:image/png;base64," + base64.b64encode(encode(scene)).decode()
    car, moved = box("Car", 20, 20, 40, 40), box("Car", 35, 20, 40, 40)
    project = project_factory(CONFIG, title="Streets", maximum_annotations=2)
    with (
        people(label_studio, "tab-ann", "tab-bob") as (ann, bob),
        connect(label_studio.url, label_studio.api_key) as client,
    ):
        tasks = [
            {
                "data": {"image": photo},
                "annotations": [
                    {"completed_by": ann.id, "result": [car], "ground_truth": False},
                    {
                        "completed_by": bob.id,
                        "result": [car if n else moved],
                        "ground_truth": False,
                    },
                ],
            }
            for n in (0, 0, 1)
        ]
        client.request("POST", f"/api/projects/{project.id}/import", json=tasks)
        rows = client.get_json("/api/tasks/", project=project.id)["tasks"]
        ids = sorted(int(one["id"]) for one in rows)
        (tmp_path / "gates.yaml").write_text(
            "gates: [{metric: iou, class: Car, threshold: 0.9, min_tasks: 1}]"
        )
        server = ["--url", label_studio.url, "--api-key", label_studio.api_key]
        source, state = f"project:{project.id}", str(tmp_path / "rework.json")
        steps = [
            ["qa", "agreement", source, "--out", str(tmp_path), "--workers", "1",
             "--gates", str(tmp_path / "gates.yaml"), "--pictures", "0", "--crops", "0"],
            ["rework", source, "--qa", str(tmp_path), "--state", state, "--mode", mode, "--apply"],
        ]  # fmt: skip
        for step in steps:
            done = CliRunner().invoke(main, [*step, *server])
            assert done.exit_code in (0, 1), done.output
        assert Path(state).exists(), done.output
        code = json.loads(Path(state).read_text())["codes"].get(str(bob.id))
        title = f"Rework 1: {tab or code}"
        views = client.get_json("/api/dm/views/", project=project.id)
        view = next(int(one["id"]) for one in views if one["data"]["title"] == title)
        page = editor.page
        page.goto(f"{label_studio.url}/projects/{project.id}/data?tab={view}")
        page.get_by_text(title, exact=True).first.wait_for()
        page.get_by_text("outlined differently").first.wait_for()
        looks = page.get_by_text("outlined differently").all_inner_texts()
        assert len(looks) == 2
        assert all(text.startswith(f"[{tab}]" if tab else "[A]") for text in looks)
        assert "tab-bob" not in " ".join(looks)
        picture("tab")
        page.goto(f"{label_studio.url}/projects/{project.id}/data?tab={view}&task={ids[0]}")
        page.locator(".lsf-annotation-tabs, .lsf-annotations-carousel").first.wait_for()
        page.locator("canvas").first.wait_for()
        picture("task")
