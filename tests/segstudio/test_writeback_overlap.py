"""Raising a task's overlap: what is written, never lowered, and back in the stream for real."""

import uuid

import pytest

from segstudio.client import connect
from segstudio.writeback_overlap import overlap_changes, write_overlaps
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation


@pytest.mark.parametrize(
    ("overlap", "labelled", "annotations", "wanted", "changes"),
    [
        (1, True, 1, 2, {"overlap": 2, "is_labeled": False}),
        (1, False, 0, 2, {"overlap": 2, "is_labeled": False}),
        (2, True, 1, 2, {"overlap": 2, "is_labeled": False}),
        (2, False, 1, 2, {}),
        (2, True, 2, 2, {}),
        (3, False, 1, 2, {}),
        (1, True, 2, 2, {"overlap": 2}),
        (None, True, 1, 1, {}),
    ],
)
def test_what_is_written(overlap, labelled, annotations, wanted, changes):
    row = {"overlap": overlap, "is_labeled": labelled, "total_annotations": annotations}
    assert overlap_changes(row, wanted) == changes


@pytest.mark.server
def test_a_finished_task_comes_back_into_the_stream(label_studio):
    sdk = label_studio.sdk()
    name = f"overlap-{uuid.uuid4().hex[:8]}"
    person = sdk.users.create(username=name, email=f"{name}@example.org").id
    project = sdk.projects.create(title=name, label_config=CONFIG_XML)
    tasks = [
        {"data": {"image": f"/data/upload/{n}.png"},
         "annotations": [annotation(0, person, [("car", [[0, 1]])])]}
        for n in (1, 2)
    ]  # fmt: skip
    sdk.projects.import_tasks(id=project.id, request=tasks)
    try:
        with connect(label_studio.url, label_studio.api_key) as client:
            rows = client.get_json("/api/tasks/", project=project.id, fields="all")["tasks"]
            first, second = sorted(int(row["id"]) for row in rows)
            wanted = {first: 2, 999_999_999: 2}
            planned = write_overlaps(client, project.id, wanted, dry_run=True)
            assert str(planned) == (
                "overlap of 1 tasks would be raised, 0 asked for it already, 1 failed"
            )
            done = write_overlaps(client, project.id, wanted)
            again = write_overlaps(client, project.id, {first: 2})
            assert (done.raised, len(done.problems)) == (1, 1)
            assert (again.raised, again.unchanged) == (0, 1)
            served = client.get_json(f"/api/projects/{project.id}/next/")
            assert served["id"] == first
            other = client.get_json(f"/api/tasks/{second}/")
            assert (other["overlap"], other["is_labeled"]) == (1, True)
    finally:
        sdk.projects.delete(id=project.id)
