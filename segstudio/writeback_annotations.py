"""Stored results (annotations, predictions, drafts) read as they are, replaced, made and removed.

Used through `segstudio.writeback`, the room that writes to Label Studio, by who has kept what was
there before: gold that is hidden from annotators, labels that are renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from segstudio.client import Client
from segstudio.errors import ServerError

_PAGE_TASKS: Final = 50
ResultKind = Literal["annotation", "prediction", "draft"]
_PATHS: Final[Mapping[str, str]] = {
    "annotation": "/api/annotations/{}/",
    "prediction": "/api/predictions/{}/",
    "draft": "/api/drafts/{}/",
}


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The result list of one annotation, prediction or draft, as the server keeps it."""

    kind: ResultKind
    id: int
    task_id: int
    result: list[Any]


def stored_results(client: Client, project_id: int) -> Iterator[StoredResult]:
    """Yield every annotation, prediction and draft of a project, whoever made it, by task id.

    Skipped annotations are there too. The drafts of a task are asked for one task at a time, and
    only of tasks that have some.
    """
    for row in stored_tasks(client, project_id):
        task_id = int(row["id"])
        for one in row.get("annotations") or []:
            yield StoredResult("annotation", int(one["id"]), task_id, list(one["result"] or []))
        for one in row.get("predictions") or []:
            yield StoredResult("prediction", int(one["id"]), task_id, list(one["result"] or []))
        if row.get("draft_exists"):
            what = f"the drafts of task {task_id}"
            for one in client.get_json(f"/api/tasks/{task_id}/drafts", what=what):
                yield StoredResult("draft", int(one["id"]), task_id, list(one["result"] or []))


def stored_tasks(client: Client, project_id: int) -> Iterator[dict[str, Any]]:
    """Yield the JSON of a project's tasks, all results in it, in the order of their ids.

    Each page asks for the tasks after the last id seen.
    """
    last_id = 0
    while True:
        after = {"operator": "greater", "type": "Number", "value": last_id}
        items = [{"filter": "filter:tasks:id", **after}]
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
        rows = client.get_json(
            "/api/tasks/",
            what=f"project {project_id}",
            project=project_id,
            page_size=_PAGE_TASKS,
            resolve_uri="false",
            fields="all",
            query=json.dumps(query),
        )["tasks"]
        yield from rows
        if len(rows) < _PAGE_TASKS:
            return
        last_id = max(int(row["id"]) for row in rows)


def read_result(client: Client, kind: ResultKind, number: int) -> list[Any] | None:
    """Return a result as it is now, or None where it is no longer there."""
    try:
        answer = client.get_json(_PATHS[kind].format(number), what=f"{kind} {number}")
    except ServerError as error:
        if error.status == 404:
            return None
        raise
    return list(answer["result"] or [])


def write_result(client: Client, kind: ResultKind, number: int, result: list[Any]) -> None:
    """Replace a result; author, flags and lead time stay, the server notes when and who wrote.

    Raises:
        ServerError: the server refuses, or what reads back is not what was written.
    """
    what = f"{kind} {number}"
    path = _PATHS[kind].format(number)
    answer = client.json_of(client.request("PATCH", path, what=what, json={"result": result}))
    if answer.get("result") != json.loads(json.dumps(result)):
        raise ServerError(f"The result of {what} was written and does not read back so; run again.")


def read_annotation(client: Client, annotation_id: int) -> dict[str, Any] | None:
    """Return an annotation's JSON as it is now; None where it was deleted."""
    path, what = f"/api/annotations/{annotation_id}/", f"annotation {annotation_id}"
    try:
        found: dict[str, Any] = client.get_json(path, what=what)
    except ServerError as error:
        if error.status == 404:
            return None
        raise
    return found


def remove_annotation(client: Client, annotation_id: int) -> bool:
    """Remove an annotation; False where there was none. Keep what it held first."""
    path, what = f"/api/annotations/{annotation_id}/", f"annotation {annotation_id}"
    try:
        client.request("DELETE", path, what=what)
    except ServerError as error:
        if error.status == 404:
            return False
        raise
    return True


def make_annotation(client: Client, task_id: int, annotation: Mapping[str, Any]) -> int:
    """Add an annotation (`result`, `completed_by`, `ground_truth` ...) to a task; return its id."""
    path, what = f"/api/tasks/{task_id}/annotations/", f"an annotation on task {task_id}"
    made = client.json_of(client.request("POST", path, what=what, json=dict(annotation)))
    return int(made["id"])


def import_tasks(client: Client, project_id: int, datas: list[dict[str, Any]]) -> list[int]:
    """Add tasks that hold nothing but their data; return their ids, in the order of `datas`."""
    if not datas:
        return []
    made = client.json_of(
        client.request(
            "POST",
            f"/api/projects/{project_id}/import",
            what=f"an import into project {project_id}",
            params={"return_task_ids": "true", "commit_to_project": "true"},
            json=[{"data": data} for data in datas],
        )
    )
    return [int(one) for one in made["task_ids"]]


def write_label_config(client: Client, project_id: int, xml: str) -> bool:
    """Give a project this labelling interface; False where it has it already.

    Raises:
        ServerError: the server refuses it, or keeps another than was written.
    """
    if client.project(project_id)["label_config"].strip() == xml.strip():
        return False
    path, what = f"/api/projects/{project_id}/", f"the labelling interface of project {project_id}"
    client.request("PATCH", path, what=what, json={"label_config": xml})
    if client.project(project_id)["label_config"].strip() != xml.strip():
        raise ServerError(f"{what[0].upper()}{what[1:]} was written and does not read back so.")
    return True
