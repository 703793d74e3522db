"""Label Studio's labelling page as an annotator uses it. Waits for conditions, never for time."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from playwright.sync_api import BrowserContext, Locator, Page, Response, expect

LAUNCH_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
TIMEOUT_MS = 60_000


class Editor:
    """One annotator's browser page on one server."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self._url = url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        expect.set_options(timeout=TIMEOUT_MS)

    def log_in(self, email: str, password: str) -> None:
        self.page.goto(f"{self._url}/user/login/")
        self.page.fill("input[name=email]", email)
        self.page.fill("input[name=password]", password)
        self.page.locator("button[type=submit]").click()
        self.page.wait_for_url(lambda url: "/user/login" not in url)

    def open_task(self, project_id: int, task_id: int) -> None:
        self.page.goto(f"{self._url}/projects/{project_id}/data?task={task_id}")
        self.page.get_by_test_id("bottombar-submit-button").wait_for()
        self._wait_until_decoded()

    def _wait_until_decoded(self) -> None:
        self._canvas().wait_for()
        # The photo, which the page keeps as a blob behind the canvas, has been decoded.
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('img[src^=\"blob:\"]')]"
            ".some(image => image.complete && image.naturalWidth > 0)"
        )
        self._wait_until_still(self._canvas())

    def turn_auto_annotation_on(self) -> None:
        toggle = self.page.get_by_test_id("bottombar-auto-annotation-toggle")
        toggle.wait_for(state="attached")
        if not toggle.is_checked():
            self.page.get_by_text("Auto-Annotation", exact=True).click()
        expect(toggle).to_be_checked()

    def choose_smart_point(self, label: str, *, control_position: int) -> None:
        """Takes the smart key point tool with a label of the control at this position."""
        self._choose_smart_tool("key-point-tool", label, control_position)

    def choose_smart_box(self, label: str, *, control_position: int) -> None:
        """Takes the smart rectangle tool with a label of the control at this position."""
        self._choose_smart_tool("rectangle-tool", label, control_position)

    def _choose_smart_tool(self, name: str, label: str, control_position: int) -> None:
        group = self.page.locator(".lsf-toolbar > .lsf-toolbar__group > .lsf-tool_smart")
        group.wait_for()
        group.hover()
        self.page.locator(f'.lsf-toolbar__smart button[aria-label="{name}"]').click()
        self.choose_label(label, control_position=control_position)

    def choose_label(self, label: str, *, control_position: int) -> None:
        """Takes a label of the control at this position; each prompt needs it chosen anew."""
        labels = self.page.locator(".lsf-labels").nth(control_position)
        labels.locator(".lsf-label", has_text=label).click()
        self._wait_until_still(self._canvas())

    def click_image(
        self, point_px: tuple[int, int], size_px: tuple[int, int], *, negative: bool = False
    ) -> Response:
        """Clicks on a pixel of the photo and gives the server's answer; negative is Alt-click."""
        x, y = self._page_position(point_px, size_px)
        with self._prompt_answered() as answered:
            if negative:
                self.page.keyboard.down("Alt")
            self.page.mouse.click(x, y)
            if negative:
                self.page.keyboard.up("Alt")
        return answered.value

    def drag_box(
        self, from_px: tuple[int, int], to_px: tuple[int, int], size_px: tuple[int, int]
    ) -> Response:
        """Draws a box from corner to corner and gives the server's answer."""
        from_x, from_y = self._page_position(from_px, size_px)
        to_x, to_y = self._page_position(to_px, size_px)
        with self._prompt_answered() as answered:
            self.page.mouse.move(from_x, from_y)
            self.page.mouse.down()
            self.page.mouse.move((from_x + to_x) / 2, (from_y + to_y) / 2, steps=4)
            self.page.mouse.move(to_x, to_y, steps=4)
            self.page.mouse.up()
        return answered.value

    def _prompt_answered(self) -> AbstractContextManager[Any]:
        return self.page.expect_response(
            lambda response: response.url.endswith("/interactive-annotating"), timeout=TIMEOUT_MS
        )

    def wait_for_suggestion(self) -> None:
        self.page.get_by_test_id("bottombar-accept-suggestions-button").wait_for()

    def accept_suggestion(self) -> None:
        accept = self.page.get_by_test_id("bottombar-accept-suggestions-button")
        accept.click()
        expect(accept).to_have_count(0)

    def region_count(self) -> int:
        """How many regions, prompts included, the page lists."""
        return self.page.locator(".lsf-tree__node").count()

    def submit(self) -> None:
        with self.page.expect_response(
            lambda response: (
                response.request.method == "POST"
                and "/annotations" in response.url
                and "/drafts" not in response.url
            )
        ) as stored:
            self.page.get_by_test_id("bottombar-submit-button").click()
        assert stored.value.status == 201, stored.value.text()

    def show_submitted(self, project_id: int, task_id: int) -> None:
        """Opens the task again and waits until the page shows what is stored for it.

        Where the page had kept a draft while it was submitted, it shows the draft beside it.
        """
        self.page.goto(f"{self._url}/projects/{project_id}/data?task={task_id}")
        self.page.get_by_test_id(re.compile("^bottombar-(update|submit)-button$")).wait_for()
        self._wait_until_decoded()

    def colour_at(self, point_px: tuple[int, int], size_px: tuple[int, int]) -> Any:
        """The mean RGB that the screen shows in a few pixels around a pixel of the photo."""
        import io

        from PIL import Image

        x, y = self._page_position(point_px, size_px)
        clip = {"x": x - 3, "y": y - 3, "width": 6, "height": 6}
        shown = Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")
        return np.asarray(shown, dtype=float).mean(axis=(0, 1))

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Polls a condition on what the page shows until it holds."""
        for _ in range(TIMEOUT_MS // 250):
            if condition():
                return
            self.page.wait_for_timeout(250)
        raise AssertionError(f"The page did not show {what} within {TIMEOUT_MS / 1000:.0f} s.")

    def _page_position(
        self, point_px: tuple[int, int], size_px: tuple[int, int]
    ) -> tuple[float, float]:
        # The photo itself, not the canvas: the editor may have zoomed it past the canvas.
        box = self._photo().evaluate("image => image.getBoundingClientRect().toJSON()")
        width_px, height_px = size_px
        x = box["x"] + (point_px[0] + 0.5) * box["width"] / width_px
        y = box["y"] + (point_px[1] + 0.5) * box["height"] / height_px
        return x, y

    def _photo(self) -> Locator:
        return self.page.locator('img[src^="blob:"]').first

    def _canvas(self) -> Locator:
        return self.page.locator(".konvajs-content canvas").first

    def _wait_until_still(self, element: Locator) -> None:
        """The page moves things while it loads; a click must not hit where the photo was."""
        boxes: list[Any] = []

        def is_still() -> bool:
            boxes.append((element.bounding_box(), self._page_position((0, 0), (1, 1))))
            return boxes[-1][0] is not None and boxes[-3:] == [boxes[-1]] * 3

        self.wait_for(is_still, "the photo at rest")
