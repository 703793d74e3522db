"""An annotator's first minutes in a real browser: prompt, see the mask, accept, submit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from label_configs import load_label_config
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task
from tests.browser.conftest import BOX, CONFIG, POINT, overlap
from tests.browser.editor import Editor
from tests.browser.scene import ball_on_ground, encode, two_balls


def test_a_smart_click_suggests_the_object_and_the_accepted_mask_is_stored(
    editor: Editor,
    open_work: Callable[..., Any],
    ml_backend_server: Any,
    picture: Callable[[str], None],
    artifacts_dir: Path,
) -> None:
    scene = ball_on_ground()
    size_px = scene.size_px
    work = open_work(
        load_label_config("demo"), encode(scene), size_px, backend_url=ml_backend_server.url
    )
    editor.turn_auto_annotation_on()
    editor.choose_smart_point("Coin", control_position=POINT)
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
    picture("suggestion")
    after_outside = editor.colour_at(scene.off_object_px, size_px)
    assert np.abs(after_outside - before_outside).max() < 20, "the mask covers the ground too"

    editor.accept_suggestion()
    editor.submit()
    editor.show_submitted(work.project_id, work.task_id)
    picture("submitted")
    (region,) = work.stored()
    assert region.labels == ("Coin",)
    iou = overlap(region_mask(region).to_dense(), scene.mask)
    with (artifacts_dir / "smart-click.txt").open("w", encoding="utf-8") as file:
        file.write(f"model {ml_backend_server.model}: IoU of the accepted mask {iou:.4f}\n")
    assert iou >= 0.8


def test_an_alt_click_takes_a_part_out_of_the_mask(
    editor: Editor,
    open_work: Callable[..., Any],
    ml_backend_server: Any,
    picture: Callable[[str], None],
) -> None:
    large, small = two_balls(apart=False)
    work = open_work(
        CONFIG.format(tag="BrushLabels"), encode(large), large.size_px,
        backend_url=ml_backend_server.url,
    )  # fmt: skip
    editor.turn_auto_annotation_on()
    editor.choose_smart_point("Ball", control_position=POINT)
    first = editor.click_image(large.point_px, large.size_px).json()["data"]["result"]
    editor.wait_for_suggestion()
    picture("both")
    editor.choose_label("Ball", control_position=POINT)
    answer = editor.click_image(small.point_px, large.size_px, negative=True)
    prompts = answer.request.post_data_json["context"]["result"]
    assert [prompt["is_positive"] for prompt in prompts] == [True, False]
    editor.wait_for_suggestion()
    x, y = small.point_px
    editor.wait_for(
        lambda: not is_tinted(editor.colour_at((x, y + 20), large.size_px)),
        "the ball that was taken out without the mask",
    )
    picture("one")
    editor.accept_suggestion()
    editor.submit()

    ((_, before),) = masks_of(first)
    (region,) = work.stored()
    after = region_mask(region).to_dense()
    assert before[y, x] and not after[y, x]
    assert np.count_nonzero(after) < 0.9 * np.count_nonzero(before)
    assert overlap(after, large.mask) > overlap(before, large.mask)


def test_a_smart_box_is_answered_with_the_object_in_it(
    editor: Editor,
    open_work: Callable[..., Any],
    ml_backend_server: Any,
    picture: Callable[[str], None],
) -> None:
    scene = ball_on_ground()
    work = open_work(
        CONFIG.format(tag="BrushLabels"), encode(scene), scene.size_px,
        backend_url=ml_backend_server.url,
    )  # fmt: skip
    rows, columns = np.nonzero(scene.mask)
    editor.turn_auto_annotation_on()
    editor.choose_smart_box("Ball", control_position=BOX)
    answer = editor.drag_box(
        (int(columns.min()) - 5, int(rows.min()) - 5),
        (int(columns.max()) + 5, int(rows.max()) + 5),
        scene.size_px,
    )
    assert answer.ok, answer.text()
    editor.wait_for_suggestion()
    picture("suggestion")
    editor.accept_suggestion()
    editor.submit()
    regions = {region.kind: region for region in work.stored()}
    assert overlap(region_mask(regions["brush"]).to_dense(), scene.mask) >= 0.8


def is_tinted(colour: Any) -> bool:
    """Whether the label's green lies over the balls' orange."""
    return bool(colour[1] > 140)


def masks_of(result: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """The kind and the mask of each region that a backend answered with."""
    raw = {"id": 1, "data": {}, "predictions": [{"id": 1, "result": result, "model_version": "m"}]}
    (prediction,) = parse_task(raw).predictions
    return [(region.kind, region_mask(region).to_dense()) for region in prediction.regions]
