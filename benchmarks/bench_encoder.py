"""SAM's image encoder on the CPU: the engine's `encode` against `SamPredictor.set_image`.

ViT-B with random parameters of a fixed seed and a real photo; both with torch's present number of
threads and taking turns. Bars: 2x faster, and masks of both embeddings at an IoU of at least 0.99.
Beside the clock, the CPU time of the process is compared, which other processes disturb less.
`--threads N` sets the threads of both, `--rounds N` the turns.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam

from benchmarks.harness import Comparison, finish, is_smoke, line
from ml_backend.engines import Prompt
from ml_backend.engines.segment_anything import SegmentAnythingEngine
from ml_backend.engines.tiny_sam import TinySamConfig, build_tiny_sam, load_tiny_sam

_BAR = 2.0
_LEAST_IOU = 0.99


def photo() -> NDArray[np.uint8]:
    """A photo of coffee (400 x 600 px) from scikit-image, free to use."""
    from skimage import data

    return np.asarray(data.coffee(), np.uint8)


def random_sam(smoke: bool) -> Sam:
    """ViT-B (a small one with --smoke); position parameters too, which SAM starts at zero."""
    torch.manual_seed(0)
    sam = build_tiny_sam(TinySamConfig(encoder_depth=2, global_blocks=(1,))) if smoke else None
    sam = sam or sam_model_registry["vit_b"]().eval()
    for name, parameter in sam.image_encoder.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return sam


def prompts(height_px: int, width_px: int) -> list[Prompt]:
    """Clicks on a grid, and boxes around the middle."""
    clicks = [
        Prompt(((width_px * x, height_px * y),), (True,))
        for x in (0.2, 0.5, 0.8)
        for y in (0.3, 0.7)
    ]
    boxes = [
        Prompt(box_px=(width_px * m, height_px * m, width_px * (1 - m), height_px * (1 - m)))
        for m in (0.1, 0.3)
    ]
    return clicks + boxes


def least_iou(sam: Sam, image: NDArray[np.uint8]) -> tuple[float, float]:
    """Lowest IoU of the masks decoded from both embeddings, and their greatest difference."""
    engine = SegmentAnythingEngine(sam, name="b", version="b", digest="b", bfloat16=False)
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    embedding = engine.encode(image)
    exact = predictor.get_image_embedding()[0].numpy()
    error = float(np.abs(embedding.arrays["features"].astype(np.float32) - exact).max())
    lowest = 1.0
    for prompt in prompts(*image.shape[:2]):
        mask = engine.predict(embedding, prompt).mask
        masks, scores, _ = predictor.predict(
            point_coords=np.array(prompt.points_px) if prompt.points_px else None,
            point_labels=np.array(prompt.positive, int) if prompt.points_px else None,
            box=np.array(prompt.box_px) if prompt.box_px else None,
            multimask_output=bool(prompt.points_px),
        )
        wanted = masks[int(scores.argmax())]
        union = int((mask | wanted).sum())
        lowest = min(lowest, int((mask & wanted).sum()) / union if union else 1.0)
    return lowest, error


def taking_turns(
    theirs: Callable[[], object], ours: Callable[[], object], rounds: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median milliseconds of both by the clock, and by the CPU time of the process."""
    clock: dict[int, list[float]] = {0: [], 1: []}
    used: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(rounds):
        for number, call in enumerate((theirs, ours)):
            started, began = time.perf_counter(), time.process_time()
            call()
            clock[number].append((time.perf_counter() - started) * 1e3)
            used[number].append((time.process_time() - began) * 1e3)
    return (
        (statistics.median(clock[0]), statistics.median(clock[1])),
        (statistics.median(used[0]), statistics.median(used[1])),
    )


def _option(name: str, default: int) -> int:
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def main() -> int:
    """Measure and compare with the bars; 1 when one is missed (the speed never with --smoke)."""
    smoke = is_smoke()
    torch.set_num_threads(_option("--threads", torch.get_num_threads()))
    image = photo()
    tiny_iou, tiny_error = least_iou(load_tiny_sam(), image)
    print(f"shipped small SAM: lowest IoU {tiny_iou:.4f}, embeddings differ by {tiny_error:.1e}")
    sam = random_sam(smoke)
    iou, error = least_iou(sam, image)
    print(f"random ViT-B: lowest IoU {iou:.4f} (>= 0.99), embeddings differ by {error:.1e}")
    engine = SegmentAnythingEngine(sam, name="b", version="b", digest="b", bfloat16=False)
    predictor = SamPredictor(sam)
    rounds = 1 if smoke else _option("--rounds", 5)
    clock, used = taking_turns(
        lambda: predictor.set_image(image), lambda: engine.encode(image), rounds
    )
    work = f"ViT-B encoder, {torch.get_num_threads()} threads"
    results = [
        Comparison(f"{work}, clock", "SamPredictor.set_image", *clock, rounds, _BAR),
        Comparison(f"{work}, CPU time", "SamPredictor.set_image", *used, rounds),
    ]
    for result in results:
        print(line(result))
    return finish(results) if min(iou, tiny_iou) >= _LEAST_IOU else 1


if __name__ == "__main__":
    raise SystemExit(main())
