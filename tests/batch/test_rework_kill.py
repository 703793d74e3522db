"""`segstudio rework` killed at random moments: the state is old or resumable, nothing is lost."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batch.rework_state import read_state
from segstudio.client import connect
from segstudio.writeback import read_stream_places, stored_tasks
from tests.batch.people import CONFIG, box

KILLS = 20
TASKS = 4
MAIN = "import sys; from segstudio.cli import main; print('up', flush=True); main(sys.argv[1:])"


def qa_result(ids, people):
    """A result whose gate fails every task, as `segstudio qa` writes it."""
    listed = [{"task": one, "value": 0.1, "class": "Car"} for one in ids]
    entries = [
        {"id": one, "miou": 0.1, "classes": {"Car": 0.1}, "worst_class": "Car",
         "annotators": people, "conflicts": []}
        for one in ids
    ]  # fmt: skip
    failed = {"scope": "class", "subject": "Car", "metric": "iou", "threshold": 0.9,
              "against": "annotators", "verdict": "fail", "worst_tasks": listed}  # fmt: skip
    return {"batch": {"gates": [failed], "verdict_reason": "Cars."}, "tasks": entries}


def drawn_on(raw):
    """A task's annotations without the words on how long ago they were made."""
    return [
        {key: value for key, value in one.items() if key != "created_ago"}
        for one in raw["annotations"]
    ]


@pytest.mark.timeout(900)
def test_a_kill_at_any_moment_leaves_what_can_be_finished(
    label_studio, project_factory, tmp_path, artifacts_dir
):
    chance = random.Random(20261121)
    project = project_factory(CONFIG, maximum_annotations=2)
    environment = {**os.environ, "LABEL_STUDIO_URL": label_studio.url,
                   "LABEL_STUDIO_API_KEY": label_studio.api_key}  # fmt: skip
    state_path, qa_path = tmp_path / "rework.json", tmp_path / "qa.json"
    source = f"project:{project.id}"

    def start(*arguments):
        command = [sys.executable, "-c", MAIN, *map(str, arguments)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    opening = ("rework", source, "--qa", qa_path, "--state", state_path, "--apply")
    undoing = ("rework", "undo", source, "--state", state_path, "--apply")

    with connect(label_studio.url, label_studio.api_key) as client:
        me = int(client.get_json("/api/current-user/whoami")["id"])
        drawn = [{"completed_by": me, "result": [box("Car", 1, 1, 9, 9)], "ground_truth": False}]
        tasks = [
            {"data": {"image": f"https://example.org/{n}.png", "mine": n}, "annotations": drawn}
            for n in range(TASKS)
        ]
        client.request("POST", f"/api/projects/{project.id}/import", json=tasks)

        def seen():
            return {int(raw["id"]): raw for raw in stored_tasks(client, project.id)}

        def tabs():
            views = client.get_json("/api/dm/views/", project=project.id)
            return [v["data"]["title"] for v in views if v["data"]["title"].startswith("Rework")]

        first = seen()
        ids = sorted(first)
        places = read_stream_places(client, project.id, ids)
        qa_path.write_text(json.dumps(qa_result(ids, [me])))

        def nothing_is_lost():
            """Annotations and others' data are as they were; the history only grows."""
            now = seen()
            assert [drawn_on(now[one]) for one in ids] == [drawn_on(first[one]) for one in ids]
            assert all(first[one]["data"].items() <= now[one]["data"].items() for one in ids)
            state = read_state(state_path, client.url)
            for one in state.rounds:
                assert [task.task_id for task in one.tasks] == ids
                assert all(dict(task.before)["qa_round"] is None for task in one.tasks)
            # What stands on a task is of a round that the state knows, so that it can be undone.
            found = {raw["data"].get("qa_round") for raw in now.values()} - {None}
            assert found <= {one.number for one in state.rounds}
            return state

        # An undisturbed call of each kind says how long they take.
        lasts_s, log = {}, []
        for command in ((*opening, "--mode", "fix"), undoing):
            process = start(*command)
            began = time.monotonic()
            assert process.wait() == 0, process.stdout.read()
            lasts_s[command[1]] = time.monotonic() - began
        for number in range(KILLS):
            mode = "fix" if number % 4 < 2 else "fresh"
            state = nothing_is_lost()
            latest = state.latest
            is_open = latest is not None and latest.status == "open"
            command = undoing if is_open else (*opening, "--mode", mode)
            process = start(*command)
            time.sleep(chance.random() * lasts_s[command[1]])
            process.kill()
            code = process.wait()
            latest = nothing_is_lost().latest
            status = "none" if latest is None else latest.status
            said = "undo" if command is undoing else f"open {mode}"
            log.append(f"kill {number}: {said}, exit {code}, round {status}")
            if latest is not None and latest.status in ("opening", "undoing"):
                # The same call again finishes what was begun.
                again = opening if latest.status == "opening" else undoing
                process = start(*again)
                assert process.wait() == 0, process.stdout.read()
                after = read_state(state_path, client.url).rounds[-1]
                assert after.status == {"opening": "open", "undoing": "undone"}[latest.status]
                rows = [raw["data"] for raw in seen().values()]
                if after.status == "open":
                    assert {row["qa_round"] for row in rows} == {after.number}
                    texts = {row.get("qa_look_at") for row in rows}
                    expected = {task.look_at or None for task in after.tasks}
                    assert texts == expected
                    assert len(tabs()) == (after.mode == "fix")
        Path(artifacts_dir, "rework-kills.log").write_text("\n".join(log) + "\n")
        killed = sum("exit -9" in line for line in log)
        assert killed >= 10, log
        assert any("opening" in line or "undoing" in line for line in log), log
        latest = nothing_is_lost().latest
        if latest is not None:
            process = start(*undoing)
            assert process.wait() == 0, process.stdout.read()
        # Undone, everything is as it was before the first round.
        now = seen()
        assert [now[one]["data"] for one in ids] == [first[one]["data"] for one in ids]
        assert read_stream_places(client, project.id, ids) == places
        assert tabs() == []
