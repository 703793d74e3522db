"""How one object's mask becomes the next key frame's mask, told by the two masks alone.

Shapes are signed distances to their outline, cut off at a band, so that a part that only one key
frame has counts no more than any other pixel. The motion between two shapes is optical flow
between pictures of their distances, in both directions: what a limb did is found where limbs are,
and a part that came or went pulls nothing else along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask
from segstudio.optical_flow import Flow, dense_search

Field = NDArray[np.float32]
"""Signed distance to the outline, positive inside, cut off at `BAND_PX`; (height, width)."""

BAND_PX: Final = 4.0
STILL_WEIGHT: Final = 0.3
"""What the unmoved shapes count beside the moved ones; they settle what motion leaves open."""

_PICTURE_PX: Final = 60.0
_SMOOTH_PX: Final = 10.0
_MARGIN_PX: Final = 40
_CROP_SIDE_PX: Final = 512


@dataclass(frozen=True, slots=True)
class Canvas:
    """A part of the image in which fields are computed, at a resolution of its own.

    `left`, `top`, `width_px` and `height_px` are in pixels of the image, `rows` and `columns` the
    size of a field.
    """

    image_height_px: int
    image_width_px: int
    left: int
    top: int
    width_px: int
    height_px: int
    rows: int
    columns: int

    @classmethod
    def whole(cls, height_px: int, width_px: int, side_px: int = 1024) -> Canvas:
        """The whole image, fields of at most `side_px` a side."""
        return cls._of(height_px, width_px, (0, 0, width_px, height_px), side_px)

    @classmethod
    def around(cls, *masks: Mask, side_px: int = _CROP_SIDE_PX) -> Canvas:
        """The surroundings of masks of one image, none of them empty."""
        boxes = np.array([mask.bbox for mask in masks])
        height_px, width_px = masks[0].height_px, masks[0].width_px
        left = max(0, int(boxes[:, 0].min()) - _MARGIN_PX)
        top = max(0, int(boxes[:, 1].min()) - _MARGIN_PX)
        right = min(width_px, int((boxes[:, 0] + boxes[:, 2]).max()) + _MARGIN_PX)
        bottom = min(height_px, int((boxes[:, 1] + boxes[:, 3]).max()) + _MARGIN_PX)
        return cls._of(height_px, width_px, (left, top, right - left, bottom - top), side_px)

    @classmethod
    def _of(
        cls, height_px: int, width_px: int, box: tuple[int, int, int, int], side_px: int
    ) -> Canvas:
        scale = min(1.0, side_px / max(box[2], box[3]))
        rows, columns = max(1, round(box[3] * scale)), max(1, round(box[2] * scale))
        return cls(height_px, width_px, *box, rows, columns)

    def field(self, mask: Mask) -> Field:
        """Return the mask's signed distances; -`BAND_PX` everywhere for an empty one."""
        import cv2

        dense = mask.to_dense()[self._slices].astype(np.uint8)
        if dense.shape != (self.rows, self.columns):
            size = self.columns, self.rows
            dense = (cv2.resize(dense * 255, size, interpolation=cv2.INTER_AREA) > 127).astype(
                np.uint8
            )
        return signed_distance(dense)

    def mask(self, field: Field) -> Mask:
        """Return the pixels of the image at which a field is positive."""
        import cv2

        if field.shape != (self.height_px, self.width_px):
            size = self.width_px, self.height_px
            field = np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR), np.float32)
        dense = np.zeros((self.image_height_px, self.image_width_px), bool)
        dense[self._slices] = field > 0
        return Mask.from_dense(dense)

    @property
    def _slices(self) -> tuple[slice, slice]:
        return (
            slice(self.top, self.top + self.height_px),
            slice(self.left, self.left + self.width_px),
        )


def signed_distance(dense: NDArray[np.uint8]) -> Field:
    """Return the distance to the outline in pixels, positive inside, cut off at `BAND_PX`.

    >>> signed_distance(np.array([[0, 1, 1, 1, 0]], np.uint8)).tolist()
    [[-1.0, 1.0, 2.0, 1.0, -1.0]]
    """
    if not dense.any():
        return np.full(dense.shape, -BAND_PX, np.float32)
    if dense.all():
        return np.full(dense.shape, BAND_PX, np.float32)
    return np.clip(_distance(dense), -BAND_PX, BAND_PX)


def _distance(dense: NDArray[np.uint8]) -> Field:
    import cv2

    inside = cv2.distanceTransform(dense, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - dense, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(inside - outside, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class ShapeMotion:
    """The way from an object's mask in one key frame to its mask in the next.

    `to_before` says where each pixel of the later key frame was in the earlier one, `to_after`
    the other way round.
    """

    canvas: Canvas
    before: Field
    after: Field
    to_before: Flow
    to_after: Flow

    @classmethod
    def between(cls, before: Mask, after: Mask) -> ShapeMotion:
        """Find the motion between two masks of one size, neither of them empty."""
        canvas = Canvas.around(before, after)
        fields = canvas.field(before), canvas.field(after)
        pictures = [_picture(field > 0) for field in fields]
        return cls(
            canvas,
            *fields,
            _smooth(dense_search(pictures[0], pictures[1])),
            _smooth(dense_search(pictures[1], pictures[0])),
        )

    def at(self, position: float) -> tuple[Field, Field]:
        """Return the earlier shape moved on, and the later one moved back, to a position in 0..1.

        Pixels move in a straight line at constant speed.
        """
        return (
            self.to_before.scaled(position).warp_field(self.before),
            self.to_after.scaled(1 - position).warp_field(self.after),
        )

    def blend(self, position: float) -> Mask:
        """Return the mask at a position in 0..1: both shapes by nearness, moved and (less) still.

        >>> dense = np.zeros((40, 80), np.uint8)
        >>> dense[10:30, 10:30] = 1
        >>> one = Mask.from_dense(dense)
        >>> ShapeMotion.between(one, one).blend(0.5) == one
        True
        """
        moved = self.at(position)
        still = self.before, self.after
        blended = [(1 - position) * one + position * other for one, other in (moved, still)]
        joined = (1 - STILL_WEIGHT) * blended[0] + STILL_WEIGHT * blended[1]
        return self.canvas.mask(np.asarray(joined, np.float32))


def _picture(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    distance = np.clip(_distance(inside.astype(np.uint8)) / _PICTURE_PX, -1, 1)
    return np.asarray(distance * 127 + 128, np.uint8)


def _smooth(flow: Flow) -> Flow:
    import cv2

    smooth = cv2.GaussianBlur(flow.displacement_px, (0, 0), _SMOOTH_PX)
    return Flow(np.asarray(smooth, np.float32))
