"""The backend stops in the middle of the work and comes back: nothing is lost, clicks go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.ml_backend_server import MlBackendServer
from segstudio.client import connect
from segstudio.shapes import region_mask
from tests.browser.conftest import CONFIG, POINT, overlap
from tests.browser.editor import Editor
from tests.browser.scene import encode, two_balls


def test_a_stopped_backend_loses_nothing_and_a_restarted_one_answers_the_next_click(
    editor: Editor,
    open_work: Callable[..., Any],
    label_studio: Any,
    legacy_token: str,
    picture: Callable[[str], None],
    tmp_path: Path,
) -> None:
    """Before the outage the backend has a personal access token, after it a legacy token."""
    scene, other = two_balls(apart=True)

    def backend(api_key: str) -> MlBackendServer:
        return MlBackendServer(
            tmp_path, label_studio_url=label_studio.url, api_key=api_key, model="classical"
        )

    assert connect(label_studio.url, legacy_token).token_kind == "legacy"
    with backend(label_studio.api_key) as first:
        first.wait_until_up()
        url = first.url
        work = open_work(
            CONFIG.format(tag="BrushLabels"), encode(scene), scene.size_px, backend_url=url
        )
        editor.turn_auto_annotation_on()
        editor.choose_smart_point("Ball", control_position=POINT)
        assert editor.click_image(scene.point_px, scene.size_px).ok
        editor.wait_for_suggestion()
        editor.accept_suggestion()

    # The page itself says nothing of it (1.23.2); the reason is in the answer that it got.
    editor.choose_label("Ball", control_position=POINT)
    answer = editor.click_image(other.point_px, scene.size_px)
    (reason,) = answer.json()["errors"]
    assert "Connection refused" in reason
    editor.wait_for(lambda: editor.region_count() == 2, "the mask and the point without an answer")
    picture("stopped")
    assert editor.page.get_by_test_id("bottombar-submit-button").is_enabled()

    with backend(legacy_token) as second:
        second.wait_until_up()
        assert second.url == url, "the address must be the one that Label Studio knows"
        editor.choose_label("Ball", control_position=POINT)
        x, y = other.point_px
        answer = editor.click_image((x - 50, y + 20), scene.size_px)
        assert answer.ok and answer.json()["data"]["result"], answer.text()
        editor.wait_for_suggestion()
        picture("restarted")
        editor.accept_suggestion()
        editor.submit()
    before, after = work.stored()
    assert overlap(region_mask(before).to_dense(), scene.mask) >= 0.8
    assert overlap(region_mask(after).to_dense(), other.mask) >= 0.8
