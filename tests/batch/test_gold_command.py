"""`segstudio gold` on a real server: every annotator meets the gold, nobody can tell it."""

import json

import pytest
from click.testing import CliRunner

from segstudio.cli import main
from segstudio.client import connect
from segstudio.writeback import read_stream_places, stored_tasks
from tests.batch.people import CONFIG, box, people


def tasks_of(project_id, client):
    return {int(raw["id"]): raw for raw in stored_tasks(client, project_id)}


def image(number):
    return {"image": f"https://example.org/{number}.png", "batch": 1}


@pytest.fixture
def run(label_studio, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    return lambda *arguments: CliRunner().invoke(main, ["gold", *map(str, arguments)])


@pytest.fixture
def admin(label_studio):
    with connect(label_studio.url, label_studio.api_key) as client:
        yield client


def stream_of(person, project_id, drawing):
    """The tasks that the stream offers to a person who submits each."""
    offered = []
    while (task_id := person.next_task(project_id)) is not None:
        offered.append(task_id)
        person.submit(task_id, drawing)
        assert len(offered) < 20
    return offered


def test_gold_stays_in_everybodys_stream_unmarked_and_hidden(
    run, admin, label_studio, project_factory, tmp_path
):
    project = project_factory(CONFIG)
    truth = {"result": [box("Car", 10, 10, 40, 40)], "ground_truth": True}
    plain = [{"data": image(number)} for number in range(4)]
    plain[1]["annotations"] = [truth]
    label_studio.sdk().projects.import_tasks(id=project.id, request=plain)
    ids = sorted(tasks_of(project.id, admin))
    gold_id = ids[1]
    path = tmp_path / "gold.json"
    call = ["seed", f"project:{project.id}", "--gold", path, "--annotators", 2]

    dry = run(*call, "--hide")
    assert dry.exit_code == 0, dry.output
    assert "1 gold annotations would go into" in dry.output
    assert "1 gold annotations would leave the project" in dry.output
    assert not path.exists()
    assert tasks_of(project.id, admin)[gold_id]["annotations"]

    done = run(*call, "--hide", "--apply")
    assert done.exit_code == 0, done.output
    assert tasks_of(project.id, admin)[gold_id]["annotations"] == []
    assert read_stream_places(admin, project.id, [gold_id])[gold_id].overlap == 2
    digest = json.loads(path.read_text())["digest"]
    assert digest in done.output
    gold = tasks_of(project.id, admin)[gold_id]
    plain_task = tasks_of(project.id, admin)[ids[0]]
    assert set(gold["data"]) == set(plain_task["data"])
    assert gold["meta"] == plain_task["meta"]

    with people(label_studio, "gold-ann", "gold-bob") as (ann, bob):
        # Three tasks of one annotation each go to whoever comes first; gold goes to both.
        first = stream_of(ann, project.id, box("Car", 12, 10, 40, 40))
        assert sorted(first) == ids
        second = stream_of(bob, project.id, box("Car", 10, 10, 40, 40))
        assert second == [gold_id]
        status = run("status", f"project:{project.id}", "--gold", path, "--json")
        (row,) = json.loads(status.output)["tasks"]
        assert row["annotators"] == sorted([ann.id, bob.id])
        assert row["in_stream"] is False
        checked = run("check", f"project:{project.id}", "--gold", path, "--digest", digest)
        assert checked.exit_code == 1
        assert f"of user {bob.id} on task {gold_id} equals the gold" in checked.output
        assert f"of user {ann.id}" not in checked.output

    # Called again it removes nothing more: what the annotators drew stays, whatever its ids.
    raw = tasks_of(project.id, admin)[gold_id]
    again = run(*call, "--hide", "--apply")
    assert again.exit_code == 0, again.output
    assert len(tasks_of(project.id, admin)[gold_id]["annotations"]) == len(raw["annotations"]) == 2
    assert json.loads(path.read_text())["digest"] == digest
    undone = run("seed", f"project:{project.id}", "--gold", path, "--undo", "--apply")
    assert "1 hidden annotations put back, 1 tasks given their former overlap" in undone.output
    restored = [one for one in tasks_of(project.id, admin)[gold_id]["annotations"]
                if one["ground_truth"]]  # fmt: skip
    assert [one["result"] for one in restored] == [truth["result"]]
    assert read_stream_places(admin, project.id, [gold_id])[gold_id].overlap == 1


def test_gold_in_sight_is_said_and_a_change_of_it_is_tampering(
    run, admin, label_studio, project_factory, tmp_path
):
    project = project_factory(CONFIG)
    drawn = {"result": [box("Car", 10, 10, 40, 40)], "ground_truth": False}
    tasks = [{"data": image(0), "annotations": [drawn]}, {"data": image(1)}]
    label_studio.sdk().projects.import_tasks(id=project.id, request=tasks)
    ids = sorted(tasks_of(project.id, admin))
    path = tmp_path / "gold.json"
    me = admin.get_json("/api/current-user/whoami")["id"]
    call = ["seed", f"project:{project.id}", "--gold", path, "--annotators", 2]
    call += ["--from", f"user:{me}", "--apply"]
    done = run(*call)
    assert "1 gold annotations stay in the project" in done.output
    # The one that stays counts as an annotation too: two people more are to draw the task.
    place = read_stream_places(admin, project.id, [ids[0]])[ids[0]]
    assert (place.overlap, place.is_labeled) == (3, False)
    checked = run("check", f"project:{project.id}", "--gold", path)
    assert (checked.exit_code, "in sight" in checked.output) == (0, True)
    number = tasks_of(project.id, admin)[ids[0]]["annotations"][0]["id"]
    body = {"result": [box("Car", 20, 10, 40, 40)]}
    admin.request("PATCH", f"/api/annotations/{number}/", json=body)
    checked = run("check", f"project:{project.id}", "--gold", path)
    assert checked.exit_code == 1
    assert f"The gold annotation {number} of task {ids[0]} was changed on the server" in (
        checked.output
    )


def test_gold_that_was_changed_after_hiding_was_cut_short_is_left_and_named(
    run, admin, label_studio, project_factory, tmp_path, monkeypatch
):
    project = project_factory(CONFIG)
    drawn = {"result": [box("Car", 10, 10, 40, 40)], "ground_truth": True}
    tasks = [{"data": image(number), "annotations": [drawn]} for number in range(3)]
    tasks.append({"data": image(3)})
    label_studio.sdk().projects.import_tasks(id=project.id, request=tasks)
    before = tasks_of(project.id, admin)
    first, second, third, _ = sorted(before)
    numbers = {
        key: raw["annotations"][0]["id"] for key, raw in before.items() if raw["annotations"]
    }
    path = tmp_path / "gold.json"
    where = [f"project:{project.id}", "--gold", path]
    call = ["seed", *where, "--annotators", 2, "--hide", "--apply"]

    def killed(client, number):
        raise KeyboardInterrupt

    monkeypatch.setattr("batch.gold_hiding.remove_annotation", killed)
    assert run(*call).exit_code != 0
    monkeypatch.undo()
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    hidden = {one["id"] for one in json.loads(path.read_text())["tasks"] if one["gold"]["hidden"]}
    assert hidden == {first}
    # Between the two calls somebody draws on the gold that the file calls hidden, and on another.
    moved = {"result": [box("Car", 20, 10, 40, 40)]}
    admin.request("PATCH", f"/api/annotations/{numbers[first]}/", json=moved)
    body = {**moved, "ground_truth": False}
    admin.request("PATCH", f"/api/annotations/{numbers[third]}/", json=body)
    said = [
        f"The gold annotation {numbers[key]} of task {key} was changed on the server"
        for key in (first, third)
    ]

    for arguments in (call[:-1], call):
        done = run(*arguments)
        assert done.exit_code == 0, done.output
        assert all(f"{one} (by user" in done.output for one in said)
        assert done.output.count("It stays in the project.") == 2
    after = tasks_of(project.id, admin)
    assert [len(after[key]["annotations"]) for key in (first, second, third)] == [1, 0, 1]
    assert after[first]["annotations"][0]["result"] == moved["result"]
    assert [after[key]["overlap"] for key in (first, second, third)] == [3, 2, 3]
    status = run("status", *where)
    assert all(one in status.output for one in said)
    shown = json.loads(run("status", *where, "--json").output)["to_look_at"]
    assert [(one["task"], one["tampering"]) for one in shown] == [(first, True), (third, True)]
    checked = run("check", *where)
    assert checked.exit_code == 1 and checked.output.count("TAMPERED") == 2

    # Undone, the gold is back as it was, beside what was drawn on it.
    undone = run("seed", *where, "--undo", "--apply")
    assert said[0] in undone.output, undone.output
    results = [one["result"] for one in tasks_of(project.id, admin)[first]["annotations"]]
    assert sorted(results, key=str) == sorted([drawn["result"], moved["result"]], key=str)


def test_gold_of_another_project_is_imported_as_plain_tasks_once(
    run, admin, label_studio, project_factory, tmp_path
):
    lead, batch = project_factory(CONFIG, title="lead"), project_factory(CONFIG, title="batch")
    drawn = [{"result": [box("Car", 10, 10, 40, 40)]}]
    secret = {"is_gold": True, "batch": 0}
    sdk = label_studio.sdk()
    sdk.projects.import_tasks(
        id=lead.id,
        request=[{"data": image(n) | secret, "annotations": drawn} for n in (0, 9)],
    )
    sdk.projects.import_tasks(id=batch.id, request=[{"data": image(n)} for n in range(3)])
    path = tmp_path / "gold.json"
    call = ["seed", f"project:{batch.id}", "--gold", path, "--source", f"project:{lead.id}"]
    call += ["--annotators", 2, "--apply"]
    first = run(*call)
    assert first.exit_code == 0, first.output
    assert "1 tasks are imported" in first.output
    tasks = tasks_of(batch.id, admin)
    assert len(tasks) == 4
    assert all(set(raw["data"]) == {"image", "batch"} for raw in tasks.values())
    assert {raw["data"]["batch"] for raw in tasks.values()} == {1}
    assert "Imported tasks come last" in first.output
    path.unlink()  # as if it had been killed between the import and the file
    assert run(*call).exit_code == 0
    assert len(tasks_of(batch.id, admin)) == 4
    gold = json.loads(path.read_text())["tasks"]
    assert sorted(one["data"]["image"][-5:] for one in gold) == ["0.png", "9.png"]
    assert {one["overlap"] for one in tasks_of(batch.id, admin).values()} == {1, 2}
    assert run("check", f"project:{batch.id}", "--gold", path).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["seed", "x.json", "--gold", "g.json"], "Gold is mixed into a project on a server"),
        (["seed", "project:3", "--gold", "g.json", "--source", "none.json"], "no export file"),
        (["check", "project:3", "--gold", "none.json"], "There is no gold file none.json"),
    ],
)
def test_what_makes_no_sense_is_refused(monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    server = ["--url", "http://127.0.0.1:9", "--api-key", "k" * 40]
    found = CliRunner().invoke(main, ["gold", *arguments, *server])
    assert (found.exit_code, said in found.output) == (2, True), found.output
