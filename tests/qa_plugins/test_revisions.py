"""Revisions: what counts as one, whose it is, how much of the first pass stayed; on the page."""

import json
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner

from qa_plugins.revisions import revisions_section, summarize_revisions
from segstudio.cli import main
from segstudio.client import connect
from segstudio.snapshots import record_snapshot
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import CONFIG_XML, annotation, raw_task

SQUARE = np.zeros((8, 8), bool)
SQUARE[2:6, 2:6] = True  # 16 px
HALF = np.zeros((8, 8), bool)
HALF[2:6, 2:4] = True  # 8 px of them
FIRST = {"created_at": "2026-11-02T08:00:00Z", "updated_at": "2026-11-02T08:00:00Z"}
LATER = {"created_at": "2026-11-02T08:00:00Z", "updated_at": "2026-11-11T08:00:00Z"}


def history_of(tmp_path, *readings):
    """A history of tasks as they were read on the 9th, the 10th ... of November."""
    path = tmp_path / "history.sqlite"
    for day, tasks in enumerate(readings, start=9):
        moment = datetime(2026, 11, day, tzinfo=UTC)
        record_snapshot(path, "s", [parse_task(one) for one in tasks], now=moment, origin="")
    return path


def names(person):
    return f"P{person}"


def test_a_redrawn_annotation_counts_for_its_class_person_and_week(tmp_path):
    first = [
        raw_task(1, [annotation(1, 1, [("car", SQUARE), ("road", HALF)], **FIRST)]),
        raw_task(2, [annotation(2, 2, [("car", SQUARE)], **FIRST)]),
    ]
    second = [
        raw_task(1, [annotation(1, 1, [("car", HALF), ("road", HALF)], **LATER)], qa_round=1),
        raw_task(2, [annotation(2, 2, [("car", SQUARE)], **LATER)]),  # saved again, unchanged
    ]
    found = summarize_revisions(history_of(tmp_path, first, second))
    assert found["total"] == {
        "annotations": 2, "redrawn": 1, "redrawn_share": 0.5, "revisions": 1, "by_reviewers": 0,
        "iou_to_first_pass": pytest.approx(0.75),
    }  # fmt: skip
    of_class = {one["name"]: one for one in found["classes"]}
    assert (of_class["car"]["annotations"], of_class["car"]["redrawn"]) == (2, 1)
    assert of_class["car"]["iou_to_first_pass"] == 0.5
    assert (of_class["road"]["redrawn"], of_class["road"]["iou_to_first_pass"]) == (0, None)
    assert found["rounds"] == [{"round": 1, "revisions": 1}]
    assert found["weeks"] == [
        {"week": "2026-W45", "first_passes": 2, "redrawn_since": 1, "revisions": 0},
        {"week": "2026-W46", "first_passes": 0, "redrawn_since": 0, "revisions": 1},
    ]
    section = revisions_section(found, names)
    assert "1 of 2 annotations were redrawn" in section.lead and "(UTC)" in section.lead
    assert section.tables[0].rows[0][0] == "car"


def test_a_change_saved_by_somebody_else_is_a_reviewers(tmp_path):
    first = [raw_task(1, [annotation(1, 1, [("car", SQUARE)], updated_by=1, **FIRST)])]
    second = [raw_task(1, [annotation(1, 1, [("car", HALF)], updated_by=7, **LATER)])]
    found = summarize_revisions(history_of(tmp_path, first, second))
    assert (found["total"]["by_reviewers"], found["annotators"][0]["by_reviewers"]) == (1, 1)
    (reviewer,) = found["reviewers"]
    assert (reviewer["id"], reviewer["redrawn"], reviewer["iou_to_first_pass"]) == (7, 1, 0.5)
    tables = revisions_section(found, names).tables
    assert [one.rows[0][0] for one in tables if "Reviewers" in one.title] == ["P7"]


def test_a_changed_copy_is_a_review_of_the_original_and_no_annotation_more(tmp_path):
    tasks = [
        raw_task(
            1,
            [annotation(1, 1, [("car", SQUARE)], **FIRST),
             annotation(2, 7, [("car", HALF)], parent_annotation=1, **LATER)],
        )
    ]  # fmt: skip
    found = summarize_revisions(history_of(tmp_path, tasks))
    assert (found["total"]["annotations"], found["total"]["by_reviewers"]) == (1, 1)
    assert [one["id"] for one in found["annotators"]] == [1]
    assert [one["id"] for one in found["reviewers"]] == [7]


