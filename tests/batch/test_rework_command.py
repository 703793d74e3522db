"""`segstudio rework` on a real server: sent back, mended, measured again, closed; and undone."""

import json

import pytest
from click.testing import CliRunner

from segstudio.cli import main
from segstudio.client import connect
from segstudio.writeback import read_stream_places, stored_tasks
from tests.batch.people import CONFIG, box, people

GATES = "gates: [{metric: iou, scope: class, class: Car, threshold: 0.9, min_tasks: 1}]"
CAR, MISSED, SHIFTED = box("Car", 10, 10, 40, 40), (), (box("Car", 30, 10, 40, 40),)
TREE = box("Tree", 60, 60, 20, 20)


@pytest.fixture
def run(label_studio, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    return lambda *arguments: CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def admin(label_studio):
    with connect(label_studio.url, label_studio.api_key) as client:
        yield client


def drawn_project(admin, make, owners, third):
    """Four tasks that all drew alike, but for the third person, who draws as told."""
    project = make(CONFIG, maximum_annotations=3)
    data = [{"image": f"https://example.org/{n}.png", "mine": n} for n in range(4)]
    tasks = []
    for one, last in zip(data, [*third, (CAR,), (CAR,)], strict=True):
        drawn = zip(owners, [(CAR,), (CAR,), last], strict=True)
        annotations = [
            {"completed_by": who.id, "result": [TREE, *regions], "ground_truth": False}
            for who, regions in drawn
        ]
        tasks.append({"data": one, "annotations": annotations})
    admin.request("POST", f"/api/projects/{project.id}/import", json=tasks)
    made = tasks_of(admin, project.id)
    assert [len(raw["annotations"]) for raw in made.values()] == [3] * 4
    return project.id, sorted(made)


def tasks_of(admin, project_id):
    return {int(raw["id"]): raw for raw in stored_tasks(admin, project_id)}


def tabs(admin, project_id):
    return {
        one["data"]["title"]: one["id"]
        for one in admin.get_json("/api/dm/views/", project=project_id)
    }


def in_tab(admin, project_id, view):
    page = admin.get_json("/api/tasks/", project=project_id, view=view, include="id")
    return [one["id"] for one in page["tasks"]]


def measure(run, project_id, folder):
    (folder / "gates.yaml").write_text(GATES)
    out = folder / "qa"
    found = run("qa", "agreement", f"project:{project_id}", "--out", out, "--workers", 1,
                "--gates", folder / "gates.yaml", "--crops", 0, "--pictures", 0)  # fmt: skip
    assert found.exit_code in (0, 1), found.output
    return out


def by(raw, person):
    return next(one for one in raw["annotations"] if one["completed_by"] == person.id)


def test_who_drew_it_mends_it_and_the_round_is_closed_after_measuring(
    run, admin, label_studio, project_factory, tmp_path
):
    state = tmp_path / "rework.json"
    with people(label_studio, "rework-ann", "rework-bob", "rework-cyd") as owners:
        project_id, ids = drawn_project(admin, project_factory, owners, [MISSED, SHIFTED])
        cyd = owners[2]
        source = f"project:{project_id}"
        out = measure(run, project_id, tmp_path)
        call = ["rework", source, "--qa", out, "--state", state, "--mode", "fix"]
        dry = run(*call)
        assert dry.exit_code == 0, dry.output
        assert "Round 1 (fix): 2 tasks go back." in dry.output
        assert not state.exists()
        before = tasks_of(admin, project_id)
        done = run(*call, "--apply")
        assert done.exit_code == 0, done.output
        code = json.loads(state.read_text())["codes"]
        assert list(code) == [str(cyd.id)]  # the two others agree
        letter = code[str(cyd.id)]
        assert f"Tabs: Rework 1: {letter}." in done.output
        now = tasks_of(admin, project_id)
        assert in_tab(admin, project_id, tabs(admin, project_id)[f"Rework 1: {letter}"]) == ids[:2]
        looks = [now[one]["data"].get("qa_look_at") for one in ids]
        assert looks[0] == f"[{letter}] Car drawn by some only (x 10–50, y 10–50 px)"
        assert looks[1].startswith(f"[{letter}] Car ")
        assert looks[2:] == [None, None]
        assert [now[one]["data"]["mine"] for one in ids] == [0, 1, 2, 3]
        assert [now[one]["annotations"] for one in ids] == [before[one]["annotations"]
                                                            for one in ids]  # fmt: skip
        # Nothing that annotators can read names a person.
        told = json.dumps([[now[one]["data"], now[one]["meta"]] for one in ids])
        assert "rework-" not in told and "example.org/" in told

        again = run(*call, "--apply")
        assert (again.exit_code, "Round 1 is open: close it" in again.output) == (2, True)
        close = ["rework", "close", source, "--state", state, "--workers", 1]
        open_still = run(*close, "--apply")
        assert open_still.exit_code == 1, open_still.output
        assert "Round 1 stays open: 2 tasks wait" in open_still.output
        for one in ids[:2]:
            cyd.redraw(by(now[one], cyd)["id"], TREE, CAR)
        closed = run(*close)
        assert "2 tasks measured again: 2 passed." in closed.output
        assert "Nothing was changed" in closed.output
        closed = run(*close, "--apply")
        assert (closed.exit_code, "Round 1 is closed." in closed.output) == (0, True)
        now = tasks_of(admin, project_id)
        assert [now[one]["data"].get("qa_round") for one in ids] == [1, 1, None, None]
        assert not any("qa_look_at" in now[one]["data"] for one in ids)
        assert not [title for title in tabs(admin, project_id) if title.startswith("Rework")]
        (one,) = json.loads(state.read_text())["rounds"]
        assert (one["status"], one["tasks"][0]["outcome"]["status"]) == ("closed", "passed")
        out = measure(run, project_id, tmp_path)
        none_left = run(*call[:2], "--qa", out, "--state", state)
        assert "no gate failed" in none_left.output
        listed = run("rework", "status", source, "--state", state)
        assert f"{letter} is user {cyd.id}" in listed.output
        assert "Round 1: fix, closed" in listed.output


def test_a_round_is_closed_though_an_annotation_that_it_waits_for_was_deleted(
    run, admin, label_studio, project_factory, tmp_path
):
    state = tmp_path / "rework.json"
    with people(label_studio, "rework-ann", "rework-bob", "rework-cyd") as owners:
        project_id, ids = drawn_project(admin, project_factory, owners, [MISSED, (CAR,)])
        source = f"project:{project_id}"
        out = measure(run, project_id, tmp_path)
        call = ["rework", source, "--qa", out, "--state", state, "--mode", "fix", "--apply"]
        assert run(*call).exit_code == 0
        drawn = tasks_of(admin, project_id)[ids[0]]["annotations"]
        for one in drawn:
            if one["completed_by"] != owners[0].id:
                admin.request("DELETE", f"/api/annotations/{one['id']}/")
        said = [
            f"annotation {one['id']} of task {ids[0]} was deleted since round 1"
            for one in drawn
            if one["completed_by"] != owners[0].id
        ]
        status = ["rework", "status", source, "--state", state]
        assert all(one in run(*status).output for one in said)
        found = json.loads(run(*status, "--json").output)["deleted_since"]
        assert [(key, sorted(value)) for key, value in found.items()] == [("1", [str(ids[0])])]
        close = ["rework", "close", source, "--state", state, "--workers", 1, "--apply"]
        closed = run(*close)
        assert closed.exit_code == 0, closed.output
        assert f"task {ids[0]}: deleted (it could not be measured" in closed.output
        assert all(one in closed.output for one in said)
        (one,) = json.loads(state.read_text())["rounds"]
        assert (one["status"], one["tasks"][0]["outcome"]["status"]) == ("closed", "deleted")
        assert len(one["tasks"][0]["outcome"]["deleted"]) == 2
        assert all(one in run(*status).output for one in said)


def test_somebody_new_draws_it_and_undo_restores_the_overlap(
    run, admin, label_studio, project_factory, tmp_path
):
    state = tmp_path / "rework.json"
    names = ("rework-ann", "rework-bob", "rework-cyd", "rework-dan")
    with people(label_studio, *names) as (*owners, dan):
        project_id, ids = drawn_project(admin, project_factory, owners, [MISSED, (CAR,)])
        out = measure(run, project_id, tmp_path)
        call = ["rework", f"project:{project_id}", "--qa", out, "--state", state]
        call += ["--mode", "fresh", "--apply"]
        before = read_stream_places(admin, project_id, ids)
        assert dan.next_task(project_id) is None
        assert run(*call).exit_code == 0
        place = read_stream_places(admin, project_id, ids)[ids[0]]
        assert (place.overlap, place.is_labeled) == (4, False)
        assert "qa_look_at" not in tasks_of(admin, project_id)[ids[0]]["data"]
        assert [one.next_task(project_id) for one in (*owners, dan)] == [None] * 3 + [ids[0]]

        undo = ["rework", "undo", f"project:{project_id}", "--state", state]
        assert "would be taken back" in run(*undo).output
        undone = run(*undo, "--apply")
        assert (undone.exit_code, "Left:" in undone.output) == (0, False), undone.output
        assert read_stream_places(admin, project_id, ids) == before
        assert "qa_round" not in tasks_of(admin, project_id)[ids[0]]["data"]

        assert run(*call).exit_code == 0
        dan.submit(dan.next_task(project_id), TREE, CAR)
        close = ["rework", "close", f"project:{project_id}", "--state", state, "--workers", 1]
        closed = run(*close, "--apply")
        # Three agree now and one does not: worked on, and still short.
        assert f"task {ids[0]}: below" in closed.output
        assert "Round 2 is closed. 1 tasks are still short" in closed.output
        states = [one["status"] for one in json.loads(state.read_text())["rounds"]]
        assert states == ["undone", "closed"]


def test_an_adjudicator_decides_between_the_drawings(
    run, admin, label_studio, project_factory, tmp_path
):
    state = tmp_path / "rework.json"
    with people(label_studio, "rework-ann", "rework-bob", "rework-cyd", "rework-eve") as everybody:
        *owners, eve = everybody
        project_id, ids = drawn_project(admin, project_factory, owners, [SHIFTED, (CAR,)])
        out = measure(run, project_id, tmp_path)
        call = ["rework", f"project:{project_id}", "--qa", out, "--state", state]
        assert run(*call, "--mode", "adjudicate", "--apply").exit_code == 0
        assert in_tab(admin, project_id, tabs(admin, project_id)["Rework 1: decide"]) == ids[:1]
        close = ["rework", "close", f"project:{project_id}", "--state", state, "--workers", 1]
        assert run(*close, "--apply").exit_code == 1
        decision = eve.submit(ids[0], TREE, CAR)
        closed = run(*close, "--apply")
        assert f"task {ids[0]}: passed, decided by annotation {decision}" in closed.output
        (one,) = json.loads(state.read_text())["rounds"]
        to_decision = one["tasks"][0]["outcome"]["to_decision"]
        assert sorted(to_decision.values()) == pytest.approx([2 / 3, 1, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.json", "--mode", "redo"], "--mode is one of fix, fresh, adjudicate"),
        (["project:1"], "Name what the gates found"),
        (["close", "project:1"], "is open; there is nothing to close"),
        (["undo", "project:1", "--apply"], "has no round to undo"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, arguments, said):
    server = ["--url", "http://127.0.0.1:9", "--api-key", "k" * 40]
    state = ["--state", str(tmp_path / "s.json")]
    found = CliRunner().invoke(main, ["rework", *arguments, *state, *server])
    assert (found.exit_code, said in found.output) == (2, True), found.output
