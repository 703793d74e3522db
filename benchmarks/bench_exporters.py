"""How fast the exporters are, side by side with what they replace.

    python -m benchmarks.bench_exporters            everything, with the bars
    python -m benchmarks.bench_exporters --smoke    a few seconds, small sizes, same checks

On one core: panoptic PNG writing against Pillow's default; 100 tasks of five brush regions as
semantic PNG and COCO panoptic against the SDK's BRUSH_TO_PNG and BRUSH_TO_COCO, from JSON file to
files; the peak memory of a long export.
"""

from __future__ import annotations

import io
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import Comparison, compare, finish, is_smoke

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


def write_project(path: Path, tasks: int, side: int) -> None:
    from segstudio import brush_rle

    pool = [
        [int(byte) for byte in brush_rle.encode(segment_map(side, side, 1, rough) == 1)]
        for rough in (0.0, 2.0, 4.0, 6.0, 8.0)
    ]
    with path.open("w") as file:
        file.write("[")
        for number in range(1, tasks + 1):
            result = [
                {
                    "id": f"r{n}", "type": "brushlabels", "from_name": "brush",
                    "to_name": "image", "original_width": side, "original_height": side,
                    "image_rotation": 0,
                    "value": {"format": "rle", "rle": rle, "brushlabels": [f"class{n}"]},
                }
                for n, rle in enumerate(pool)
            ]  # fmt: skip
            annotation = {
                "id": number, "completed_by": 1, "result": result, "was_cancelled": False,
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            }  # fmt: skip
            task = {
                "id": number, "data": {"image": f"/data/{number}.jpg"}, "annotations": [annotation]
            }  # fmt: skip
            file.write(("," if number > 1 else "") + json.dumps(task))
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
        for ours, theirs, bar in (
            ("semantic-png", "BRUSH_TO_PNG", 8.0),
            ("coco-panoptic", "BRUSH_TO_COCO", None),
        ):
            results.append(
                compare(
                    f"{tasks} tasks x 5 brushes {side}x{side}: {ours}",
                    f"SDK {theirs}",
                    lambda name=theirs: run_sdk(
                        root / "tasks.json", name, root / f"{next(numbers)}"
                    ),
                    lambda name=ours: run_ours(
                        root / "tasks.json", name, root / f"{next(numbers)}"
                    ),
                    bar=bar,
                    runs=1,
                )
            )
    return results


def bench_memory(smoke: bool) -> None:
    tasks = 200 if smoke else 20_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.json"
        write_project(path, tasks, 128)
        command = [sys.executable, "-m", "benchmarks.bench_exporters", "--child"]
        command += [str(path), str(Path(folder) / "out")]
        child = subprocess.run(command, check=True, capture_output=True, text=True)
        megabytes = path.stat().st_size / 1e6
        print(f"semantic-png of {tasks} tasks ({megabytes:.0f} MB of JSON): {child.stdout.strip()}")


def child(path: str, out: str) -> None:
    started = time.perf_counter()
    run_ours(Path(path), "semantic-png", Path(out))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak_mb:.0f} MB, {time.perf_counter() - started:.1f} s on one core")


def main() -> int:
    if "--child" in sys.argv:
        child(*sys.argv[-2:])
        return 0
    smoke = is_smoke()
    results = [*bench_png(smoke), *bench_projects(smoke)]
    bench_memory(smoke)
    return finish(results)


if __name__ == "__main__":
    sys.exit(main())