def test_a_class_that_is_gone_keeps_nothing_of_its_first_pass(tmp_path):
    first = [raw_task(1, [annotation(1, 1, [("car", SQUARE), ("road", HALF)], **FIRST)])]
    second = [raw_task(1, [annotation(1, 1, [("car", SQUARE)], **LATER)])]
    found = summarize_revisions(history_of(tmp_path, first, second))
    of_class = {one["name"]: one["iou_to_first_pass"] for one in found["classes"]}
    assert of_class == {"car": None, "road": 0.0}


def test_deleted_annotations_are_on_the_page_with_the_round_since_when(tmp_path):
    path = tmp_path / "history.sqlite"
    both = [
        annotation(1, 1, [("car", SQUARE)], **FIRST),
        annotation(2, 2, [("car", HALF)], **FIRST),
    ]
    readings = [raw_task(5, both, qa_round=1), raw_task(5, both[:1], qa_round=2)]
    for day, raw in enumerate(readings, start=9):
        moment = datetime(2026, 11, day, tzinfo=UTC)
        tasks = [parse_task(raw)]
        record_snapshot(path, "s", tasks, now=moment, origin="http://ls", tells_deleted=True)
    found = summarize_revisions(path, [5], "http://ls")
    (gone,) = found["deleted"]
    assert (gone["task"], gone["annotation"], gone["annotator"]) == (5, 2, 2)
    assert (gone["since_round"], gone["found_gone_at"][:10]) == (1, "2026-11-10")
    section = revisions_section(found, names)
    said = [one.evidence for one in section.findings]
    assert said == ["Annotation 2 of task 5 was deleted since round 1."]
    (table,) = [one for one in section.tables if one.title == "Deleted annotations"]
    assert table.rows == [(5, 2, "P2", "round 1", "2026-11-10")]
    assert summarize_revisions(path, [6], "http://ls")["deleted"] == []


def test_other_tasks_other_servers_and_an_empty_file_count_nothing(tmp_path):
    path = history_of(tmp_path, [raw_task(1, [annotation(1, 1, [("car", SQUARE)], **FIRST)])])
    assert summarize_revisions(path, [2])["total"]["annotations"] == 0
    assert summarize_revisions(path, [1], "http://ls")["total"]["annotations"] == 0
    nothing = summarize_revisions(tmp_path / "new.sqlite")
    assert nothing["total"]["annotations"] == 0
    assert revisions_section(nothing, names) is None


@pytest.mark.server
def test_a_reviewers_change_on_a_real_server_is_on_the_page(label_studio, tmp_path):
    sdk = label_studio.sdk()
    name = f"revise-{uuid.uuid4().hex[:8]}"
    people = [
        sdk.users.create(username=f"{name}{k}", email=f"{name}{k}@example.org").id for k in "ab"
    ]
    project = sdk.projects.create(title=name, label_config=CONFIG_XML)
    history = tmp_path / "history.sqlite"
    try:
        tasks = [
            {"data": {"image": f"/data/upload/{n}.png"},
             "annotations": [annotation(0, one, [("car", SQUARE)]) for one in people]}
            for n in range(3)
        ]  # fmt: skip
        sdk.projects.import_tasks(id=project.id, request=tasks)

        def check(out):
            ran = CliRunner().invoke(
                main,
                ["qa", "agreement", f"project:{project.id}", "--out", str(out), "--workers", "1",
                 "--pictures", "0", "--crops", "0", "--history", str(history),
                 "--url", label_studio.url, "--api-key", label_studio.api_key],
            )  # fmt: skip
            assert ran.exit_code == 0, ran.output
            return json.loads((out / "qa.json").read_text())["revisions"]

        assert check(tmp_path / "first")["total"]["redrawn"] == 0
        with connect(label_studio.url, label_studio.api_key) as client:
            rows = client.get_json("/api/tasks/", project=project.id, fields="all")["tasks"]
            changed = rows[0]["annotations"][0]
            result = annotation(0, 0, [("car", HALF)])["result"]
            client.request(
                "PATCH", f"/api/annotations/{changed['id']}/", json={"result": result}
            )  # fmt: skip
            deleted = rows[1]["annotations"][0]["id"]
            client.request("DELETE", f"/api/annotations/{deleted}/")
        found = check(tmp_path / "second")
        (gone,) = found["deleted"]
        assert (gone["task"], gone["annotation"]) == (rows[1]["id"], deleted)
        assert (found["total"]["annotations"], found["total"]["redrawn"]) == (6, 1)
        assert found["total"]["by_reviewers"] == 1
        assert found["reviewers"][0]["iou_to_first_pass"] == 0.5
        page = (tmp_path / "second" / "qa.html").read_text()
        assert "1 of 6 annotations were redrawn" in page
        assert f"Annotation {deleted} of task {rows[1]['id']} was deleted since" in page
        assert "Reviewers&#39; changes against the first pass" in page
    finally:
        sdk.projects.delete(id=project.id)
