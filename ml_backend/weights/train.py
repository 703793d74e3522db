"""Train the built-in small SAM on generated scenes: one command, CPU only, resumable.

    python -m ml_backend.weights.train --minutes 80 --seed 0 --out tiny_sam.safetensors

Each worker process computes on one thread and its own scenes; gradients are averaged every step.
The learning rate follows the share of the time (or of `--steps`) used, so a slower machine takes
fewer steps of the same recipe. With `--steps` the result depends on the seed alone.
Beside the weights lie `<out>.checkpoint.pt` (to resume: run the same command again) and
`<out>.curve.csv`.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import os
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from segment_anything.modeling import Sam
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from ml_backend.engines.tiny_sam import build_tiny_sam, save_tiny_sam
from ml_backend.weights.growth import grow_tiny_sam
from ml_backend.weights.learning import (
    Example,
    augment,
    batch_of,
    corrective_clicks,
    decode,
    encode,
    fit,
    losses,
    mask_iou,
)
from ml_backend.weights.muon import Muon, split_parameters
from ml_backend.weights.scenes import HELD_OUT_SEED, Scene, make_scene

# Validation picks the best weights; it shares no scene with training nor with `evaluate`.
VALIDATION_SEED = HELD_OUT_SEED + 500_000
CURVE = ("minutes", "step", "loss", "click_iou", "box_iou", "learning_rate")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides the machine's speed."""

    out: Path
    minutes: float
    steps: int | None
    seed: int
    workers: int
    crop_share: float = 0.65
    crop_images: int = 4
    whole_images: int = 2
    prompts: int = 5
    first_scenes: int = 50
    many_scenes: int = 100
    most_scenes: int = 4000
    matrix_rate: float = 2e-3
    other_rate: float = 1e-3
    warm_up_steps: int = 100
    ema: float = 0.998
    save_minutes: float = 5.0
    start: Path | None = None

    @property
    def checkpoint(self) -> Path:
        """Where the state to resume from lies."""
        return self.out.with_name(self.out.name + ".checkpoint.pt")


