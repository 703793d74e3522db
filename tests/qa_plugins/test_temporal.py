import base64
import gzip
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from qa_plugins.temporal import TemporalCheck
from qa_plugins.video_consistency import VideoConsistency
from segstudio.errors import UsageError
from segstudio.photos import PhotoSource
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, context, raw_task

A, B = 71, 72


def square(left: int, top: int = 20, size: int = 14) -> Any:
    dense = np.zeros((64, 96), bool)
    dense[top : top + size, left : left + size] = True
    return dense


def run(raws: list[dict[str, Any]], **options: str) -> dict[str, Any]:
    check, given = TemporalCheck(), context(options)
    measured = [check.measure(parse_task(raw), given) for raw in raws]
    summary = check.summarize(measured, given)
    section = check.report(json.loads(json.dumps(summary)), lambda person: f"user {person}")
    assert section.findings
    return summary


def video(draw: Any, count: int = 8, people: tuple[int, ...] = (A,)) -> list[dict[str, Any]]:
    """Frames whose tasks come in another order than their numbers."""
    raws = [
        raw_task(
            n + 1, [annotation(100 * n + p, p, draw(p, n)) for p in people], video="v", frame=n
        )
        for n in range(count)
    ]
    return raws[::-1]


def events(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(one["kind"], one["frame"], one["class"]) for one in summary["events"]]


def drifting(person: int, n: int) -> list[Any]:
    return [("car", square(20 + n))]


CASES = {
    "gone": (lambda p, n: [] if n == 4 else [("car", square(20))], [("flicker", "4", "car")]),
    "flash": (
        lambda p, n: [("car", square(20)), *([("sky", square(60))] if n == 4 else [])],
        [("flash", "4", "sky")],
    ),
    "jump": (
        lambda p, n: [("car", square(20, size=9 if n == 4 else 14))],
        [("jump", "4", "car")],
    ),
    "vanished": (
        lambda p, n: [("road", square(60)), *([("car", square(20))] if n < 4 else [])],
        [("vanished", "4", "car")],
    ),
    "leaves": (lambda p, n: [("car", square(0))] if n < 4 else [("road", square(60))], []),
    "steady": (lambda p, n: [("car", square(20)), ("sky", square(60))], []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_happens_in_one_frame_is_reported_at_that_frame(case: str) -> None:
    draw, expected = CASES[case]
    summary = run(video(draw))
    found = events(summary)
    assert found == expected
    assert summary["frames"] == 8 and summary["warped"]["motion"] == 7


def test_two_classes_that_change_places_are_a_swap() -> None:
    def draw(person: int, n: int) -> list[Any]:
        names = ("car", "sky") if n < 4 else ("sky", "car")
        return [(names[0], square(20)), (names[1], square(60))]

    assert sorted(events(run(video(draw)))) == [("swap", "4", "car"), ("swap", "4", "sky")]


def test_a_known_drift_is_recovered_where_nothing_moves() -> None:
    (person,) = run(video(drifting), warp="none")["annotators"]
    (car,) = person["classes"]
    assert car["drift_px"] == pytest.approx([1, 0])
    assert car["growth_px"] == pytest.approx(0)
    assert car["beyond_chance"] == [True, False, False]


def photo(shift_px: int) -> str:
    return "data:image/png;base64," + base64.b64encode(photo_bytes(shift_px)).decode()


def photo_bytes(shift_px: int) -> bytes:
    noise = np.random.default_rng(3).integers(0, 255, (64, 140), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    smooth = cv2.normalize(smooth, smooth.copy(), 0, 255, cv2.NORM_MINMAX)
    content = io.BytesIO()
    Image.fromarray(smooth[:, 20 - shift_px : 116 - shift_px]).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(("scene_px", "drift_px"), [(0, 1.0), (1, None)])
def test_photos_tell_drift_from_motion(scene_px: int, drift_px: float | None) -> None:
    raws = video(drifting)
    for raw in raws:
        raw["data"]["image"] = photo(scene_px * raw["data"]["frame"])
    summary = run(raws)
    (car,) = summary["annotators"][0]["classes"]
    assert summary["warped"]["flow"] == 7
    if drift_px is None:  # the scene moves along: the mask is where it belongs
        assert car["drift_px"] == [None, None] and car["iou"] > 0.93
    else:
        assert car["drift_px"][0] == pytest.approx(drift_px)


def test_photos_come_from_the_folders_of_the_run_and_missing_ones_are_said(tmp_path: Path) -> None:
    raws = video(drifting)
    for raw in raws[:6]:
        name = f"{raw['data']['frame']}.png"
        raw["data"]["image"] = f"s3://bucket/{name}" if raw is raws[0] else name
        (tmp_path / name).write_bytes(photo_bytes(0))
    check = TemporalCheck()
    given = replace(context({}), photos=PhotoSource((tmp_path,)))
    measured = [check.measure(parse_task(raw), given) for raw in raws]
    summary = check.summarize(measured, pickle.loads(pickle.dumps(given)))
    assert summary["warped"] == {"flow": 4, "motion": 3, "none": 0}
    assert summary["photos_missing"] == 3 and "is not below" in summary["photo_trouble"]
    texts = [one.text for one in check.report(summary, str).findings]
    assert any(text.startswith("The photos of 3 of 8 frames") for text in texts)
    assert run(raws, photos=str(tmp_path))["warped"] == summary["warped"]


def test_consistency_is_known_by_hand() -> None:
    consistency = VideoConsistency([3])
    steady = np.array([[1, 1, 0, 0]], np.uint16)
    other = np.array([[1, 2, 0, 0]], np.uint16)
    for labels in (steady, steady, other):
        consistency.add({A: labels, B: steady})
    # B keeps two pixels for three frames, A one of them; A's one is constant with B too.
    assert consistency.sums == {(A, B, 3): [0.5, 1], (B, A, 3): [1.0, 1]}


def test_a_missing_frame_is_no_flicker_and_unordered_tasks_are_counted() -> None:
    raws = [raw for raw in video(lambda p, n: [("car", square(20))]) if raw["data"]["frame"] != 4]
    summary = run([*raws, raw_task(99, [annotation(1, A)])])
    assert (summary["gaps"], summary["tasks_without_frame"], summary["events"]) == (1, 1, [])


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="warp"):
        run(video(drifting), warp="magic")
    with pytest.raises(UsageError, match="windows"):
        run(video(drifting), windows="many")


def test_real_video_runs_end_to_end(fixtures_dir: Path) -> None:
    path = fixtures_dir / "davis" / "project-8-sequences.json.gz"
    raws = [raw for raw in json.loads(gzip.decompress(path.read_bytes())) if raw["id"] <= 12]
    for raw in raws:
        for one in raw["annotations"]:
            for region in one["result"]:
                region["value"]["brushlabels"] = ["car"]
    summary = run(raws)
    assert (summary["videos"], summary["frames"]) == (1, 12)
    assert all(0 <= one["value"] <= 1 for one in summary["consistency"])
    assert {one["id"] for one in summary["annotators"]} == {1, 2}
