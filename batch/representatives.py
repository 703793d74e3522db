"""The most representative images of a batch: k-medoids on colours and texture, deterministic.

Every image becomes a point (histograms of lightness, hue and edge directions); chosen are the
images to which all others are nearest on the whole, first greedily (each adds the most to the
facility-location sum), then by moving each to the middle of those that are nearest to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from batch.plan import PlannedTask
from segstudio.client import Client
from segstudio.errors import MediaError, UsageError
from segstudio.images import image_references
from segstudio.media import image_bytes, load_image
from segstudio.progress import ProgressLine
from segstudio.source import Selection, Source
from segstudio.tasks import Problem, Task

FloatArray = NDArray[np.float64]
MOST_CANDIDATES: Final = 1000
"""Of a larger batch so many images are looked at, drawn by lot; the distances grow squared."""

_SIDE_PX: Final = 96
_THREADS: Final = 4
_MOVES: Final = 20


@dataclass(frozen=True, slots=True)
class Representative:
    """A chosen task, and how many images of the candidates are nearest to its image."""

    task_id: int
    project_id: int | None
    image: str
    stands_for: int
    overlap: int


@dataclass(frozen=True, slots=True)
class Representatives:
    """The chosen tasks by id; how many were there and looked at, and what could not be read.

    `closeness` is the mean similarity of an image to the nearest chosen one (1: all the same), and
    `closeness_by_lot` that of as many tasks drawn by lot, the mean of 20 draws.
    """

    chosen: tuple[Representative, ...]
    tasks: int
    candidates: int
    closeness: float
    closeness_by_lot: float
    problems: tuple[Problem, ...]

    def planned(self) -> tuple[PlannedTask, ...]:
        """The chosen tasks with the overlap that a pilot asks for."""
        return tuple(
            PlannedTask(one.task_id, one.project_id, one.overlap, 0.0) for one in self.chosen
        )

    def text(self, where: str) -> str:
        """Return which tasks, in lines."""
        lines = [
            f"{where}: {len(self.chosen)} of {self.tasks} tasks stand for the others"
            + (
                f" ({self.candidates} images were looked at)"
                if self.candidates < self.tasks
                else ""
            ),
            "tasks " + ", ".join(str(one.task_id) for one in self.chosen),
            f"An image is on average {self.closeness:.3f} similar to the nearest of them (tasks "
            f"drawn by lot: {self.closeness_by_lot:.3f}).",
        ]
        if self.problems:
            lines.append(
                f"{len(self.problems)} images could not be read. First: {self.problems[0].message}"
            )
        return "\n".join(lines)


def choose_representatives(
    source: Source,
    count: int,
    *,
    client: Client | None = None,
    roots: Sequence[Path] = (),
) -> Representatives:
    """Choose `count` tasks of a source by their images; all, where there are no more.

    Of a task with several images the first counts. The same images give the same choice.

    Raises:
        UsageError: no task, or no image can be read.
    """
    tasks, total = _candidates(source.tasks())
    if not tasks:
        raise UsageError(f"There are no tasks in {source.description}, or none passes the filters.")
    config = source.label_config
    references = [next(iter(image_references(task, config).values()), "") for task in tasks]

    def read(pair: tuple[Task, str]) -> FloatArray | MediaError:
        task, reference = pair
        try:
            content = image_bytes(reference, client, roots, task_id=task.id)
            return image_features(load_image(content))
        except MediaError as error:
            return error

    points: list[FloatArray] = []
    readable: list[int] = []
    problems: list[Problem] = []
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        ProgressLine("Looking at images", len(tasks)) as progress,
    ):
        for index, found in enumerate(pool.map(read, zip(tasks, references, strict=True))):
            progress.advance(failed=isinstance(found, MediaError))
            if isinstance(found, MediaError):
                problems.append(Problem("unreadable-image", str(found), tasks[index].id))
            else:
                points.append(found)
                readable.append(index)
    if not points:
        raise UsageError(
            f"None of {len(tasks)} images can be read: {problems[0].message} Give --images FOLDER "
            "for an export file."
        )
    similar = similarities(np.array(points))
    picks = choose_medoids(similar, count)
    nearest = similar[:, picks].argmax(axis=1)
    chosen = [
        Representative(
            tasks[readable[pick]].id,
            tasks[readable[pick]].project_id,
            references[readable[pick]],
            int((nearest == position).sum()),
            max(2, tasks[readable[pick]].overlap or 1),
        )
        for position, pick in enumerate(picks)
    ]
    random = np.random.default_rng(0)
    lots = [random.choice(len(points), len(picks), replace=False) for _ in range(20)]
    return Representatives(
        tuple(sorted(chosen, key=lambda one: one.task_id)),
        total,
        len(points),
        float(similar[:, picks].max(axis=1).mean()),
        float(np.mean([similar[:, lot].max(axis=1).mean() for lot in lots])),
        tuple(problems),
    )


def image_features(pixels: NDArray[np.uint8]) -> FloatArray:
    """Return an image as a point: roots of histograms, so that distances are Hellinger's.

    Lightness (8 bins), colour (6 x 6 in a*b*), edge directions at two scales (8 each, weighted by
    strength),
    how much edge there is, and where it is light (4 x 4).

    Args:
        pixels: (height, width, 3) RGB.
    """
    import cv2

    height, width = pixels.shape[:2]
    scale = _SIDE_PX / max(height, width, 1)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float64)
    parts = [
        np.histogram(lab[..., 0], 8, (0, 256))[0],
        np.histogram2d(lab[..., 1].ravel(), lab[..., 2].ravel(), 6, [[64, 192], [64, 192]])[0],
    ]
    for blur in (0, 2):
        gray = cv2.GaussianBlur(lab[..., 0], (0, 0), blur) if blur else lab[..., 0]
        dy, dx = np.gradient(gray)
        strength = np.hypot(dx, dy)
        angle = np.arctan2(dy, dx) % np.pi
        parts.append(np.histogram(angle, 8, (0, np.pi), weights=strength)[0])
        parts.append(np.histogram(strength, 6, (0, 60))[0])
    # Where it is light and where it is dark: the layout of the scene, roughly.
    layout = cv2.resize(lab[..., 0], (4, 4), interpolation=cv2.INTER_AREA)
    parts.append(layout + 1)
    roots = [np.sqrt(part.ravel() / max(float(part.sum()), 1e-9)) for part in parts]
    return np.asarray(np.concatenate(roots) / np.sqrt(len(roots)), dtype=np.float64)


def similarities(points: FloatArray) -> FloatArray:
    """Return (n, n) similarities, 1 for the same image, 0 for nothing in common.

    The mean Bhattacharyya coefficient of the histograms.
    """
    return np.asarray(np.clip(points @ points.T, 0.0, 1.0), dtype=np.float64)


def choose_medoids(similar: FloatArray, count: int) -> list[int]:
    """Return `count` indices whose nearest similarities to all others add up to the most, about.

    Greedy facility location (within 1 - 1/e of the best), then alternating k-medoids, which
    never makes it worse. Ties go to the lower index.

    >>> choose_medoids(np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1.0]]), 2)
    [0, 2]
    """
    total = len(similar)
    picks: list[int] = []
    best: FloatArray = np.zeros(total)
    for _ in range(min(count, total)):
        gains = np.maximum(similar, best[:, None]).sum(axis=0)
        gains[picks] = -1.0
        pick = int(np.argmax(gains))
        picks.append(pick)
        best = np.maximum(best, similar[:, pick])
    for _ in range(_MOVES):
        nearest = similar[:, picks].argmax(axis=1)
        moved = []
        for position, pick in enumerate(picks):
            members = np.flatnonzero(nearest == position)
            within = similar[np.ix_(members, members)].sum(axis=0)
            # A medoid moves only where that is better, so that ties cannot go in circles.
            better = len(members) > 0 and within.max() > similar[members, pick].sum() + 1e-12
            moved.append(int(members[int(np.argmax(within))]) if better else pick)
        if moved == picks:
            break
        picks = moved
    return sorted(picks)


def representatives_json(found: Representatives, selection: Selection) -> dict[str, Any]:
    """Return the choice as JSON."""
    return {
        "selection": selection.as_json(),
        "tasks": found.tasks,
        "candidates": found.candidates,
        "closeness": found.closeness,
        "closeness_by_lot": found.closeness_by_lot,
        "unreadable": len(found.problems),
        "asked": [
            {"task": one.task_id, "project": one.project_id, "overlap": one.overlap,
             "image": one.image, "stands_for": one.stands_for}
            for one in found.chosen
        ],
    }  # fmt: skip


def _candidates(tasks: Iterator[Task]) -> tuple[list[Task], int]:
    """All tasks, or so many of them drawn by lot; without what people drew, to be light."""
    kept: list[tuple[bytes, Task]] = []
    total = 0
    for task in tasks:
        total += 1
        lot = hashlib.sha256(f"pilot:{task.id}".encode()).digest()
        kept.append((lot, _bare(task)))
        if len(kept) >= 2 * MOST_CANDIDATES:
            kept = sorted(kept, key=lambda one: one[0])[:MOST_CANDIDATES]
    chosen = sorted(kept, key=lambda one: one[0])[:MOST_CANDIDATES]
    return sorted((task for _, task in chosen), key=lambda task: task.id), total


def _bare(task: Task) -> Task:
    return replace(task, annotations=(), predictions=())
