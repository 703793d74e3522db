"""`segstudio rework`: tasks that a gate failed go back, in rounds that are opened and closed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segstudio.cli_commands import CommandWithOthers
from segstudio.cli_options import (
    SourceOptions,
    compute_options,
    parse_key_values,
    source_options,
)
from segstudio.errors import EXIT_GATE_FAILED, SourceError, UsageError

if TYPE_CHECKING:
    from batch.rework import FailedTask
    from batch.rework_state import ReworkState, Round
    from segstudio.tasks import Task

_SHOWN = 40

_state_option = click.option(
    "--state", "state_path", required=True, metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the rounds are kept, e.g. rework.json; it names people, keep it to yourself.",
)  # fmt: skip
_apply_option = click.option(
    "--apply", is_flag=True, help="Do it; without this, only say what would be done."
)


@click.command(cls=CommandWithOthers)
@source_options
@click.option(
    "--qa", "qa_path", metavar="DIR|FILE", type=click.Path(exists=True, path_type=Path),
    help="What `segstudio qa ... --gates` found: its folder, or its qa.json.",
)  # fmt: skip
@click.option(
    "--mode", metavar="fix|fresh|adjudicate", default="fix", show_default=True,
    help="Who works on them: those who drew them, somebody new, or one who decides.",
)  # fmt: skip
@_state_option
@click.option("--limit", type=click.IntRange(min=1), help="Only so many tasks, the worst ones.")
@_apply_option
def rework(
    source: SourceOptions,
    qa_path: Path | None,
    mode: str,
    state_path: Path,
    limit: int | None,
    apply: bool,
) -> None:
    """Send the tasks back that a gate failed, as a round.

    fix: everybody who is to mend something gets a tab with their tasks, which say what to look at.
    fresh: each task is offered to one annotator more, who sees none of it.
    adjudicate: one tab, in which somebody decides between the drawings.

    `segstudio rework close SOURCE` measures the tasks again and ends the round, `undo` takes it
    back, `status` lists the rounds. Annotations are never touched.
    """
    from batch.rework import new_codes, require_mode
    from batch.rework_rounds import apply_open, plan_round
    from batch.rework_state import read_state

    require_mode(mode)
    with source.connect() as client:
        state = read_state(state_path, client.url)
        latest = state.latest
        if latest is not None and latest.status == "opening":
            click.echo(
                f"Round {latest.number} ({latest.mode}) was not opened to its end; "
                + ("going on with it." if apply else "--apply goes on with it.")
            )
            if apply:
                state = apply_open(client, state_path, state, latest)
                _say_opened(state)
            return
        _require_no_open_round(latest)
        if qa_path is None:
            raise UsageError("Name what the gates found, for example: --qa qa/qa.json.")
        qa = _read_qa(qa_path)
        failed, tasks = _failed(source, qa, limit)
        if not failed:
            click.echo("No task goes back: no gate failed.")
            return
        people = {person for one in failed for person in one.people}
        # Who gets which letter is left to chance, so that ids do not tell it.
        earlier = set(state.codes)
        codes = new_codes(state.codes, people, random.SystemRandom())
        state = replace(state, codes=codes)
        verdict = str(qa["batch"].get("verdict_reason") or "")
        planned = plan_round(client, state, failed, tasks, mode, verdict)
        _show(planned, failed, state)
        if not apply:
            if people - earlier:
                click.echo("Who has no letter yet draws one with --apply; here they are examples.")
            click.echo("Nothing was changed; add --apply to do it.")
            return
        _say_opened(apply_open(client, state_path, state, planned))


@click.command()
@source_options
@_state_option
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE",
    help="An option of a check, e.g. gold=gold.json where gates were against gold.",
)  # fmt: skip
@click.option("--give-up", is_flag=True, help="Close it though tasks wait; they go back next time.")
@_apply_option
@compute_options
def close(
    source: SourceOptions,
    state_path: Path,
    options: tuple[str, ...],
    give_up: bool,
    apply: bool,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Measure the tasks of the open round again and close it.

    Ends with 1, and leaves the round open, while tasks wait for somebody to work on them.
    """
    from batch.rework_judge import judge
    from batch.rework_rounds import apply_close, deleted_drawings
    from batch.rework_state import read_state

    with source.connect() as client:
        state = read_state(state_path, client.url)
        one = state.latest
        if one is not None and one.status == "closing":
            click.echo(f"Round {one.number} was not closed to its end; going on with it.")
            if apply:
                outcomes = {task.task_id: dict(task.outcome or {}) for task in one.tasks}
                apply_close(client, state_path, state, one, outcomes)
                click.echo(f"Round {one.number} is closed.")
            return
        if one is None or one.status != "open":
            raise UsageError(f"No round of {state_path} is open; there is nothing to close.")
        tasks, measured = _measure(source, one, parse_key_values(options), workers, cluster)
        outcomes = judge(one, tasks, measured, deleted_drawings(client, [one]).get(one.number))
        waiting = _show_outcomes(one, outcomes)
        if waiting and not give_up:
            click.echo(
                f"Round {one.number} stays open: {waiting} tasks wait to be worked on. "
                "--give-up closes it all the same."
            )
            raise click.exceptions.Exit(EXIT_GATE_FAILED)
        if not apply:
            click.echo("Nothing was changed; add --apply to close the round.")
            return
        apply_close(client, state_path, state, one, outcomes)
        below = sum(found["status"] != "passed" for found in outcomes.values())
        more = f" {below} tasks are still short; measure the batch again." if below else ""
        click.echo(f"Round {one.number} is closed.{more}")


