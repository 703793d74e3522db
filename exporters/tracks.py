"""Objects of successive frames to tracks: by what annotators say, else by overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from segstudio.errors import SegstudioError
from segstudio.masks import Mask, iou

Reason = Literal["given", "same region", "overlap", "new"]

TRACK_NAMES: Final = ("track_id", "trackid", "track", "object_id", "instance_id")
"""Per-region controls of these names say which track an object is on."""

MAX_TRACK_ID: Final = 65_535
MIN_IOU: Final = 0.3
"""Objects of two frames that overlap less are not taken for the same one."""


@dataclass(frozen=True, slots=True)
class FrameObject:
    """One object of a frame: `track` as its annotator named it, `region_id` of its region."""

    class_id: int
    mask: Mask
    track: str | None
    region_id: str


@dataclass(frozen=True, slots=True)
class Track:
    """The number of a track, from 1, and why the object is on it."""

    id: int
    reason: Reason


def given_track(attributes: Mapping[str, Any]) -> str | None:
    """Return the answer to a per-region control that is named like a track id, or None."""
    by_name = {name.lower(): answer for name, answer in attributes.items()}
    for name in TRACK_NAMES:
        answer = by_name.get(name)
        if isinstance(answer, list | tuple):
            answer = answer[0] if answer else None
        if isinstance(answer, float) and answer == int(answer):
            answer = int(answer)
        if answer not in (None, ""):
            return str(answer).strip()
    return None


def link_tracks(
    frames: Sequence[Sequence[FrameObject]], *, matches: bool = True
) -> list[list[Track]]:
    """Give every object of a sequence the number of its track.

    An object is on the track that its annotator named; else on that of the region of its id in
    other frames (copied and propagated annotations keep their ids); else, if `matches`, on that of
    the object of its class in the frame before which it overlaps most, at least `MIN_IOU`, each
    used once (Hungarian assignment); else on a new one. Tracks that are named by a number keep it;
    the others get the lowest free ones, in the order in which they appear. Two objects of one frame
    that bear the same name share a track.

    Args:
        frames: the objects of each frame, in time order.
        matches: whether overlap counts.

    Raises:
        SegstudioError: a number above `MAX_TRACK_ID`, or more tracks than that.
    """
    recurring = _recurring(frames)
    names = {one.track for frame in frames for one in frame if one.track is not None}
    numbers = {name: int(name) for name in names if name.isdecimal() and int(name) > 0}
    for number in numbers.values():
        if number > MAX_TRACK_ID:
            raise SegstudioError(f"A region has the track id {number}; ids run to {MAX_TRACK_ID}.")
    free = _free(set(numbers.values()))
    ids: dict[tuple[str, int, str], int] = {}

    def named(kind: str, one: FrameObject, name: str) -> int:
        if kind == "given" and name in numbers:
            return numbers[name]
        key = (kind, one.class_id, name)
        if key not in ids:
            ids[key] = next(free)
        return ids[key]

    linked: list[list[Track]] = []
    for at, frame in enumerate(frames):
        tracks: dict[int, Track] = {}
        for number, one in enumerate(frame):
            if one.track is not None:
                tracks[number] = Track(named("given", one, one.track), "given")
            elif recurring[one.class_id, one.region_id] > 1:
                tracks[number] = Track(named("region", one, one.region_id), "same region")
        if matches and at:
            taken = {(frame[number].class_id, track.id) for number, track in tracks.items()}
            waiting = [number for number in range(len(frame)) if number not in tracks]
            before = list(zip(frames[at - 1], linked[at - 1], strict=True))
            before = [pair for pair in before if (pair[0].class_id, pair[1].id) not in taken]
            for number, earlier in _overlaps([frame[n] for n in waiting], [o for o, _ in before]):
                tracks[waiting[number]] = Track(before[earlier][1].id, "overlap")
        for number in range(len(frame)):
            if number not in tracks:
                tracks[number] = Track(next(free), "new")
        linked.append([tracks[number] for number in range(len(frame))])
    return linked


def _recurring(frames: Sequence[Sequence[FrameObject]]) -> Counter[tuple[int, str]]:
    """Count in how many frames a region's id stands for an object of the same class."""
    counts: Counter[tuple[int, str]] = Counter()
    for frame in frames:
        counts.update({(one.class_id, one.region_id) for one in frame})
    return counts


def _overlaps(
    objects: Sequence[FrameObject], earlier: Sequence[FrameObject]
) -> Iterator[tuple[int, int]]:
    """Pair objects with earlier ones of their class so that the sum of IoUs is largest."""
    from scipy.optimize import linear_sum_assignment

    scores = np.zeros((len(objects), len(earlier)))
    for row, one in enumerate(objects):
        for column, other in enumerate(earlier):
            sizes = {(each.mask.height_px, each.mask.width_px) for each in (one, other)}
            if one.class_id == other.class_id and len(sizes) == 1:
                scores[row, column] = iou(one.mask, other.mask) or 0.0
    for row, column in zip(*linear_sum_assignment(-scores), strict=True):
        if scores[row, column] >= MIN_IOU:
            yield int(row), int(column)


def _free(taken: set[int]) -> Iterator[int]:
    for number in range(1, MAX_TRACK_ID + 1):
        if number not in taken:
            yield number
    raise SegstudioError(
        f"A sequence has more than {MAX_TRACK_ID} tracks, which is more than 16 bits can number; "
        "cut it into shorter ones by the tasks' field `video`."
    )
