import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qa_plugins.gold import GoldCheck
from qa_plugins.runner import run_checks
from segstudio.errors import UsageError
from segstudio.source import open_source
from segstudio.tasks import parse_task
from segstudio.taxonomy import derive_taxonomy
from tests.qa_plugins.qa_tasks import annotation, context, raw_task, write_export

GOOD, WIDE, LAZY = 71, 72, 73


def disc(radius_px: float, x: int = 40) -> np.ndarray:
    rows, columns = np.mgrid[:60, :80]
    return (columns - x) ** 2 + (rows - 30) ** 2 <= radius_px**2


def drawn(person: int, n: int) -> list[tuple[str, Any]]:
    radius = 16 + n % 5
    car = ("car", disc(radius + (4 if person == WIDE else 0)))
    sky = ("sky", disc(5, x=70))
    return [car] if person == LAZY else [car, sky]


def batch(count: int = 8, **more: Any) -> list[dict[str, Any]]:
    tasks = []
    for n in range(1, count + 1):
        people = [annotation(10 * n + p, p, drawn(p, n)) for p in (GOOD, WIDE, LAZY)]
        gold = annotation(10 * n, 1, drawn(GOOD, n), ground_truth=True)
        tasks.append(raw_task(n, [gold, *people]))
    return tasks


def summary(tasks: list[dict[str, Any]], **options: str) -> dict[str, Any]:
    check, given = GoldCheck(), context(options)
    return check.summarize([check.measure(parse_task(raw), given) for raw in tasks], given)


def of_person(found: dict[str, Any], person: int, name: str) -> dict[str, Any]:
    (entry,) = [one for one in found["annotators"] if one["id"] == person]
    (of_class,) = [one for one in entry["classes"] if one["name"] == name]
    return of_class


def test_each_annotator_is_compared_with_the_gold_class_by_class() -> None:
    found = summary(batch())
    assert found["gold_tasks"] == 8
    assert [one["id"] for one in found["annotators"]] == [GOOD, WIDE, LAZY]
    assert of_person(found, GOOD, "car")["iou"]["accumulated"] == 1.0
    wide = of_person(found, WIDE, "car")
    areas = [(disc(16 + n % 5).sum(), disc(20 + n % 5).sum()) for n in range(1, 9)]
    expected = sum(small for small, _ in areas) / sum(large for _, large in areas)
    assert wide["iou"]["accumulated"] == pytest.approx(expected, abs=1e-12)
    assert wide["offset_px"] == pytest.approx(4, abs=0.25)
    assert wide["outline_distance_px"] == pytest.approx(4, abs=0.3)
    assert wide["ap"]["at_50"] == pytest.approx(1)
    lazy = of_person(found, LAZY, "sky")
    assert lazy["iou"]["accumulated"] == 0.0 and lazy["ap"]["at_50"] == pytest.approx(0)
    assert of_person(found, GOOD, "road")["iou"]["accumulated"] is None


def test_the_batch_and_a_subset_pool_every_annotator_s_pair_with_the_gold() -> None:
    tasks = batch(6)
    for number, raw in enumerate(tasks):
        raw["data"]["split"] = "val" if number < 2 else "train"
    found = summary(tasks, subsets='[{"split": "val"}]')
    assert found["batch"]["compared_tasks"] == 6  # tasks, not pairs
    (subset,) = found["subsets"]
    assert (subset["where"], subset["gold_tasks"]) == ({"split": "val"}, 2)
    assert subset["batch"]["compared_tasks"] == 2
    pairs = [(n, person) for n in (1, 2) for person in (GOOD, WIDE, LAZY)]
    mine = {pair: dict(drawn(pair[1], pair[0]))["car"] for pair in pairs}
    gold = {n: dict(drawn(GOOD, n))["car"] for n in (1, 2)}
    shared = sum((mask & gold[n]).sum() for (n, _), mask in mine.items())
    joint = sum((mask | gold[n]).sum() for (n, _), mask in mine.items())
    car, sky = shared / joint, 2 / 3  # the sky is alike but for the one who never draws it
    assert subset["batch"]["miou"]["accumulated"] == pytest.approx((car + sky) / 2)
    lazy = subset["annotators"][2]
    assert [(one["id"], one["worst_class"]) for one in lazy["compared"]] == [(1, "sky"), (2, "sky")]


