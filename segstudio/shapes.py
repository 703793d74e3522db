"""Shapes of Label Studio to masks and back.

One convention holds for every shape: pixel (column, row) is the square from (column, row) to
(column + 1, row + 1) and is on when its centre (column + 0.5, row + 0.5) lies inside, by the
even-odd rule for polygons; what lies outside the image is cut off. A centre exactly on an edge
belongs to the shape on the right of or below that edge, so that shapes that share an edge share no
pixel and leave no gap. On a polygon of 245,000 pixels pycocotools differs from this by about 90
pixels (it rounds vertices to a fifth of a pixel), Pillow by 750 and OpenCV by 1,200 (both draw the
outline as well).

Percent become pixels by width for x, width and radiusX and by height for y, height and radiusY;
rotation (degrees, clockwise as seen) applies to pixels, about the top-left corner of a rectangle
and the centre of an ellipse. `image_rotation` changes nothing: the editor stores geometry,
`original_width` and `original_height` of the image as it is and turns only its view.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from segstudio import brush_rle
from segstudio.data_url import DataUrlError, decode_mask_image
from segstudio.masks import Mask, MaskError, check_size
from segstudio.polygons import mask_polygons, mask_rectangle
from segstudio.region_values import brush_value, mask_to_value, polygon_values
from segstudio.regions import Region

__all__ = [
    "RegionShapeError",
    "brush_value",
    "ellipse_mask",
    "mask_polygons",
    "mask_rectangle",
    "mask_to_value",
    "polygon_mask",
    "polygon_values",
    "rectangle_mask",
    "region_mask",
]

_LARGEST_PX = float(1 << 40)
_SMALLEST_PX = 1e-100  # products of smaller numbers would leave the range of exact arithmetic


class RegionShapeError(ValueError):
    """A region no mask can come from; the message names the region and says why."""


def region_mask(region: Region) -> Mask:
    """The pixels of a region, as a mask of its original image size.

    A polygon that was never closed is drawn closed (`parse_task` reports it). A shape without
    area, or outside the image, gives an empty mask.

    Raises:
        RegionShapeError: for a keypoint, which has no area, and for damaged geometry.
    """
    height_px, width_px = region.original_height_px, region.original_width_px
    try:
        check_size(height_px, width_px)
        return _read(region, height_px, width_px)
    except RegionShapeError as error:
        raise RegionShapeError(f"Region {region.id!r}: {error}") from error
    except (brush_rle.BrushRleError, DataUrlError, MaskError) as error:
        raise RegionShapeError(f"Region {region.id!r} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RegionShapeError(
            f"The {region.kind} of region {region.id!r} is damaged: {error!r}."
        ) from error


def _read(region: Region, height_px: int, width_px: int) -> Mask:
    value = region.value
    if region.kind == "brush":
        if value.get("rle"):
            return brush_rle.decode(value["rle"], height_px, width_px)
        # A suggestion's mask before the editor turns it into a stream; there any pixel counts
        # that is not black.
        return decode_mask_image(value["maskDataURL"], height_px, width_px, by_alpha=False)
    if region.kind == "bitmask":
        return decode_mask_image(value["imageDataURL"], height_px, width_px)
    x_px, y_px = width_px / 100.0, height_px / 100.0
    if region.kind == "polygon":
        points = np.asarray(value["points"], dtype=np.float64) * (x_px, y_px)
        return polygon_mask([points], height_px, width_px)
    rotation_deg = float(value.get("rotation") or 0.0)
    if region.kind == "rectangle":
        return rectangle_mask(
            value["x"] * x_px,
            value["y"] * y_px,
            value["width"] * x_px,
            value["height"] * y_px,
            height_px,
            width_px,
            rotation_deg=rotation_deg,
        )
    if region.kind == "ellipse":
        return ellipse_mask(
            value["x"] * x_px,
            value["y"] * y_px,
            value["radiusX"] * x_px,
            value["radiusY"] * y_px,
            height_px,
            width_px,
            rotation_deg=rotation_deg,
        )
    raise RegionShapeError(f"a {region.kind} has no area, so it has no mask.")


def polygon_mask(parts: Iterable[ArrayLike], height_px: int, width_px: int) -> Mask:
    """The pixels inside one or more closed rings, by the even-odd rule over all of them.

    Args:
        parts: rings of (n, 2) points [x, y] in pixels: exteriors and holes alike; each is closed
            from its last point to its first. Fewer than 3 points enclose nothing.
        height_px: height of the image.
        width_px: width of the image.

    Raises:
        RegionShapeError: when a ring is not (n, 2) finite numbers of at most 2**40 pixels.

    >>> ring, hole = [(0, 0), (4, 0), (4, 4), (0, 4)], [(1, 1), (3, 1), (3, 3), (1, 3)]
    >>> polygon_mask([ring, hole], 4, 4).area_px
    12
    """
    check_size(height_px, width_px)
    edges = []
    for part in parts:
        ring = np.asarray(part, dtype=np.float64)
        if ring.ndim != 2 or ring.shape[1] != 2:
            if ring.size == 0:
                continue
            raise RegionShapeError(
                f"A polygon is an (n, 2) array of points [x, y]; this one is {ring.shape}."
            )
        if not (np.abs(ring) <= _LARGEST_PX).all():
            raise RegionShapeError(
                f"A polygon has a point that is not finite or beyond {_LARGEST_PX:.0f} pixels."
            )
        ring = np.where(np.abs(ring) < _SMALLEST_PX, 0.0, ring)
        edges.append(np.hstack([ring, np.roll(ring, -1, axis=0)]))
    if not edges or height_px * width_px == 0:
        return Mask.empty(height_px, width_px)
    from segstudio import raster

    runs = raster.fill_polygon(np.concatenate(edges), height_px, width_px)
    return Mask(height_px, width_px, runs)


def rectangle_mask(
    x_px: float,
    y_px: float,
    box_width_px: float,
    box_height_px: float,
    height_px: int,
    width_px: int,
    *,
    rotation_deg: float = 0.0,
) -> Mask:
    """The pixels of a rectangle turned clockwise about its top-left corner (x, y).

    Raises:
        RegionShapeError: when a number is not finite or beyond 2**40 pixels.

    >>> rectangle_mask(1, 0, 2, 1, 2, 4).runs.tolist()
    [[1, 3]]
    """
    cosine, sine = _cosine_sine(rotation_deg)
    corners = [(0.0, 0.0), (box_width_px, 0.0), (box_width_px, box_height_px), (0.0, box_height_px)]
    ring = [(x_px + u * cosine - v * sine, y_px + u * sine + v * cosine) for u, v in corners]
    return polygon_mask([ring], height_px, width_px)


def ellipse_mask(
    x_px: float,
    y_px: float,
    radius_x_px: float,
    radius_y_px: float,
    height_px: int,
    width_px: int,
    *,
    rotation_deg: float = 0.0,
) -> Mask:
    """The pixels of an ellipse about (x, y), turned clockwise; a radius of 0 gives none.

    Raises:
        RegionShapeError: when a number is not finite or beyond 2**40 pixels.

    >>> ellipse_mask(1.5, 1.5, 1.5, 1.0, 3, 3).to_dense().astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    check_size(height_px, width_px)
    numbers = (x_px, y_px, radius_x_px, radius_y_px)
    if not all(abs(number) <= _LARGEST_PX for number in numbers):
        raise RegionShapeError(
            f"An ellipse has a number that is not finite or beyond {_LARGEST_PX:.0f} pixels:"
            f" {numbers}."
        )
    cosine, sine = _cosine_sine(rotation_deg)
    # A thinner ellipse can hold a centre only by lying exactly on it.
    if min(abs(radius_x_px), abs(radius_y_px)) < 1e-9 or height_px * width_px == 0:
        return Mask.empty(height_px, width_px)
    from segstudio import raster

    runs = raster.fill_ellipse(
        float(x_px),
        float(y_px),
        float(abs(radius_x_px)),
        float(abs(radius_y_px)),
        cosine,
        sine,
        height_px,
        width_px,
    )
    return Mask(height_px, width_px, runs)


def _cosine_sine(rotation_deg: float) -> tuple[float, float]:
    """Cosine and sine of an angle, exact for quarter turns."""
    if not math.isfinite(rotation_deg):
        raise RegionShapeError(f"A rotation of {rotation_deg} degrees means nothing.")
    quarters, rest_deg = divmod(rotation_deg, 90.0)
    if rest_deg == 0.0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    angle_rad = math.radians(rotation_deg % 360.0)
    return math.cos(angle_rad), math.sin(angle_rad)
