"""Images inside JSON: Label Studio's bitmasks, PNG files as data URLs.

The editor keeps a bitmask as opaque pixels on a transparent canvas, so an image with transparency
is on where its alpha is above 0, whatever its colour. Images without any transparency (grayscale,
palette, or an alpha channel that is opaque everywhere) come from other tools; there a pixel is on
where it is not black. Only an opaque black image with an alpha channel is the editor's again: a
mask of the whole image.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = ("PNG", "WEBP", "GIF", "BMP")  # lossless ones: JPEG would blur the mask's edge


class DataUrlError(ValueError):
    """A data URL that holds no mask; the message says why."""


def decode_mask_image(
    data_url: str, height_px: int, width_px: int, *, by_alpha: bool = True
) -> Mask:
    """The mask of a data URL.

    Args:
        data_url: `data:image/png;base64,...`; other lossless formats are read as well.
        height_px: `original_height` of the region.
        width_px: `original_width` of the region.
        by_alpha: whether transparency decides when there is some; else colour does.

    Raises:
        DataUrlError: when it is no base64 data URL, no readable lossless image, or of other sizes.
    """
    from PIL import Image

    content = _content(data_url)
    try:
        # The size is in the header: compare it before any pixel is unpacked.
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            size = image.size
            dense = _is_on(image, by_alpha) if size == (width_px, height_px) else None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataUrlError(f"the image of a bitmask cannot be read: {error}.") from error
    if dense is None:
        raise DataUrlError(
            f"the image of a bitmask is {size[0]} x {size[1]} pixels, but the region says"
            f" {width_px} x {height_px}."
        )
    return Mask.from_dense(dense)


def _content(data_url: str) -> bytes:
    head, comma, body = data_url.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64") or not comma:
        raise DataUrlError(
            f"a bitmask starts with 'data:image/png;base64,', this one with {data_url[:40]!r}."
        )
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataUrlError(f"the base64 of a bitmask is damaged: {error}.") from error


def _is_on(image: Image.Image, by_alpha: bool) -> NDArray[np.bool_]:
    has_alpha = "A" in image.mode or "transparency" in image.info
    if not has_alpha and image.mode in ("1", "L", "I", "I;16", "I;16B"):
        return np.asarray(image, dtype=np.int64).astype(np.bool_)
    pixels: NDArray[np.uint8] = np.asarray(image.convert("RGBA"))
    opaque = pixels[..., 3] > 0
    if by_alpha and not opaque.all():
        return opaque
    coloured: NDArray[np.bool_] = (pixels[..., :3] != 0).any(axis=2) & opaque
    # The editor's own bitmask of a whole image is opaque black; a region is never empty.
    return coloured if coloured.any() or not (by_alpha and has_alpha) else opaque


def encode_mask_image(mask: Mask) -> str:
    """The data URL of a mask: a PNG with opaque black on transparent, as the editor writes it."""
    from PIL import Image

    dense = mask.to_dense()
    # Two palette entries in one bit a pixel: the same picture as the editor's RGBA, far smaller.
    image = Image.fromarray(dense.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    content = io.BytesIO()
    image.save(content, "PNG", bits=1, transparency=bytes([0, 255]), compress_level=6)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