def _server(command: Callable[..., None]) -> Callable[..., None]:
    from segstudio.cli_options import server_options, source_argument

    return source_argument(server_options(_state_option(command)))


@click.command()
@_server
@_apply_option
def undo(source: str, state_path: Path, apply: bool, **server: Any) -> None:
    """Take the latest round back: its columns and tabs, and the overlap that tasks had."""
    from batch.rework_rounds import apply_undo
    from batch.rework_state import read_state

    with SourceOptions(source, **server).connect() as client:
        state = read_state(state_path, client.url)
        one = state.latest
        if one is None:
            raise UsageError(f"{state_path} has no round to undo.")
        if not apply:
            click.echo(
                f"Round {one.number} ({one.mode}, {one.status}, {len(one.tasks)} tasks) would be "
                "taken back; nothing was changed, add --apply to do it."
            )
            return
        _, left = apply_undo(client, state_path, state, one)
    for sentence in left:
        click.echo(f"Left: {sentence}")
    click.echo(f"Round {one.number} was taken back. Annotations stay as they are.")


@click.command()
@_server
@click.option("--json", "as_json_text", is_flag=True, help="Print JSON in place of sentences.")
def status(source: str, state_path: Path, as_json_text: bool, **server: Any) -> None:
    """List the rounds, what was deleted since, and whose tab is which."""
    from batch.rework_rounds import deleted_drawings
    from batch.rework_state import read_state

    with SourceOptions(source, **server).connect() as client:
        state = read_state(state_path, client.url)
        deleted = deleted_drawings(client, (one for one in state.rounds if one.status != "undone"))
    if as_json_text:
        shown = {**state.as_json(), "deleted_since": deleted}
        click.echo(json.dumps(shown, indent=1, ensure_ascii=False))
        return
    for one in state.rounds:
        ended = f", ended {one.closed_at}" if one.closed_at else ""
        counts = _counts(task.outcome or {"status": "no outcome"} for task in one.tasks)
        click.echo(
            f"Round {one.number}: {one.mode}, {one.status}, opened {one.opened_at}{ended}, "
            f"{len(one.tasks)} tasks ({counts})"
        )
        for task_id, numbers in deleted.get(one.number, {}).items():
            for number in numbers:
                click.echo(f"  {_deleted(number, task_id, one)}")
    for person, code in sorted(state.codes.items(), key=lambda item: item[1]):
        click.echo(f"{code} is user {person}")
    if not state.rounds:
        click.echo(f"{state_path} has no rounds.")


def _read_qa(path: Path) -> Mapping[str, Any]:
    file = path / "qa.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"The QA result {file} cannot be read: {error}.") from error
    if not isinstance(found, dict) or not isinstance(found.get("batch"), dict):
        raise SourceError(f"{file} is no qa.json of `segstudio qa agreement`.")
    return found


def _failed(
    source: SourceOptions, qa: Mapping[str, Any], limit: int | None
) -> tuple[list[FailedTask], dict[int, Task]]:
    """The tasks to send back, with what to look at; those that SOURCE does not have are left out.

    The filters of SOURCE narrow the tasks.
    """
    from batch.rework import failed_tasks, with_places

    found = failed_tasks(qa)
    if source.task_ids:
        found = [one for one in found if one.task_id in source.task_ids]
    if not found:
        return [], {}
    opened = replace(source, task_ids=tuple(one.task_id for one in found)).open()
    if not opened.project_ids:
        raise UsageError("Rework needs a project on a server: give SOURCE as project:ID.")
    tasks = {task.id: task for task in opened.tasks()}
    missing = sum(one.task_id not in tasks for one in found)
    if missing:
        click.echo(f"{missing} failed tasks are not in {opened.description} (or filtered out).")
    entries = {int(one["id"]): one for one in qa["tasks"]}
    there = [one for one in found if one.task_id in tasks][:limit]
    placed = [with_places(one, entries.get(one.task_id, {}), tasks[one.task_id]) for one in there]
    return placed, tasks


