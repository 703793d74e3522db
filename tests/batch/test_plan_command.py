"""`segstudio plan`: the dry run, and what --apply leaves on a real server."""

import io
import json
import uuid

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from batch.representatives import choose_medoids, image_features, similarities
from segstudio.cli import main
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation, raw_task

SHAPE = np.zeros((24, 24), bool)
SHAPE[4:20, 4:20] = True


def run(*args):
    return CliRunner().invoke(main, [str(one) for one in args])


def single(number, person=1, label="car", **fields):
    return raw_task(number, [annotation(number, person, [(label, SHAPE)], **fields)])


def write(folder, tasks):
    path = folder / "tasks.json"
    path.write_text(json.dumps(tasks))
    path.with_name("tasks.label-config.xml").write_text(CONFIG_XML)
    return path


def test_a_dry_run_says_what_it_would_ask_for_and_what_it_costs(tmp_path):
    source = write(tmp_path, [single(n, 1 + n % 2, lead_time=60.0) for n in range(1, 41)])
    out = tmp_path / "plan.json"
    ran = run("plan", source, "--workers", "1", "--out", out)
    assert ran.exit_code == 0, ran.output
    assert "40 tasks, 0 drawn by two people or more" in ran.output
    assert "8 tasks get a second annotator; about 0.1 hours" in ran.output
    assert "A dry run: nothing was written." in ran.output
    plan = json.loads(out.read_text())
    assert len(plan["asked"]) == 8 and plan["selection"]["source"] == "tasks.json"
    assert {one["kind"] for one in plan["domains"]} == {"class", "annotator"}
    again = tmp_path / "again.json"
    run("plan", source, "--workers", "2", "--out", again)
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--apply"], "--apply needs a project on a server"),
        (["--since", "2026-01-01"], "leave single annotations out"),
        (["--batch", "batch=9"], "none passes the filters"),
        (["--pilot", "3"], "None of 4 images can be read"),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path, extra, sentence):
    source = write(tmp_path, [single(n) for n in range(1, 5)])
    ran = run("plan", source, "--workers", "1", *extra)
    assert ran.exit_code == 2 and sentence in " ".join(ran.output.split())


def photo(color, seed=0):
    random = np.random.default_rng(seed)
    noise = random.integers(0, 20, (32, 48, 3))
    return np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)


def test_a_pilot_takes_images_of_every_kind(tmp_path):
    colors = {"red": (200, 30, 30), "green": (30, 160, 30), "night": (5, 5, 10)}
    tasks = []
    (tmp_path / "photos").mkdir()
    for number in range(1, 25):
        name = ("red", "green", "night")[number % 3] if number < 20 else "red"
        Image.fromarray(photo(colors[name], number)).save(tmp_path / "photos" / f"{number:03}.png")
        tasks.append(single(number))
    source = write(tmp_path, tasks)
    out = tmp_path / "pilot.json"
    args = ("plan", source, "--pilot", "3", "--images", tmp_path / "photos", "--out", out)
    ran = run(*args)
    assert ran.exit_code == 0, ran.output
    found = json.loads(out.read_text())
    kinds = {("red", "green", "night")[one["task"] % 3] if one["task"] < 20 else "red"
             for one in found["asked"]}  # fmt: skip
    assert kinds == set(colors)
    assert sum(one["stands_for"] for one in found["asked"]) == 24
    assert found["closeness"] > found["closeness_by_lot"]
    before = out.read_bytes()
    run(*args)
    assert out.read_bytes() == before


def test_medoids_are_no_worse_than_any_other_choice_of_a_small_set():
    random = np.random.default_rng(3)
    points = np.array([image_features(photo(random.integers(0, 200, 3), n)) for n in range(9)])
    similar = similarities(points)
    found = similar[:, choose_medoids(similar, 2)].max(axis=1).sum()
    best = max(similar[:, [a, b]].max(axis=1).sum() for a in range(9) for b in range(a))
    assert found >= 0.99 * best
    assert choose_medoids(similar, 20) == list(range(9))


@pytest.mark.server
def test_an_applied_plan_brings_its_tasks_back_into_the_stream(label_studio, tmp_path):
    sdk = label_studio.sdk()
    name = f"plan-{uuid.uuid4().hex[:8]}"
    people = [
        sdk.users.create(username=f"{name}{k}", email=f"{name}{k}@example.org").id for k in "ab"
    ]
    project = sdk.projects.create(title=name, label_config=CONFIG_XML)
    try:
        stream = io.BytesIO()
        Image.fromarray(photo((99, 99, 99))).save(stream, "PNG")
        tasks = [
            {"data": {"image": f"/data/upload/{n}.png", "batch": n % 2},
             "annotations": [annotation(0, people[n % 4 // 2], [("car", SHAPE)], lead_time=36.0)]}
            for n in range(24)
        ]  # fmt: skip
        sdk.projects.import_tasks(id=project.id, request=tasks)
        server = ("--url", label_studio.url, "--api-key", label_studio.api_key)
        args = ("plan", f"project:{project.id}", "--batch", "batch=1", "--first", "4",
                "--workers", "1", *server)  # fmt: skip
        dry = run(*args, "--out", tmp_path / "plan.json")
        assert dry.exit_code == 0, dry.output
        assert "batch=1: 12 tasks" in dry.output
        asked = {one["task"] for one in json.loads((tmp_path / "plan.json").read_text())["asked"]}
        rows = sdk.tasks.list(project=project.id, fields="all", page_size=50)
        assert all(row.overlap == 1 and row.is_labeled for row in rows)
        applied = run(*args, "--apply")
        assert applied.exit_code == 0, applied.output
        assert f"overlap of {len(asked)} tasks raised" in applied.output
        for row in sdk.tasks.list(project=project.id, fields="all", page_size=50):
            assert (row.overlap, row.is_labeled) == ((2, False) if row.id in asked else (1, True))
            assert len(row.annotations) == 1
        again = run(*args, "--apply")
        assert "Nothing new to ask for" in again.output, again.output
    finally:
        sdk.projects.delete(id=project.id)
