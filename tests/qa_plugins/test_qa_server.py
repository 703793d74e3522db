"""`segstudio qa` against a real Label Studio: read, write back, the saved tab."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from qa_plugins.command import qa
from qa_plugins.write_back import TAB_TITLE
from segstudio import brush_rle
from segstudio.client import connect
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation, raw_task

if TYPE_CHECKING:
    from tests.conftest import RunningLabelStudio

FULL = np.ones((20, 20))


def upper(rows: int) -> np.ndarray:
    array = np.zeros((20, 20))
    array[:rows] = 1
    return array


def annotators(sdk: Any, count: int) -> tuple[list[int], list[str]]:
    """Ids and e-mail addresses of new users; the server may have those of earlier runs."""
    mails = [f"qa-{uuid4().hex[:12]}@example.org" for _ in range(count)]
    return [sdk.users.create(username=mail[:15], email=mail).id for mail in mails], mails


def columns(sdk: Any, project_id: int, name: str) -> list[Any]:
    """A column of the tasks in the order of their images."""
    tasks = sdk.tasks.list(project=project_id, fields="all")
    return [one.data.get(name) for one in sorted(tasks, key=lambda one: one.data["image"])]


def test_result_stands_on_the_tasks_and_the_tab_lists_the_worst_first(
    label_studio: RunningLabelStudio, project_factory: Callable[..., Any], tmp_path: Path
) -> None:
    sdk = label_studio.sdk()
    project = project_factory(CONFIG_XML, title="qa write-back")
    (first, second), mails = annotators(sdk, 2)
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
    assert mails[0] not in written

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


def test_the_consensus_becomes_predictions_only_when_asked_and_is_taken_back(
    label_studio: RunningLabelStudio, project_factory: Callable[..., Any], tmp_path: Path
) -> None:
    sdk = label_studio.sdk()
    project = project_factory(CONFIG_XML, title="qa consensus")
    people, _ = annotators(sdk, 3)
    tasks = []
    for number, rows in enumerate(((20, 18, 4), (10, 10, 10), (20,)), start=1):
        drawn = [
            {"completed_by": who, "ground_truth": False,
             "result": annotation(who, who, [("car", upper(count))])["result"]}
            for who, count in zip(people, rows, strict=False)
        ]  # fmt: skip
        tasks.append({"data": {"image": f"{number:03}.png"}, "annotations": drawn})
    sdk.projects.import_tasks(id=project.id, request=tasks)
    ids = [one.id for one in sorted(sdk.tasks.list(project=project.id), key=lambda one: one.id)]
    client = connect(label_studio.url, label_studio.api_key)
    body = {"task": ids[0], "model_version": "somebody's", "result": []}
    client.request("POST", "/api/predictions/", json=body)

    def run(*options: str, checks: str = "consensus") -> str:
        return CliRunner().invoke(
            qa,
            [checks, f"project:{project.id}", "--out", str(tmp_path), "--workers", "1",
             "--url", label_studio.url, "--api-key", label_studio.api_key, *options],
            catch_exceptions=False,
        ).output  # fmt: skip

    def versions() -> list[list[str]]:
        return [
            [one["model_version"] for one in client.get_json("/api/predictions/", task=task)]
            for task in ids
        ]

    before = [["somebody's"], [], []]
    run("--write-back")  # nobody asked for predictions
    assert versions() == before
    asked = ("--write-back", "--option", "tasks=predictions")
    assert "2 predictions would be written" in run(*asked, "--dry-run")
    assert versions() == before
    assert "2 predictions written, 0 already there" in run(*asked)
    assert versions() == [["somebody's", "consensus-quorum"], ["consensus-quorum"], []]
    stored = client.get_json("/api/predictions/", task=ids[0])[1]
    assert mask_of(stored["result"][0]).tolist() == upper(18).astype(bool).tolist()
    assert "0 predictions written, 2 already there" in run(*asked)

    # One redraws: the prediction follows. Two skip: nothing is agreed on, and it goes.
    listed = [client.get_json(f"/api/tasks/{one}/")["annotations"] for one in ids]
    third = max(listed[0], key=lambda one: one["id"])
    redrawn = annotation(1, 1, [("car", upper(20))])["result"]
    client.request("PATCH", f"/api/annotations/{third['id']}/", json={"result": redrawn})
    for one in listed[1][:2]:
        client.request("PATCH", f"/api/annotations/{one['id']}/", json={"was_cancelled": True})
    assert "1 prediction written, 0 already there, 1 removed" in run(*asked)
    assert versions() == [["somebody's", "consensus-quorum"], [], []]
    stored = client.get_json("/api/predictions/", task=ids[0])[1]
    assert mask_of(stored["result"][0]).all()

    assert "1 prediction “consensus-quorum” would be removed" in run("--undo", "--dry-run")
    undone = run("--undo", checks="agreement,consensus")
    assert "no tab" in undone and "1 prediction “consensus-quorum” removed" in undone
    assert versions() == before
    assert [len(client.get_json(f"/api/tasks/{one}/")["annotations"]) for one in ids] == [3, 3, 1]


def test_optical_flow_has_the_photos_of_the_server(
    label_studio: RunningLabelStudio, project_factory: Callable[..., Any], tmp_path: Path
) -> None:
    sdk = label_studio.sdk()
    project = project_factory(CONFIG_XML, title="qa photos")
    (person,), _ = annotators(sdk, 1)
    client = connect(label_studio.url, label_studio.api_key)
    noise = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, "PNG")
    url = f"{label_studio.url}/api/projects/{project.id}/import"
    for number in range(3):
        files = {"file": (f"{number}.png", content.getvalue(), "image/png")}
        client.http.post(url, files=files).raise_for_status()
    drawn = annotation(1, person, [("car", np.pad(np.ones((8, 8)), 12))])["result"]
    for number, task in enumerate(sorted(sdk.tasks.list(project=project.id), key=lambda t: t.id)):
        data = {**task.data, "video": "v", "frame": number}
        client.request("PATCH", f"/api/tasks/{task.id}/", json={"data": data})
        body = {"result": drawn, "completed_by": person}
        client.request("POST", f"/api/tasks/{task.id}/annotations/", json=body)
    done = CliRunner().invoke(
        qa,
        ["temporal", f"project:{project.id}", "--out", str(tmp_path), "--workers", "2",
         "--url", label_studio.url, "--api-key", label_studio.api_key],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "qa.json").read_text())["checks"]["temporal"]
    assert found["warped"] == {"flow": 2, "motion": 0, "none": 0} and not found["photos_missing"]


def mask_of(item: dict[str, Any]) -> np.ndarray:
    return brush_rle.decode(
        item["value"]["rle"], item["original_height"], item["original_width"]
    ).to_dense()


def test_names_come_from_the_server_when_asked_for(
    label_studio: RunningLabelStudio, project_factory: Callable[..., Any], tmp_path: Path
) -> None:
    sdk = label_studio.sdk()
    project = project_factory(CONFIG_XML, title="qa names")
    people, mails = annotators(sdk, 2)
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
        assert (mails[0] in (tmp_path / "qa.html").read_text()) is shown
