"""The writes to a project rather than its tasks: saved tabs and instructions.

Used through `segstudio.writeback`, the room that writes to Label Studio.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from segstudio.client import Client
from segstudio.errors import ServerError, UsageError


def number_filter(column: str, operator: str, value: float) -> dict[str, Any]:
    """Return a Data Manager filter on a number, e.g. ("data.qa_miou", "less", 0.8)."""
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": "Number",
        "value": value,
    }


def ensure_tab(
    client: Client,
    project_id: int,
    title: str,
    filters: Sequence[Mapping[str, Any]] = (),
    ordering: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    *,
    conjunction: str = "and",
) -> int:
    """Make the Data Manager tab of this title if it is not there; return its id.

    A tab that filters by all of these columns is there, and stays as people have made it:
    columns shown and their widths, order, further filters, other values. A tab of this title that
    lacks one of the filters gets it, and order and columns where it has none.

    Args:
        client: the server.
        project_id: the project.
        title: the tab is found by it; of several, the first that has the filters, else the oldest.
        filters: items such as `number_filter` makes.
        ordering: columns, "-" in front for descending, e.g. "tasks:data.qa_miou".
        columns: the columns to show, e.g. "tasks:data.qa_miou"; None shows the usual ones.
        conjunction: "and" or "or" between the filters.
    """
    what = f"project {project_id}'s tabs"
    views = client.get_json("/api/dm/views/", what=what, project=project_id)
    same = sorted(
        (one for one in views if (one.get("data") or {}).get("title") == title),
        key=lambda one: (bool(_lacking(one, filters)), int(one["id"])),
    )
    if same and not _lacking(same[0], filters):
        return int(same[0]["id"])
    wanted: dict[str, Any] = {
        "title": title,
        "type": "list",
        "target": "tasks",
        "filters": {"conjunction": conjunction, "items": [dict(one) for one in filters]},
        "ordering": list(ordering),
    }
    if columns is not None:
        hidden = _columns_without(client, project_id, set(columns))
        wanted["hiddenColumns"] = {"explore": hidden, "labeling": hidden}
    if same:
        view_id, data = int(same[0]["id"]), dict(same[0]["data"])
        added = {key: value for key, value in wanted.items() if not data.get(key)}
        added["filters"] = {
            **wanted["filters"],
            **(data.get("filters") or {}),
            "items": [*_items(same[0]), *_lacking(same[0], filters)],
        }
        body = {"project": project_id, "data": {**data, **added}}
        client.request("PATCH", f"/api/dm/views/{view_id}/", what=what, json=body)
        return view_id
    if not views:
        # The Data Manager makes its first tab itself only where there is none at all: without
        # this, everybody would see nothing but the new tab's tasks.
        _make_tab(client, project_id, what, {**wanted, **_DEFAULT_TAB})
    return _make_tab(client, project_id, what, wanted)


def remove_tab(
    client: Client,
    project_id: int,
    title: str,
    filters: Sequence[Mapping[str, Any]],
    *,
    dry_run: bool = False,
) -> int:
    """Remove the tabs that `ensure_tab` made of this title and filters; return how many.

    Further filters that somebody added to such a tab go with it. A tab of the same title that lacks
    one of the filters, or has it with another value, is somebody's own and stays. Read again
    afterwards: what is gone was seen to be gone.

    Raises:
        ServerError: the server refuses, or a tab is still there after its removal.
    """
    ours = _tabs_like(client, project_id, title, filters)
    if dry_run or not ours:
        return len(ours)
    what = f"project {project_id}'s tabs"
    for view_id in ours:
        path, query = f"/api/dm/views/{view_id}/", {"project": project_id}
        client.request("DELETE", path, what=what, params=query)
    if _tabs_like(client, project_id, title, filters):
        raise ServerError(
            f"The tab “{title}” of project {project_id} at {client.url} is still there after it "
            "was removed. Somebody else may have made it again; try once more."
        )
    return len(ours)


def _tabs_like(
    client: Client, project_id: int, title: str, filters: Sequence[Mapping[str, Any]]
) -> list[int]:
    views = client.get_json(
        "/api/dm/views/", what=f"project {project_id}'s tabs", project=project_id
    )
    return [
        int(view["id"])
        for view in views
        if (view.get("data") or {}).get("title") == title
        and all(
            # The Data Manager adds keys of its own to an item when somebody opens the tab.
            any(wanted.items() <= item.items() for item in _items(view))
            for wanted in filters
        )
    ]


def _items(view: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return ((view.get("data") or {}).get("filters") or {}).get("items") or []


def _lacking(view: Mapping[str, Any], filters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The filters by whose column the tab does not filter; another value is somebody's choice."""
    present = {item.get("filter") for item in _items(view)}
    return [dict(one) for one in filters if one["filter"] not in present]


_DEFAULT_TAB: Final[Mapping[str, Any]] = {
    "title": "Default",
    "filters": {"conjunction": "and", "items": []},
    "ordering": [],
    "hiddenColumns": {"explore": [], "labeling": []},
}


def write_instructions(
    client: Client, project_id: int, html: str, *, key: str = "rules", dry_run: bool = False
) -> bool:
    """Put a block into a project's labelling instructions; tell whether that changed anything.

    What the project's people wrote stays: the block is a `<section>` of its own, which a second
    call replaces in place. The server rewrites HTML (it drops comments and styles), so the
    block's class carries a digest of what was given.

    Args:
        client: the server.
        project_id: the project.
        html: the block, without `<section>` in it.
        key: names the block, letters and dashes.
        dry_run: compare only.
    """
    if not re.fullmatch(r"[a-z][a-z-]*", key):
        raise UsageError(f"The key of an instructions block is letters and dashes, not {key!r}.")
    if re.search(r"</?section\b", html, re.IGNORECASE):
        raise UsageError("An instructions block must not hold a <section> of its own.")
    project = client.project(project_id)
    before = project.get("expert_instruction") or ""
    digest = hashlib.sha256(html.encode()).hexdigest()[:16]
    opening = f'<section class="segstudio-{key} segstudio-{digest}">'
    if opening in before and project.get("show_instruction") is True:
        return False
    block = f"{opening}\n{html.strip()}\n</section>"
    ours = rf'<section class="segstudio-{key} segstudio-[0-9a-f]+">.*?</section>'
    after, replaced = re.subn(ours, lambda _: block, before, count=1, flags=re.DOTALL)
    if not replaced:
        after = f"{before.rstrip()}\n{block}".lstrip()
    if not dry_run:
        client.request(
            "PATCH",
            f"/api/projects/{project_id}/",
            what=f"project {project_id}'s instructions",
            json={"expert_instruction": after, "show_instruction": True},
        )
    return True


def _columns_without(client: Client, project_id: int, shown: set[str]) -> list[str]:
    answer = client.get_json(
        "/api/dm/columns/", what=f"project {project_id}'s columns", project=project_id
    )
    names = []
    for column in answer["columns"]:
        parent = f"{column['parent']}." if column.get("parent") else ""
        names.append(f"{column.get('target', 'tasks')}:{parent}{column['id']}")
    return [name for name in names if name not in shown and name != "tasks:data"]


def _make_tab(client: Client, project_id: int, what: str, data: Mapping[str, Any]) -> int:
    body = {"project": project_id, "data": dict(data)}
    made = client.json_of(client.request("POST", "/api/dm/views/", what=what, json=body))
    return int(made["id"])
