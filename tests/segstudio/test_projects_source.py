"""Several projects as one source: which may be one, what a difference says, on a real server."""

import json
import uuid
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from segstudio.cli import main
from segstudio.client import connect
from segstudio.errors import UsageError
from segstudio.label_config import parse_label_config
from segstudio.projects_source import interface_difference
from segstudio.snapshots import read_revisions, read_snapshots
from segstudio.source import TaskFilter, open_source, parse_projects
from tests.qa_plugins.qa_tasks import annotation

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Car"/><Label value="Road"/></BrushLabels></View>'
)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("<View>", '<View style="x">'), None),
        (('<Label value="Car"/>', '<Label value="Car" background="#f00" hotkey="1"/>'), None),
        (
            ('<Label value="Car"/><Label value="Road"/>',
             '<Label value="Road"/><Label value="Car"/>'),
            None,
        ),
        (
            ('<Label value="Car"/>', ""),
            "the control 'brush' of the second lacks the label 'Car'.",
        ),
        (
            ('<Label value="Car"/>', '<Label value="Car"/><Label value="Bus"/>'),
            "the control 'brush' of the first lacks the label 'Bus'.",
        ),
        (("BrushLabels", "BitmaskLabels"), "the control 'brush' is a BrushLabels on image in one, "
         "a BitmaskLabels on image in the other."),
        (('"$image"', '"$photo"'), "the image 'image' is '$image' in one, '$photo' in the other."),
        (('name="brush"', 'name="mask"'), "only the first has the control 'brush'."),
        (
            ("</View>", '<Choices name="c" toName="image"><Choice value="a"/></Choices></View>'),
            "only the second has the control 'c'.",
        ),
    ],
)  # fmt: skip
def test_interfaces_that_store_the_same_are_one_and_a_difference_is_named(change, sentence):
    other = CONFIG.replace(*change)
    if change[0] == "BrushLabels":
        other = other.replace("</BrushLabels>", "</BitmaskLabels>")
    difference = interface_difference(parse_label_config(CONFIG), parse_label_config(other))
    assert difference == sentence


@pytest.mark.parametrize("spec", ["project:", "project:3,4", "project:3,project:x", "project:3,"])
def test_a_project_without_a_number_is_refused(spec):
    with pytest.raises(UsageError, match="named by its number"):
        parse_projects(spec)


def test_a_project_named_twice_and_a_tab_of_several_are_refused():
    with pytest.raises(UsageError, match="names a project twice"):
        parse_projects("project:3,project:3")
    with pytest.raises(UsageError, match="A tab belongs to one project"):
        open_source("project:3,project:4", url="http://x", api_key="k", filters=TaskFilter(tab=1))


@pytest.fixture
def projects(label_studio):
    """Two projects of one interface with two tasks each, all drawn by two people; one other."""
    sdk = label_studio.sdk()
    names = [f"several-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    people = [sdk.users.create(username=one, email=f"{one}@example.org").id for one in names]
    made = []
    for config, batches in ((CONFIG, (1, 2)), (CONFIG, (2, 2)), (CONFIG.replace("Car", "Bus"), ())):
        project = sdk.projects.create(title=f"several {uuid.uuid4().hex[:6]}", label_config=config)
        tasks = [
            {
                "data": {"image": f"/data/upload/{batch}.png", "batch": batch},
                "annotations": [
                    annotation(0, person, [("Car", [[0, 1, 1], [0, 1, shade]])], ground_truth=False)
                    for person, shade in zip(people, (0, 1), strict=True)
                ],
            }
            for batch in batches
        ]
        if tasks:
            sdk.projects.import_tasks(id=project.id, request=tasks)
        made.append(project.id)
    yield made
    for one in made:
        sdk.projects.delete(id=one)


@pytest.mark.server
def test_several_projects_are_one_source_on_a_real_server(label_studio, projects, tmp_path):
    first, second, other = projects
    both = f"project:{first},project:{second}"
    with connect(label_studio.url, label_studio.api_key) as client:
        source = open_source(both, client=client)
        tasks = list(source.tasks())
        assert Counter(task.project_id for task in tasks) == {first: 2, second: 2}
        assert source.count() == 4
        assert source.project_of(tasks[-1].id) == second
        batch = open_source(both, client=client, batch="batch=2")
        assert len(list(batch.tasks())) == 3
        named = TaskFilter(task_ids=frozenset({tasks[0].id, tasks[3].id, 999_999_999}))
        source = open_source(both, client=client, filters=named)
        assert [task.id for task in source.tasks()] == [tasks[0].id, tasks[3].id]
        assert [one.task_id for one in source.problems] == [999_999_999]
        with pytest.raises(UsageError, match="lacks the label 'Car'"):
            open_source(f"project:{first},project:{other}", client=client).tasks()

    server = ["--url", label_studio.url, "--api-key", label_studio.api_key]
    out = tmp_path / "qa"
    ran = CliRunner().invoke(
        main,
        ["qa", "agreement", both, "--batch", "batch=2", "--out", str(out), "--workers", "1",
         "--pictures", "0", "--crops", "0", "--write-back", *server],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    result = json.loads((out / "qa.json").read_text())
    assert result["selection"]["projects"] == [first, second]
    assert result["selection"]["filters"] == {"batch": "batch=2"}
    assert f"projects {first} and {second} at {label_studio.url}" in result["selection"]["text"]
    assert "batch=2" in (out / "qa.html").read_text()
    with connect(label_studio.url, label_studio.api_key) as client:
        for task in tasks:
            stored = client.get_json(f"/api/tasks/{task.id}/")["data"]
            assert ("qa_miou" in stored) == (stored["batch"] == 2), stored

    # The other tasks are watched: batch 1, in both projects.
    history = tmp_path / "history.sqlite"
    ran = CliRunner().invoke(
        main,
        ["qa", "watch", both, "--batch", "batch=1", "--once", "--history", str(history), *server],
    )
    assert ran.exit_code == 0, ran.output
    with connect(label_studio.url, label_studio.api_key) as client:
        for task in tasks:
            assert "qa_miou" in client.get_json(f"/api/tasks/{task.id}/")["data"]
    assert {one.task_id for one in read_revisions(history)} == {tasks[0].id}

    place = Path(tmp_path / "set")
    ran = CliRunner().invoke(
        main,
        ["export", "semantic-png", both, "--annotations", "consensus", "--out", str(place),
         "--workers", "1", "--history", str(history), *server],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert len(list(read_revisions(history))) == 8
    assert [one.tasks for one in read_snapshots(history)][-1] == 4
    card = json.loads((place / "dataset.json").read_text())
    assert card["selection"]["projects"] == [first, second]
    assert (card["images"], card["project_id"]) == (4, None)
    ran = CliRunner().invoke(main, ["labels", "check", both, *server])
    assert ran.exit_code == 0, ran.output
    assert "8 annotations of 4 tasks in projects" in ran.output
