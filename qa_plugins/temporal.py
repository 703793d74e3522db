"""The check ``temporal``: whether annotations of a video hold still from frame to frame.

Frames wait in a file on disk and are read video by video in their order, two at a time; see
`qa_plugins.video_tracks` for what is found. How right each frame is, is another question.
"""

from __future__ import annotations

import math
import pickle
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qa_plugins.drawing import Place, draw, image_sizes
from qa_plugins.raters import model_policy, select_raters
from qa_plugins.report.timeline import WIDTH_PX, TimelineRow, timeline_svg
from qa_plugins.video_consistency import VideoConsistency
from qa_plugins.video_tracks import FrameObject, Step, VideoTracks, Warp
from segstudio.errors import SegstudioError, UsageError
from segstudio.images import ImageKey, image_references, regions_by_image
from segstudio.optical_flow import Flow, estimate_flow, small_gray
from segstudio.plugins import CheckContext
from segstudio.report_sections import Finding, NameOf, Picture, Section, Severity, Table
from segstudio.tasks import Region, Task

_TRACK_NAMES: Final = ("track_id", "trackid", "track", "object_id", "instance_id")
_LISTED: Final = 2_000
_TIMELINES: Final = 4
_ROWS: Final = 24
_MIN_STEPS: Final = 6
_MIN_DRIFT_PX: Final = 0.1
_STANDARD_ERRORS: Final = 3.0
_WORDS: Final = {
    "flicker": "is gone for one frame and back",
    "flash": "is there for one frame only",
    "jump": "has another shape in one frame than before and after",
    "vanished": "ends away from the image’s border",
    "swap": "changes places with another",
    "class-change": "changes its class",
}