class ScenePool:
    """Scenes of one worker: one more a step, later every other step; when full the oldest go."""

    def __init__(self, recipe: Recipe, rank: int, step: int) -> None:
        self.recipe, self.rank = recipe, rank
        self.next = max(0, step // 2 - recipe.first_scenes)
        self.scenes: list[Scene] = []
        while len(self.scenes) < recipe.first_scenes:
            self.grow()

    def grow(self) -> None:
        """Generate this worker's next scene."""
        seed = self.recipe.seed * 10_000_000 + self.next * self.recipe.workers + self.rank
        self.next += 1
        scene = make_scene(seed)
        if scene.count == 0:
            return
        if len(self.scenes) < self.recipe.most_scenes:
            self.scenes.append(scene)
        else:
            self.scenes[self.next % self.recipe.most_scenes] = scene

    def examples(
        self, rng: np.random.Generator, count: int, side_px: int, smallest_crop: float
    ) -> list[Example]:
        """Draw `count` augmented examples that hold an object large enough to learn from."""
        drawn: list[Example] = []
        while len(drawn) < count:
            scene = self.scenes[rng.integers(len(self.scenes))]
            example = augment(rng, scene, side_px, smallest_crop)
            if np.bincount(example.labels.ravel(), minlength=2)[1:].max() >= 40:
                drawn.append(example)
        return drawn


def learn(
    sam: Sam,
    recipe: Recipe,
    rng: np.random.Generator,
    shared: np.random.Generator,
    examples: list[Example],
    balance: float,
    share_of_rounds: tuple[float, float, float],
) -> tuple[float, float]:
    """Forward and backward of one step; gives the first round's loss and mean IoU.

    One encoding serves all prompts; up to two more rounds add a corrective click, half of them
    with the previous logits as mask prompt. `shared` draws alike on all workers, so that none
    waits for another's longer round.
    """
    side_px = examples[0].labels.shape[0]
    patch_px = sam.image_encoder.patch_embed.proj.stride[0]
    spare = (sam.image_encoder.img_size - side_px) // patch_px
    corner = (int(rng.integers(spare + 1)), int(rng.integers(spare + 1)))
    batch = batch_of(rng, examples, recipe.prompts, sam)
    embeddings = encode(sam, batch.images, corner)
    # The decoder's rounds gather their gradient at the embedding; the encoder is passed once.
    held = embeddings.detach().requires_grad_()
    points, labels, mask_input = batch.points, batch.point_labels, None
    count = int(shared.choice([1, 2, 3], p=share_of_rounds))
    first = (0.0, 0.0)
    for index in range(count):
        logits, scores = decode(sam, held, points, labels, mask_input, corner)
        alone = batch.clicked if index == 0 else torch.zeros_like(batch.clicked)
        loss, chosen, iou = losses(logits, scores, batch.targets, alone, balance)
        torch.autograd.backward(loss / count)
        if index == 0:
            first = (float(loss.detach()), float(iou.mean()))
        if index + 1 < count:
            click, kind = corrective_clicks(rng, chosen[:, 0], batch.targets, side_px)
            points, labels = torch.cat([click, points], 1), torch.cat([kind, labels], 1)
            mask_input = chosen.clamp(-32, 32) if shared.random() < 0.5 else None
    torch.autograd.backward(embeddings, held.grad)
    return first


def average_gradients(sam: Sam, workers: int) -> None:
    """Replace every gradient by its mean over the workers."""
    parameters = [p for p in sam.parameters() if p.requires_grad]
    # A mask-prompt parameter has no gradient where the step drew no mask prompt.
    flat = torch.cat(
        [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters]
    )
    if workers > 1:
        dist.all_reduce(flat)
        flat /= workers
    offset = 0
    for parameter in parameters:
        count = parameter.numel()
        parameter.grad = flat[offset : offset + count].view_as(parameter).clone()
        offset += count


@torch.no_grad()
def validate(sam: Sam, examples: list[Example]) -> tuple[float, float]:
    """Mean IoU at the network's resolution of one click (best-scored mask) and of a box."""
    sums: list[list[float]] = [[], []]
    for index, example in enumerate(examples):
        embeddings: Tensor | None = None
        for kind, share in enumerate((1.0, 0.0)):
            rng = np.random.default_rng([7, index])
            batch = batch_of(rng, [example], 4, sam, click_share=share, min_area_px=100)
            embeddings = encode(sam, batch.images) if embeddings is None else embeddings
            logits, scores = decode(sam, embeddings, batch.points, batch.point_labels, None)
            rows = torch.arange(len(scores))
            pick = scores[:, 1:].argmax(1) + 1 if kind == 0 else torch.zeros_like(rows)
            sums[kind].append(float(mask_iou(logits[rows, pick], batch.targets).mean()))
    return float(np.mean(sums[0])), float(np.mean(sums[1]))


def held_out_examples(side_px: int, count: int = 24) -> list[Example]:
    """The validation scenes as the predictor would show them to the network."""
    scenes = [make_scene(VALIDATION_SEED + index) for index in range(count)]
    return [fit(scene.image, scene.labels, side_px) for scene in scenes if scene.count]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def worker(rank: int, recipe: Recipe, meeting: str) -> None:
    """The training loop of one process; worker 0 also validates, logs and saves."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(recipe.seed)
    if recipe.workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=recipe.workers
        )
    sam = (build_tiny_sam() if recipe.start is None else grow_tiny_sam(recipe.start)).train()
    smooth = copy.deepcopy(sam).eval()
    matrices, rest = split_parameters(sam)
    optimizers = (
        Muon(matrices, lr=recipe.matrix_rate),
        torch.optim.AdamW(rest, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.02),
    )
    step, spent_s, best = 0, 0.0, 0.0
    if recipe.checkpoint.exists():
        state = torch.load(recipe.checkpoint, weights_only=True)
        sam.load_state_dict(state["sam"])
        smooth.load_state_dict(state["smooth"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, spent_s, best = state["step"], state["spent_s"], state["best"]
    pool = ScenePool(recipe, rank, step)
    side_px = sam.image_encoder.img_size
    held_out = held_out_examples(side_px)
    began, next_save_s = time.monotonic() - spent_s, spent_s + recipe.save_minutes * 60
    recent: list[float] = []
    parent = parent_process()
    while parent is None or parent.is_alive():
        clock = torch.tensor([time.monotonic() - began])
        if recipe.workers > 1:
            dist.broadcast(clock, 0)
        spent_s = float(clock)
        progress = step / recipe.steps if recipe.steps else spent_s / (60 * recipe.minutes)
        if rank == 0 and (spent_s >= next_save_s or progress >= 1):
            next_save_s = spent_s + recipe.save_minutes * 60
            # The average wins while the rate is high; the weights themselves once it has decayed.
            scored = [(validate(model, held_out), model) for model in (smooth, sam)]
            (click_iou, box_iou), winner = max(scored, key=lambda pair: sum(pair[0]))
            if click_iou + box_iou > best:
                best = click_iou + box_iou
                save_tiny_sam(winner, recipe.out)
            save_state(
                recipe.checkpoint,
                {
                    "sam": sam.state_dict(),
                    "smooth": smooth.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "step": step,
                    "spent_s": spent_s,
                    "best": best,
                },
            )
            rate = optimizers[0].param_groups[0]["lr"]
            log_curve(recipe, (spent_s / 60, step, np.mean(recent), click_iou, box_iou, rate))
            recent.clear()
        if progress >= 1:
            break
        factor = min(1.0, (step + 1) / recipe.warm_up_steps)
        factor *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        for optimizer, rate in zip(
            optimizers, (recipe.matrix_rate, recipe.other_rate), strict=True
        ):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.zero_grad()
        rng = np.random.default_rng([recipe.seed, rank, step])
        shared = np.random.default_rng([recipe.seed, step])
        if step % 4 == 0 or len(pool.scenes) < recipe.many_scenes:
            pool.grow()
        # Weights to start from have the balanced loss behind them.
        balance = max(0.0, 1 - progress / 0.3) if recipe.start is None else 0.0
        if progress < recipe.crop_share:
            examples = pool.examples(rng, recipe.crop_images, side_px // 2, 0.3)
            rounds = (0.6, 0.25, 0.15)
        else:
            examples = pool.examples(rng, recipe.whole_images, side_px, 0.5)
            rounds = (0.75, 0.15, 0.1)
        loss, iou = learn(sam, recipe, rng, shared, examples, balance, rounds)
        average_gradients(sam, recipe.workers)
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        update_average(smooth, sam, min(recipe.ema, (1 + step) / (10 + step)))
        recent.append(loss)
        step += 1
        if rank == 0 and step % 50 == 0:
            print(
                f"step {step}  {spent_s / 60:.1f} min  loss {np.mean(recent[-50:]):.3f}  "
                f"IoU {iou:.2f}",
                flush=True,
            )
    if recipe.workers > 1:
        dist.destroy_process_group()


@torch.no_grad()
def update_average(smooth: Sam, sam: Sam, keep: float) -> None:
    """Move the exponential moving average of the weights one step on."""
    pairs: list[tuple[Tensor, Tensor]] = list(
        zip(smooth.parameters(), sam.parameters(), strict=True)
    )
    for average, current in pairs:
        average.lerp_(current, 1 - keep)


def log_curve(recipe: Recipe, row: tuple[Any, ...]) -> None:
    """Append a row to the curve, with a header where the file is new, and print it."""
    path = recipe.out.with_name(recipe.out.name + ".curve.csv")
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(CURVE)
        writer.writerow([f"{value:.5g}" for value in row])
    print("  ".join(f"{n} {v:.4g}" for n, v in zip(CURVE, row, strict=True)), flush=True)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=75, help="training time (default 75)")
    parser.add_argument("--steps", type=int, help="train so many steps instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument(
        "--start",
        type=Path,
        help="weights to start from instead of random ones (new schedule); a smaller model grows",
    )
    parser.add_argument(
        "--crops",
        type=float,
        default=0.65,
        help="share of the time on quarter-size parts before whole canvases (default 0.65)",
    )
    parser.add_argument(
        "--save-minutes",
        type=float,
        default=5.0,
        help="validate and save so often; validation takes its share of the time (default 5)",
    )
    parser.add_argument(
        "--rate", type=float, default=1.0, help="multiplies both peak learning rates (default 1)"
    )
    options = parser.parse_args()
    if options.start is not None and not options.start.is_file():
        parser.error(f"There is no weights file {options.start} to start from.")
    recipe = Recipe(
        options.out,
        options.minutes,
        options.steps,
        options.seed,
        options.workers,
        crop_share=options.crops,
        save_minutes=options.save_minutes,
        matrix_rate=2e-3 * options.rate,
        other_rate=1e-3 * options.rate,
        start=options.start,
    )
    recipe.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        if recipe.workers == 1:
            worker(0, recipe, meeting)
        else:
            spawn(worker, (recipe, meeting), nprocs=recipe.workers)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
