"""The command `segstudio prelabel`: how a project's tasks get predictions before anybody clicks."""

from __future__ import annotations

import json
import re

import click

from segstudio.cli_options import server_options
from segstudio.errors import UsageError

__all__ = ["prelabel"]

_MODES = ("box-to-instance", "automatic", "off")


@click.group()
def prelabel() -> None:
    """Pre-labels: choose how a project's tasks get predictions, and in which order they come."""


@prelabel.command()
@click.argument("project", metavar="project:ID")
@click.option(
    "--mode",
    type=click.Choice(_MODES),
    help="What retrieved predictions are: masks of the boxes that are there, masks of everything, "
    "or none.",
)
@click.option("--label", help="The label of automatic masks, which have no class of their own.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another extra parameter, e.g. min_stability=0.97; KEY= removes it. May be repeated.",
)
@click.option(
    "--sampling",
    type=click.Choice(["uncertainty", "sequential", "uniform", "keep"]),
    default="uncertainty",
    show_default=True,
    help="The order of the labelling queue; uncertainty serves what the model is least sure of.",
)
@click.option("--backend", "backend_id", type=int, help="Which ML backend, if there are several.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@server_options
def configure(
    project: str,
    mode: str | None,
    label: str | None,
    params: tuple[str, ...],
    sampling: str,
    backend_id: int | None,
    dry_run: bool,
    url: str | None,
    api_key: str | None,
    ca_bundle: str | None,
    insecure: bool,
) -> None:
    """Set a project's batch mode, model version and sampling together, and read them back.

    The parameters that the project has stay where no option changes them. Everything is checked
    before anything is written.
    """
    from ml_backend.batch_modes import automatic_label
    from ml_backend.predictions import AnswerError
    from ml_backend.project_settings import BatchMode, read_project_settings
    from segstudio.client import connect
    from segstudio.label_config import parse_label_config
    from segstudio.writeback import configure_predictions

    named = re.fullmatch(r"project:(\d+)", project)
    if named is None:
        raise UsageError(f"Predictions belong to a project on a server: project:3, not {project}.")
    project_id = int(named[1])
    changes = [f"mode={mode}"] if mode else []
    changes += [f"label={label}"] if label is not None else []
    with connect(url, api_key, ca_bundle=ca_bundle, insecure=insecure) as client:
        before = configure_predictions(client, project_id, backend_id=backend_id, dry_run=True)
        wanted = changed_params(before.extra_params, (*changes, *params))
        settings = read_project_settings(wanted)
        if settings.mode is BatchMode.AUTOMATIC:
            config = parse_label_config(client.project(project_id)["label_config"])
            try:
                for tag in config.images:
                    automatic_label(config, tag.name, settings.label, settings.answer)
            except AnswerError as error:
                raise UsageError(str(error)) from error
        done = configure_predictions(
            client,
            project_id,
            sampling=None if sampling == "keep" else sampling,
            extra_params=wanted,
            backend_id=backend_id,
            dry_run=dry_run,
        )
    for change in done.changes:
        click.echo(f"{'would change' if dry_run else 'changed'} {change}")
    if not done.changes:
        click.echo("Nothing to change.")
    if not dry_run:
        click.echo(
            f"Project {project_id}: mode {settings.mode.value}, model version "
            f"{done.model_version!r}, {done.sampling}. Select tasks in the Data Manager and choose "
            f"Retrieve predictions, or open them."
        )


def changed_params(before: object, changes: tuple[str, ...]) -> dict[str, object]:
    """Return the parameters after KEY=VALUE changes; VALUE is JSON, or else a text.

    >>> changed_params({"mode": "off", "label": "Car"}, ("mode=automatic", "label=", "clean_px=9"))
    {'mode': 'automatic', 'clean_px': 9}
    """
    wanted: dict[str, object] = dict(before) if isinstance(before, dict) else {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise UsageError(f"A parameter is KEY=VALUE, not {change!r}.")
        if not text:
            wanted.pop(key, None)
            continue
        try:
            wanted[key] = json.loads(text) if key not in {"label", "mode", "answer"} else text
        except ValueError:
            wanted[key] = text
    return wanted
