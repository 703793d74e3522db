"""`segstudio qa` against a real Label Studio: read, write back, the saved tab."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from click.testing import CliRunner, Result

from qa_plugins.command import qa
from qa_plugins.write_back import TAB_TITLE
from segstudio.client import connect
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation, raw_task

if TYPE_CHECKING:
    from tests.conftest import RunningLabelStudio

FULL = np.ones((20, 20))


def upper(rows: int) -> np.ndarray:
    array = np.zeros((20, 20))
    array[:rows] = 1
    return array


def annotators(client: Any, count: int) -> list[int]:
    return [
        client.users.create(username=f"qa{k}", email=f"qa-{k}@example.org").id for k in range(count)
    ]


def columns(sdk: Any, project_id: int, name: str) -> list[Any]:
    """A column of the tasks in the order of their images."""
    tasks = sdk.tasks.list(project=project_id, fields="all")
    return [one.data.get(name) for one in sorted(tasks, key=lambda one: one.data["image"])]


def test_result_stands_on_the_tasks_and_the_tab_lists_the_worst_first(
    label_studio: RunningLabelStudio, project_factory: Callable[..., Any], tmp_path: Path
) -> None:
    sdk = label_studio.sdk()
    project = project_factory(CONFIG_XML, title="qa write-back")
    first, second = annotators(sdk, 2)
    tasks = []
    for number, rows in enumerate((20, 4, 12), start=1):
        task = raw_task(
            number,
            [annotation(1, first, [("car", FULL)]), annotation(2, second, [("car", upper(rows))])],
        )
        tasks.append({"data": task["data"], "meta": {"own": number}, "annotations": [
            {"completed_by": one["completed_by"], "result": one["result"], "ground_truth": False}
            for one in task["annotations"]
        ]})  # fmt: skip
    sdk.projects.import_tasks(id=project.id, request=tasks)

    def run(*options: str, checks: str = "agreement") -> Result:
        return CliRunner().invoke(
            qa,
            [checks, f"project:{project.id}", "--out", str(tmp_path), "--workers", "1",
             "--url", label_studio.url, "--api-key", label_studio.api_key, *options],
            catch_exceptions=False,
        )  # fmt: skip

    dry = run("--write-back", "--dry-run")
    assert "3 tasks would be written" in dry.output
    assert run("--write-back", "--gates", "miou-0.84").exit_code == 0  # three tasks: not judged
    client = connect(label_studio.url, label_studio.api_key)
    stored = {task.data["image"]: task for task in sdk.tasks.list(project=project.id, fields="all")}
    assert [stored[f"{n:03}.png"].data["qa_miou"] for n in (1, 2, 3)] == [1.0, 0.2, 0.6]
    assert stored["002.png"].data["qa_verdict"] == "rework"
    assert stored["002.png"].meta["own"] == 2
    assert stored["002.png"].meta["segstudio"]["agreement"]["classes"] == {"car": 0.2}
    written = json.dumps([task.meta for task in stored.values()])
    assert "qa-0@example.org" not in written

    views = client.get_json("/api/dm/views/", project=project.id)
    tab = [view for view in views if view["data"]["title"] == TAB_TITLE]
    assert len(tab) == 1
    listed = client.get_json("/api/tasks/", view=tab[0]["id"], project=project.id)["tasks"]
    assert [task["data"]["image"] for task in listed] == ["002.png", "003.png"]

    again = run("--write-back")
    assert "0 tasks written, 3 already up to date" in again.output
    views = client.get_json("/api/dm/views/", project=project.id)
    assert sum(view["data"]["title"] == TAB_TITLE for view in views) == 1

    # Somebody redraws; a run that judges no agreement marks the record, and no other.
    redrawn = min(stored["002.png"].annotations, key=lambda one: one["id"])
    result = annotation(1, first, [("road", FULL)])["result"]
    client.request("PATCH", f"/api/annotations/{redrawn['id']}/", json={"result": result})
    run("--write-back", checks="validation")
    assert columns(sdk, project.id, "qa_stale") == ["no", "yes", "no"]
    run("--write-back")
    assert columns(sdk, project.id, "qa_stale") == ["no", "no", "no"]
    assert columns(sdk, project.id, "qa_miou") == [1.0, 0.0, 0.6]

    # Undo takes back what is ours and nothing else.
    sdk.tasks.update(id=stored["003.png"].id, meta={"segstudio": {"plan": 1}})
    own = {**stored["003.png"].data, "qa_miou": 0.25}
    client.request("PATCH", f"/api/tasks/{stored['003.png'].id}/", json={"data": own})
    assert "2 tasks would be cleared" in run("--undo", "--dry-run").output
    assert columns(sdk, project.id, "qa_miou") == [1.0, 0.0, 0.25]
    assert "2 tasks cleared" in run("--undo").output
    for task in sdk.tasks.list(project=project.id, fields="all"):
        number = int(task.data["image"][:3])
        assert task.meta == ({"segstudio": {"plan": 1}} if number == 3 else {"own": number})
        assert ("qa_miou" in task.data) is (number == 3)
        assert number == 3 or task.data == {"image": f"{number:03}.png"}
        assert len(task.annotations) == 2
    views = client.get_json("/api/dm/views/", project=project.id)
    assert [view["data"]["title"] for view in views] == ["Default"]
    assert "0 tasks cleared" in run("--undo").output


def test_names_come_from_the_server_when_asked_for(
    label_studio: RunningLabelStudio, project_factory: Callable[..., Any], tmp_path: Path
) -> None:
    sdk = label_studio.sdk()
    project = project_factory(CONFIG_XML, title="qa names")
    people = [sdk.users.create(username=f"n{k}", email=f"name-{k}@example.org").id for k in "ab"]
    task = {
        "data": {"image": "a.png"},
        "annotations": [
            {"completed_by": person, "result": annotation(1, person, [("car", FULL)])["result"],
             "ground_truth": False}
            for person in people
        ],
    }  # fmt: skip
    sdk.projects.import_tasks(id=project.id, request=[task])
    arguments = ["agreement", f"project:{project.id}", "--out", str(tmp_path), "--workers", "1",
                 "--url", label_studio.url, "--api-key", label_studio.api_key]  # fmt: skip
    for options, shown in (([], False), (["--names"], True)):
        result = CliRunner().invoke(qa, arguments + options, catch_exceptions=False)
        assert result.exit_code == 0
        assert ("name-a@example.org" in (tmp_path / "qa.html").read_text()) is shown
