"""`segstudio gold`: reference tasks mixed into a batch unmarked, their annotations kept apart."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from segstudio.cli_options import server_options
from segstudio.errors import EXIT_GATE_FAILED, UsageError

if TYPE_CHECKING:
    from batch.gold_seed import SeedPlan
    from segstudio.client import Client

_PROJECT = re.compile(r"project:(\d+)")

_gold_option = click.option(
    "--gold", "path", required=True, metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The sidecar that holds the gold, e.g. gold.json.",
)  # fmt: skip


@click.group()
def gold() -> None:
    """Mix gold into a batch unmarked, and see that it stays what it was."""


def _server(command: Callable[..., None]) -> Callable[..., None]:
    return click.argument("project", metavar="project:ID")(_gold_option(server_options(command)))


@gold.command()
@_server
@click.option(
    "--from", "wanted", default="ground-truth", show_default=True,
    metavar="ground-truth|user:ID|only",
    help="Which annotation is gold: the one marked as ground truth, a user's, or the only one.",
)  # fmt: skip
@click.option("--source", metavar="FILE|project:ID", help="Where gold is; default the project.")
@click.option("--task", "task_ids", type=int, multiple=True, help="Only this task of the source.")
@click.option(
    "--annotators", type=click.IntRange(min=1),
    help="How many people are to draw each gold task; by default as many as have annotated in the "
    "project, or as annotate each of its tasks.",
)  # fmt: skip
@click.option(
    "--hide", is_flag=True,
    help="Take the gold annotations from the project once they stand in the file; --undo restores.",
)  # fmt: skip
@click.option("--apply", is_flag=True, help="Do it; without this, only say what would be done.")
@click.option("--undo", is_flag=True, help="Restore hidden gold and the tasks' overlaps.")
def seed(
    project: str,
    path: Path,
    wanted: str,
    source: str | None,
    task_ids: tuple[int, ...],
    annotators: int | None,
    hide: bool,
    apply: bool,
    undo: bool,
    **server: Any,
) -> None:
    """Keep gold in FILE and mix its tasks into the project, where every annotator meets them.

    Gold tasks get no label, meta or data key of their own. Each is to be drawn by all annotators
    and stays in everybody's stream until then. Gold of another project or an export is matched by
    its image; what the project lacks is imported as plain tasks.
    """
    from batch.gold_file import require_untouched
    from batch.gold_hiding import hide_gold
    from batch.gold_seed import apply_seed, candidates, data_model, plan_seed, project_datas
    from batch.gold_seed import undo_seed as run_undo

    project_id = _project_id(project)
    with _connect(server) as client:
        if undo:
            click.echo(run_undo(client, path, dry_run=not apply))
            _hint(apply)
            return
        earlier = require_untouched(path) if path.exists() else None
        chosen = candidates(_raw_tasks(client, source or project, task_ids), wanted)
        if not chosen and earlier is None:
            raise UsageError(
                f"No task of {source or project} has gold ({wanted}). Mark one annotation of some "
                "tasks as ground truth, or choose another annotation with --from."
            )
        people = annotators or _annotators(client, project_id)
        plan = plan_seed(client, project_id, chosen, people, earlier)
        click.echo(_sentence(plan, path, hide=hide, apply=apply))
        for warning in _order_notes(client, project_id, plan):
            click.echo(warning)
        if not hide and plan.in_sight:
            click.echo(
                f"{len(plan.in_sight)} gold annotations stay in the project, where annotators can "
                "read and overwrite them; --hide takes them out."
            )
        if apply:
            others = project_datas(client, project_id)
            done, left = apply_seed(client, path, plan, data_model(others), hide=hide)
            click.echo(f"Gold of {len(done.tasks)} tasks is in {path}; its hash is {done.digest}.")
        else:
            _, stay = hide_gold(client, path, plan.gold, dry_run=True) if hide else (None, {})
            left = list(stay.values())
        for sentence in left:
            click.echo(sentence)
        _hint(apply)


@gold.command()
@_server
@click.option("--digest", help="The hash that seeding showed; another one is tampering.")
@click.option("--json", "as_json_text", is_flag=True, help="Print JSON in place of sentences.")
def check(project: str, path: Path, digest: str | None, as_json_text: bool, **server: Any) -> None:
    """Tell whether gold was changed, in FILE or in the project, copied, or can be recognised.

    Ends with 1 where it was changed or copied, else 0.
    """
    from batch.gold_check import GoldFinding, findings
    from batch.gold_file import read_gold
    from segstudio.writeback import stored_tasks

    kept, faults = read_gold(path)
    found = [GoldFinding(0, text, is_tampering=True) for text in faults]
    if digest is not None and digest != kept.digest:
        text = f"The hash of {path} is {kept.digest}, not {digest}: it is another file."
        found.append(GoldFinding(0, text, is_tampering=True))
    with _connect(server) as client:
        _require_project(kept.url, kept.project_id, client, project)
        found += findings(kept, stored_tasks(client, kept.project_id))
    if as_json_text:
        rows = [{"task": one.task_id or None, "text": one.text, "tampering": one.is_tampering}
                for one in found]  # fmt: skip
        click.echo(json.dumps({"digest": kept.digest, "findings": rows}, indent=1))
    else:
        for one in found:
            click.echo(f"{'TAMPERED' if one.is_tampering else 'note'}: {one.text}")
        bad = sum(one.is_tampering for one in found)
        verdict = f"{bad} signs of tampering" if bad else "nothing was tampered with"
        click.echo(f"Gold of {len(kept.tasks)} tasks, hash {kept.digest}: {verdict}.")
    if any(one.is_tampering for one in found):
        raise click.exceptions.Exit(EXIT_GATE_FAILED)


@gold.command()
@_server
@click.option("--json", "as_json_text", is_flag=True, help="Print JSON in place of a table.")
def status(project: str, path: Path, as_json_text: bool, **server: Any) -> None:
    """Show how many people have drawn each gold task, and whether it is still offered."""
    from batch.gold_check import gold_in_project, progress
    from batch.gold_file import read_gold
    from segstudio.writeback import stored_tasks

    kept, _ = read_gold(path)
    with _connect(server) as client:
        _require_project(kept.url, kept.project_id, client, project)
        gold = kept.by_id()
        raws = [raw for raw in stored_tasks(client, kept.project_id) if int(raw["id"]) in gold]
    rows = progress(kept, raws)
    notes = [
        found
        for raw in raws
        for found in gold_in_project(gold[int(raw["id"])], raw)
        if found.is_tampering or gold[found.task_id].hidden
    ]
    if as_json_text:
        listed = [
            {"task": one.task_id, "overlap": one.overlap, "annotators": list(one.annotators),
             "in_stream": one.in_stream}
            for one in rows
        ]  # fmt: skip
        left = [{"task": one.task_id, "text": one.text, "tampering": one.is_tampering}
                for one in notes]  # fmt: skip
        shown = {"annotators": kept.annotators, "tasks": listed, "to_look_at": left}
        click.echo(json.dumps(shown, indent=1))
        return
    for one in rows:
        offered = "offered" if one.in_stream else "no longer offered"
        users = f" (users {', '.join(map(str, one.annotators))})" if one.annotators else ""
        drawn = f"drawn by {len(one.annotators)} of {kept.annotators}"
        click.echo(f"task {one.task_id}: {drawn}{users}, {offered}")
    for note in notes:
        click.echo(note.text)
    done = sum(len(one.annotators) >= kept.annotators for one in rows)
    click.echo(f"{done} of {len(kept.tasks)} gold tasks have all their {kept.annotators} drawings.")


def _sentence(plan: SeedPlan, path: Path, *, hide: bool, apply: bool) -> str:
    would, are, is_ = ("", "are", "is") if apply else ("would ", "would be", "would be")
    new = len(plan.gold.tasks) - plan.already + len(plan.to_import)
    parts = [
        f"{new} gold annotations {would}go into {path}"
        + (f" beside {plan.already} there" if plan.already else ""),
        f"{len(plan.to_import)} tasks {are} imported" if plan.to_import else "",
        f"each gold task {is_} offered to {plan.gold.annotators} annotators",
        f"{len(plan.in_sight)} gold annotations {would}leave the project" if hide else "",
    ]
    return "; ".join(part for part in parts if part) + "."


def _order_notes(client: Client, project_id: int, plan: SeedPlan) -> Iterable[str]:
    """What decides when annotators meet gold: Label Studio orders the stream, not we."""
    project = client.project(project_id)
    if project.get("show_overlap_first"):
        yield (
            "The project shows tasks with overlap first, so gold comes first and stands out: "
            "switch that off (PATCH /api/projects/ID with show_overlap_first: false) or give all "
            "tasks an overlap."
        )
    if project.get("sampling") == "Sequential sampling":
        last = " Imported tasks come last." if plan.to_import else ""
        yield (
            "The project offers tasks in the order of their ids: gold comes where its ids stand."
            f"{last} Uniform sampling (Settings > Annotation) mixes it at random."
        )
    if int(project.get("maximum_annotations") or 1) > 1:
        yield (
            "The project asks for several annotations a task, so Label Studio offers begun tasks "
            "first: gold that others have drawn comes early."
        )


def _annotators(client: Client, project_id: int) -> int:
    from segstudio.writeback import stored_tasks

    seen: set[int] = set()
    for raw in stored_tasks(client, project_id):
        people = (one.get("completed_by") for one in raw.get("annotations") or [])
        seen.update(int(one["id"] if isinstance(one, Mapping) else one) for one in people if one)
    return max(1, len(seen), int(client.project(project_id).get("maximum_annotations") or 1))


def _raw_tasks(
    client: Client, source: str, task_ids: tuple[int, ...]
) -> Iterable[Mapping[str, Any]]:
    from segstudio.export_file import read_raw_tasks
    from segstudio.writeback import stored_tasks

    named = _PROJECT.fullmatch(source)
    if named is not None:
        raw: Iterable[Any] = stored_tasks(client, int(named[1]))
    else:
        if not Path(source).is_file():
            raise UsageError(f"There is no export file {source}; give a file or project:ID.")
        lines = source.lower().endswith((".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"))
        raw = read_raw_tasks(functools.partial(_open_bytes, Path(source)), source, as_lines=lines)
    for task in raw:
        number = task.get("id") if isinstance(task, Mapping) else None
        if isinstance(number, int) and (not task_ids or number in task_ids):
            yield task


def _open_bytes(path: Path) -> IO[bytes]:
    return path.open("rb")


def _project_id(project: str) -> int:
    named = _PROJECT.fullmatch(project)
    if named is None:
        raise UsageError(f"Gold is mixed into a project on a server: project:3, not {project}.")
    return int(named[1])


def _require_project(url: str, project_id: int, client: Client, project: str) -> None:
    if (url, project_id) != (client.url, _project_id(project)):
        raise UsageError(
            f"The gold file belongs to project {project_id} at {url}, not to {project} at "
            f"{client.url}."
        )


def _connect(server: Mapping[str, Any]) -> Client:
    from segstudio.client import connect

    return connect(
        server["url"],
        server["api_key"],
        ca_bundle=server["ca_bundle"],
        insecure=server["insecure"],
    )


def _hint(apply: bool) -> None:
    if not apply:
        click.echo("Nothing was changed; add --apply to do it.")
