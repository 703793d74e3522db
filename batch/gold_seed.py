"""Seeding gold: which annotations become gold, and the steps that mix their tasks into a project.

Every step finds what an earlier, killed call has done already: new tasks are recognised by their
image, the sidecar stands on disk before anything is taken from the server, and overlaps are set
to what they are to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batch.gold_check import gold_in_project
from batch.gold_file import (
    GoldFile,
    GoldTask,
    choose_gold,
    hash_of,
    is_gold_itself,
    read_gold,
    write_gold,
)
from batch.gold_hiding import gold_on_server, hide_gold, restore_gold
from segstudio.client import Client
from segstudio.errors import UsageError
from segstudio.label_config import parse_label_config
from segstudio.writeback import (
    StreamPlace,
    import_tasks,
    set_stream_places,
    stored_tasks,
    task_rows,
    write_overlaps,
)

ImageIdentity = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An annotation that is to be gold, with the task that it was drawn on."""

    task_id: int
    data: Mapping[str, Any]
    annotation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """What seeding would do: gold of tasks that are there, and tasks to import."""

    gold: GoldFile
    to_import: tuple[Candidate, ...]
    already: int

    def wanted_overlaps(self) -> dict[int, int]:
        """How many annotations each gold task is to get, counting one that stays there."""
        return {
            one.task_id: self.gold.annotators + (one.on_server is not None and not one.hidden)
            for one in self.gold.tasks
        }

    @property
    def in_sight(self) -> list[GoldTask]:
        """Gold that lies on the server, where annotators can see and overwrite it."""
        return [one for one in self.gold.tasks if one.on_server is not None and not one.hidden]


def candidates(raw_tasks: Iterable[Mapping[str, Any]], wanted: str) -> list[Candidate]:
    """Return the gold among the JSON of tasks, see `choose_gold`.

    Raises:
        UsageError: several annotations of a task fit, one cannot be read whole, or none fits.
    """
    found = []
    for raw in raw_tasks:
        annotation = choose_gold(raw, wanted)
        if annotation is not None:
            found.append(Candidate(int(raw["id"]), raw.get("data") or {}, annotation))
    return found


def plan_seed(
    client: Client,
    project_id: int,
    found: Iterable[Candidate],
    annotators: int,
    earlier: GoldFile | None = None,
) -> SeedPlan:
    """Find the task of each gold in the project; what has none there is to be imported.

    Args:
        client: the server.
        project_id: the batch's project.
        found: the gold.
        annotators: how many people are to draw each gold task.
        earlier: what the sidecar holds already; its gold stays.

    Raises:
        UsageError: an image stands on several tasks, or the sidecar has another gold of a task.
    """
    rows = _rows(client, project_id)
    keys = _image_keys(client, project_id)
    by_image: dict[ImageIdentity, list[int]] = {}
    for number, row in rows.items():
        by_image.setdefault(_image(row["data"], keys), []).append(number)
    gold = earlier or GoldFile(client.url, project_id, annotators, ())
    if (gold.url, gold.project_id) != (client.url, project_id):
        raise UsageError(
            f"The gold file belongs to project {gold.project_id} at {gold.url}; "
            f"name another file for project {project_id} at {client.url}."
        )
    known = gold.by_id()
    new: list[GoldTask] = []
    to_import: list[Candidate] = []
    for one in found:
        task_id = _task_of(one, rows, by_image, keys)
        if task_id is None:
            to_import.append(one)
            continue
        if task_id in known:
            _require_same(known[task_id], one)
            continue
        row = rows[task_id]
        on_server = gold_on_server(client, one.annotation, task_id)
        before = StreamPlace(task_id, int(row["overlap"] or 1), bool(row["is_labeled"]))
        new.append(_gold_task(task_id, row["data"], one, on_server, before))
    gold = replace(gold, annotators=annotators).with_tasks(new)
    return SeedPlan(gold, tuple(to_import), len(known))


def apply_seed(
    client: Client, path: Path, plan: SeedPlan, data_model: Mapping[str, Any], *, hide: bool
) -> tuple[GoldFile, list[str]]:
    """Import what is missing, write the sidecar, open the tasks, hide the gold if asked to.

    Returns the sidecar, and a sentence for each gold annotation that was not hidden because
    somebody has changed it on the server.

    Args:
        client: the server, as a user who may edit tasks.
        path: the sidecar.
        plan: of `plan_seed`.
        data_model: data keys that the project's own tasks have, with values for those that all
            tasks of the batch share; imported tasks get no key beside them.
        hide: take the gold annotations from the server once they stand in the sidecar.
    """
    gold, project_id = plan.gold, plan.gold.project_id
    datas = [plain_data(one.data, data_model) for one in plan.to_import]
    made = import_tasks(client, project_id, datas)
    gold = gold.with_tasks(
        _gold_task(number, data, one, None, None)
        for one, data, number in zip(plan.to_import, datas, made, strict=True)
    )
    write_gold(path, gold)
    gold, left = hide_gold(client, path, gold) if hide else (gold, {})
    wanted = replace(plan, gold=gold).wanted_overlaps()
    hidden = {one.task_id for one in gold.tasks if one.hidden}
    wanted = {key: count + (key in left and key in hidden) for key, count in wanted.items()}
    summary = write_overlaps(client, project_id, wanted)
    if summary.problems:
        raise UsageError(f"{summary}. First: {summary.problems[0].message}")
    return gold, list(left.values())


