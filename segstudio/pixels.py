"""Encoded images -> pixels as an annotator's browser shows them, in bounded memory."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from segstudio.errors import MediaError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 178_956_970
"""Larger images are refused: where Pillow takes an image for a decompression bomb."""

# What browsers show, and TIFF. Others (EPS, PDF) would start programs or parsers of their own.
# MPO (what some phones write) has no opener of its own in Pillow: JPEG's reads it.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# Chromium turns JPEG and PNG by their EXIF orientation, and WebP not (tried); so do we. Pillow
# turns TIFF while loading it, its size at once.
_TURNED_FORMATS: Final = frozenset({"JPEG", "MPO", "PNG"})
_EXIF_ORIENTATION: Final = 0x0112
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})


def load_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an image into RGB as a browser shows it.

    EXIF orientation is applied to JPEG, PNG and TIFF. 16-bit values keep their upper byte, as in
    browsers (12 bits stored in 16 look black there too). Gray and palette become RGB, CMYK is
    converted without a profile, transparency is laid on white, of several frames the first
    counts. Colour profiles are not applied.

    Returns:
        uint8, (height_px, width_px, 3), C-contiguous.

    Raises:
        MediaError: no image of a known format, damaged, of floating-point values, or of more
            than `max_pixels`.
    """
    with _opened(content, max_pixels) as image:
        turned = _turn(image)
        rgb = _to_rgb(turned)
    return np.ascontiguousarray(rgb)


def image_size_px(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (height_px, width_px) as `load_image` would, from the header alone.

    Raises:
        MediaError: as `load_image`.
    """
    with _opened(content, max_pixels) as image:
        width_px, height_px = image.size
        turned = _orientation(image) in _SIDEWAYS
    return (width_px, height_px) if turned else (height_px, width_px)


def exif_orientation(content: bytes, *, max_pixels: int = MAX_PIXELS) -> int:
    """Return how an image is stored turned, 1 (not at all) to 8, where browsers turn it back.

    Raises:
        MediaError: as `load_image`.
    """
    with _opened(content, max_pixels) as image:
        return _orientation(image)


@contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                width_px, height_px = image.size
                if width_px * height_px > max_pixels:
                    raise MediaError(
                        f"The image has {width_px} x {height_px} pixels, more than the limit of "
                        f"{max_pixels:,}. Cut it into tiles."
                    )
                yield image
    except UnidentifiedImageError as error:
        raise MediaError(
            f"The file ({len(content):,} bytes) is no image of a known format "
            f"({', '.join(_FORMATS)})."
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"The image is too large: {error}. Cut it into tiles.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise MediaError(f"The image is damaged: {error}.") from error


def _orientation(image: Image.Image) -> int:
    if image.format not in _TURNED_FORMATS:
        return 1
    found = image.getexif().get(_EXIF_ORIENTATION, 1)
    return found if isinstance(found, int) else 1


def _turn(image: Image.Image) -> Image.Image:
    from PIL import Image as PillowImage

    methods = {
        2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
        3: PillowImage.Transpose.ROTATE_180,
        4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
        5: PillowImage.Transpose.TRANSPOSE,
        6: PillowImage.Transpose.ROTATE_270,
        7: PillowImage.Transpose.TRANSVERSE,
        8: PillowImage.Transpose.ROTATE_90,
    }
    method = methods.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    from PIL import Image as PillowImage

    if image.mode.startswith("I"):
        return _gray_to_rgb(_upper_byte(np.asarray(image)))
    if image.mode == "F":
        raise MediaError(
            "The image holds floating-point values, which no browser shows. Convert it to 8 or "
            "16 bits first."
        )
    if image.mode in ("L", "1") and "transparency" not in image.info:
        return _gray_to_rgb(np.asarray(image.convert("L")))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = PillowImage.new("RGBA", with_alpha.size, (255, 255, 255, 255))
        image = PillowImage.alpha_composite(white, with_alpha)
    return np.asarray(image.convert("RGB"))


def _upper_byte(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    wide = values.astype(np.int64)
    if wide.size and (int(wide.min()) < 0 or int(wide.max()) > 0xFFFF):
        raise MediaError(
            f"The image holds values from {int(wide.min())} to {int(wide.max())}, which no "
            "browser shows. Convert it to 8 or 16 bits first."
        )
    return (wide >> 8).astype(np.uint8)


def _gray_to_rgb(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