def _measure(
    source: SourceOptions,
    one: Round,
    options: Mapping[str, str],
    workers: int | None,
    cluster: str | None,
) -> tuple[dict[int, Task], dict[int, dict[str, Sequence[Mapping[str, Any]]]]]:
    """Measure a round's tasks as they are now, against all that its requirements name."""
    from qa_plugins.command import choose_taxonomy
    from qa_plugins.runner import run_checks

    against = {need.against for task in one.tasks for need in task.requirements}
    others = sorted(against - {"annotators"})
    ids = tuple(task.task_id for task in one.tasks)
    opened = replace(source, task_ids=ids).open()
    if not set(one.project_ids) <= set(opened.project_ids):
        raise UsageError(
            f"Round {one.number} has tasks of the projects "
            f"{', '.join(map(str, one.project_ids))}; give all of them as SOURCE."
        )
    tasks = {task.id: task for task in opened.tasks()}
    taxonomy = choose_taxonomy(opened, source.taxonomy)
    run = run_checks(
        ["agreement", *others], opened, taxonomy, options={**options, "seed": "0"},
        workers=workers, cluster=cluster, pictures=0,
    )  # fmt: skip
    measured: dict[int, dict[str, Sequence[Mapping[str, Any]]]] = {}
    for entry in run.result["tasks"]:
        measured.setdefault(int(entry["id"]), {})["annotators"] = [entry]
    for name in others:
        for person in run.result["checks"][name]["annotators"]:
            for entry in person["compared"]:
                of_task = measured.setdefault(int(entry["id"]), {})
                of_task[name] = [*of_task.get(name, ()), entry]
    return tasks, measured


def _require_no_open_round(latest: Round | None) -> None:
    if latest is None or latest.status in ("closed", "undone"):
        return
    advice = {
        "open": "close it (segstudio rework close) or take it back (segstudio rework undo) first",
        "closing": "segstudio rework close --apply goes on with it",
        "undoing": "segstudio rework undo --apply goes on with it",
    }[latest.status]
    raise UsageError(f"Round {latest.number} is {latest.status}: {advice}.")


def _show(planned: Round, failed: Sequence[FailedTask], state: ReworkState) -> None:
    """The tasks class by class, the worst first, with who is to look at what."""
    click.echo(f"Round {planned.number} ({planned.mode}): {len(planned.tasks)} tasks go back.")
    if planned.verdict:
        click.echo(f"Reason: {planned.verdict}")
    by_id = {task.task_id: task for task in planned.tasks}
    heading: str | None = None
    for one in failed[:_SHOWN]:
        name = one.class_name or "all classes"
        if name != heading:
            click.echo(f"{name}:")
            heading = name
        value = "not measured" if one.value is None else f"{one.value:.3f}"
        who = ""
        if planned.mode == "fix":
            who = ", " + " ".join(sorted(state.codes[person] for person in one.people))
        elif planned.mode == "fresh":
            who = f", overlap {by_id[one.task_id].overlap}"
        places = "; ".join(map(str, one.places[:3])) or "outlines differ"
        click.echo(f"  task {one.task_id}: {value}{who}: {places}")
    if len(failed) > _SHOWN:
        click.echo(f"  and {len(failed) - _SHOWN} more.")


def _say_opened(state: ReworkState) -> None:
    from batch.rework_rounds import tab_titles

    one = state.latest
    if one is None:
        return
    tabs = tab_titles(one, state)
    said = f" Tabs: {', '.join(tabs)}." if tabs else ""
    click.echo(f"Round {one.number} is open with {len(one.tasks)} tasks.{said}")
    if one.mode == "fix":
        who = ", ".join(f"{code} is user {person}" for person, code in sorted(state.codes.items()))
        click.echo(f"Tell everybody their letter yourself: {who}.")


def _show_outcomes(one: Round, outcomes: Mapping[int, Mapping[str, Any]]) -> int:
    for task in one.tasks[:_SHOWN]:
        found = outcomes[task.task_id]
        short = "; ".join(found["short"]) if found["status"] != "passed" else ""
        decided = found.get("decided_by")
        more = f", decided by annotation {decided}" if decided else ""
        click.echo(f"task {task.task_id}: {found['status']}{more}{f' ({short})' if short else ''}")
        for number in found.get("deleted", ()):
            click.echo(f"  {_deleted(number, task.task_id, one)}")
        for number in found.get("skipped", ()):
            click.echo(f"  annotation {number} was skipped since round {one.number}")
    click.echo(f"{len(outcomes)} tasks measured again: {_counts(outcomes.values())}.")
    return sum(found["status"] == "waiting" for found in outcomes.values())


def _deleted(number: int, task_id: int, one: Round) -> str:
    return f"annotation {number} of task {task_id} was deleted since round {one.number}"


def _counts(outcomes: Iterable[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for found in outcomes:
        counts[str(found["status"])] = counts.get(str(found["status"]), 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


rework.add_other("close", lambda: close)
rework.add_other("undo", lambda: undo)
rework.add_other("status", lambda: status)
