"""Agreement against torchmetrics and the SDK's decoder, on the same masks and the same export.

`python -m benchmarks.bench_agreement [--smoke] [--json FILE]`; the DAVIS part needs the fixtures
(`SEGSTUDIO_FIXTURES`) and is left out, with a line that says so, where they are missing. The peers
are imported where they are used: worker processes import this module as well.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Comparison, compare, finish, is_smoke, line, medians_ms
from qa_plugins.agreement import AgreementCheck, draw_task
from qa_plugins.metrics.overlap import OverlapCounts
from qa_plugins.metrics.run_join import join_pairs, labelled_runs
from qa_plugins.report.json import to_json, write_atomically
from qa_plugins.runner import run_checks
from segstudio import brush_rle
from segstudio.label_config import parse_label_config
from segstudio.masks import Mask
from segstudio.plugins import CheckContext
from segstudio.source import open_source
from segstudio.tasks import parse_task
from segstudio.taxonomy import derive_taxonomy

ANNOTATORS, CLASSES = 5, 20
LABELS = [f"class {number:02}" for number in range(CLASSES)]
CONFIG_XML = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    + "".join(f'<Label value="{label}"/>' for label in LABELS)
    + "</BrushLabels></View>"
)


def label_maps(side_px: int) -> NDArray[np.int64]:
    """Five annotators' label maps, (5, side, side): 20 discs each, 0 where nothing is drawn."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:side_px, 0:side_px] / side_px
    centres = random.random((CLASSES, 2))
    radii = random.uniform(0.08, 0.2, CLASSES)
    maps = np.zeros((ANNOTATORS, side_px, side_px), dtype=np.int64)
    for person in range(ANNOTATORS):
        for number in range(CLASSES):
            dy, dx = centres[number] + random.normal(0, 0.004, 2)
            wave = 1 + 0.06 * np.sin(7 * np.arctan2(y - dy, x - dx) + person)
            maps[person][np.hypot(y - dy, x - dx) < radii[number] * wave] = number + 1
    return maps


def class_runs(maps: NDArray[np.int64]) -> list[list[Mask]]:
    """The masks of each annotator, one a class."""
    return [[Mask.from_dense(one == k + 1) for k in range(CLASSES)] for one in maps]


def scores_from_masks(masks: list[list[Mask]]) -> NDArray[np.float64]:
    """IoU of each pair and class from masks, (10, 20)."""
    lists = [labelled_runs([mask.runs for mask in of_person]) for of_person in masks]
    shared, _, _ = join_pairs(lists)
    areas = np.stack([runs.areas_px for runs in lists])
    first, second = np.array(list(combinations(range(len(masks)), 2))).T
    diagonal = np.arange(CLASSES)
    return OverlapCounts(shared[:, diagonal, diagonal], areas[first], areas[second]).iou()


def scores_torchmetrics(maps: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same from label maps."""
    import torch
    from torchmetrics.functional.classification import multiclass_jaccard_index

    tensors = [torch.from_numpy(one) for one in maps]
    return np.stack(
        [
            multiclass_jaccard_index(a, b, CLASSES + 1, average=None).numpy()[1:]
            for a, b in combinations(tensors, 2)
        ]
    )


def raw_task(masks: list[list[Mask]]) -> dict[str, Any]:
    """Label Studio's JSON of the masks."""
    side_px = masks[0][0].height_px
    annotations = [
        {
            "id": person + 1,
            "completed_by": person + 1,
            "result": [
                {
                    "id": f"{person}-{number}",
                    "type": "brushlabels",
                    "from_name": "brush",
                    "to_name": "image",
                    "original_width": side_px,
                    "original_height": side_px,
                    "image_rotation": 0,
                    "value": {
                        "format": "rle",
                        "rle": brush_rle.encode(mask),
                        "brushlabels": [LABELS[number]],
                    },
                }
                for number, mask in enumerate(of_person)
            ],
        }
        for person, of_person in enumerate(masks)
    ]
    return {"id": 1, "data": {"image": "a.png"}, "annotations": annotations}


def scores_from_json(raw: dict[str, Any], context: CheckContext) -> NDArray[np.float64]:
    """IoU of each pair and class from Label Studio's JSON."""
    drawings = draw_task(parse_task(raw), context).images[0][2]
    return scores_from_masks([[one.class_masks[name] for name in LABELS] for one in drawings])


def scores_sdk(raw: dict[str, Any]) -> NDArray[np.float64]:
    """The same with the SDK's decoder and numpy."""
    from label_studio_sdk.converter.brush import decode_rle

    people = []
    for annotation in raw["annotations"]:
        masks = []
        for region in annotation["result"]:
            flat = decode_rle(region["value"]["rle"])
            shape = region["original_height"], region["original_width"], 4
            masks.append(np.reshape(flat, shape)[..., 3] > 0)
        people.append(masks)
    return np.array(
        [
            [(a & b).sum() / (a | b).sum() for a, b in zip(first, second, strict=True)]
            for first, second in combinations(people, 2)
        ]
    )


def growth(small_px: int, runs: int) -> tuple[float, float]:
    """Times of ours at one size and at twice the side, in milliseconds."""
    masks = {side: class_runs(label_maps(side)) for side in (small_px, 2 * small_px)}
    times = medians_ms(
        {str(side): lambda m=of_side: scores_from_masks(m) for side, of_side in masks.items()},
        runs=runs,
    )
    return times[str(small_px)], times[str(2 * small_px)]


def davis_path() -> Path | None:
    """The DAVIS export, if the fixtures are there."""
    root = Path(__file__).resolve().parent.parent.parent / "shared" / "fixtures"
    folder = Path(os.environ.get("SEGSTUDIO_FIXTURES", root))
    path = folder / "davis" / "project-8-sequences.json.gz"
    return path if path.exists() else None


def davis_sdk(path: Path) -> dict[str, float]:
    """IoU of each class, averaged per image: gzip, json, SDK decoder, torchmetrics."""
    import torch
    from label_studio_sdk.converter.brush import decode_rle
    from torchmetrics.functional.classification import binary_jaccard_index

    with gzip.open(path, "rt") as stream:
        tasks = json.load(stream)
    counts: dict[str, list[float]] = {}
    for task in tasks:
        people: list[dict[str, NDArray[np.bool_]]] = []
        for annotation in task["annotations"]:
            masks: dict[str, NDArray[np.bool_]] = {}
            for region in annotation["result"]:
                flat = decode_rle(region["value"]["rle"])
                shape = region["original_height"], region["original_width"], 4
                mask = np.reshape(flat, shape)[..., 3] > 0
                name = region["value"]["brushlabels"][0]
                masks[name] = masks[name] | mask if name in masks else mask
            people.append(masks)
        for name in sorted({*people[0], *people[1]}):
            nothing = np.zeros(shape[:2], dtype=bool)
            a, b = (torch.from_numpy(one.get(name, nothing)) for one in people)
            value = float(binary_jaccard_index(a.int(), b.int()))
            counts.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in counts.items()}


