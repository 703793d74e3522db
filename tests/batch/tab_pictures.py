"""Pictures of a project's tabs as an annotator sees them in the Data Manager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from segstudio.client import Client
from tests.browser.editor import LAUNCH_ARGUMENTS, Editor


def take_tabs(
    chromium_path: str,
    admin: Client,
    account: Any,
    project_id: int,
    words: str,
    folder: Path,
) -> list[str]:
    """Take a picture of every tab whose title has these words; return the titles.

    Args:
        chromium_path: the browser.
        admin: lists the tabs.
        account: who looks at them.
        project_id: the project.
        words: what the titles have.
        folder: where `tab-TITLE.png` goes.
    """
    tabs = {
        str(tab["data"].get("title")): int(tab["id"])
        for tab in admin.get_json("/api/dm/views", what="the tabs", project=project_id)
    }
    wanted = {title: number for title, number in sorted(tabs.items()) if words in title}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path, args=list(LAUNCH_ARGUMENTS), headless=True
        )
        try:
            context = browser.new_context(viewport={"width": 1600, "height": 700})
            editor = Editor(context, admin.url)
            editor.log_in(account.email, account.password)
            for title, number in wanted.items():
                editor.page.goto(f"{admin.url}/projects/{project_id}/data?tab={number}")
                editor.page.get_by_text(title).first.wait_for()
                editor.page.wait_for_load_state("networkidle")
                name = "".join(one if one.isalnum() else "-" for one in title.lower())
                editor.page.screenshot(path=folder / f"tab-{name}.png")
        finally:
            browser.close()
    return list(wanted)
