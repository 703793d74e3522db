"""COCO panoptic segment ids: one number a segment, stored as a colour, id = R + 256 G + 65536 B.

COCO gives every segment a colour near its category's, so that the PNG reads as a picture. Here
the same, but deterministic: the same segments always get the same ids.
Source of the convention: https://cocodataset.org/#format-data (4. Panoptic Segmentation).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]

VOID_ID = 0
MAX_ID = (1 << 24) - 1
# Instances of a thing differ from its colour by at most this much per channel.
_SPREAD = 30
_SIDE = 2 * _SPREAD + 1
# Coprime to _SIDE ** 3, so that every offset comes once, and neighbours in the order are far apart.
_STRIDE = 88_657


def color_to_id(color: Color) -> int:
    """Return the segment id that a PNG colour stands for.

    >>> color_to_id((1, 2, 3))
    197121
    """
    red, green, blue = color
    return red + 256 * green + 65536 * blue


def id_to_color(segment_id: int) -> Color:
    """Return the PNG colour of a segment id.

    >>> id_to_color(197121)
    (1, 2, 3)
    """
    return segment_id & 255, segment_id >> 8 & 255, segment_id >> 16


def segment_ids(
    classes: Iterable[tuple[Color, bool]],
    reserved: Iterable[Color],
    known: Iterable[object] = (),
) -> list[int]:
    """Return a distinct id, never VOID (0), for each segment of one image.

    Args:
        classes: the class colour of each segment, and whether the class is stuff. Stuff takes
            its colour itself, a thing's instances take colours near theirs.
        reserved: the colours of all stuff classes, which no thing may take.
        known: the id of each segment where it has one, from the data set that it was imported
            from; of two equal ones the first counts. Anything but an id is none.
    """
    taken = {VOID_ID}
    kept_for_stuff = {color_to_id(color) for color in reserved}
    kept_ids = dict(_usable(known))
    taken.update(kept_ids.values())
    nearby: dict[Color, Iterator[int]] = {}
    ids: list[int] = []
    for number, (color, is_stuff) in enumerate(classes):
        if number in kept_ids:
            ids.append(kept_ids[number])
            continue
        own = color_to_id(color)
        if own in taken or (own in kept_for_stuff and not is_stuff):
            own = next(
                candidate
                for candidate in nearby.setdefault(color, _near(color))
                if candidate not in taken and candidate not in kept_for_stuff
            )
        taken.add(own)
        ids.append(own)
    return ids


def _usable(known: Iterable[object]) -> Iterator[tuple[int, int]]:
    """Yield (number of the segment, its id) for those that are ids, each id once."""
    seen: set[int] = set()
    for number, one in enumerate(known):
        if isinstance(one, int) and VOID_ID < one <= MAX_ID and one not in seen:
            seen.add(one)
            yield number, one


def _near(color: Color) -> Iterator[int]:
    """Yield every id once or more: those near the colour first, then all from 1 up."""
    total = _SIDE**3
    for step in range(total):
        number = (step + 1) * _STRIDE % total
        offsets = (number % _SIDE, number // _SIDE % _SIDE, number // _SIDE**2)
        red, green, blue = (
            min(255, max(0, channel + offset - _SPREAD))
            for channel, offset in zip(color, offsets, strict=True)
        )
        yield color_to_id((red, green, blue))
    yield from range(1, MAX_ID + 1)


def paint_ids(instance_map: NDArray[np.int32], ids: list[int]) -> NDArray[np.uint8]:
    """Return the (height, width, 3) picture of a map of segment numbers.

    Args:
        instance_map: (height, width), 0 = no segment, n = the n-th of `ids`.
        ids: segment ids in the order of their numbers.

    Raises:
        IndexError: the map has a number without an id.
    """
    from exporters.paint_kernels import paint

    colors = np.array([id_to_color(VOID_ID), *map(id_to_color, ids)], dtype=np.uint8)
    if instance_map.size and not 0 <= instance_map.min() <= instance_map.max() < len(colors):
        raise IndexError(f"The map has a number beyond its {len(ids)} segments.")
    numbers = np.ascontiguousarray(instance_map, dtype=np.int32).reshape(-1)
    return paint(numbers, colors).reshape(*instance_map.shape, 3)
