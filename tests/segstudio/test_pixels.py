"""Pixels as a browser shows them, whatever the file holds."""

import io

import numpy as np
import pytest
from PIL import Image

from segstudio.errors import MediaError
from segstudio.pixels import image_size_px, load_image

COLOURS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8
)


def encoded(image, kind="png", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(kind, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(COLOURS, kind, exif=exif, **options)


GRAY = np.array([[0, 128, 255]], np.uint8)
WIDE = np.array([[0, 255, 256, 0x8001, 0xFFFF]], np.uint16)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(COLOURS), COLOURS),
        (encoded(COLOURS, "bmp"), COLOURS),
        (encoded(COLOURS, "tiff"), COLOURS),
        (encoded(GRAY), [[[0] * 3, [128] * 3, [255] * 3]]),
        (encoded(WIDE), [[[0] * 3, [0] * 3, [1] * 3, [128] * 3, [255] * 3]]),
        (encoded(WIDE, "tiff"), [[[0] * 3, [0] * 3, [1] * 3, [128] * 3, [255] * 3]]),
        (encoded(Image.fromarray(GRAY > 100)), [[[0] * 3, [255] * 3, [255] * 3]]),
        (encoded(Image.fromarray(COLOURS).quantize(8)), COLOURS),
        (encoded(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "tiff"), [[[255, 0, 0]]]),
        # Transparency is laid on white: black at alpha 0, half and full.
        (
            encoded(np.array([[[0, 0, 0, 0], [0, 0, 0, 128], [0, 0, 0, 255]]], np.uint8)),
            [[[255] * 3, [127] * 3, [0] * 3]],
        ),
        (encoded(np.array([[[9, 255], [9, 0]]], np.uint8)), [[[9] * 3, [255] * 3]]),
        (encoded(Image.fromarray(GRAY), transparency=128), [[[0] * 3, [255] * 3, [255] * 3]]),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_every_mode_becomes_rgb(content, expected):
    pixels = load_image(content)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.tolist() == np.asarray(expected).tolist()


# What EXIF 2.32 says each orientation stores, undone.
TURNED = {
    1: COLOURS,
    2: COLOURS[:, ::-1],
    3: COLOURS[::-1, ::-1],
    4: COLOURS[::-1],
    5: COLOURS.transpose(1, 0, 2),
    6: np.rot90(COLOURS, -1),
    7: COLOURS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(COLOURS, 1),
}


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_applied(kind, orientation):
    content = oriented(kind, orientation)
    assert load_image(content).tolist() == TURNED[orientation].tolist()
    assert image_size_px(content) == TURNED[orientation].shape[:2]


def test_jpeg_is_turned_and_webp_is_not_as_in_chromium():
    assert image_size_px(oriented("jpeg", 6)) == load_image(oriented("jpeg", 6)).shape[:2] == (3, 2)
    webp = oriented("webp", 6, lossless=True)
    assert image_size_px(webp) == (2, 3)
    assert load_image(webp).tolist() == COLOURS.tolist()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image of a known format"),
        (encoded(COLOURS)[:-30], "damaged"),
        (encoded(np.zeros((2, 2), np.float32), "tiff"), "floating-point"),
        (encoded(np.array([[-1, 70000]], np.int32), "tiff"), "values from -1 to 70000"),
    ],
    ids=["empty", "eps", "svg", "cut off", "float", "int32"],
)
def test_what_cannot_be_shown_is_refused_with_a_sentence(content, sentence):
    with pytest.raises(MediaError, match=sentence):
        load_image(content)


def test_images_above_the_limit_are_refused_from_their_header():
    content = encoded(Image.new("1", (300, 400)))
    for read in (load_image, image_size_px):
        with pytest.raises(MediaError, match="300 x 400 pixels, more than the limit of 119,999"):
            read(content, max_pixels=119_999)
    assert image_size_px(content, max_pixels=120_000) == (400, 300)


def test_a_decompression_bomb_is_refused():
    # 30,000 x 30,000 pixels of zeros: 110 kB in the file, 900 MB as gray pixels.
    content = encoded(Image.new("1", (30_000, 30_000)))
    with pytest.raises(MediaError, match=r"too large|more than the limit"):
        load_image(content)


def test_a_real_photo_is_read(fixtures_dir):
    pixels = load_image((fixtures_dir / "images" / "truck.jpg").read_bytes())
    assert pixels.shape == (1200, 1800, 3)
