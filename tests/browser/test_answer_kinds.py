"""Each kind of answer and each kind of photo: prompted, accepted, submitted and read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segstudio.client import Client
from segstudio.shapes import region_mask
from tests.browser.conftest import CONFIG, POINT, overlap
from tests.browser.editor import Editor
from tests.browser.scene import Scene, ball_on_ground, encode


@pytest.fixture(scope="module")
def scene() -> Scene:
    return ball_on_ground()


def click_accept_submit(editor: Editor, scene: Scene, picture: Callable[[str], None]) -> None:
    editor.turn_auto_annotation_on()
    editor.choose_smart_point("Ball", control_position=POINT)
    answer = editor.click_image(scene.point_px, scene.size_px)
    assert answer.ok, answer.text()
    editor.wait_for_suggestion()
    picture("suggestion")
    editor.accept_suggestion()
    editor.submit()


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon", "rectangle"])
def test_an_answer_of_each_kind_is_accepted_submitted_and_read_back(
    kind: str,
    scene: Scene,
    editor: Editor,
    open_work: Callable[..., Any],
    ml_backend_server: Any,
    picture: Callable[[str], None],
) -> None:
    work = open_work(
        CONFIG.format(tag=f"{kind.capitalize()}Labels"), encode(scene), scene.size_px,
        backend_url=ml_backend_server.url,
    )  # fmt: skip
    click_accept_submit(editor, scene, picture)
    editor.show_submitted(work.project_id, work.task_id)
    picture("submitted")
    (region,) = work.stored()
    # Of the two rectangle controls the first, which takes prompts as well, is as good an answer.
    assert region.from_name in ({"answer", "box"} if kind == "rectangle" else {"answer"})
    assert (region.kind, region.labels) == (kind, ("Ball",))
    wanted = scene.mask
    if kind == "rectangle":
        wanted = np.outer(scene.mask.any(axis=1), scene.mask.any(axis=0))
    assert overlap(region_mask(region).to_dense(), wanted) >= 0.8


def test_a_photo_that_exif_turns_is_clicked_where_the_eye_sees_the_object(
    scene: Scene,
    editor: Editor,
    open_work: Callable[..., Any],
    ml_backend_server: Any,
    picture: Callable[[str], None],
) -> None:
    work = open_work(
        CONFIG.format(tag="BrushLabels"), encode(scene, orientation=6), scene.size_px,
        backend_url=ml_backend_server.url, name="turned.jpeg",
    )  # fmt: skip
    click_accept_submit(editor, scene, picture)
    (region,) = work.stored()
    assert (region.original_width_px, region.original_height_px) == scene.size_px
    assert overlap(region_mask(region).to_dense(), scene.mask) >= 0.8


def test_a_photo_in_the_local_files_of_the_server_is_opened_and_clicked(
    scene: Scene,
    editor: Editor,
    open_work: Callable[..., Any],
    label_studio: Any,
    ml_backend_server: Any,
    picture: Callable[[str], None],
) -> None:
    folder: Path = label_studio.server.data_dir / "local-files" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ball on ground.png").write_bytes(encode(scene))

    def add_storage(client: Client, project_id: int) -> None:
        fields = {
            "project": project_id,
            "path": str(folder),
            "title": "local",
            "use_blob_urls": True,
        }
        client.request("POST", "/api/storages/localfiles", json=fields)

    work = open_work(
        CONFIG.format(tag="BrushLabels"), "/data/local-files/?d=browser/ball%20on%20ground.png",
        scene.size_px, backend_url=ml_backend_server.url, prepare=add_storage,
    )  # fmt: skip
    click_accept_submit(editor, scene, picture)
    (region,) = work.stored()
    assert overlap(region_mask(region).to_dense(), scene.mask) >= 0.8
