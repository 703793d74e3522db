"""Runs propagation over the videos of a source: key frames in, a prediction a frame out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ml_backend.key_objects import TRACK_NAMES, KeyObject, match_objects
from ml_backend.propagation import Interval, Proposal, from_one_side
from ml_backend.propagation_refine import refine
from ml_backend.sequence_index import Frame, SequenceIndex
from ml_backend.sequence_photos import Embeddings, Photos, carried_both_ways, carried_one_way
from segstudio.errors import SegstudioError
from segstudio.label_config import LabelConfig
from segstudio.masks import Mask
from segstudio.optical_flow import Carrying
from segstudio.region_items import region_items
from segstudio.region_values import mask_to_value
from segstudio.regions import Region

MODEL_VERSION: Final = "segstudio-propagation"
_POLYGON_TOLERANCE_PX: Final = 1.0


@dataclass(frozen=True, slots=True)
class Reach:
    """How far masks are carried, in frames.

    Attributes:
        between: key frames further apart than twice this are not joined; each is carried so far.
        beyond: how far before the first and after the last key frame.
        with_keys: key frames are handed out too, as they are, so that a check sees every frame.
    """

    between: int = 50
    beyond: int = 10
    with_keys: bool = False


@dataclass(frozen=True, slots=True)
class FramePrediction:
    """What one frame is predicted to hold: a `result` list and its score, the regions' mean."""

    frame: Frame
    result: list[dict[str, Any]]
    score: float


class VideoMemory(Protocol):
    """A model that follows masks through frames by its own memory of them."""

    def follow(
        self, frames: Iterable[NDArray[np.uint8]], masks: Sequence[Mask]
    ) -> Iterator[tuple[Mask, ...]]:
        """Yield the masks in each frame after the first."""
        ...


@dataclass(slots=True)
class PropagationSummary:
    """Counts of a run; frames are those that were proposed something for, or why they were not."""

    videos: int = 0
    key_frames: int = 0
    predicted: int = 0
    regions: int = 0
    by_flow: int = 0
    by_shapes: int = 0
    by_memory: int = 0
    without_key: int = 0
    out_of_reach: int = 0
    nothing_there: int = 0
    one_sided: int = 0
    tracks: int = 0
    refined: int = 0
    kept_as_carried: int = 0
    score_sum: float = 0.0
    lowest: list[tuple[float, int]] = field(default_factory=list)
    losses: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Live:
    """An object of a key frame on its track; `region_id` is that of the track's first region."""

    one: KeyObject
    track: str
    region_id: str


