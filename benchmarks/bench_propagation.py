"""Propagation on DAVIS: every fifth frame is a key frame, how well are the four between them met?

    python -m benchmarks.bench_propagation [--smoke] [--json FILE] [SEQUENCE ...]

Reads the frames that the fixture's first annotator segmented, and compares with them, frame by
frame and object by object (mean IoU; an object that only one side has counts 0):

- latest: the key frame before, repeated; nearest: the nearer key frame, repeated;
- shapes: `segstudio propagate --no-photos`, the masks' own motion;
- flow: the same with optical flow. The fixture has no photos, so its frames are rendered: noise of
  its own for every object, moved with the true mask, on still noise.

`score` says what the proposals' scores are worth: their correlation with the true IoU.
Exit status 1 where a sequence is not above both repetitions.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ml_backend.key_objects import KeyObject, key_objects, match_objects
from ml_backend.propagation import Interval, Proposal, from_one_side
from ml_backend.sequence_photos import carried_both_ways
from segstudio.masks import Mask, iou
from segstudio.optical_flow import Carrying, centre_px, small_gray
from segstudio.tasks import parse_task

KEY_EVERY = 5
ANNOTATOR = 1
WAYS = ("latest", "nearest", "shapes", "flow")
Objects = Mapping[str, KeyObject]


@dataclass
class Scores:
    """The IoUs of one sequence by way, and the scores of the proposals beside their IoUs."""

    sequence: str
    ious: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    scored: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: {"shapes": [], "flow": []}
    )

    def mean(self, way: str) -> float:
        return float(np.mean(self.ious[way]))


def fixture_path() -> Path:
    root = Path(__file__).resolve().parent.parent
    fixtures = os.environ.get("SEGSTUDIO_FIXTURES", root.parent / "shared" / "fixtures")
    return Path(fixtures) / "davis" / "project-8-sequences.json.gz"


def read_sequences(
    path: Path, wanted: Sequence[str] = (), *, most_frames: int = sys.maxsize
) -> dict[str, list[Objects]]:
    """Return each sequence's first frames in order: one annotator's objects by region id."""
    videos: dict[str, dict[int, Objects]] = {}
    for raw in json.loads(gzip.decompress(path.read_bytes())):
        video = raw["data"]["video"]
        if (wanted and video not in wanted) or raw["data"]["frame"] >= most_frames:
            continue
        task = parse_task(raw)
        (mine,) = (one for one in task.annotations if one.completed_by == ANNOTATOR)
        objects, problems = key_objects(mine.regions, task.id)
        assert not problems
        frames = videos.setdefault(video, {})
        frames[raw["data"]["frame"]] = {one.region.id: one for one in objects}
    return {video: [frames[at] for at in sorted(frames)] for video, frames in videos.items()}


def rendered(objects: Objects, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Return a grey photo in which every object is noise that moves with the object's centre."""
    photo = _noise(0, height_px, width_px)
    for name in sorted(objects):
        mask = objects[name].mask
        x, y = (round(value) for value in centre_px(mask))
        own = _noise(sum(map(ord, name)), 2 * height_px, 2 * width_px)
        top, left = height_px - y, width_px - x
        moved = own[top : top + height_px, left : left + width_px]
        photo = np.where(mask.to_dense(), moved, photo)
    return small_gray(np.repeat(photo[..., None], 3, axis=2))


def _noise(seed: int, height_px: int, width_px: int) -> NDArray[np.uint8]:
    found = _NOISE.get((seed, height_px, width_px))
    if found is None:
        values = np.random.default_rng(seed).integers(0, 255, (height_px, width_px), np.uint8)
        smooth = cv2.GaussianBlur(values, (0, 0), 3).astype(np.float32)
        smooth = (smooth - smooth.mean()) / smooth.std() * 45 + 128
        found = np.clip(smooth, 0, 255).astype(np.uint8)
        _NOISE[seed, height_px, width_px] = found
    return found


_NOISE: dict[tuple[int, int, int], NDArray[np.uint8]] = {}


def measure(
    sequence: str, frames: Sequence[Objects], *, ways: Sequence[str] = WAYS, stride: int = 1
) -> Scores:
    """Compare every way on the frames between key frames, of every `stride`-th interval."""
    scores = Scores(sequence)
    for start in range(0, len(frames) - KEY_EVERY, KEY_EVERY * stride):
        stretch = frames[start : start + KEY_EVERY + 1]
        flows: Sequence[tuple[Carrying, Carrying] | None] = [None] * (KEY_EVERY - 1)
        if "flow" in ways:
            height_px, width_px = _size(frames)
            grays = [rendered(one, height_px, width_px) for one in stretch]
            flows = list(carried_both_ways(grays))
        _measure_stretch(stretch, flows, ways, scores)
    return scores


