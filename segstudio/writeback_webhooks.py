"""The webhooks of a project: made and removed by a header that marks them as ours.

Used through `segstudio.writeback`, the room that writes to Label Studio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segstudio.client import Client
from segstudio.errors import ServerError


def ensure_webhook(
    client: Client,
    project_id: int,
    url: str,
    headers: Mapping[str, str],
    actions: Sequence[str],
) -> int:
    """Make the project call the URL on these actions, with the headers; return the webhook's id.

    A webhook of the same URL is changed, not doubled.

    Raises:
        ServerError: the server refuses, as it does by default for addresses on its own machine.
    """
    what = f"project {project_id}'s webhooks"
    body: dict[str, Any] = {
        "project": project_id,
        "url": url,
        "headers": dict(headers),
        "actions": list(actions),
        "send_payload": True,
        "send_for_all_actions": False,
        "is_active": True,
    }
    same = [one for one in _webhooks(client, project_id) if one["url"] == url]
    try:
        if same:
            path = f"/api/webhooks/{same[0]['id']}/"
            client.request("PATCH", path, what=what, json=body)
            return int(same[0]["id"])
        made = client.json_of(client.request("POST", "/api/webhooks/", what=what, json=body))
    except ServerError as error:
        if error.status not in (400, 403):
            raise
        raise ServerError(
            f"{error} Where the address {url} is on Label Studio's own machine, it takes it only "
            "when it runs with LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false.",
            error.status,
        ) from error
    return int(made["id"])


def remove_webhooks(client: Client, project_id: int, header: str, url: str | None = None) -> int:
    """Remove the project's webhooks that send the header; return how many.

    Args:
        client: the server.
        project_id: the project.
        header: its name, in any case.
        url: only those that call it.
    """
    ours = [
        one
        for one in _webhooks(client, project_id)
        if header.lower() in {name.lower() for name in one.get("headers") or {}}
        and url in (None, one["url"])
    ]
    what = f"project {project_id}'s webhooks"
    for one in ours:
        client.request("DELETE", f"/api/webhooks/{one['id']}/", what=what)
    return len(ours)


def _webhooks(client: Client, project_id: int) -> list[dict[str, Any]]:
    listed = client.get_json(
        "/api/webhooks/", what=f"project {project_id}'s webhooks", project=project_id
    )
    # The organization's own webhooks may be listed too; they are not the project's.
    return [one for one in listed if one.get("project") == project_id]
