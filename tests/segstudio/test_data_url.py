"""Bitmasks: images of every mode as data URLs, and what is no bitmask."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segstudio.data_url import DataUrlError, decode_mask_image, encode_mask_image
from segstudio.masks import Mask

DENSE = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
MASK = Mask.from_dense(DENSE)


def url(image: Image.Image, image_format: str = "PNG", **options: Any) -> str:
    content = io.BytesIO()
    image.save(content, image_format, **options)
    encoded = base64.b64encode(content.getvalue()).decode()
    return f"data:image/{image_format.lower()};base64,{encoded}"


def rgba(on: tuple[int, int, int, int], off: tuple[int, int, int, int]) -> Image.Image:
    return Image.fromarray(np.where(DENSE[..., None], on, off).astype(np.uint8), "RGBA")


def palette() -> Image.Image:
    image = Image.fromarray(DENSE.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 10, 10])
    return image


@pytest.mark.parametrize(
    "image",
    [
        rgba((0, 0, 0, 255), (0, 0, 0, 0)),
        rgba((255, 255, 255, 255), (0, 0, 0, 0)),
        rgba((9, 9, 9, 1), (255, 255, 255, 0)),
        rgba((255, 0, 0, 255), (0, 0, 0, 255)),
        Image.fromarray(DENSE.astype(np.uint8) * 255, "L"),
        Image.fromarray(DENSE.astype(np.uint8), "L"),
        Image.fromarray(DENSE.astype(np.uint16) * 3000),
        Image.fromarray(DENSE),
        Image.merge("LA", [Image.new("L", (3, 2)), Image.fromarray(DENSE.astype(np.uint8) * 255)]),
        rgba((1, 2, 3, 255), (0, 0, 0, 255)).convert("RGB"),
        palette(),
    ],
    ids=lambda image: image.mode,
)
def test_every_mode_of_image_is_read(image: Image.Image) -> None:
    assert decode_mask_image(url(image), 2, 3) == MASK


@pytest.mark.parametrize(("form", "options"), [("WEBP", {"lossless": True}), ("BMP", {})])
def test_other_lossless_formats_are_read(form: str, options: dict[str, Any]) -> None:
    image = Image.fromarray(DENSE.astype(np.uint8) * 255, "L").convert("RGB")
    assert decode_mask_image(url(image, form, **options), 2, 3) == MASK


def test_an_opaque_black_canvas_is_a_mask_of_the_whole_image() -> None:
    assert decode_mask_image(url(Image.new("RGBA", (3, 2), (0, 0, 0, 255))), 2, 3).area_px == 6
    assert decode_mask_image(url(Image.new("RGBA", (3, 2), (0, 0, 0, 0))), 2, 3).is_empty
    assert decode_mask_image(url(Image.new("L", (3, 2), 0)), 2, 3).is_empty


def test_a_suggestion_s_image_counts_what_is_not_black() -> None:
    image = rgba((0, 255, 0, 255), (0, 0, 0, 255))
    assert decode_mask_image(url(image), 2, 3, by_alpha=False) == MASK


@pytest.mark.parametrize("mask", [MASK, Mask.full(5, 9), MASK.resize(70, 33), Mask.empty(3, 3)])
def test_written_bitmasks_look_like_the_editor_s(mask: Mask) -> None:
    written = encode_mask_image(mask)
    assert decode_mask_image(written, mask.height_px, mask.width_px) == mask
    content = base64.b64decode(written.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    np.testing.assert_array_equal(pixels[..., 3], mask.to_dense() * np.uint8(255))
    assert not pixels[..., :3].any()


@pytest.mark.parametrize(
    ("data_url", "sentence"),
    [
        ("", "starts with"),
        ("https://example.com/mask.png", "starts with"),
        ("file:///etc/passwd", "starts with"),
        ("data:image/png,abc", "starts with"),
        ("data:image/png;base64,a$b=", "base64 of a bitmask is damaged"),
        ("data:image/png;base64,aGVsbG8=", "cannot be read"),
        (url(Image.new("RGB", (3, 2)), "JPEG"), "cannot be read"),
        (url(Image.new("L", (4, 4))), "4 x 4 pixels, but the region says 3 x 2"),
        (url(rgba((1, 1, 1, 255), (0, 0, 0, 0)))[:-40] + "AAAA", "cannot be read"),
    ],
)
def test_what_is_no_bitmask_is_refused_in_a_sentence(data_url: str, sentence: str) -> None:
    with pytest.raises(DataUrlError, match=sentence):
        decode_mask_image(data_url, 2, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_size_is_checked_before_pixels_are_unpacked() -> None:
    bomb = url(Image.new("1", (12_000, 12_000)))
    with pytest.raises(DataUrlError, match="12000 x 12000"):
        decode_mask_image(bomb, 2, 3)
