"""Masks of the frames between two annotated key frames, and how sure each of them is.

Where the photos are there, both key frames' masks are carried to the frame by optical flow, one
forward and one backward, and joined with the way that the shapes alone suggest; where they are
not, the shapes alone decide (`ml_backend.mask_motion`). Votes are signed distances, weighted by
nearness to the key frame and by how well the motion there and back agree.

The rules for what only one key frame has: an object that the other key frame lacks is carried to
the middle between the two, where the nearer one stops having it; an object beyond the last (or
before the first) key frame is carried as far as the caller says. Either ends where it leaves the
image or where its score falls below `MIN_SCORE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from ml_backend.mask_motion import STILL_WEIGHT, Canvas, Field, ShapeMotion
from segstudio.masks import Mask, iou
from segstudio.optical_flow import Carrying

MIN_SCORE: Final = 0.05
"""A proposal below this is none."""

MEMORY_WEIGHT: Final = 2.0
"""What a model's memory of the video counts beside a carried mask that is trusted wholly."""

_LEAST_TRUST: Final = 0.05


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a frame may hold: a mask that is not empty, and its expected IoU with the truth.

    `agreement` is the IoU of what the two key frames say, None where only one has the object.
    """

    mask: Mask
    score: float
    agreement: float | None = None


@dataclass(frozen=True)
class Interval:
    """One object between two key frames that both have it, `length` frames apart."""

    before: Mask
    after: Mask
    length: int

    @cached_property
    def motion(self) -> ShapeMotion:
        """The way that the shapes alone suggest."""
        return ShapeMotion.between(self.before, self.after)

    @cached_property
    def _canvas(self) -> Canvas:
        return Canvas.whole(self.before.height_px, self.before.width_px)

    @cached_property
    def _fields(self) -> tuple[Field, Field]:
        return self._canvas.field(self.before), self._canvas.field(self.after)

    @cached_property
    def _overlap(self) -> float:
        return iou(self.before, self.after) or 0.0

    def propose(
        self,
        step: int,
        carried: tuple[Carrying, Carrying] | None = None,
        remembered: tuple[Mask, Mask] | None = None,
    ) -> Proposal | None:
        """Propose the mask `step` frames after the earlier key frame.

        Args:
            step: 1 to `length` - 1.
            carried: the motion from the earlier and from the later key frame to this one; None
                where there are no photos.
            remembered: the masks that a model's memory has from either side; used with `carried`.

        Returns:
            None where nothing is left of the object.
        """
        position = step / self.length
        distance = min(step, self.length - step)
        if carried is None:
            mask = self.motion.blend(position)
            two = [self.motion.canvas.mask(field) for field in self.motion.at(position)]
            agreement = iou(*two) or 0.0
            return _checked(mask, shape_score(agreement, self._overlap, distance), agreement)
        votes = [
            _carried_field(field, one) for field, one in zip(self._fields, carried, strict=True)
        ]
        weights = [
            share * np.maximum(_at_size(one.trust, field), _LEAST_TRUST)
            for share, one, (field, _) in zip((1 - position, position), carried, votes, strict=True)
        ]
        shapes = self._canvas.field(self.motion.blend(position))
        joined = sum(weight * field for weight, (field, _) in zip(weights, votes, strict=True))
        joined = joined + STILL_WEIGHT * shapes / 2
        two = [self._canvas.mask(field) for field, _ in votes]
        if remembered is not None:
            for share, held in zip((1 - position, position), remembered, strict=True):
                joined = joined + MEMORY_WEIGHT * share * self._canvas.field(held)
            two = list(remembered)
        mask = self._canvas.mask(np.asarray(joined, np.float32))
        agreement = iou(*two) or 0.0
        return _checked(mask, flow_score(agreement, distance), agreement)


def from_one_side(
    mask: Mask, distance: int, *, carried: Carrying | None = None, absent_at: int | None = None
) -> Proposal | None:
    """Propose the mask of an object that only one key frame has.

    Args:
        mask: in that key frame; not empty.
        distance: how many frames away from it.
        carried: the motion from there; None where there are no photos (the mask stays in place).
        absent_at: how many frames away the other key frame is, which lacks the object; None where
            there is no other.

    Returns:
        None from the middle on, where the object has left the image, or where the score is below
        `MIN_SCORE`.
    """
    if absent_at is not None and 2 * distance > absent_at:
        return None
    score = hold_score(distance)
    if carried is not None:
        canvas = Canvas.whole(mask.height_px, mask.width_px)
        field, trusted = _carried_field(canvas.field(mask), carried)
        mask = canvas.mask(field)
        score = trusted * 0.97**distance
    if absent_at is not None:
        score *= 1 - distance / absent_at
    return _checked(mask, score, None)


def shape_score(agreement: float, overlap: float, distance: int) -> float:
    """Return the expected IoU of a mask between two key frames, by shapes alone.

    Fitted on DAVIS (`benchmarks/bench_propagation.py` says how well it holds): falls with the
    frames to the nearer key frame, where the two moved shapes disagree, and where the object
    changed much from one key frame to the next.

    >>> shape_score(0.9, 0.8, 1) > shape_score(0.9, 0.8, 2) > shape_score(0.5, 0.8, 2)
    True
    """
    doubt = 0.7 * (1 - agreement) + 0.2 * (1 - overlap)
    return _clipped(1 - doubt * distance**0.15 - 0.01 * distance)


def flow_score(agreement: float, distance: int) -> float:
    """Return the expected IoU of a mask between two key frames, carried by optical flow.

    >>> flow_score(1.0, 1), flow_score(0.5, 4) < flow_score(0.5, 1)
    (0.99, True)
    """
    return _clipped(1 - 0.67 * (1 - agreement) * distance**0.15 - 0.01 * distance)


def hold_score(distance: int) -> float:
    """Return the expected IoU of a key frame's mask so many frames away, on DAVIS.

    >>> [round(hold_score(distance), 2) for distance in (1, 2, 4)]
    [0.62, 0.5, 0.41]
    """
    return float(0.62 * distance**-0.3)


def _carried_field(field: Field, carried: Carrying) -> tuple[Field, float]:
    """Return a key frame's field in the frame at hand, and the mean trust inside it."""
    flow = carried.flow.resized(*field.shape)
    moved = flow.warp_field(field)
    inside = moved > 0
    trust = _at_size(carried.trust, moved)[inside]
    return moved, float(trust.mean()) if trust.size else 0.0


def _at_size(values: Field, like: Field) -> Field:
    import cv2

    if values.shape == like.shape:
        return values
    size = like.shape[1], like.shape[0]
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _checked(mask: Mask, score: float, agreement: float | None) -> Proposal | None:
    if mask.is_empty or score < MIN_SCORE:
        return None
    return Proposal(mask, score, agreement)


def _clipped(value: float) -> float:
    return float(min(1.0, max(0.0, value)))
