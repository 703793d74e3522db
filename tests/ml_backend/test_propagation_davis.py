"""Propagation on real masks: above repeating the key frame, and judged by the check `temporal`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from numpy.typing import NDArray

from benchmarks.bench_propagation import correlation, measure, read_sequences, table
from ml_backend.propagate_command import propagate
from qa_plugins.command import qa
from segstudio.masks import Mask
from segstudio.region_values import mask_to_value
from tests.qa_plugins.qa_tasks import CONFIG_XML

SEQUENCES = ("blackswan", "judo", "lab-coat")


def test_masks_between_key_frames_are_above_repeating_the_key_frame(fixtures_dir: Path) -> None:
    path = fixtures_dir / "davis" / "project-8-sequences.json.gz"
    scored = []
    results = []
    for name, frames in read_sequences(path, SEQUENCES, most_frames=16).items():
        found = measure(name, frames, ways=("latest", "nearest", "shapes"))
        results.append(found)
        assert found.mean("shapes") > found.mean("nearest") > found.mean("latest"), name
        scored += found.scored["shapes"]
    assert len(results) == len(SEQUENCES)
    assert correlation(scored)[0] > 0.7


def test_flow_on_rendered_frames_is_above_both_repetitions(fixtures_dir: Path) -> None:
    path = fixtures_dir / "davis" / "project-8-sequences.json.gz"
    (frames,) = read_sequences(path, ["blackswan"], most_frames=11).values()
    found = measure("blackswan", frames)
    assert found.mean("flow") > max(found.mean("latest"), found.mean("nearest"))
    *_, last = table([found])
    assert last.startswith("| all | 8 |")


def test_the_check_temporal_judges_propagated_frames(tmp_path: Path) -> None:
    """Frames between steady key frames hold still; a mask that was moved there is found."""
    batch = tmp_path / "batch.json"
    tasks = []
    for frame in range(9):
        dense = np.zeros((60, 100), bool)
        dense[20:40, 30 + frame : 50 + frame] = True
        value = mask_to_value_of(dense)
        item = {"id": "a", "from_name": "brush", "to_name": "image", "type": "brushlabels",
                "original_width": 100, "original_height": 60, "value": value}  # fmt: skip
        annotated = [{"id": frame + 1, "completed_by": 1, "result": [item]}]
        data = {"image": f"{frame}.png", "video": "clip", "frame": frame}
        tasks.append(
            {"id": frame + 1, "data": data, "annotations": annotated if frame % 4 == 0 else []}
        )
    batch.write_text(json.dumps(tasks))
    batch.with_suffix(".label-config.xml").write_text(CONFIG_XML)
    out = tmp_path / "predictions.json"
    arguments = [str(batch), "--no-photos", "--with-keys", "--out", str(out)]
    assert CliRunner().invoke(propagate, arguments, catch_exceptions=False).exit_code == 0
    steady = judged(out, tmp_path / "steady")
    assert steady["frames"] == 9 and steady["events"] == []
    (rater,) = steady["annotators"]
    assert rater["id"] == -1 and rater["classes"][0]["iou"] > 0.9

    broken = json.loads(out.read_text())
    dense = np.zeros((60, 100), bool)
    dense[20:26, 30:40] = True
    broken[2]["predictions"][0]["result"][0]["value"] = mask_to_value_of(dense)
    out.write_text(json.dumps(broken))
    assert [(one["kind"], one["frame"]) for one in judged(out, tmp_path / "broken")["events"]] == [
        ("jump", "2")
    ]


def mask_to_value_of(dense: NDArray[np.bool_]) -> dict[str, Any]:
    return mask_to_value(Mask.from_dense(dense), "brush", ["car"])


def judged(path: Path, folder: Path) -> dict[str, Any]:
    arguments = ["temporal", str(path), "--rater", "prediction", "--out", str(folder)]
    result = CliRunner().invoke(qa, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads((folder / "qa.json").read_text())
    summary: dict[str, Any] = found["checks"]["temporal"]
    return summary