def _measure_stretch(
    stretch: Sequence[Objects],
    flows: Sequence[tuple[Carrying, Carrying] | None],
    ways: Sequence[str],
    scores: Scores,
) -> None:
    before, after = list(stretch[0].values()), list(stretch[-1].values())
    pairs = match_objects(before, after)
    for row, column in [
        *pairs.items(),
        *((row, None) for row in range(len(before)) if row not in pairs),
        *((None, column) for column in range(len(after)) if column not in pairs.values()),
    ]:
        first = None if row is None else before[row]
        last = None if column is None else after[column]
        name = (first or last).region.id  # type: ignore[union-attr]
        interval = (
            Interval(first.mask, last.mask, KEY_EVERY)
            if first is not None and last is not None
            else None
        )
        for step, carried in enumerate(flows, start=1):
            true_object = stretch[step].get(name)
            truth = None if true_object is None else true_object.mask
            near = first if 2 * step <= KEY_EVERY else last
            held = {"latest": first, "nearest": near}
            for way in ways:
                if way in held:
                    one = held[way]
                    mask = None if one is None else one.mask
                else:
                    motion = carried if way == "flow" else None
                    proposal = (
                        interval.propose(step, motion)
                        if interval is not None
                        else _one_sided(first, last, step, motion)
                    )
                    mask = None if proposal is None else proposal.mask
                    if proposal is not None:
                        scores.scored[way].append((proposal.score, _iou(mask, truth) or 0.0))
                found = _iou(mask, truth)
                if found is not None:
                    scores.ious[way].append(found)


def _one_sided(
    first: KeyObject | None,
    last: KeyObject | None,
    step: int,
    carried: tuple[Carrying, Carrying] | None,
) -> Proposal | None:
    if first is not None:
        motion = carried[0] if carried else None
        return from_one_side(first.mask, step, carried=motion, absent_at=KEY_EVERY)
    assert last is not None
    motion = carried[1] if carried else None
    return from_one_side(last.mask, KEY_EVERY - step, carried=motion, absent_at=KEY_EVERY)


def _iou(mask: Mask | None, truth: Mask | None) -> float | None:
    if mask is None and truth is None:
        return None
    if mask is None or truth is None:
        return 0.0
    return iou(mask, truth) or 0.0


def _size(frames: Sequence[Objects]) -> tuple[int, int]:
    mask = next(one.mask for frame in frames for one in frame.values())
    return mask.height_px, mask.width_px


def correlation(scored: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Pearson's and Spearman's correlation of scores with IoUs."""
    from scipy.stats import pearsonr, spearmanr

    given, true = np.array(scored).T
    return float(pearsonr(given, true).statistic), float(spearmanr(given, true).statistic)


def table(results: Sequence[Scores]) -> Iterator[str]:
    """The report, a line a sequence."""
    yield "| sequence | masks | latest | nearest | shapes | flow | score: shapes | score: flow |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for one in results:
        cells = [f"{one.mean(way):.3f}" for way in WAYS]
        said = [f"{correlation(one.scored[way])[0]:.2f}" for way in one.scored]
        yield f"| {one.sequence} | {len(one.ious['latest'])} | {' | '.join([*cells, *said])} |"
    cells = [f"{np.mean([one.mean(way) for one in results]):.3f}" for way in WAYS]
    said = [
        "{:.2f} ({:.2f})".format(
            *correlation([pair for one in results for pair in one.scored[way]])
        )
        for way in ("shapes", "flow")
    ]
    yield (
        f"| all | {sum(len(one.ious['latest']) for one in results)} | "
        + " | ".join([*cells, *said])
        + " |"
    )


def holds(one: Scores) -> bool:
    """Whether both ways are above both repetitions."""
    least = max(one.mean("latest"), one.mean("nearest"))
    return min(one.mean("shapes"), one.mean("flow")) > least


def main(arguments: list[str]) -> int:
    names = [one for one in arguments if not one.startswith("-")]
    target = None
    if "--json" in arguments:
        target = Path(arguments[arguments.index("--json") + 1])
        names.remove(str(target))
    smoke = "--smoke" in arguments
    if not fixture_path().is_file():
        print(f"There are no masks to compare with at {fixture_path()}; set SEGSTUDIO_FIXTURES.")
        return 0 if smoke else 1
    sequences = read_sequences(fixture_path(), names or (["judo"] if smoke else []))
    results = [
        measure(name, frames, stride=3 if smoke else 1) for name, frames in sequences.items()
    ]
    print("\n".join(table(results)))
    for one in results:
        print(f"{one.sequence}: {'above' if holds(one) else 'NOT above'} repeating the key frame")
    if target is not None:
        records: list[dict[str, Any]] = [
            {**asdict(one), "means": {way: one.mean(way) for way in WAYS}} for one in results
        ]
        target.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return 0 if smoke or all(map(holds, results)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
