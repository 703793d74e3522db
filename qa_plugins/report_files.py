"""Writes what a run leaves on disk: the page, the numbers, the history, the feedback pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qa_plugins.pictures import PhotoLoader
    from qa_plugins.runner import QaRun
    from segstudio.client import Client


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """How the page is made: where, with whose names, with photos from where.

    ``crops`` is how many disputed places a class are shown, ``history`` the file of earlier
    batches, in which this one is called ``batch``; ``feedback`` asks for a page an annotator.
    """

    out_dir: Path
    names: bool
    images: tuple[Path, ...]
    pictures: int
    crops: int = 10
    history: Path | None = None
    batch: str = ""
    feedback: bool = False


def write_report(run: QaRun, options: ReportOptions, client: Client | None = None) -> list[Path]:
    """Write `qa.json`, `tasks.csv`, `qa.html` and what else was asked for; return their paths.

    The photos of the worst tasks come from the server of ``client`` or the folders of
    ``options.images``; where one cannot be had its masks are drawn on grey.

    Raises:
        UsageError: ``options.history`` is a file of something else.
    """
    from qa_plugins.history import read_history, record_batch
    from qa_plugins.pictures import task_pictures
    from qa_plugins.report.advice import weak_classes
    from qa_plugins.report.csv import tasks_csv
    from qa_plugins.report.html import render_report, required_miou
    from qa_plugins.report.json import to_json, write_atomically
    from qa_plugins.report.people import display_names
    from qa_plugins.revisions import people_of, revisions_section, summarize_revisions
    from qa_plugins.rule_sheets import rule_sheets
    from segstudio.media import image_bytes, load_image

    def load_photo(reference: str, task_id: int) -> Any:
        return load_image(image_bytes(reference, client, options.images, task_id=task_id))

    result, taxonomy, kept = run.result, run.context.taxonomy, run.kept
    known = _names_on_server(client) if options.names and client is not None else {}
    everybody = set(_everybody(run))
    if options.history is not None:
        origin = result["selection"]["server"] or ""
        tasks = [task["id"] for task in result["tasks"]]
        result["revisions"] = summarize_revisions(options.history, tasks, origin)
        everybody.update(people_of(result["revisions"]))
    people = display_names(sorted(everybody), reveal=options.names, names=known)
    weak = [entry["name"] for entry in weak_classes(result)] if options.pictures else []
    rules = {one.name: one.boundary_rule for one in taxonomy.classes if one.boundary_rule}
    history = []
    if options.history is not None:
        record_batch(options.history, result, options.batch, required_miou(result["batch"]))
        history = read_history(options.history)

    def called(person: int) -> str:
        return people.get(person) or f"user {person}"

    sections = run.sections(called)
    if "revisions" in result:
        revised = revisions_section(result["revisions"], called)
        sections += [revised] if revised is not None else []
    page = render_report(
        result,
        title=result["selection"]["text"],
        people=people,
        colors={one.name: one.color for one in taxonomy.classes},
        rules=rules,
        pictures=task_pictures(kept.worst.chosen(weak), run.context, people, load_photo),
        sections=sections,
        sheets=rule_sheets(
            kept.disputed, kept.notes, result, run.context, people, load_photo, options.crops
        ),
        image_notes=kept.notes.of_images if options.crops else (),
        history=history,
    )
    texts = {"qa.json": to_json(result), "tasks.csv": tasks_csv(result), "qa.html": page}
    if options.feedback:
        texts |= _feedback_pages(run, people, rules, load_photo)
    for name, text in texts.items():
        write_atomically(options.out_dir / name, text)
    return [options.out_dir / name for name in texts]


def _feedback_pages(
    run: QaRun, people: Mapping[int, str], rules: Mapping[str, str], load_photo: PhotoLoader
) -> dict[str, str]:
    """A page for everybody who was compared, by path."""
    from qa_plugins.own_pictures import own_pictures
    from qa_plugins.report.feedback import FEEDBACK_FOLDER, feedback_file, render_feedback

    pages: dict[str, str] = {}
    for entry in run.result["annotators"]:
        person = entry["id"]
        if not isinstance(person, int):
            continue
        worst = [(task, 1 - distance) for task, distance in run.kept.of_person.of(person)]
        path = f"{FEEDBACK_FOLDER}/{feedback_file(people[person])}"
        if path in pages:  # two names that differ in letters no file name has
            path = f"{FEEDBACK_FOLDER}/{feedback_file(f'{people[person]}-{person}')}"
        pages[path] = render_feedback(
            run.result,
            person,
            people[person],
            title=run.result["selection"]["text"],
            rules=rules,
            pictures=own_pictures(worst, person, run.result, run.context, load_photo),
        )
    return pages


def _everybody(run: QaRun) -> list[int]:
    """The ids of all people that the agreement, a note or a check's ``annotators`` list names."""
    ids = {entry["id"] for entry in run.result["annotators"]}
    for summary in run.result["checks"].values():
        people = summary.get("annotators", []) if isinstance(summary, Mapping) else []
        ids.update(one["id"] for one in people if isinstance(one, Mapping) and "id" in one)
    for notes in (run.kept.notes.of_images, *run.kept.notes.of_class.values()):
        ids.update(one.annotator_id for one in notes)
    return sorted(person for person in ids if isinstance(person, int))


def _names_on_server(client: Client) -> dict[int, str]:
    """E-mail of each user by id, for those who ask for names."""
    users = client.get_json("/api/users/", what="the list of users")
    listed: Sequence[Mapping[str, Any]] = users if isinstance(users, list) else users["results"]
    return {int(user["id"]): str(user.get("email") or user.get("username")) for user in listed}
