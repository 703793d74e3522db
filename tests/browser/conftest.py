"""One browser, logged in once for each file of tests, and projects as annotators meet them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.project import ensure_ml_backend
from segstudio.client import Client, connect
from segstudio.regions import Region
from segstudio.tasks import parse_task
from tests.browser.editor import LAUNCH_ARGUMENTS, Editor

CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="point" toName="image" smart="true">
  <Label value="Ball" background="#2A9D8F"/></KeyPointLabels>
<RectangleLabels name="box" toName="image" smart="true">
  <Label value="Ball" background="#2A9D8F"/></RectangleLabels>
<{tag} name="answer" toName="image"><Label value="Ball" background="#2A9D8F"/></{tag}></View>"""
POINT, BOX = 0, 1
"""The controls' places on the page."""


@pytest.fixture(scope="module")
def editor(chromium_path: str, label_studio: Any) -> Iterator[Editor]:
    """The administrator's browser page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path, args=list(LAUNCH_ARGUMENTS), headless=True
        )
        try:
            page = Editor(
                browser.new_context(viewport={"width": 1400, "height": 900}), label_studio.url
            )
            page.log_in(label_studio.admin_email, label_studio.admin_password)
            yield page
        finally:
            browser.close()


@dataclass
class Work:
    """One task of a project with the ML backend, open in the editor."""

    client: Client
    project_id: int
    task_id: int
    size_px: tuple[int, int]
    task: dict[str, Any] = field(default_factory=dict)

    def stored(self) -> list[Region]:
        """The regions of the task's one annotation as the server has it, prompts left out."""
        self.task = self.client.get_json(f"/api/tasks/{self.task_id}/")
        (annotation,) = parse_task(self.task).annotations
        assert not annotation.problems
        return [region for region in annotation.regions if region.kind != "keypoint"]


@pytest.fixture
def open_work(
    editor: Editor, label_studio: Any, project_factory: Callable[..., Any]
) -> Callable[..., Work]:
    """Opens a photo in a new project of an interface whose backend is at a URL."""

    def open_(
        label_config: str,
        photo: bytes | str,
        size_px: tuple[int, int],
        *,
        backend_url: str,
        name: str = "photo.png",
        prepare: Callable[[Client, int], None] | None = None,
    ) -> Work:
        client = connect(label_studio.url, label_studio.api_key)
        project = project_factory(label_config, title="browser test")
        if prepare is not None:
            prepare(client, project.id)
        if isinstance(photo, bytes):
            answer = client.http.post(
                f"{client.url}/api/projects/{project.id}/import",
                files={name: (name, photo, f"image/{name.rpartition('.')[2]}")},
            )
            assert answer.is_success, answer.text
        else:
            client.request(
                "POST", f"/api/projects/{project.id}/import", json=[{"data": {"image": photo}}]
            )
        ensure_ml_backend(client, project.id, backend_url, title="SAM")
        page = client.get_json("/api/tasks/", project=project.id)
        work = Work(client, project.id, int(page["tasks"][0]["id"]), size_px)
        editor.open_task(project.id, work.task_id)
        return work

    return open_


@pytest.fixture
def picture(
    request: pytest.FixtureRequest, editor: Editor, artifacts_dir: Path
) -> Iterator[Callable[[str], None]]:
    """Keeps a screenshot of the page, `picture("suggestion")`; one more where the test fails."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")

    def keep(what: str) -> None:
        editor.page.screenshot(path=artifacts_dir / f"{name}.{what}.png")

    failed_before = request.session.testsfailed
    yield keep
    if request.session.testsfailed > failed_before:
        with contextlib.suppress(Exception):  # the page may be gone: the failure says more
            keep("failed")


def overlap(drawn: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks."""
    return float(np.count_nonzero(drawn & wanted) / np.count_nonzero(drawn | wanted))
