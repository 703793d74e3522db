"""The check ``temporal``: whether annotations of a video hold still from frame to frame.

Frames wait in a file on disk and are read video by video in their order, two at a time; see
`qa_plugins.video_tracks` for what is found. How right each frame is, is another question.
"""

from __future__ import annotations

import pickle
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qa_plugins.drawing import Place, draw, image_sizes
from qa_plugins.raters import model_policy, select_raters
from qa_plugins.report.timeline import WIDTH_PX, TimelineRow, timeline_svg
from qa_plugins.temporal_sums import TemporalFrame, TemporalSums
from qa_plugins.video_consistency import VideoConsistency
from qa_plugins.video_tracks import FrameObject
from segstudio.errors import SegstudioError, UsageError
from segstudio.images import ImageKey, image_references, regions_by_image
from segstudio.optical_flow import small_gray
from segstudio.plugins import CheckContext
from segstudio.report_sections import Finding, NameOf, Picture, Section, Severity, Table
from segstudio.tasks import Region, Task

_TRACK_NAMES: Final = ("track_id", "trackid", "track", "object_id", "instance_id")
_MIN_SIDE_PX: Final = 16
_EXAMPLES: Final = 3
_MAX_EXAMPLES: Final = 40
_WORDS: Final = {
    "flicker": "is gone for one frame and back",
    "flash": "is there for one frame only",
    "jump": "has another shape in one frame than before and after",
    "vanished": "ends away from the image’s border",
    "swap": "changes places with another",
    "class-change": "changes its class",
}


@dataclass(frozen=True, slots=True)
class TemporalCheck:
    """Drift, flicker, jumps, vanishing and swapped objects; video consistency.

    Options: ``video`` and ``frame``, the keys of task data that order the frames (of the same
    names by default); ``photos``, one more folder with the frames' photos beside what the context
    offers; ``warp``: ``flow`` (default where photos are), ``motion`` (default elsewhere) or
    ``none`` for a camera and a scene that do not move; ``windows`` of video consistency (8,16);
    ``rater`` (``prediction`` or ``prediction:VERSION``): a model's predictions are judged like one
    annotator more. Only the first image of a task is looked at.
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
        wants_photo = _warp(context) in ("auto", "flow")
        gray, trouble = _gray(task, key, context) if wants_photo else (None, "")
        return TemporalFrame(task.id, *place, size_px, tuple(people), gray, trouble)

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
        sums = TemporalSums(VideoConsistency(windows), ids, _warp(context))
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
            for one in _examples(summary["events"])
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
            Table(
                ["Video", "Frame", "Task", "Annotator", "Class", "What"],
                events,
                title="Where, for example",
                note="All are in qa.json, up to 2,000.",
            ),
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


def _gray(task: Task, key: ImageKey, context: CheckContext) -> tuple[NDArray[np.uint8] | None, str]:
    """The photo of an image, small and grey; None with the reason where it cannot be had."""
    reference = image_references(task, context.label_config).get(key, "")
    if not reference:
        return None, f"Task {task.id} names no photo."
    folder = context.options.get("photos")
    photos = context.photos
    if folder:
        photos = replace(photos, roots=(Path(folder), *photos.roots))
    try:
        gray = small_gray(photos.load(reference, task.id))
    except SegstudioError as error:
        return None, str(error)
    if min(gray.shape) < _MIN_SIDE_PX:
        return None, f"The photo of task {task.id} is too small for optical flow."
    return gray, ""


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
                total = sum(count for count, _ in counts)
                often = "once" if total == 1 else f"{total} times"
                text = f"{start}: an object {happens}, {often}."
                evidence = ", ".join(f"“{name}” {count}" for count, name in counts[:8]) + "."
                severity: Severity = "note" if kind == "vanished" else "warning"
                findings.append(Finding(text, evidence, severity))
    if not findings and summary["frames"]:
        findings = [Finding("Nothing flickers, jumps, vanishes, swaps or drifts.")]
    if summary["photos_missing"]:
        text = f"The photos of {summary['photos_missing']} of {summary['frames']} frames could not "
        text += "be had: there nothing tells drift from motion."
        findings.append(Finding(text, f"First: {summary['photo_trouble']}"))
    if summary["tasks_without_frame"]:
        text = f"{summary['tasks_without_frame']} tasks name no video and frame and were left out."
        findings.append(Finding(text, "See the options video and frame."))
    return findings


def _examples(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few events of each kind and annotator: one that comes often hides no other."""
    seen: Counter[tuple[str, int]] = Counter()
    chosen = []
    for event in events:
        seen[event["kind"], event["annotator"]] += 1
        if seen[event["kind"], event["annotator"]] <= _EXAMPLES:
            chosen.append(event)
    return chosen[:_MAX_EXAMPLES]


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
