"""How a project gets its predictions: its ML backend's parameters, model version and sampling.

Used through `segstudio.writeback`, the room that writes to Label Studio.

Label Studio has two meanings for a project's `model_version`: where it is the TITLE of an ML
backend, opening a task asks that backend for a prediction; where it is the version of stored
predictions, uncertainty sampling orders tasks by their scores. Only where the backend's title is
its model version do both work, so the title is set to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from segstudio.client import Client
from segstudio.errors import ServerError, UsageError

SAMPLING: Final[Mapping[str, str]] = {
    "uncertainty": "Uncertainty sampling",
    "sequential": "Sequential sampling",
    "uniform": "Uniform sampling",
}
"""What we call the orders of the labelling queue -> what Label Studio calls them."""


@dataclass(frozen=True, slots=True)
class PredictionSetup:
    """How a project gets its predictions, as read back from the server.

    `changes` are sentences on what was changed; in a dry run on what would be. `model_version` is
    None in a dry run whose parameters the backend has not seen yet.
    """

    backend_id: int
    backend_url: str
    model_version: str | None
    sampling: str
    extra_params: Mapping[str, Any]
    changes: tuple[str, ...]


def configure_predictions(
    client: Client,
    project_id: int,
    *,
    sampling: str | None = None,
    extra_params: Mapping[str, Any] | None = None,
    backend_id: int | None = None,
    dry_run: bool = False,
) -> PredictionSetup:
    """Set a project's ML backend parameters, model version and sampling; read them back.

    Args:
        client: the server, as a user who may change the project.
        project_id: the project.
        sampling: a key of `SAMPLING`; None leaves it.
        extra_params: the backend's new parameters, whole; None leaves them.
        backend_id: which backend, where the project has several.
        dry_run: read and compare only.

    Raises:
        UsageError: no such sampling or backend, or several backends and none named.
        ServerError: the backend refuses the parameters, is not connected, or what was written is
            not what is read back.
    """
    if sampling is not None and sampling not in SAMPLING:
        raise UsageError(f"Sampling is one of {', '.join(SAMPLING)}, not {sampling!r}.")
    project = client.project(project_id)
    backend = _backend(client, project_id, backend_id)
    changes: list[str] = []
    new_params = extra_params is not None and dict(extra_params) != _params(backend)
    if extra_params is not None and new_params:
        changes.append(f"extra parameters: {_params(backend)} -> {dict(extra_params)}")
        if not dry_run:
            backend = _write_backend(client, project_id, backend, {"extra_params": extra_params})
            _expect("extra parameters", dict(extra_params), _params(backend))
    if not (dry_run and new_params):
        _require_connected(backend)
    version = None if dry_run and new_params else str(backend["model_version"] or "")
    shown = version or "as the backend calls itself with these parameters"
    if version is None or backend.get("title") != version:
        changes.append(f"title of the ML backend: {backend.get('title')!r} -> {shown!r}")
        if version and not dry_run:
            backend = _write_backend(client, project_id, backend, {"title": version})
            _expect("title of the ML backend", version, backend.get("title"))
            project = client.project(project_id)  # a title takes the model version along
    wanted: dict[str, Any] = {"show_collab_predictions": True}
    if version is None or project.get("model_version") != version:
        changes.append(f"model version: {project.get('model_version')!r} -> {shown!r}")
    if version:
        wanted["model_version"] = version
    if sampling is not None:
        wanted["sampling"] = SAMPLING[sampling]
        if project.get("sampling") != SAMPLING[sampling]:
            changes.append(f"sampling: {project.get('sampling')!r} -> {SAMPLING[sampling]!r}")
    if not project.get("show_collab_predictions"):
        changes.append("predictions are shown to annotators")
    if not dry_run and any(project.get(key) != value for key, value in wanted.items()):
        client.request(
            "PATCH", f"/api/projects/{project_id}/", what=f"project {project_id}", json=wanted
        )
        project = client.project(project_id)
        for key, value in wanted.items():
            _expect(key, value, project.get(key))
    return PredictionSetup(
        backend_id=int(backend["id"]),
        backend_url=str(backend["url"]),
        model_version=version,
        sampling=str(wanted.get("sampling", project.get("sampling"))),
        extra_params=dict(extra_params) if extra_params is not None else _params(backend),
        changes=tuple(changes),
    )


def _backend(client: Client, project_id: int, backend_id: int | None) -> dict[str, Any]:
    found = client.get_json("/api/ml/", what=f"project {project_id}'s models", project=project_id)
    known = ", ".join(f"{one['id']} ({one['url']})" for one in found) or "none"
    chosen = [one for one in found if backend_id is None or one["id"] == backend_id]
    if len(chosen) == 1:
        only: dict[str, Any] = chosen[0]
        return only
    if not found:
        raise UsageError(
            f"Project {project_id} has no ML backend: connect one under Settings > Model, for "
            f"example the address that `segstudio serve` shows."
        )
    if backend_id is None:
        raise UsageError(f"Project {project_id} has several ML backends, {known}: choose one.")
    raise UsageError(f"Project {project_id} has no ML backend {backend_id}; it has {known}.")


def _write_backend(
    client: Client, project_id: int, backend: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Change a backend's connection and return it as the server then has it.

    The server checks the connection with what it is sent only, so all of it is sent again; an empty
    password stands for the stored one.
    """
    keys = ("url", "title", "is_interactive", "auth_method", "basic_auth_user", "extra_params")
    body = {key: backend[key] for key in keys if backend.get(key) is not None}
    body |= {"project": project_id, **changes}
    if backend.get("auth_method") == "BASIC_AUTH":
        body["basic_auth_pass"] = ""
    what = f"ML backend {backend['id']} of project {project_id}"
    client.request("PATCH", f"/api/ml/{backend['id']}", what=what, json=body)
    read_back: dict[str, Any] = client.get_json(f"/api/ml/{backend['id']}", what=what)
    return read_back


def _params(backend: Mapping[str, Any]) -> dict[str, Any]:
    found = backend.get("extra_params")
    return dict(found) if isinstance(found, Mapping) else {}


def _require_connected(backend: Mapping[str, Any]) -> None:
    if backend.get("state") != "CO" or not backend.get("model_version"):
        reason = backend.get("error_message") or backend.get("readable_state") or "no answer"
        raise ServerError(
            f"The ML backend {backend['id']} at {backend['url']} is not connected ({reason}): "
            f"start it, and look into its log."
        )


def _expect(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        raise ServerError(f"The {what} was written as {wanted!r} but reads back as {found!r}.")
