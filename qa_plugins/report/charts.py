"""Small inline pictures of numbers: SVG text, no script, prints as it looks."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 240
HEIGHT = 26
_PAD = 4


def interval_bar(
    value: float | None,
    other: float | None,
    interval: Sequence[float] | None,
    threshold: float | None,
    *,
    weak: bool,
) -> str:
    """A scale from 0 to 1 with the interval as a band and the value as a dot, as SVG.

    ``other`` (the second way of averaging) is a thin tick; ``threshold`` a dashed line.
    """
    color = "#b3261e" if weak else "#1d5fa8"
    middle = HEIGHT / 2
    parts = [
        f'<svg class="bar" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-hidden="true">',
        f'<line x1="{_x(0)}" x2="{_x(1)}" y1="{middle}" y2="{middle}" stroke="#d5dae1" '
        'stroke-width="2"/>',
    ]
    parts += [
        f'<line x1="{_x(tick)}" x2="{_x(tick)}" y1="{middle - 3}" y2="{middle + 3}" '
        'stroke="#d5dae1" stroke-width="1"/>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    ]
    if threshold is not None:
        parts.append(
            f'<line x1="{_x(threshold)}" x2="{_x(threshold)}" y1="2" y2="{HEIGHT - 2}" '
            'stroke="#3c4653" stroke-width="1.5" stroke-dasharray="3 2"/>'
        )
    if interval is not None:
        low, high = _x(interval[0]), _x(interval[1])
        parts.append(
            f'<rect x="{low}" y="{middle - 5}" width="{max(1.0, high - low):.1f}" height="10" '
            f'rx="3" fill="{color}" opacity="0.25"/>'
        )
    if other is not None:
        parts.append(
            f'<line x1="{_x(other)}" x2="{_x(other)}" y1="{middle - 7}" y2="{middle + 7}" '
            f'stroke="{color}" stroke-width="1.5"/>'
        )
    if value is not None:
        parts.append(f'<circle cx="{_x(value)}" cy="{middle}" r="5" fill="{color}"/>')
    return "".join([*parts, "</svg>"])


def heat_color(value: float | None) -> str:
    """Background of a cell of agreement: pale red at 0.5 and below, white, pale green at 1.

    >>> heat_color(None), heat_color(0.2)
    ('#f3f4f6', '#f6c7c3')
    """
    if value is None:
        return "#f3f4f6"
    low, middle, high = (246, 199, 195), (253, 248, 236), (190, 228, 205)
    share = min(1.0, max(0.0, (value - 0.5) / 0.5)) * 2
    start, end = (low, middle) if share <= 1 else (middle, high)
    part = share if share <= 1 else share - 1
    mixed = [round(a + (b - a) * part) for a, b in zip(start, end, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _x(value: float) -> float:
    return round(_PAD + min(1.0, max(0.0, value)) * (WIDTH - 2 * _PAD), 1)
