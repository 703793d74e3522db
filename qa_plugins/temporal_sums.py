"""What the check ``temporal`` keeps of a frame, and its sums over the videos of a batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qa_plugins.video_consistency import VideoConsistency
from qa_plugins.video_tracks import FrameObject, Step, VideoTracks, Warp
from segstudio.optical_flow import Flow, estimate_flow

_LISTED: Final = 2_000
_TIMELINES: Final = 4
_ROWS: Final = 24
_MIN_STEPS: Final = 6
_MIN_DRIFT_PX: Final = 0.1
_STANDARD_ERRORS: Final = 3.0


@dataclass(frozen=True, slots=True)
class TemporalFrame:
    """One frame: its place in a video (None: it names none), and everybody's objects.

    ``gray`` is the photo for optical flow, None where none was wanted or (``no_photo`` says why)
    none could be had.
    """

    task_id: int
    video: str | None
    frame: tuple[int, float, str]
    size_px: tuple[int, int]
    people: tuple[tuple[int, tuple[FrameObject, ...]], ...] = ()
    gray: NDArray[np.uint8] | None = None
    no_photo: str = ""


@dataclass(slots=True)
class _Drift:
    """Sums of steps of one annotator and class; moments of right, down and growth."""

    steps: int = 0
    iou: float = 0.0
    moments: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    events: Counter[str] = field(default_factory=Counter)

    def add(self, step: Step) -> None:
        self.steps, self.iou = self.steps + 1, self.iou + step.iou
        right, down = step.shift_px or (None, None)
        for row, value in enumerate((right, down, step.growth_px)):
            if value is not None:
                self.moments[row] += [1, value, value * value]

    def as_json(self, name: str) -> dict[str, Any]:
        means = [float(row[1] / row[0]) if row[0] else None for row in self.moments]
        return {
            "name": name,
            "steps": self.steps,
            "iou": self.iou / self.steps if self.steps else None,
            "drift_px": means[:2],
            "growth_px": means[2],
            "beyond_chance": [_beyond_chance(*row) for row in self.moments],
            "measured": int(self.moments[:, 0].max()),
            "events": dict(sorted(self.events.items())),
        }


def _beyond_chance(count: float, total: float, squares: float) -> bool:
    """Whether a mean differs from zero by three standard errors, and enough to matter."""
    if count < _MIN_STEPS:
        return False
    mean = total / count
    error = math.sqrt(max(0.0, squares / count - mean * mean) / (count - 1))
    return bool(abs(mean) >= max(_MIN_DRIFT_PX, _STANDARD_ERRORS * error))


@dataclass(slots=True)
class TemporalSums:
    """Sums over the videos of a batch; each video is followed frame by frame."""

    consistency: VideoConsistency
    class_ids: dict[str, int]
    warp: str
    tasks: int = 0
    without_frame: int = 0
    videos: int = 0
    frames: int = 0
    gaps: int = 0
    doubles: int = 0
    warped: Counter[str] = field(default_factory=Counter)
    photos_missing: int = 0
    photo_trouble: str = ""
    people: dict[tuple[int, str], _Drift] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    event_count: int = 0
    timelines: list[dict[str, Any]] = field(default_factory=list)

    def add_video(self, video: str, frames: Iterable[TemporalFrame], usual_step: float) -> None:
        """Follow one video; its frames come in order."""
        self.videos += 1
        self.consistency.interrupt()
        following: dict[int, VideoTracks] = {}
        last: TemporalFrame | None = None
        places: list[tuple[int, str]] = []
        for frame in frames:
            if last is not None and frame.size_px == (0, 0):  # nobody drew anything
                frame = replace(frame, size_px=last.size_px)
            if last is not None and frame.frame == last.frame:
                self.doubles += 1
                continue
            if frame.no_photo:
                self.photos_missing += 1
                self.photo_trouble = self.photo_trouble or frame.no_photo
            position = len(places)
            places.append((frame.task_id, frame.frame[2]))
            self.frames += 1
            gap = last is not None and (
                frame.frame[1] - last.frame[1] > 1.5 * usual_step or frame.size_px != last.size_px
            )
            self.gaps += gap
            present = {person for person, _ in frame.people}
            for person, tracks in following.items():
                if gap or person not in present:
                    tracks.interrupt()
            if gap:
                self.consistency.interrupt()
            warp, flow = self._motion(last, frame, gap)
            if last is not None and not gap:
                self.warped[warp] += 1
            for person, objects in frame.people:
                tracks = following.setdefault(person, VideoTracks())
                for step in tracks.add(position, objects, warp, flow):
                    self.people.setdefault((person, step.class_name), _Drift()).add(step)
            self.consistency.add(
                {person: self._labels(objects, frame.size_px) for person, objects in frame.people}
            )
            last = frame
        self._close(video, following, places)

    def _motion(
        self, last: TemporalFrame | None, frame: TemporalFrame, gap: bool
    ) -> tuple[Warp, Flow | None]:
        if self.warp == "none":
            return "none", None
        if last is None or gap or last.gray is None or frame.gray is None:
            return "motion", None
        if last.gray.shape != frame.gray.shape:
            return "motion", None
        return "flow", estimate_flow(last.gray, frame.gray, *frame.size_px)

    def _labels(
        self, objects: tuple[FrameObject, ...], size_px: tuple[int, int]
    ) -> NDArray[np.uint16]:
        labels = np.zeros(size_px, np.uint16)
        for one in sorted(objects, key=lambda item: -item.mask.area_px):
            labels[one.mask.to_dense()] = self.class_ids.get(one.class_name, 0)
        return labels

    def _close(
        self, video: str, following: dict[int, VideoTracks], places: list[tuple[int, str]]
    ) -> None:
        rows: list[dict[str, Any]] = []
        total = 0
        for person, tracks in sorted(following.items()):
            found: dict[int, list[tuple[int, str]]] = {}
            for event in tracks.events:
                task_id, frame = places[event.position]
                found.setdefault(event.track, []).append((event.position, event.kind))
                self.people.setdefault((person, event.class_name), _Drift()).events[event.kind] += 1
                total += 1
                if len(self.events) < _LISTED:
                    self.events.append(
                        {
                            "video": video, "frame": frame, "task": task_id, "annotator": person,
                            "class": event.class_name, "kind": event.kind, "object": event.track,
                            "other": event.other, "bbox": list(event.bbox),
                        }
                    )  # fmt: skip
            rows += [
                {
                    "annotator": person,
                    "object": at,
                    "class": track.class_name,
                    "spans": track.spans,
                    "iou": track.iou_sum / track.pairs if track.pairs else None,
                    "events": found.get(at, []),
                }
                for at, track in enumerate(tracks.tracks)
            ]
        self.event_count += total
        rows.sort(key=lambda row: (-len(row["events"]), row["spans"][0][0] - row["spans"][-1][1]))
        self.timelines.append(
            {
                "video": video,
                "frames": len(places),
                "events": total,
                "objects": len(rows),
                "rows": rows[:_ROWS],
            }
        )
        self.timelines.sort(key=lambda one: (-one["events"], one["video"]))
        del self.timelines[_TIMELINES:]

    def as_json(self) -> dict[str, Any]:
        """Return the summary as ``qa.json`` has it."""
        return {
            "tasks": self.tasks,
            "tasks_without_frame": self.without_frame,
            "videos": self.videos,
            "frames": self.frames,
            "gaps": self.gaps,
            "frames_given_twice": self.doubles,
            "warped": {kind: self.warped[kind] for kind in ("flow", "motion", "none")},
            "photos_missing": self.photos_missing,
            "photo_trouble": self.photo_trouble,
            "annotators": [
                {
                    "id": person,
                    "classes": [
                        drift.as_json(name)
                        for (who, name), drift in sorted(self.people.items())
                        if who == person
                    ],
                }
                for person in sorted({who for who, _ in self.people})
            ],
            "consistency": [
                {
                    "annotator": person, "reference": reference, "frames": frames,
                    "value": total / count, "windows": int(count),
                }
                for (person, reference, frames), (total, count) in sorted(
                    self.consistency.sums.items()
                )
            ],
            "events": self.events,
            "events_not_listed": self.event_count - len(self.events),
            "timelines": self.timelines,
        }  # fmt: skip
