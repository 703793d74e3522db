"""Embeddings ahead of the annotators: what is done, passed over, reported, and used by `serve`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ml_backend.app import create_app
from ml_backend.embeddings import EmbeddingStore
from ml_backend.engines.registry import load_engine
from ml_backend.images import label_studio_fetcher
from ml_backend.precompute_command import precompute
from ml_backend.protocol import PredictRequest, PredictTask
from ml_backend.settings import Settings

CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Car"/></KeyPointLabels>
<BrushLabels name="brush" toName="image"><Label value="Car"/></BrushLabels></View>"""


def write_photos(folder: Path, amount: int, size_px: tuple[int, int] = (60, 80)) -> Path:
    """Photos that all differ, and the export file that names them."""
    photos = folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(amount):
        pixels = rng.integers(0, 255, (*size_px, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.bmp")
    tasks = [{"id": n + 1, "data": {"image": f"{n}.bmp"}} for n in range(amount)]
    export = folder / "tasks.json"
    export.write_text(json.dumps(tasks))
    (folder / "tasks.label-config.xml").write_text(CONFIG)
    return export


def arguments(export: Path, *more: str, model: str = "classical") -> list[str]:
    folder = export.parent
    return [
        *(str(export), "--model", model, "--local-root", str(folder / "photos")),
        *("--embeddings-dir", str(folder / "store"), *more),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Runs `segstudio precompute` in this process."""

    def call(export: Path, *more: str) -> Result:
        result = CliRunner().invoke(precompute, arguments(export, "--workers", "1", *more))
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    return call


def counts(text: str) -> tuple[int, int, int]:
    """Encoded, there already, failed."""
    found = re.search(r"(\d+) encoded, (\d+) there already, (\d+) failed", text)
    assert found, text
    return int(found[1]), int(found[2]), int(found[3])


def test_a_second_run_passes_over_finished_images_without_opening_them(tmp_path, run):
    export = write_photos(tmp_path, 5)
    first = run(export)
    assert (first.exit_code, counts(first.output)) == (0, (5, 0, 0))
    assert f"in {tmp_path / 'store'}" in first.output
    assert "Next: segstudio serve --model classical --embeddings-dir" in first.output
    assert "precompute: 5 in" in first.output  # the progress line
    for photo in (tmp_path / "photos").iterdir():
        photo.unlink()
    assert counts(run(export).output) == (0, 5, 0)


def test_an_embedding_that_was_deleted_is_made_again(tmp_path, run):
    export = write_photos(tmp_path, 3)
    run(export)
    next((tmp_path / "store").glob("??/*.emb")).unlink()
    assert counts(run(export).output) == (1, 2, 0)


def test_the_same_photo_under_another_name_is_encoded_once(tmp_path, run):
    export = write_photos(tmp_path, 2)
    photos = tmp_path / "photos"
    (photos / "1.bmp").write_bytes((photos / "0.bmp").read_bytes())
    assert counts(run(export).output) == (1, 1, 0)


def test_failures_are_listed_and_stop_nothing(tmp_path, run):
    export = write_photos(tmp_path, 4)
    photos = tmp_path / "photos"
    (photos / "0.bmp").unlink()
    (photos / "1.bmp").write_bytes(b"no image")
    tasks = json.loads(export.read_text())
    tasks += [
        {"id": 5, "data": {"other": "x"}},
        {"id": 6, "data": {"image": "../tasks.json"}},
        {"id": 7, "data": {"image": "file:///etc/hostname"}},
        {"id": 8, "data": {"image": "http://10.0.0.1/a.png"}},
        "no task",
    ]
    export.write_text(json.dumps(tasks))
    failures = tmp_path / "failures.csv"
    result = run(export, "--failures", str(failures))
    assert (result.exit_code, counts(result.output)) == (0, (2, 0, 7))
    for task, reason in [
        (1, "is not below"),
        (2, "no image of a known format"),
        (5, "no image under .image"),
        (6, "is not below"),
        (7, "'file:' addresses are not allowed"),
        (8, "neither Label Studio nor an allowed host"),
        ("?", "Task 9 of"),
    ]:
        assert re.search(rf"FAILED task {re.escape(str(task))}: .*{reason}", result.output), reason
    assert "run the same command again" in result.output
    assert len(failures.read_text().splitlines()) == 8
    # Mended, only what failed is left to do.
    Image.new("RGB", (9, 9)).save(photos / "0.bmp")
    assert counts(run(export).output) == (1, 2, 6)


def test_where_nothing_is_ready_the_exit_code_says_so(tmp_path, run):
    export = write_photos(tmp_path, 1)
    (tmp_path / "photos" / "0.bmp").unlink()
    assert run(export).exit_code == 3


def test_a_full_folder_ends_the_run_and_keeps_what_it_made(tmp_path, run):
    export = write_photos(tmp_path, 30)
    result = run(export, "--disk-gb", "0.0001")  # 107 kB; a photo of noise is 14 kB
    assert result.exit_code == 3
    done, _, failed = counts(result.output)
    assert (3 < done < 12, failed) == (True, 0)
    assert "limit of 0.0001 GB is reached" in result.output
    assert len(list((tmp_path / "store").glob("??/*.emb"))) >= done - 1


def test_every_image_of_a_task_is_encoded(tmp_path, run):
    export = write_photos(tmp_path, 3)
    export.write_text(json.dumps([{"id": 1, "data": {"a": "0.bmp", "b": ["1.bmp", "2.bmp"]}}]))
    config = tmp_path / "tasks.label-config.xml"
    config.write_text(
        '<View><Image name="a" value="$a"/><Image name="b" valueList="$b"/>'
        '<BrushLabels name="s" toName="a"><Label value="x"/></BrushLabels></View>'
    )
    assert counts(run(export).output) == (3, 0, 0)


@pytest.mark.timeout(300)
def test_a_killed_run_goes_on_where_it_was_and_serve_then_encodes_nothing(tmp_path):
    export = write_photos(tmp_path, 100, size_px=(480, 640))
    command = [sys.executable, "-m", "segstudio.cli", "precompute"]
    command += arguments(export, "--workers", "2")
    killed = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    store = tmp_path / "store"
    deadline = time.monotonic() + 200
    while len(list(store.glob("??/*.emb"))) < 5:
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = {path.name: path.stat().st_ino for path in store.glob("??/*.emb")}
    assert 5 <= len(before) < 100

    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert counts(done.stdout) == (100 - len(before), len(before), 0)
    after = {path.name: path.stat().st_ino for path in store.glob("??/*.emb")}
    assert len(after) == 100
    assert before.items() <= after.items()  # none of them was written again

    settings = Settings(embeddings_dir=store, local_roots=(tmp_path / "photos",))
    app = create_app(settings, load_engine("classical"), label_studio_fetcher(settings))
    backend = app.state.backend
    prompt = {
        "original_width": 640, "original_height": 480, "image_rotation": 0, "is_positive": True,
        "value": {"x": 50, "y": 50, "width": 1, "keypointlabels": ["Car"]}, "id": "k",
        "from_name": "kp", "to_name": "image", "type": "keypointlabels",
    }  # fmt: skip
    for number in (0, 60, 99):
        request = PredictRequest(
            (PredictTask(number + 1, {"image": f"{number}.bmp"}),), "1", CONFIG, (prompt,)
        )
        assert "result" in backend.answer(request)[0]
    text = backend.metrics.render().decode()
    backend.close()
    assert 'segstudio_stage_seconds_count{stage="predict"} 3.0' in text
    assert 'segstudio_stage_seconds_count{stage="encode"}' not in text
    assert backend.embeddings.hits == {"memory": 0, "disk": 3, "none": 0}


@pytest.mark.timeout(600)
def test_a_ray_cluster_makes_the_same_embeddings(tmp_path):
    pytest.importorskip("ray", reason="the extra 'scale' is not installed")
    export = write_photos(tmp_path, 6)
    (tmp_path / "photos" / "3.bmp").unlink()
    command = [sys.executable, "-m", "segstudio.cli", "precompute", *arguments(export)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    there = subprocess.run(
        [*command, "--cluster", "local", "--workers", "2"],
        capture_output=True, text=True, timeout=500, env=environment,
    )  # fmt: skip
    assert there.returncode == 0, there.stderr
    assert counts(there.stdout) == (5, 0, 1)
    files = {path.name: path.read_bytes() for path in (tmp_path / "store").glob("??/*.emb")}
    here = CliRunner().invoke(precompute, arguments(export, "--workers", "1"))
    assert counts(here.output) == (0, 5, 1)
    other = [*arguments(export, "--workers", "1"), "--embeddings-dir", str(tmp_path / "other")]
    assert counts(CliRunner().invoke(precompute, other).output) == (5, 0, 1)
    assert {p.name: p.read_bytes() for p in (tmp_path / "other").glob("??/*.emb")} == files


def test_a_worker_with_another_model_is_refused(tmp_path):
    from ml_backend.engines import EngineError
    from ml_backend.precompute import PrecomputeItem, PrecomputePlan, encode_item

    plan = PrecomputePlan("classical", "cpu", "another-model")
    with pytest.raises(EngineError, match="not another-model as expected"):
        encode_item(plan, PrecomputeItem(1, ("a.png",)))


def test_no_token_is_shown_of_a_plan():
    from ml_backend.precompute import PrecomputePlan

    assert "secret" not in repr(PrecomputePlan("tiny", "cpu", "k", api_key="secret"))


def test_stale_leftovers_of_a_killed_writer_are_deleted(tmp_path):
    store = EmbeddingStore(0, tmp_path)
    (tmp_path / "ab").mkdir()
    old, new = tmp_path / "ab" / ".old.tmp", tmp_path / "ab" / ".new.tmp"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (1e9, 1e9))
    store.trim()
    assert (old.exists(), new.exists()) == (False, True)
