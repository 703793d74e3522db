"""What Label Studio's webhooks say that the server can use; the rest is taken and ignored.

A webhook runs inside the annotator's own request and gives up after a second, so it is answered
before anything is done for it. Annotations are never read from it: only which task was finished
(the next ones can be encoded) and that a project's interface changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_backend.protocol import project_id

__all__ = ["WebhookEvent", "read_webhook"]


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One event: its action, and of which project and task; what is missing is empty."""

    action: str
    project_id: str = ""
    task_id: int | None = None
    label_config: str = ""


def read_webhook(body: bytes) -> WebhookEvent | None:
    """Read a webhook's body; None for anything that is none.

    >>> read_webhook(b'{"action": "PROJECT_DELETED", "project": {"id": 3}}')
    WebhookEvent(action='PROJECT_DELETED', project_id='3', task_id=None, label_config='')
    """
    try:
        raw = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("action"), str):
        return None
    project = _object(raw.get("project"))
    task = _object(raw.get("task"))
    label_config = project.get("label_config")
    task_id = task.get("id")
    return WebhookEvent(
        action=raw["action"][:64],
        project_id=project_id(project.get("id")),
        task_id=task_id if isinstance(task_id, int) else None,
        label_config=label_config if isinstance(label_config, str) else "",
    )


def _object(raw: Any) -> Mapping[str, Any]:
    return raw if isinstance(raw, dict) else {}