@dataclass(frozen=True, slots=True)
class TemporalFrame:
    """One frame: its place in a video (None: it names none), and everybody's objects."""

    task_id: int
    video: str | None
    frame: tuple[int, float, str]
    size_px: tuple[int, int]
    people: tuple[tuple[int, tuple[FrameObject, ...]], ...] = ()
    gray: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class TemporalCheck:
    """Drift, flicker, jumps, vanishing and swapped objects; video consistency.

    Options: ``video`` and ``frame``, the keys of task data that order the frames (of the same
    names by default); ``photos``, a folder with the frames' photos; ``warp``: ``flow`` (default
    where photos are), ``motion`` (default elsewhere) or ``none`` for a camera and a scene that do
    not move; ``windows`` of video consistency (8,16); ``rater`` (``prediction`` or
    ``prediction:VERSION``): a model's predictions are judged like one annotator more. Only the
    first image of a task is looked at.
    """

    name: str = "temporal"
    summary: str = "Videos: drift, flicker, jumps, vanishing and swapped objects, consistency."

    def measure(self, task: Task, context: CheckContext) -> TemporalFrame:
        """Decode the frame's objects, and its photo where it can be had."""
        options = context.options
        video = task.data.get(options.get("video", "video"))
        number = task.data.get(options.get("frame", "frame"))
        if video is None or number is None:
            return TemporalFrame(task.id, None, (0, 0.0, ""), (0, 0))
        raters = select_raters(task, model_policy(options)).raters
        drawn = {one.annotator_id: regions_by_image(one.annotation) for one in raters}
        known = image_references(task, context.label_config)
        first = min(known, default=ImageKey("", 0))
        key = min((key for images in drawn.values() for key in images), default=first)
        regions = {person: images.get(key, ()) for person, images in drawn.items()}
        sizes = image_sizes(region for found in regions.values() for region in found)
        place = str(video), _sort_key(number)
        if len(sizes) > 1:  # the check agreement reports it
            return TemporalFrame(task.id, *place, (0, 0))
        size_px = next(iter(sizes), (0, 0))
        people = []
        for rater in raters:
            mine = regions[rater.annotator_id]
            found, _ = draw(mine, context.taxonomy, *size_px, Place(task.id, rater.annotation.id))
            if found is not None:
                ids = {region.id: _track_id(region) for region in mine}
                objects = tuple(
                    FrameObject(one.class_name, one.mask, ids.get(one.region_ids[0]))
                    for one in found.objects
                )
                people.append((rater.annotator_id, objects))
        gray = None if _warp(context) in ("motion", "none") else _gray(task, key, context)
        return TemporalFrame(task.id, *place, size_px, tuple(people), gray)

    def summarize(
        self, measurements: Iterable[TemporalFrame], context: CheckContext
    ) -> dict[str, Any]:
        """Follow every video in the order of its frames."""
        try:
            windows = [int(text) for text in context.options.get("windows", "8,16").split(",")]
        except ValueError as error:
            raise UsageError(
                f"The option windows is a list of numbers such as 8,16, not "
                f"{context.options['windows']!r}."
            ) from error
        ids = {one.name: at for at, one in enumerate(context.taxonomy.scored_classes, start=1)}
        sums = _Sums(VideoConsistency(windows), ids, _warp(context))
        with tempfile.TemporaryFile() as spool:
            index: list[tuple[str, tuple[int, float, str], int, int]] = []
            for one in measurements:
                sums.tasks += 1
                if one.video is None:
                    sums.without_frame += 1
                    continue
                index.append((one.video, one.frame, one.task_id, spool.tell()))
                pickle.dump(one, spool)
            index.sort()

            def frames(entries: Iterable[tuple[Any, ...]]) -> Iterator[TemporalFrame]:
                for entry in entries:
                    spool.seek(entry[3])
                    yield pickle.load(spool)  # noqa: S301 - written a moment ago by us

            for video, group in groupby(index, key=itemgetter(0)):
                entries = list(group)
                numbers = sorted({entry[1] for entry in entries})
                sums.add_video(video, frames(entries), _usual_step(numbers))
        return sums.as_json()

    def report(self, summary: dict[str, Any], names: NameOf) -> Section:
        """Return drift and events in sentences, the figures, and a timeline a video."""
        people = [
            (names(one["id"]), entry) for one in summary["annotators"] for entry in one["classes"]
        ]
        rows = [
            [
                who, one["name"], one["steps"], one["iou"], one["drift_px"][0], one["drift_px"][1],
                one["growth_px"], sum(one["events"].values()),
            ]
            for who, one in people
        ]  # fmt: skip
        consistency = [
            [
                names(one["annotator"]),
                names(one["reference"]),
                one["frames"],
                one["value"],
                one["windows"],
            ]
            for one in summary["consistency"]
        ]
        events = [
            [
                one["video"],
                one["frame"],
                one["task"],
                names(one["annotator"]),
                one["class"],
                one["kind"],
            ]
            for one in summary["events"][:40]
        ]
        tables = [
            Table(
                [
                    "Annotator",
                    "Class",
                    "Steps",
                    "IoU to the frame before",
                    "Right (px)",
                    "Down (px)",
                    "Grows (px)",
                    "Events",
                ],
                rows,
                title="From frame to frame",
                note="After warping. Drift in pixels a frame, of objects that have not moved; a "
                "dash where that cannot be told without photos.",
            ),
            Table(
                ["Annotator", "Reference", "Frames", "Consistency", "Windows"],
                consistency,
                title="Video consistency (VC)",
                note="Of the pixels that the reference keeps in one class throughout so many "
                "frames, the share that the annotator does not change either.",
            ),
            Table(["Video", "Frame", "Task", "Annotator", "Class", "What"], events, title="Where"),
        ]
        return Section(
            title="Videos",
            lead=f"{summary['frames']} frames of {summary['videos']} videos; "
            f"{summary['warped']['flow']} steps were warped by optical flow, "
            f"{summary['warped']['motion']} by the objects’ own motion, "
            f"{summary['warped']['none']} "
            "not at all. This says how steady annotations are, not how right.",
            findings=_findings(summary, names),
            tables=[table for table in tables if table.rows],
            pictures=[_timeline(one, names) for one in summary["timelines"]],
        )


def _warp(context: CheckContext) -> str:
    chosen = context.options.get("warp", "auto")
    if chosen not in ("auto", "flow", "motion", "none"):
        raise UsageError(f"The option warp is flow, motion or none, not {chosen!r}.")
    return chosen


