"""A timeline of the objects of a video as an SVG picture: when each is there, and what happens."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH_PX: Final = 960
_ROW_PX: Final = 16
_LABEL_PX: Final = 240
_TOP_PX: Final = 20
_COLORS: Final[Mapping[str, str]] = {
    "flicker": "#c62828",
    "flash": "#ef6c00",
    "jump": "#6a1b9a",
    "vanished": "#000000",
    "swap": "#00695c",
    "class-change": "#1565c0",
}


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One object: spans of positions [first, last], and (position, kind) of its events."""

    label: str
    spans: Sequence[Sequence[int]]
    events: Sequence[tuple[int, str]]


def timeline_svg(rows: Sequence[TimelineRow], frame_count: int) -> tuple[str, int]:
    """Return the picture as a data URI, and its height in pixels; `WIDTH_PX` wide.

    Bars are frames with the object, ticks are events; the legend names their colours.
    """
    height_px = _TOP_PX + _ROW_PX * (len(rows) + 1)
    step = (WIDTH_PX - _LABEL_PX) / max(1, frame_count)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height_px}" '
        f'width="{WIDTH_PX}" height="{height_px}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH_PX}" height="{height_px}" fill="#fff"/>',
    ]
    for index, (kind, color) in enumerate(_COLORS.items()):
        at = 4 + index * 110
        parts.append(f'<rect x="{at}" y="4" width="4" height="11" fill="{color}"/>')
        parts.append(f'<text x="{at + 8}" y="13">{kind}</text>')
    for index, row in enumerate(rows):
        y = _TOP_PX + index * _ROW_PX
        parts.append(f'<text x="4" y="{y + 11}">{escape(row.label[:40])}</text>')
        for first, last in row.spans:
            x, width = _LABEL_PX + first * step, (last - first + 1) * step
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="9" fill="#b0bec5"/>'
            )
        for position, kind in row.events:
            x = _LABEL_PX + position * step
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 1}" width="{max(step, 2):.1f}" height="13" '
                f'fill="{_COLORS.get(kind, "#000")}"/>'
            )
    bottom = height_px - 4
    parts.append(f'<text x="{_LABEL_PX}" y="{bottom}">frame 1</text>')
    parts.append(
        f'<text x="{WIDTH_PX - 4}" y="{bottom}" text-anchor="end">{frame_count}</text></svg>'
    )
    encoded = base64.b64encode("".join(parts).encode()).decode("ascii")
    return f"data:image/svg+xml;base64,{encoded}", height_px
