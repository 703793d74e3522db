"""The demo's project on the server, made once: every function finds what an earlier run made."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from demo.annotators import Objects
from segstudio.client import Client, describe_connection_error
from segstudio.errors import ServerError
from segstudio.masks import Mask
from segstudio.region_values import mask_to_value

PROJECT_TITLE = "segstudio demo"
_MARKER_START = "[made by segstudio demo"
_MARKER = f"{_MARKER_START}]"
_DESCRIPTION = (
    "Free photos of scikit-image. What annotators 1, 2 and 3 drew on {photos} is simulated: "
    "objects found by classical methods, changed in known ways; every such region says so in its "
    "note. The other photos wait for you. "
) + _MARKER
ANNOTATORS_PER_TASK = 3
BRUSH_CONTROL = "brush"
IMAGE_TAG = "image"
SIMULATED_NOTE = "simulated"


@dataclass(frozen=True, slots=True)
class SimulatedAnnotation:
    """What one simulated annotator drew on one photo, and in words how it came about."""

    photo: str
    annotator_id: int
    objects: Objects
    words: str


def ensure_project(client: Client, label_config: str, simulated_photos: Iterable[str]) -> int:
    """Gives the id of the demo's project, making it when there is none.

    Raises:
        ServerError: The server refused.
    """
    description = _DESCRIPTION.format(photos=", ".join(simulated_photos))
    return ensure_titled_project(
        client,
        label_config,
        title=PROJECT_TITLE,
        description=description,
        maximum_annotations=ANNOTATORS_PER_TASK,
    )


def ensure_titled_project(
    client: Client, label_config: str, *, title: str, description: str, maximum_annotations: int
) -> int:
    """Gives the id of a project of this title that a demo made, making it when there is none.

    Raises:
        ServerError: The server refused.
    """
    page = client.get_json("/api/projects/", what="the projects", page_size=1000)
    for project in page["results"]:
        if project["title"] == title and _MARKER_START in (project["description"] or ""):
            project_id = int(project["id"])
            if project["label_config"].strip() != label_config.strip():
                _request(client, "PATCH", f"/api/projects/{project_id}/", label_config=label_config)
            return project_id
    made = _request(
        client,
        "POST",
        "/api/projects/",
        title=title,
        description=description,
        label_config=label_config,
        maximum_annotations=maximum_annotations,
    )
    return int(made["id"])


def ensure_tasks(client: Client, project_id: int, photos: Mapping[str, Path]) -> dict[str, int]:
    """Gives each photo's task, uploading the photos that have none.

    Raises:
        ServerError: The server refused.
    """
    tasks: dict[str, int] = {}
    listed = client.get_json(
        "/api/tasks/", what="the tasks", project=project_id, page_size=1000, fields="task_only"
    )
    for task in listed["tasks"]:
        if task["data"].get("photo") in photos:
            tasks.setdefault(task["data"]["photo"], int(task["id"]))
    missing = {name: path for name, path in photos.items() if name not in tasks}
    for name, path in missing.items():
        address = upload_image(client, project_id, path)
        made = client.json_of(
            client.request(
                "POST",
                f"/api/projects/{project_id}/import",
                what=f"the import of {name}",
                params={"return_task_ids": "true"},
                json=[{"data": {"image": address, "photo": name}}],
            )
        )
        tasks[name] = int(made["task_ids"][0])
    return {name: tasks[name] for name in photos}


def ensure_ml_backend(client: Client, project_id: int, url: str, *, title: str) -> int:
    """Connects the ML backend as interactive, or moves the connection to its new address.

    Raises:
        ServerError: The server refused, or could not reach the backend.
    """
    connected = client.get_json("/api/ml/", what="the ML backends", project=project_id)
    fields = {"project": project_id, "url": url, "title": title, "is_interactive": True}
    for backend in connected:
        # An address is checked only when it is new: what is connected already stays connected.
        if backend["url"] == url and backend["is_interactive"] and backend["state"] == "CO":
            return int(backend["id"])
    if connected:
        path = f"/api/ml/{connected[0]['id']}/"
        answer = _request(client, "PATCH", path, **fields)
    else:
        answer = _request(client, "POST", "/api/ml/", **fields)
    if answer.get("state") not in {"CO", None}:
        raise ServerError(
            f"Label Studio could not reach the ML backend at {url}: "
            f"{answer.get('error_message') or answer.get('readable_state')}."
        )
    return int(answer["id"])


def ensure_annotations(
    client: Client, tasks: Mapping[str, int], wanted: Sequence[SimulatedAnnotation]
) -> int:
    """Stores the simulated annotations that are not there yet; gives how many were stored.

    A photo that an annotator's account has worked on already is left as it is.

    Raises:
        ServerError: The server refused.
    """
    stored = 0
    for photo in dict.fromkeys(each.photo for each in wanted):
        task_id = tasks[photo]
        present = client.get_json(f"/api/tasks/{task_id}/annotations/", what=f"task {task_id}")
        workers = {_user_id(annotation["completed_by"]) for annotation in present}
        for each in wanted:
            if each.photo == photo and each.annotator_id not in workers:
                _request(
                    client,
                    "POST",
                    f"/api/tasks/{task_id}/annotations/",
                    result=regions(each),
                    completed_by=each.annotator_id,
                    ground_truth=False,
                )
                stored += 1
    return stored


def regions(annotation: SimulatedAnnotation) -> list[dict[str, Any]]:
    """One brush region an object, as Label Studio stores them, each with its note."""
    found = []
    # Label Studio has no empty regions: an object that was shifted off the photo is not drawn.
    visible = (drawn for drawn in annotation.objects if drawn.mask.any())
    for number, drawn in enumerate(visible, start=1):
        height_px, width_px = drawn.mask.shape
        value = mask_to_value(Mask.from_dense(drawn.mask), "brush", [drawn.label])
        found.append(
            {
                "id": f"{annotation.photo}-{annotation.annotator_id}-{number}",
                "type": "brushlabels",
                "from_name": BRUSH_CONTROL,
                "to_name": IMAGE_TAG,
                "original_width": width_px,
                "original_height": height_px,
                "image_rotation": 0,
                "origin": "manual",
                "value": value,
                "meta": {"text": [f"{SIMULATED_NOTE}: {annotation.words}"]},
            }
        )
    return found


def user_ids(client: Client, emails: Iterable[str]) -> dict[str, int]:
    """Gives the id of each account."""
    by_email = {
        user["email"]: int(user["id"]) for user in client.get_json("/api/users/", what="the users")
    }
    return {email: by_email[email] for email in emails}


def _user_id(completed_by: Any) -> int:
    return int(completed_by["id"] if isinstance(completed_by, dict) else completed_by)


def upload_image(client: Client, project_id: int, path: Path) -> str:
    """Stores an image on the server; gives its address as tasks refer to it.

    Raises:
        ServerError: The server refused.
    """
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    try:
        answer = client.http.post(
            f"{client.url}/api/projects/{project_id}/import",
            params={"commit_to_project": "false"},
            files={path.name: (path.name, path.read_bytes(), kind)},
        )
    except httpx.HTTPError as error:
        raise describe_connection_error(client.url, f"the upload of {path.name}", error) from error
    if answer.is_error:
        raise ServerError(
            f"Label Studio at {client.url} did not take the image {path} (HTTP "
            f"{answer.status_code}: {' '.join(answer.text.split())[:200]}).",
            answer.status_code,
        )
    upload_id = client.json_of(answer)["file_upload_ids"][0]
    stored = client.get_json(f"/api/import/file-upload/{upload_id}", what=f"upload {upload_id}")
    return f"/data/{stored['file']}"


def _request(client: Client, method: str, path: str, **fields: Any) -> dict[str, Any]:
    answer = client.json_of(client.request(method, path, json=fields))
    if not isinstance(answer, dict):
        raise ServerError(f"{client.url}{path} answered with a list where an object is expected.")
    return answer