def _sort_key(value: object) -> tuple[int, float, str]:
    """Numbers by size, texts by the last number in them."""
    text = str(value)
    found = re.findall(r"\d+(?:\.\d+)?", text)
    return (0, float(found[-1]), text) if found else (1, 0.0, text)


def _usual_step(numbers: list[tuple[int, float, str]]) -> float:
    steps = [b[1] - a[1] for a, b in pairwise(numbers) if b[1] > a[1]]
    return min(steps, default=1.0)


def _track_id(region: Region) -> str | None:
    for held in (region.attributes, region.source):
        for name in _TRACK_NAMES:
            value = held.get(name)
            value = value[0] if isinstance(value, list | tuple) and value else value
            if isinstance(value, str | int | float) and str(value):
                return str(value)
    return None


def _gray(task: Task, key: ImageKey, context: CheckContext) -> NDArray[np.uint8] | None:
    """The photo below the folder named; None where it cannot be had. No network is asked."""
    from segstudio.media import image_bytes, load_image

    reference = image_references(task, context.label_config).get(key, "")
    folder = context.options.get("photos")
    if not reference or not (folder or reference.startswith("data:")):
        return None
    roots = [Path(folder)] if folder else []
    try:
        gray = small_gray(load_image(image_bytes(reference, None, roots, allowed_hosts=())))
    except SegstudioError:
        return None
    return gray if min(gray.shape) >= 16 else None


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
class _Sums:
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
        return {
            "tasks": self.tasks,
            "tasks_without_frame": self.without_frame,
            "videos": self.videos,
            "frames": self.frames,
            "gaps": self.gaps,
            "frames_given_twice": self.doubles,
            "warped": {kind: self.warped[kind] for kind in ("flow", "motion", "none")},
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


def _findings(summary: dict[str, Any], names: NameOf) -> list[Finding]:
    findings: list[Finding] = []
    for person in summary["annotators"]:
        who = names(person["id"])
        start = who[0].upper() + who[1:]
        for one in person["classes"]:
            what = f"“{one['name']}”"
            values = (*one["drift_px"], one["growth_px"])
            words = (("right", "left"), ("down", "up"), ("wider", "narrower"))
            for value, certain, (more, less) in zip(
                values, one["beyond_chance"], words, strict=True
            ):
                if certain and value is not None:
                    way = more if value > 0 else less
                    text = f"{start} lets {what} drift {abs(value):.1f} px {way} a frame."
                    evidence = (
                        f"Mean of up to {one['measured']} steps, beyond three standard errors."
                    )
                    findings.append(Finding(text, evidence, "warning", f"Show {who} the video."))
        for kind, happens in _WORDS.items():
            counts = [(one["events"].get(kind, 0), one["name"]) for one in person["classes"]]
            counts = sorted((entry for entry in counts if entry[0]), reverse=True)
            if counts:
                text = f"{start}: an object {happens}, {sum(count for count, _ in counts)} times."
                evidence = ", ".join(f"“{name}” {count}" for count, name in counts[:8]) + "."
                severity: Severity = "note" if kind == "vanished" else "warning"
                findings.append(Finding(text, evidence, severity))
    if summary["tasks_without_frame"]:
        text = f"{summary['tasks_without_frame']} tasks name no video and frame and were left out."
        findings.append(Finding(text, "See the options video and frame."))
    return findings or [Finding("Nothing flickers, jumps, vanishes, swaps or drifts.")]


def _timeline(entry: dict[str, Any], names: NameOf) -> Picture:
    rows = [
        TimelineRow(
            f"{names(row['annotator'])}: {row['class']} {row['object'] + 1}",
            row["spans"],
            [(position, kind) for position, kind in row["events"]],
        )
        for row in entry["rows"]
    ]
    uri, height_px = timeline_svg(rows, entry["frames"])
    caption = f"Video {entry['video']}: {entry['events']} events; "
    caption += f"{len(rows)} of {entry['objects']} objects."
    return Picture(caption, uri, WIDTH_PX, height_px)
