"""Label images into masks: values of pixels to runs, without a dense mask a segment."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.importers.dataset import DamagedImageError
from segstudio.masks import Mask
from segstudio.pixels import MAX_PIXELS

_INDEX_MODES: Final = frozenset({"P", "L", "1"})
_WIDE_MODES: Final = frozenset({"I;16", "I;16B", "I;16L", "I"})
_COLOR_MODES: Final = frozenset({"RGB", "RGBA"})

Color = tuple[int, int, int]


def read_id_colors(path: Path, name: str) -> NDArray[np.int32]:
    """Return R + 256 G + 65536 B of every pixel of a true-colour PNG, (height, width) int32.

    Raises:
        DamagedImageError: no such file, no PNG, or one with a palette or of greys.
    """
    pixels, mode = _read(path, name)
    if mode not in _COLOR_MODES:
        raise DamagedImageError(
            f"{name} is a {_described(mode)} PNG; COCO panoptic stores ids as colours, in RGB."
        )
    return _packed(pixels)


def read_label_map(path: Path, name: str, colors: Mapping[Color, int]) -> NDArray[np.int32]:
    """Return the class id of every pixel, (height, width) int32.

    The value of a pixel is its id; a true-colour image is read through its classes' colours.

    Args:
        path: the PNG.
        name: how messages call it.
        colors: the id of each colour.

    Raises:
        DamagedImageError: no such file, no PNG, or colours that no class has.
    """
    pixels, mode = _read(path, name)
    if mode in _INDEX_MODES or mode in _WIDE_MODES:
        return pixels.astype(np.int32)
    if mode not in _COLOR_MODES:
        raise DamagedImageError(
            f"{name} is a {_described(mode)} PNG; a label map is 8-bit, 16-bit or RGB."
        )
    packed = _packed(pixels)
    values, places = np.unique(packed, return_inverse=True)
    known = {_pack(color): number for color, number in colors.items()}
    unknown = [int(value) for value in values if int(value) not in known]
    if unknown:
        red, green, blue = unknown[0] & 255, unknown[0] >> 8 & 255, unknown[0] >> 16
        raise DamagedImageError(
            f"{name} is true-colour and has the colour ({red}, {green}, {blue}), which no class "
            f"has{f' ({len(unknown)} such colours)' if len(unknown) > 1 else ''}: it is no label "
            "map, or its colour map is missing."
        )
    ids = np.array([known[int(value)] for value in values], np.int32)
    return ids[places].reshape(packed.shape)


def palette_of(path: Path) -> dict[int, Color]:
    """Return the palette of a PNG, {} where it has none or cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG",)) as image:
            flat = image.getpalette() or [] if image.mode == "P" else []
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return {}
    return {at // 3: (flat[at], flat[at + 1], flat[at + 2]) for at in range(0, len(flat) - 2, 3)}


def masks_by_value(values: NDArray[np.signedinteger[Any]]) -> dict[int, Mask]:
    """Return the pixels of each value of an image, by ascending value.

    >>> found = masks_by_value(np.array([[0, 7], [7, 0]], np.int32))
    >>> {value: mask.runs.tolist() for value, mask in found.items()}
    {0: [[0, 1], [3, 4]], 7: [[1, 3]]}
    """
    height_px, width_px = values.shape
    flat = np.ascontiguousarray(values).reshape(-1)
    if not flat.size:
        return {}
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    stops = np.concatenate((starts[1:], [flat.size]))
    order = np.argsort(flat[starts], kind="stable")
    found = flat[starts][order]
    cuts = np.flatnonzero(found[1:] != found[:-1]) + 1
    runs = np.stack([starts[order], stops[order]], axis=1).astype(np.int64)
    firsts = np.concatenate(([0], cuts))
    return {
        int(found[first]): Mask(height_px, width_px, np.ascontiguousarray(part))
        for first, part in zip(firsts, np.split(runs, cuts), strict=True)
    }


def _read(path: Path, name: str) -> tuple[NDArray[Any], str]:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise DamagedImageError(f"{name} is missing.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                width_px, height_px = image.size
                if width_px * height_px > MAX_PIXELS:
                    raise DamagedImageError(
                        f"{name} has {width_px} x {height_px} pixels, more than the limit of "
                        f"{MAX_PIXELS:,}."
                    )
                return np.asarray(image), image.mode
    except UnidentifiedImageError as error:
        raise DamagedImageError(f"{name} is no PNG.") from error
    except (
        OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise DamagedImageError(f"{name} is damaged: {error}.") from error


def _packed(pixels: NDArray[Any]) -> NDArray[np.int32]:
    wide = pixels.astype(np.int32)
    packed: NDArray[np.int32] = wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16
    return packed


def _pack(color: Color) -> int:
    red, green, blue = color
    return red | green << 8 | blue << 16


def _described(mode: str) -> str:
    if mode == "P":
        return "palette"
    if mode in _WIDE_MODES:
        return "16-bit grey"
    return "grey" if mode in ("L", "1", "LA") else mode