def test_readiness_wants_every_class_on_enough_tasks() -> None:
    verdicts = {
        one["id"]: one["readiness"] for one in summary(batch(), ready_iou="0.8")["annotators"]
    }
    assert verdicts[GOOD]["verdict"] == "ready"
    assert verdicts[WIDE] == {"verdict": "not ready", "below": ["car"], "unsure": []}
    assert verdicts[LAZY]["below"] == ["sky"]
    few = summary(batch(3))["annotators"]
    assert {one["readiness"]["verdict"] for one in few} == {"open"}


def test_a_second_gold_is_an_error_and_never_a_choice() -> None:
    tasks = batch(2)
    tasks[0]["annotations"].append(annotation(99, 2, drawn(WIDE, 1), ground_truth=True))
    found = summary(tasks)
    assert found["gold_tasks"] == 1
    (problem,) = found["problems"]
    assert problem["kind"] == "several-golds" and "2 gold annotations" in problem["message"]


def test_gold_from_a_sidecar_wins_and_annotators_see_nothing_of_it(tmp_path: Path) -> None:
    golds = [raw_task(n, [annotation(1000 + n, 1, drawn(WIDE, n))]) for n in (1, 2, 3)]
    (tmp_path / "gold").mkdir()
    path = write_export(tmp_path / "gold", golds)
    found = summary(batch(8), gold=str(path))
    assert found["gold_tasks"] == 3
    assert of_person(found, WIDE, "car")["iou"]["accumulated"] == 1.0


def test_a_missing_sidecar_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="There is no gold file"):
        summary(batch(1), gold="nowhere.json")


def test_unreadable_gold_is_none_and_said() -> None:
    (task,) = batch(1)
    task["annotations"][0]["result"][0]["value"]["rle"] = "torn"
    found = summary([task])
    assert found["gold_tasks"] == 0 and found["problems"][0]["kind"] == "unreadable-gold"


def test_slackening_is_reported_and_noise_is_not() -> None:
    def tasks(loss_px: float) -> list[dict[str, Any]]:
        made = []
        for n in range(1, 13):
            when = f"2026-03-{n:02}T08:00:00Z"
            mine = [("car", disc(20 - loss_px * n / 12))]
            gold = annotation(10 * n, 1, [("car", disc(20))], ground_truth=True)
            made.append(raw_task(n, [gold, annotation(10 * n + 1, GOOD, mine, created_at=when)]))
        return made

    (steady,) = summary(tasks(0))["annotators"]
    assert not steady["drift"]["is_significant"]
    (slack,) = summary(tasks(6))["annotators"]
    assert slack["drift"]["is_significant"]
    section = GoldCheck().report(summary(tasks(6)), lambda person: f"annotator {person}")
    assert any("slackens" in finding.text for finding in section.findings)


def test_the_section_names_who_is_ready(tmp_path: Path) -> None:
    source = open_source(str(write_export(tmp_path, batch())))
    run = run_checks(
        ["gold"], source, derive_taxonomy(source.label_config),
        options={"ready_iou": "0.8"}, workers=1,
    )  # fmt: skip
    json.dumps(run.result["checks"]["gold"])
    (section,) = run.sections({GOOD: "annotator A", WIDE: "annotator B", LAZY: "annotator C"}.get)
    texts = [finding.text for finding in section.findings]
    assert texts[0] == "Annotator A is ready."
    assert texts[1].startswith("Annotator B is not ready: car below 0.8")


def test_without_gold_the_section_says_how_to_give_some() -> None:
    tasks = [raw_task(1, [annotation(1, GOOD, drawn(GOOD, 1))])]
    section = GoldCheck().report(summary(tasks), str)
    assert "No task of this batch has gold" in section.findings[-1].text


@pytest.mark.parametrize("options", [{"ready_iou": "2"}, {"ready_tasks": "0"}, {"ready_iou": "x"}])
def test_options_that_cannot_work_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="check gold"):
        summary(batch(1), **options)