def undo_seed(client: Client, path: Path, *, dry_run: bool = False) -> str:
    """Put hidden gold back on the server and the tasks' overlaps as they were; say what was done.

    Imported tasks stay: somebody may have drawn on them.
    """
    gold, _ = read_gold(path)
    there = {int(raw["id"]): raw for raw in stored_tasks(client, gold.project_id)}
    tasks, restored, left = [], 0, list[str]()
    for one in gold.tasks:
        if one.hidden and one.task_id in there:
            restored += 1
            found = gold_in_project(one, there[one.task_id])
            left += [f" {each.text}" for each in found if each.is_tampering]
            if not dry_run:
                number = restore_gold(client, one, there[one.task_id])
                one = replace(one, hidden=False, on_server=number)
        tasks.append(one)
    places = [one.before for one in gold.tasks if one.before is not None]
    if not dry_run:
        write_gold(path, gold.with_tasks(tasks))
    summary = set_stream_places(client, gold.project_id, places, dry_run=dry_run)
    imported = sum(one.before is None for one in gold.tasks)
    would = "would be " if dry_run else ""
    text = (
        f"Undo: {restored} hidden annotations {would}put back, {summary.written} tasks {would}"
        "given their former overlap."
    )
    if imported:
        text += f" {imported} tasks that were imported as gold stay; remove them by hand."
    return text + "".join(left)


def plain_data(data: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """A gold task's data with the keys that the other tasks have and no others.

    Values that all tasks of the batch share (not None in `model`) are taken over.

    >>> plain_data({"image": "a.png", "gold": True}, {"image": None, "batch": 7})
    {'image': 'a.png', 'batch': 7}
    """
    return {
        key: shared if shared is not None else data[key]
        for key, shared in model.items()
        if shared is not None or key in data
    }


def data_model(datas: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The keys that all the data have, each with the value that all share, or None.

    Columns of segstudio's (`qa_...`) are left out. No data gives no keys.
    """
    model: dict[str, Any] | None = None
    for data in datas:
        plain = {key: value for key, value in data.items() if not key.startswith("qa_")}
        if model is None:
            model = plain
            continue
        model = {
            key: (value if plain[key] == value else None)
            for key, value in model.items()
            if key in plain
        }
    return model or {}


def project_datas(client: Client, project_id: int) -> list[Mapping[str, Any]]:
    """The data of a project's tasks."""
    return [row["data"] for row in _rows(client, project_id).values()]


def _gold_task(
    task_id: int,
    data: Mapping[str, Any],
    one: Candidate,
    on_server: int | None,
    before: StreamPlace | None,
) -> GoldTask:
    return GoldTask(task_id, data, one.annotation, hash_of(one.annotation), on_server, before)


def _require_same(known: GoldTask, one: Candidate) -> None:
    if known.hidden and known.task_id == one.task_id and is_gold_itself(known, one.annotation):
        # Hiding it was cut short. Whether it was changed since is told where it would be removed.
        return
    if known.drawing_hash != hash_of(one.annotation):
        raise UsageError(
            f"The gold file has another gold of task {known.task_id} than the one found now. "
            "Which one is right is yours to say: name another file, or leave the task out (--task)."
        )


def _task_of(
    one: Candidate,
    rows: Mapping[int, Mapping[str, Any]],
    by_image: Mapping[ImageIdentity, list[int]],
    keys: tuple[str, ...],
) -> int | None:
    image = _image(one.data, keys)
    if one.task_id in rows and _image(rows[one.task_id]["data"], keys) == image:
        return one.task_id
    same = by_image.get(image, [])
    if len(same) > 1:
        raise UsageError(
            f"The image {', '.join(image)} of a gold task stands on the tasks "
            f"{', '.join(map(str, same))} of the project; which one is meant cannot be told."
        )
    return same[0] if same else None


def _rows(client: Client, project_id: int) -> dict[int, dict[str, Any]]:
    fields = ("data", "overlap", "is_labeled")
    return {int(row["id"]): row for row in task_rows(client, project_id, fields)}


def _image_keys(client: Client, project_id: int) -> tuple[str, ...]:
    config = parse_label_config(client.project(project_id)["label_config"])
    return tuple(sorted({one.value_key for one in config.images if one.value_key}))


def _image(data: Mapping[str, Any], keys: tuple[str, ...]) -> ImageIdentity:
    return tuple(str(data.get(key)) for key in keys)