@dataclass(slots=True)
class Propagator:
    """Carries the key frames of every video of an index through its other frames."""

    index: SequenceIndex
    config: LabelConfig
    photos: Photos
    reach: Reach = field(default_factory=Reach)
    embeddings: Embeddings | None = None
    memory: VideoMemory | None = None
    summary: PropagationSummary = field(default_factory=PropagationSummary)

    def run(self) -> Iterator[FramePrediction]:
        """Yield a prediction for each frame that gets one, video by video, in their order."""
        for _, frames in self.index.videos():
            self.summary.videos += 1
            yield from self._video(frames)

    def _video(self, frames: Sequence[Frame]) -> Iterator[FramePrediction]:
        keys = [at for at, frame in enumerate(frames) if frame.key_at is not None]
        self.summary.key_frames += len(keys)
        if not keys:
            self.summary.without_key += len(frames)
            return
        numbers = _TrackNames()
        live = numbers.start(self.index.objects(frames[keys[0]]))
        first = frames[max(0, keys[0] - self.reach.beyond) : keys[0] + 1]
        self.summary.out_of_reach += max(0, keys[0] - self.reach.beyond)
        yield from list(self._outwards(first[::-1], live))[::-1]
        for start, stop in pairwise(keys):
            if self.reach.with_keys:
                yield from self._as_it_is(frames[start], live)
            objects = self.index.objects(frames[stop])
            pairs = match_objects([one.one for one in live], objects)
            following = numbers.go_on(live, objects, pairs)
            yield from self._stretch(frames[start : stop + 1], live, following, pairs)
            live = following
        if self.reach.with_keys:
            yield from self._as_it_is(frames[keys[-1]], live)
        last = frames[keys[-1] : keys[-1] + 1 + self.reach.beyond]
        self.summary.out_of_reach += max(0, len(frames) - 1 - keys[-1] - self.reach.beyond)
        yield from self._outwards(last, live)
        self.summary.tracks += numbers.count

    def _stretch(
        self,
        frames: Sequence[Frame],
        before: Sequence[_Live],
        after: Sequence[_Live],
        pairs: dict[int, int],
    ) -> Iterator[FramePrediction]:
        """The frames between two key frames, which are the first and the last of them."""
        length = len(frames) - 1
        if length < 2:
            return
        if length > 2 * self.reach.between:
            near = self.reach.between
            self.summary.out_of_reach += length - 1 - 2 * near
            yield from self._outwards(frames[: near + 1], before)
            yield from list(self._outwards(frames[-near - 1 :][::-1], after))[::-1]
            return
        both = [
            (before[row], Interval(before[row].one.mask, after[column].one.mask, length), column)
            for row, column in sorted(pairs.items())
        ]
        left = [one for row, one in enumerate(before) if row not in pairs]
        right = [one for column, one in enumerate(after) if column not in pairs.values()]
        grays = self.photos.grays(frames)
        flows: Iterator[tuple[Carrying, Carrying] | None] = (
            iter([None] * (length - 1)) if grays is None else carried_both_ways(grays)
        )
        remembered = self._remembered(frames, [one for _, one, _ in both], grays is not None)
        for step, carried in enumerate(flows, start=1):
            held = None if remembered is None else remembered[step - 1]
            self.summary.by_memory += held is not None
            found: list[tuple[_Live, Proposal | None]] = []
            for at, (live, interval, column) in enumerate(both):
                proposal = interval.propose(step, carried, None if held is None else held[at])
                # Class and control are those of the nearer key frame.
                found.append((live if 2 * step <= length else after[column], proposal))
            for side, distance, which in ((left, step, 0), (right, length - step, 1)):
                for live in side:
                    motion = None if carried is None else carried[which]
                    one = from_one_side(live.one.mask, distance, carried=motion, absent_at=length)
                    self.summary.one_sided += one is not None
                    found.append((live, one))
            yield from self._predicted(frames[step], found, by_flow=carried is not None)

    def _remembered(
        self, frames: Sequence[Frame], intervals: Sequence[Interval], has_photos: bool
    ) -> list[list[tuple[Mask, Mask]]] | None:
        """What the model's memory has of each object in each frame between, from both sides."""
        if self.memory is None or not has_photos or not intervals:
            return None
        starts = [[one.before for one in intervals], [one.after for one in intervals]]
        photos = self.photos.colours
        try:
            forward = list(self.memory.follow(photos(frames[:-1]), starts[0]))
            backward = list(self.memory.follow(photos(frames[:0:-1]), starts[1]))[::-1]
        except SegstudioError:  # a photo that was there is gone
            return None
        sizes = [(one.before.height_px, one.before.width_px) for one in intervals]
        return [
            [
                (first.resize(*size), last.resize(*size))
                for first, last, size in zip(*pair, sizes, strict=True)
            ]
            for pair in zip(forward, backward, strict=True)
        ]

    def _outwards(
        self, frames: Sequence[Frame], live: Sequence[_Live]
    ) -> Iterator[FramePrediction]:
        """The frames away from a key frame, which is the first of them."""
        if len(frames) < 2:
            return
        grays = self.photos.grays(frames)
        flows: Iterator[Carrying | None] = (
            iter([None] * (len(frames) - 1)) if grays is None else carried_one_way(grays)
        )
        for distance, carried in enumerate(flows, start=1):
            found = self._held(live, distance, carried, None)
            yield from self._predicted(frames[distance], found, by_flow=carried is not None)

    def _held(
        self,
        live: Sequence[_Live],
        distance: int,
        carried: Carrying | None,
        absent_at: int | None,
    ) -> list[tuple[_Live, Proposal | None]]:
        """What only one key frame has, so many frames away from it."""
        found: list[tuple[_Live, Proposal | None]] = []
        for one in live:
            held = from_one_side(one.one.mask, distance, carried=carried, absent_at=absent_at)
            self.summary.one_sided += held is not None
            found.append((one, held))
        return found

    def _as_it_is(self, frame: Frame, live: Sequence[_Live]) -> Iterator[FramePrediction]:
        regions = self._regions([(one, Proposal(one.one.mask, 1.0)) for one in live])
        if regions:
            yield FramePrediction(frame, region_items(regions, self.config), 1.0)

    def _predicted(
        self, frame: Frame, found: Sequence[tuple[_Live, Proposal | None]], *, by_flow: bool
    ) -> Iterator[FramePrediction]:
        proposed = [(live, one) for live, one in found if one is not None]
        if not proposed:
            self.summary.nothing_there += 1
            return
        if self.embeddings is not None:
            proposed = self._refined(frame, proposed)
        regions = self._regions(proposed)
        score = float(np.mean([one.score for _, one in proposed]))
        summary = self.summary
        summary.predicted += 1
        summary.regions += len(regions)
        summary.by_flow += by_flow
        summary.by_shapes += not by_flow
        summary.score_sum += score
        summary.lowest = sorted([*summary.lowest, (score, frame.task_id)])[:5]
        yield FramePrediction(frame, region_items(regions, self.config), round(score, 4))

    def _refined(
        self, frame: Frame, proposed: Sequence[tuple[_Live, Proposal]]
    ) -> list[tuple[_Live, Proposal]]:
        """Sharpen each mask where the model agrees with it."""
        if self.embeddings is None:
            return list(proposed)
        embedding = self.embeddings.of(frame)
        sharpened = []
        for live, one in proposed:
            mask = None
            if embedding is not None:
                mask = refine(self.embeddings.engine, embedding, one.mask)
            self.summary.refined += mask is not None
            self.summary.kept_as_carried += mask is None
            sharpened.append((live, one if mask is None else replace(one, mask=mask)))
        return sharpened

    def _regions(self, proposed: Sequence[tuple[_Live, Proposal]]) -> list[Region]:
        """The regions of one frame, no two of one id."""
        regions: dict[str, Region] = {}
        for live, one in proposed:
            region_id = live.region_id
            while region_id in regions:
                region_id += "-2"
            regions[region_id] = self._region(live, one, region_id)
        return list(regions.values())

    def _region(self, live: _Live, proposal: Proposal, region_id: str) -> Region:
        """Return the key frame's region with the mask that was found, on the same control."""
        region, mask = live.one.region, proposal.mask
        given = {
            name: answer
            for name, answer in region.attributes.items()
            if name in TRACK_NAMES and self.config.control(name) is not None
        }
        kind = region.kind
        if kind == "keypoint":
            raise ValueError(f"Region {region.id} is a key point, which has no mask to carry.")
        value = mask_to_value(
            mask, kind, tolerance_px=_POLYGON_TOLERANCE_PX if kind == "polygon" else 0.0
        )
        source: dict[str, Any] = {"track_id": live.track, "propagated": True}
        if proposal.agreement is not None:
            source["agreement"] = round(proposal.agreement, 4)
        return Region(
            id=region_id,
            kind=kind,
            from_name=region.from_name,
            to_name=region.to_name,
            labels=region.labels,
            value=value,
            original_width_px=mask.width_px,
            original_height_px=mask.height_px,
            image_rotation_deg=region.image_rotation_deg,
            item_index=region.item_index,
            score=round(proposal.score, 4),
            origin="prediction",
            attributes=given,
            source=source,
        )


@dataclass(slots=True)
class _TrackNames:
    """Names of the tracks of a video: as annotators named them, else the first region's id."""

    names: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        return len(self.names)

    def start(self, objects: Sequence[KeyObject]) -> list[_Live]:
        return [self._new(one) for one in objects]

    def go_on(
        self, live: Sequence[_Live], objects: Sequence[KeyObject], pairs: dict[int, int]
    ) -> list[_Live]:
        known = {column: live[row] for row, column in pairs.items()}
        return [
            replace(known[at], one=one) if at in known else self._new(one)
            for at, one in enumerate(objects)
        ]

    def _new(self, one: KeyObject) -> _Live:
        name = one.given or one.region.id
        self.names.add(name)
        return _Live(one, name, one.region.id)
