"""An annotator's first minute in a real browser: click, see the mask, accept, submit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo.project import ensure_ml_backend, ensure_tasks
from label_configs import load_label_config
from segstudio.client import connect
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task
from tests.browser.editor import LAUNCH_ARGUMENTS, Editor
from tests.browser.scene import Scene, ball_on_ground

KEYPOINT_POSITION = 0
"""The smart key point is the first control of the demo's labelling interface."""


@pytest.fixture
def browser_context(chromium_path: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path, args=list(LAUNCH_ARGUMENTS), headless=True
        )
        try:
            yield browser.new_context(viewport={"width": 1400, "height": 900})
        finally:
            browser.close()


@pytest.fixture
def scene() -> Scene:
    return ball_on_ground()


def test_a_smart_click_suggests_the_object_and_the_accepted_mask_is_stored(
    browser_context: Any,
    label_studio: Any,
    ml_backend_server: Any,
    project_factory: Callable[..., Any],
    scene: Scene,
    tmp_path: Path,
    artifacts_dir: Path,
) -> None:
    project = project_factory(load_label_config("demo"), title="smart click")
    client = connect(label_studio.url, label_studio.api_key)
    photo = tmp_path / "ball.png"
    Image.fromarray(scene.rgb).save(photo)
    task_id = ensure_tasks(client, project.id, {"ball": photo})["ball"]
    ensure_ml_backend(client, project.id, ml_backend_server.url, title="SAM")
    height_px, width_px = scene.mask.shape
    size_px = (width_px, height_px)

    editor = Editor(browser_context, label_studio.url)
    try:
        editor.log_in(label_studio.admin_email, label_studio.admin_password)
        editor.open_task(project.id, task_id)
        editor.turn_auto_annotation_on()
        editor.choose_smart_point("Coin", control_position=KEYPOINT_POSITION)
        inside_px = (scene.point_px[0] - 40, scene.point_px[1] - 40)
        before_inside = editor.colour_at(inside_px, size_px)
        before_outside = editor.colour_at(scene.off_object_px, size_px)

        answer = editor.click_image(scene.point_px, size_px)
        assert answer.ok, answer.text()
        editor.wait_for_suggestion()
        editor.wait_for(
            lambda: bool(np.abs(editor.colour_at(inside_px, size_px) - before_inside).max() > 20),
            "the suggested mask on the object",
        )
        editor.page.screenshot(path=artifacts_dir / "smart-click-suggestion.png")
        after_outside = editor.colour_at(scene.off_object_px, size_px)
        assert np.abs(after_outside - before_outside).max() < 20, "the mask covers the ground too"

        editor.accept_suggestion()
        editor.submit()
        editor.page.screenshot(path=artifacts_dir / "smart-click-submitted.png")
    except BaseException:
        editor.page.screenshot(path=artifacts_dir / "smart-click-failed.png")
        (artifacts_dir / "smart-click-ml-backend.log").write_bytes(
            ml_backend_server.log_path.read_bytes()
        )
        raise

    task = parse_task(client.get_json(f"/api/tasks/{task_id}/"))
    (annotation,) = task.annotations
    masks = [region for region in annotation.regions if region.kind != "keypoint"]
    assert [region.labels for region in masks] == [("Coin",)]
    drawn = region_mask(masks[0]).to_dense()
    iou = np.count_nonzero(drawn & scene.mask) / np.count_nonzero(drawn | scene.mask)
    with (artifacts_dir / "smart-click.txt").open("w", encoding="utf-8") as file:
        file.write(f"model {ml_backend_server.model}: IoU of the accepted mask {iou:.4f}\n")
    assert iou >= 0.8
