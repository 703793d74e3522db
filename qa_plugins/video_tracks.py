"""One annotator's objects through one video, frame by frame: what flickers, jumps, drifts.

Holds two frames at a time. The same object in two frames is the one of the same track id where
ids are given, else the one of the same class that overlaps it most after warping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from qa_plugins.metrics.instances import pairwise_iou
from qa_plugins.metrics.outlines import compare_outlines
from qa_plugins.metrics.run_join import intersections, labelled_runs
from segstudio.masks import Mask, iou
from segstudio.optical_flow import Flow, align_centres

Warp = Literal["flow", "motion", "none"]
"""By optical flow of the photos; by the objects' centres; not at all."""

MIN_IOU: Final = 0.3
"""Least overlap after warping that makes two masks the same object."""
SAME_PLACE_IOU: Final = 0.5
JUMP_IOU: Final = 0.2
"""A mask jumps when the frames around it agree with each other by so much more than with it."""
STILL_PX: Final = 0.5


@dataclass(frozen=True, slots=True)
class FrameObject:
    """One object of one frame; `track` is the id that the annotator or data set gave it."""

    class_name: str
    mask: Mask
    track: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something at one frame (its position in the video) of one object."""

    kind: str
    position: int
    track: int
    class_name: str
    bbox: tuple[int, int, int, int]
    other: str = ""


@dataclass(slots=True)
class Track:
    """One object through the video: spans of positions, and its overlaps from frame to frame."""

    class_name: str
    spans: list[list[int]]
    iou_sum: float = 0.0
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One object from one frame to the next; lengths in pixels, None where not measurable."""

    class_name: str
    iou: float
    shift_px: tuple[float, float] | None
    growth_px: float | None


@dataclass(slots=True)
class _Live:
    """An object of the last frame: its track, and its forerunner warped into that frame."""

    one: FrameObject
    track: int
    before: Mask | None = None
    before_iou: float = 0.0
    fresh: bool = False


