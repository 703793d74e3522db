"""Peak memory of a pass over an export file that counts pixels per class.

Bar: below 400 MB on a file of 100,000 tasks, and flat from 10,000 to 100,000 tasks. The files are
generated; each pass runs in a process of its own, whose peak resident memory is read at its end.

    python benchmarks/bench_source_memory.py [--smoke] [--workers N]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

PEAK_BAR_MB = 400.0
FLAT_BAR_RATIO = 1.15
SIDE_PX = 256
CLASSES = ("Car", "Road", "Sky", "Tree")
LABEL_CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    + "".join(f'<Label value="{name}"/>' for name in CLASSES)
    + "</BrushLabels></View>"
)


def write_export(path: Path, tasks: int) -> None:
    """Write an export of tasks with two annotations of one brush mask each."""
    from segstudio.brush_rle import encode

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    strokes = []
    for _ in range(40):
        row, column = rng.uniform(60, SIDE_PX - 60, 2)
        mask = np.hypot(rows - row, columns - column) < rng.uniform(20, 60)
        strokes.append(json.dumps(encode(mask)))
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for task in range(1, tasks + 1):
            annotations = ",".join(
                annotation_json(2 * task + who, who + 1, strokes, 7 * task + who)
                for who in range(2)
            )
            comma = "," if task > 1 else ""
            file.write(
                f'{comma}{{"id":{task},"data":{{"image":"images/{task}.jpg"}},"meta":{{}},'
                f'"predictions":[],"annotations":[{annotations}]}}'
            )
        file.write("]")
    path.with_name(f"{path.stem}.label-config.xml").write_text(LABEL_CONFIG, encoding="utf-8")


def annotation_json(number: int, user: int, strokes: list[str], pick: int) -> str:
    """Return one annotation as JSON text."""
    label = CLASSES[pick % len(CLASSES)]
    return (
        f'{{"id":{number},"completed_by":{user},"was_cancelled":false,"ground_truth":false,'
        f'"result":[{{"id":"r{number}","type":"brushlabels","from_name":"brush","to_name":"image",'
        f'"original_width":{SIDE_PX},"original_height":{SIDE_PX},"image_rotation":0,'
        f'"value":{{"format":"rle","rle":{strokes[pick % len(strokes)]},'
        f'"brushlabels":["{label}"]}}}}]}}'
    )


def count_pixels(labels: tuple[str, ...], task) -> dict[str, int]:
    """Return the pixels of each class in one task, over all annotations."""
    from segstudio.shapes import region_mask

    found: Counter[str] = Counter(dict.fromkeys(labels, 0))
    for annotation in task.annotations:
        for region in annotation.regions:
            area_px = region_mask(region).area_px
            for label in region.labels:
                found[label] += area_px
    return dict(found)


def run_pass(path: str, workers: int) -> None:
    """Count the file's pixels and print what that took, as JSON."""
    from segstudio.compute import map_tasks
    from segstudio.source import open_source

    started_s = time.perf_counter()
    source = open_source(path)
    counts: Counter[str] = Counter()
    tasks = 0
    work = partial(count_pixels, source.label_config.label_names)
    for result in map_tasks(work, source.tasks(), workers=workers):
        assert result.error is None, result.error
        counts.update(result.value)
        tasks += 1
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if workers > 1:
        # The largest worker stands for each of them.
        peak_mb += workers * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    answer = {"tasks": tasks, "peak_mb": peak_mb, "pixels": sum(counts.values())}
    print(json.dumps({**answer, "wall_s": time.perf_counter() - started_s}))


def main() -> int:
    """Generate both files, measure both passes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="small files, no bar")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pass", dest="one_pass", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_pass:
        run_pass(given.one_pass, given.workers)
        return 0
    sizes = (300, 3_000) if given.smoke else (10_000, 100_000)
    peaks = []
    print(f"{'tasks':>8} {'file MB':>8} {'peak MB':>8} {'s':>6} {'tasks/s':>8}  pixels counted")
    with tempfile.TemporaryDirectory() as folder:
        for tasks in sizes:
            path = Path(folder) / f"export-{tasks}.json"
            write_export(path, tasks)
            command = [sys.executable, __file__, "--pass", str(path)]
            command += ["--workers", str(given.workers)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row = json.loads(done.stdout)
            assert row["tasks"] == tasks, row
            peaks.append(row["peak_mb"])
            size_mb = path.stat().st_size / 1e6
            print(
                f"{tasks:8,} {size_mb:8.0f} {row['peak_mb']:8.0f} {row['wall_s']:6.1f} "
                f"{tasks / row['wall_s']:8.0f}  {row['pixels']:,}"
            )
            path.unlink()
    ratio = peaks[1] / peaks[0]
    print(f"peak {peaks[1]:.0f} MB (bar {PEAK_BAR_MB:.0f}); 10 times the tasks: {ratio:.2f} times")
    if given.smoke:
        return 0
    return 0 if peaks[1] < PEAK_BAR_MB and ratio < FLAT_BAR_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
