"""Light rows of a project's tasks: chosen fields, no annotations, all tasks in the order of ids.

Used through `segstudio.writeback`, and by who waits for tasks to change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from segstudio.client import Client

_PAGE_ROWS: Final = 100


def task_rows(
    client: Client,
    project_id: int,
    fields: Sequence[str],
    *,
    changed_after: datetime | None = None,
    predicted_by: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield each task's `id` and the fields named, as stored (URIs not resolved).

    Each page asks for the tasks after the last id seen, so that tasks that come, go or change
    meanwhile shift nothing.

    Args:
        client: the server.
        project_id: the project.
        fields: names of the tasks API, e.g. "meta".
        changed_after: only tasks whose `updated_at` is later; aware.
        predicted_by: only tasks with a stored prediction of this model version.
    """
    last_id = 0
    while True:
        items = [_item("id", "greater", "Number", last_id)]
        if changed_after is not None:
            when = changed_after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            items.append(_item("updated_at", "greater", "Datetime", when))
        if predicted_by is not None:
            items.append(_item("predictions_model_versions", "contains", "List", [predicted_by]))
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
        page = client.get_json(
            "/api/tasks/",
            what=f"project {project_id}",
            project=project_id,
            page_size=_PAGE_ROWS,
            resolve_uri="false",
            include=",".join(["id", *fields]),
            query=json.dumps(query),
        )
        rows = page["tasks"]
        yield from rows
        if len(rows) < _PAGE_ROWS:
            return
        last_id = max(int(row["id"]) for row in rows)


def _item(column: str, operator: str, kind: str, value: float | str | list[str]) -> dict[str, Any]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }
