"""How fast the exporters are, side by side with what they replace.

    python -m benchmarks.bench_exporters            everything, with the bars
    python -m benchmarks.bench_exporters --smoke    a few seconds, small sizes, same checks

On one core: panoptic PNG writing against Pillow's default; 100 tasks of five brush regions as
semantic PNG, COCO instances and COCO panoptic against the SDK's BRUSH_TO_PNG and BRUSH_TO_COCO,
from JSON file to files, in processor time; the peak memory of a long export, all its processes
together.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import Comparison, compare, finish, is_smoke, line

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    + "".join(f'<Label value="class{n}"/>' for n in range(5))
    + "</BrushLabels></View>"
)


def segment_map(height: int, width: int, count: int, rough_px: float) -> np.ndarray:
    """Overlapping discs, with a wavy outline where `rough_px` is above 0."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    numbers = np.zeros((height, width), np.int32)
    for number in range(1, count + 1):
        dy, dx = y - rng.integers(height), x - rng.integers(width)
        angle = np.arctan2(dy, dx)
        waves = rough_px * (np.sin(angle * 23 + number) + np.sin(angle * 97))
        waves = waves + rough_px * rng.normal(size=numbers.shape) * 0.3
        numbers[np.hypot(dy, dx) + waves < rng.uniform(0.05, 0.25) * width] = number
    return numbers


def bench_png(smoke: bool) -> list[Comparison]:
    from exporters.panoptic_ids import paint_ids, segment_ids
    from exporters.png import rgb_png

    height, width = (270, 480) if smoke else (1080, 1920)
    ids = segment_ids([((200, 40, 60), False)] * 30, reserved=[])
    results = []
    for name, rough_px in (("smooth", 0.0), ("complex", 12.0)):
        picture = paint_ids(segment_map(height, width, 30, rough_px), ids)

        def pillow(picture: np.ndarray = picture) -> bytes:
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            return buffer.getvalue()

        def ours(picture: np.ndarray = picture) -> bytes:
            return rgb_png(picture)

        assert np.array_equal(np.asarray(Image.open(io.BytesIO(ours()))), picture)
        work = f"panoptic PNG {width}x{height}, 30 segments, {name}"
        results.append(compare(work, "Pillow, default", pillow, ours, bar=3.0))
        size = len(ours()) / len(pillow())
        print(f"  size {size:.2f} x Pillow's  bar 1.4 {'ok' if size <= 1.4 else 'MISSED'}")
    return results


def write_project(
    path: Path, tasks: int, side: int, roughs: Sequence[float] = (0.0, 2.0, 4.0, 6.0, 8.0)
) -> None:
    from segstudio import brush_rle

    pool = [
        [int(byte) for byte in brush_rle.encode(segment_map(side, side, 1, rough) == 1)]
        for rough in roughs
    ]
    result = json.dumps(
        [
            {
                "id": f"r{n}", "type": "brushlabels", "from_name": "brush",
                "to_name": "image", "original_width": side, "original_height": side,
                "image_rotation": 0,
                "value": {"format": "rle", "rle": rle, "brushlabels": [f"class{n}"]},
            }
            for n, rle in enumerate(pool)
        ]
    )  # fmt: skip
    with path.open("w") as file:
        file.write("[")
        for number in range(1, tasks + 1):
            annotation = {
                "id": number, "completed_by": 1, "result": "RESULT", "was_cancelled": False,
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            }  # fmt: skip
            task = {
                "id": number, "data": {"image": f"/data/{number}.jpg"}, "annotations": [annotation]
            }  # fmt: skip
            text = json.dumps(task).replace('"RESULT"', result)
            file.write(("," if number > 1 else "") + text)
        file.write("]")
    path.with_name(path.stem + ".label-config.xml").write_text(CONFIG)


def run_ours(path: Path, format_name: str, out: Path) -> None:
    from exporters.runner import run_export
    from segstudio.source import open_source

    summary = run_export(format_name, open_source(str(path)), out, workers=1, show_progress=False)
    assert summary.failed == 0 and summary.images > 0


def run_sdk(path: Path, format_name: str, out: Path) -> None:
    from label_studio_sdk.converter import Converter

    out.mkdir()
    converter = Converter(CONFIG, project_dir=str(path.parent), download_resources=False)
    converter.convert(str(path), str(out), format_name, is_dir=False)


def bench_projects(smoke: bool) -> list[Comparison]:
    tasks, side = (4, 256) if smoke else (100, 1024)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_project(root / "tasks.json", tasks, side)
        numbers = itertools.count()
        theirs_s: dict[str, float] = {}
        for ours, theirs, bar in (
            ("semantic-png", "BRUSH_TO_PNG", 8.0),
            ("coco-instances", "BRUSH_TO_COCO", 30.0),
            ("coco-panoptic", "BRUSH_TO_COCO", 30.0),
        ):
            export(root, ours, next(numbers))  # load and compile once
            # Ours, theirs, ours: a machine that slows down meanwhile favours neither.
            ours_s = [cpu_s(lambda name=ours: export(root, name, next(numbers))) for _ in range(3)]
            if theirs not in theirs_s:
                theirs_s[theirs] = cpu_s(lambda name=theirs: convert(root, name, next(numbers)))
            ours_s += [cpu_s(lambda name=ours: export(root, name, next(numbers))) for _ in range(3)]
            work = f"{tasks} tasks x 5 brushes {side}x{side}: {ours}"
            result = Comparison(
                work, f"SDK {theirs}", theirs_s[theirs] * 1e3, statistics.median(ours_s) * 1e3,
                len(ours_s), bar,
            )  # fmt: skip
            print(line(result), flush=True)
            results.append(result)
    return results


def cpu_s(work: Callable[[], None]) -> float:
    """Processor time of some work on one core: what other processes do meanwhile costs little."""
    started = time.process_time()
    work()
    return time.process_time() - started


def export(root: Path, format_name: str, number: int) -> None:
    run_ours(root / "tasks.json", format_name, root / str(number))


def convert(root: Path, format_name: str, number: int) -> None:
    run_sdk(root / "tasks.json", format_name, root / str(number))


def bench_memory(smoke: bool) -> list[tuple[str, float, bool]]:
    """Peak memory of the command and all its processes together; (work, MB, bar held)."""
    tasks = 200 if smoke else 20_000
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.json"
        write_project(path, tasks, 96, (0.0, 1.0, 2.0))
        json_mb = path.stat().st_size / 1e6
        for workers in (1, 2):
            started = time.perf_counter()
            command = [sys.executable, "-m", "segstudio.cli", "export", "semantic-png", str(path)]
            command += ["--out", f"{folder}/{workers}", "--workers", str(workers)]
            peak_mb = tree_peak_mb(command)
            work = f"{tasks} tasks ({json_mb:.0f} MB of JSON), {workers} worker(s)"
            # The bar is for one core; each further worker adds what a Python with numba takes.
            holds = peak_mb < 500 or workers > 1
            bar = "" if workers > 1 else f"  bar 500 MB {'ok' if holds else 'MISSED'}"
            took_s = time.perf_counter() - started
            print(f"{work}: peak {peak_mb:.0f} MB resident, all processes; {took_s:.0f} s{bar}")
            found.append((work, peak_mb, holds))
    return found


def tree_peak_mb(command: list[str]) -> float:
    """Run a command and return the most memory that it and its descendants held together.

    Resident memory summed over processes, so pages they share count more than once; sampled
    every tenth of a second.
    """
    peak_kb = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            peak_kb = max(peak_kb, sum(map(resident_kb, descendants(child.pid))))
            time.sleep(0.1)
    assert child.returncode == 0, command
    return peak_kb / 1024


def descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def resident_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/status").read_text().splitlines():
            if entry.startswith("VmRSS:"):
                return int(entry.split()[1])
    return 0


def main() -> int:
    smoke = is_smoke()
    results = [*bench_png(smoke), *bench_projects(smoke)]
    memory = bench_memory(smoke)
    status = finish(results)
    return status if smoke or all(holds for _, _, holds in memory) else 1


if __name__ == "__main__":
    sys.exit(main())