@dataclass(slots=True)
class VideoTracks:
    """Follows the objects of one annotator through one video."""

    tracks: list[Track] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    _live: list[_Live] | None = None
    _gone: list[_Live] = field(default_factory=list)

    def interrupt(self) -> None:
        """Forget the frame before: a frame is missing, so nothing can be compared over it."""
        self._live, self._gone = None, []

    def add(
        self, position: int, objects: Sequence[FrameObject], warp: Warp, flow: Flow | None
    ) -> list[Step]:
        """Take the next frame; return how each object that goes on changed."""
        if self._live is None:
            self._live = [self._born(one, position, fresh=False) for one in objects]
            return []
        last = self._live
        carried = [flow.warp(live.one.mask) if flow else live.one.mask for live in last]
        links = self._match(position, last, carried, objects)
        live: list[_Live | None] = [None] * len(objects)
        steps: list[Step] = []
        for mine, earlier in sorted(links.items()):
            now, then = objects[mine], last[earlier]
            warped = carried[earlier]
            if warp == "motion":
                warped = align_centres(warped, now.mask)
            overlap = iou(warped, now.mask) or 0.0
            self._check_jump(position, then, now, flow, overlap)
            live[mine] = _Live(now, then.track, warped, overlap)
            track = self.tracks[then.track]
            track.iou_sum, track.pairs = track.iou_sum + overlap, track.pairs + 1
            _extend(track, position)
            steps.append(_step(now, then, overlap, warp, flow))
        self._resume(position, objects, live, flow)
        lost = [then for index, then in enumerate(last) if index not in links.values()]
        self._gone = [one for one in lost if not self._was_flash(one, position)]
        self._live = [
            one if one is not None else self._born(objects[index], position, fresh=True)
            for index, one in enumerate(live)
        ]
        return steps

    def _born(self, one: FrameObject, position: int, *, fresh: bool) -> _Live:
        self.tracks.append(Track(one.class_name, [[position, position]]))
        return _Live(one, len(self.tracks) - 1, fresh=fresh)

    def _note(self, kind: str, position: int, live: _Live, mask: Mask, other: str = "") -> None:
        self.events.append(Event(kind, position, live.track, live.one.class_name, mask.bbox, other))

    def _match(
        self,
        position: int,
        last: Sequence[_Live],
        carried: Sequence[Mask],
        objects: Sequence[FrameObject],
    ) -> dict[int, int]:
        """Index of the earlier object by that of the later one."""
        overlap = _overlaps([one.mask for one in objects], carried)
        links: dict[int, int] = {}
        ids = {then.one.track: at for at, then in enumerate(last) if then.one.track is not None}
        for mine, now in enumerate(objects):
            if now.track is not None and now.track in ids:
                links[mine] = ids[now.track]
        self._note_swaps(position, links, overlap, last)
        order = [divmod(int(at), max(1, len(last))) for at in np.argsort(-overlap, axis=None)]
        changed: dict[int, int] = {}
        for same_class, least, found in ((True, MIN_IOU, links), (False, SAME_PLACE_IOU, changed)):
            for mine, earlier in order:
                taken = mine in {*links, *changed} or earlier in {
                    *links.values(),
                    *changed.values(),
                }
                now, then = objects[mine], last[earlier].one
                if taken or overlap[mine, earlier] < least:
                    continue
                if now.track is not None and then.track is not None and now.track != then.track:
                    continue
                if (now.class_name == then.class_name) == same_class:
                    found[mine] = earlier
        turned = {(last[at].one.class_name, objects[me].class_name) for me, at in changed.items()}
        for mine, earlier in changed.items():
            was, now = last[earlier], objects[mine]
            kind = "swap" if (now.class_name, was.one.class_name) in turned else "class-change"
            self._note(kind, position, was, now.mask, now.class_name)
        return {**links, **changed}

    def _note_swaps(
        self, position: int, links: dict[int, int], overlap: Any, last: Sequence[_Live]
    ) -> None:
        """Two objects whose ids are given change places: each lies where the other was."""
        for a, was_a in links.items():
            for b, was_b in links.items():
                crossed = min(overlap[a, was_b], overlap[b, was_a])
                if a < b and crossed >= SAME_PLACE_IOU > max(overlap[a, was_a], overlap[b, was_b]):
                    for live, other in ((last[was_a], last[was_b]), (last[was_b], last[was_a])):
                        other_name = other.one.track or other.one.class_name
                        self._note("swap", position, live, live.one.mask, other_name)

    def _check_jump(
        self, position: int, then: _Live, now: FrameObject, flow: Flow | None, overlap: float
    ) -> None:
        if then.before is None:
            return
        before = flow.warp(then.before) if flow else then.before
        around = iou(before, now.mask) or 0.0
        if flow is None:  # where the object moves on, its forerunner moves along
            around = max(around, iou(align_centres(before, now.mask), now.mask) or 0.0)
        if max(then.before_iou, overlap) < around - JUMP_IOU:
            self._note("jump", position - 1, then, then.one.mask)

    def _resume(
        self,
        position: int,
        objects: Sequence[FrameObject],
        live: list[_Live | None],
        flow: Flow | None,
    ) -> None:
        """Objects that were gone for one frame and are back; the others have vanished."""
        for gone in self._gone:
            mask = flow.warp(gone.one.mask) if flow else gone.one.mask
            best, back = 0.0, -1
            for index, one in enumerate(objects):
                if live[index] is not None or one.class_name != gone.one.class_name:
                    continue
                same_id = one.track is not None and one.track == gone.one.track
                overlap = 2.0 if same_id else (iou(mask, one.mask) or 0.0)
                if overlap >= MIN_IOU and overlap > best:
                    best, back = overlap, index
            if back >= 0:
                live[back] = _Live(objects[back], gone.track)
                self.tracks[gone.track].spans.append([position, position])
                self._note("flicker", position - 1, gone, gone.one.mask)
            elif not _touches_border(gone.one.mask):
                self._note("vanished", position - 1, gone, gone.one.mask)

    def _was_flash(self, lost: _Live, position: int) -> bool:
        if lost.fresh:
            self._note("flash", position - 1, lost, lost.one.mask)
        return lost.fresh


def _step(now: FrameObject, then: _Live, overlap: float, warp: Warp, flow: Flow | None) -> Step:
    still = warp == "none" or (flow is not None and flow.speed_px(then.one.mask) < STILL_PX)
    if now.mask.is_empty or then.one.mask.is_empty or not still:
        return Step(now.class_name, overlap, None, None)
    # What has not moved is compared as it was drawn: a warp of less than a pixel only adds noise.
    found = compare_outlines(now.mask, then.one.mask)
    return Step(now.class_name, overlap, found.shift_px, found.offset_px)


def _overlaps(rows: Sequence[Mask], columns: Sequence[Mask]) -> Any:
    if not rows or not columns:
        return np.zeros((len(rows), len(columns)))
    a = labelled_runs([mask.runs for mask in rows])
    b = labelled_runs([mask.runs for mask in columns])
    shared = intersections(a, b)[: len(rows), : len(columns)]
    return np.nan_to_num(pairwise_iou(shared, a.areas_px, b.areas_px))


def _extend(track: Track, position: int) -> None:
    if track.spans[-1][1] == position - 1:
        track.spans[-1][1] = position
    else:
        track.spans.append([position, position])


def _touches_border(mask: Mask) -> bool:
    x, y, width, height = mask.bbox
    return x == 0 or y == 0 or x + width == mask.width_px or y + height == mask.height_px
