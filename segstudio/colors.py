"""Colours of classes: reading what a labelling interface writes, and making distinct ones."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Collection, Iterator

_FUNCTIONAL = re.compile(
    r"rgba?\(\s*(\d+(?:\.\d+)?)\s*[,\s]\s*(\d+(?:\.\d+)?)\s*[,\s]\s*(\d+(?:\.\d+)?)\s*(?:[,/].*)?\)",
    re.IGNORECASE,
)
_HEX = re.compile(r"#(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", re.IGNORECASE)


def parse_color(text: str) -> tuple[int, int, int] | None:
    """Read a CSS colour as (red, green, blue) of 0..255; None where it is no colour.

    Understands ``#rgb``, ``#rrggbb`` (a fourth part, the opacity, is dropped), ``rgb()``,
    ``rgba()``, ``hsl()`` and the names of CSS.

    >>> parse_color("rgba(255, 0, 10, 0.7)"), parse_color("#0f0"), parse_color("nonsense")
    ((255, 0, 10), (0, 255, 0), None)
    """
    text = text.strip()
    if _HEX.fullmatch(text):
        digits = text[1:]
        if len(digits) <= 4:
            digits = "".join(digit * 2 for digit in digits)
        return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
    functional = _FUNCTIONAL.fullmatch(text)
    if functional:
        red, green, blue = (min(255, round(float(part))) for part in functional.groups())
        return red, green, blue
    return _named_color(text)


def format_color(color: tuple[int, int, int]) -> str:
    """Write a colour as ``#RRGGBB``.

    >>> format_color((255, 0, 10))
    '#FF000A'
    """
    return "#{:02X}{:02X}{:02X}".format(*color)


def distinct_colors(
    count: int, taken: Collection[tuple[int, int, int]] = ()
) -> tuple[tuple[int, int, int], ...]:
    """Make `count` colours that differ from each other, from `taken` and from black.

    Deterministic: hues step by the golden angle, brightness and saturation cycle slowly.

    >>> distinct_colors(2)
    ((230, 46, 46), (46, 99, 230))
    """
    colors: list[tuple[int, int, int]] = []
    for color in _golden_angle_colors():
        if len(colors) == count:
            break
        if color not in taken and color not in colors:
            colors.append(color)
    return tuple(colors)


def _golden_angle_colors() -> Iterator[tuple[int, int, int]]:
    hue, step = 0.0, 0
    while True:
        saturation = (0.8, 0.55, 1.0)[step // 7 % 3]
        value = (0.9, 0.65, 0.8, 0.5)[step // 11 % 4]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        yield round(red * 255), round(green * 255), round(blue * 255)
        hue = (hue + 0.618033988749895) % 1.0
        step += 1


def _named_color(text: str) -> tuple[int, int, int] | None:
    # Pillow's table of CSS names; imported only where a name or hsl() is met.
    from PIL import ImageColor

    try:
        channels = ImageColor.getrgb(text)
    except ValueError:
        return None
    return channels[0], channels[1], channels[2]