def davis_ours(path: Path, config: Path, out_dir: Path) -> dict[str, float]:
    """The same from the file to qa.json, with everything else that the check measures."""
    source = open_source(str(path), label_config=config)
    run = run_checks(["agreement"], source, derive_taxonomy(source.label_config), workers=1)
    write_atomically(out_dir / "qa.json", to_json(run.result))
    return {one["name"]: one["iou"]["per_image"] for one in run.result["classes"]}


def bench_davis(smoke: bool) -> list[Comparison]:
    """The whole export in processor time, one process each; a smoke run takes 20 frames.

    Ours goes before and after the peer: a machine that slows down meanwhile favours neither.
    """
    path = davis_path()
    if path is None:
        print("DAVIS: the fixtures are not here (SEGSTUDIO_FIXTURES); left out.")
        return []
    import torch

    with tempfile.TemporaryDirectory() as folder:
        out_dir = Path(folder)
        with gzip.open(path, "rt") as stream:
            tasks = json.load(stream)
        if smoke:
            path = out_dir / "few.json.gz"
            with gzip.open(path, "wt") as stream:
                json.dump(tasks[:20], stream)
        config = out_dir / "config.xml"
        names = sorted({task["data"]["video"] for task in tasks})
        config.write_text(
            '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
            + "".join(f'<Label value="{name}"/>' for name in names)
            + "</BrushLabels></View>"
        )
        del tasks
        davis_ours(path, config, out_dir)  # compile once
        torch.set_num_threads(1)
        started = time.process_time()
        ours = davis_ours(path, config, out_dir)
        first_s = time.process_time() - started
        started = time.process_time()
        theirs = davis_sdk(path)
        theirs_s = time.process_time() - started
        started = time.process_time()
        davis_ours(path, config, out_dir)
        ours_s = (first_s + time.process_time() - started) / 2
    for name, value in theirs.items():
        assert abs(ours[name] - value) < 1e-6, (name, ours[name], value)
    result = Comparison(
        f"DAVIS {'20' if smoke else '498'} frames, gz to qa.json",
        "SDK decoder + torchmetrics", theirs_s * 1e3, ours_s * 1e3, 1, 30,
    )  # fmt: skip
    print(line(result), flush=True)
    return [result]


def main() -> int:
    """Run every comparison; 1 when a bar is missed."""
    side_px, runs = (128, 3) if is_smoke() else (1024, 7)
    maps = label_maps(side_px)
    masks = class_runs(maps)
    raw = raw_task(masks)
    config = parse_label_config(CONFIG_XML)
    context = CheckContext(derive_taxonomy(config), config, {})
    expected = scores_torchmetrics(maps)
    drawn = np.array([[mask.area_px for mask in one] for one in masks]).sum(axis=0) > 0
    for scores in (scores_from_masks(masks), scores_from_json(raw, context), scores_sdk(raw)):
        assert np.allclose(scores[:, drawn], expected[:, drawn], atol=1e-6)
    results = [
        compare(
            f"5 annotators, 20 classes, {side_px}: masks to IoU", "torchmetrics JaccardIndex",
            lambda: scores_torchmetrics(maps), lambda: scores_from_masks(masks), bar=20, runs=runs,
        ),
        compare(
            f"5 annotators, 20 classes, {side_px}: JSON to IoU", "SDK decode_rle + numpy",
            lambda: scores_sdk(raw), lambda: scores_from_json(raw, context), bar=150,
            runs=min(runs, 3),
        ),
    ]  # fmt: skip
    check = AgreementCheck()
    task = parse_task(raw)
    whole = medians_ms({"whole": lambda: check.measure(task, context)}, runs=runs)["whole"]
    print(f"the whole check (boundary, objects, confusion as well): {whole:.1f} ms", flush=True)
    small_ms, large_ms = growth(side_px, runs)
    print(
        f"from {side_px} to {2 * side_px} px a side (4x the area): {small_ms:.2f} ms -> "
        f"{large_ms:.2f} ms, {large_ms / small_ms:.2f}x",
        flush=True,
    )
    return finish(results + bench_davis(is_smoke()))


if __name__ == "__main__":
    sys.exit(main())
