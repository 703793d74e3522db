"""The trend over batches: one line chart of mean IoU and the weakest classes, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from qa_plugins.history import BatchRecord, Measured

MAX_BATCHES: Final = 20
WEAKEST: Final = 3
WIDTH: Final = 1040
HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 190, 14, 40
_MEAN_COLOR: Final = "#17202b"
_CLASS_COLORS: Final = ("#b3261e", "#b26a00", "#6a3d9a")
_LABEL_CHARS: Final = 16
_MIN_GAP_PX: Final = 16


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the chart: its points by batch, None where the batch has no value."""

    name: str
    color: str
    points: tuple[Measured | None, ...]


def trend_lines(history: Sequence[BatchRecord]) -> list[Line]:
    """Mean IoU, and the classes that are weakest in the latest batch that has any."""
    latest = next((one for one in reversed(history) if one.classes), None)
    weakest: list[str] = []
    if latest is not None:
        by_value: Mapping[str, Measured] = latest.classes
        weakest = sorted(by_value, key=lambda name: (by_value[name].value, name))[:WEAKEST]
    mean = Line("mean IoU", _MEAN_COLOR, tuple(one.miou for one in history))
    return [
        mean,
        *(
            Line(name, color, tuple(one.classes.get(name) for one in history))
            for name, color in zip(weakest, _CLASS_COLORS, strict=False)
        ),
    ]


def trend_chart(history: Sequence[BatchRecord]) -> str:
    """The latest batches as an SVG with intervals and the required mIoU; "" for less than two."""
    shown = history[-MAX_BATCHES:]
    if len(shown) < 2:
        return ""
    lines = trend_lines(shown)
    known = [
        number
        for line in lines
        for point in line.points
        if point is not None
        for number in (point.value, point.low, point.high)
        if number is not None
    ] + [one.threshold for one in shown if one.threshold is not None]
    bottom = max(0.0, int((min(known, default=0.0) - 0.03) * 10) / 10)
    scale = _Scale(len(shown), bottom)
    parts = [
        f'<svg class="trend" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="IoU of {len(shown)} batches">',
        *_grid(scale, shown),
        *_threshold(scale, shown),
    ]
    for line in lines:
        parts += _line(scale, line)
    parts += _names(scale, lines)
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True, slots=True)
class _Scale:
    count: int
    bottom: float

    def x(self, index: float) -> float:
        return round(_LEFT + (index + 0.5) * (WIDTH - _LEFT - _RIGHT) / self.count, 1)

    def y(self, value: float) -> float:
        share = (min(1.0, value) - self.bottom) / (1 - self.bottom)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _grid(scale: _Scale, shown: Sequence[BatchRecord]) -> list[str]:
    step = 0.1 if scale.bottom >= 0.4 else 0.2
    ticks = []
    value = 1.0
    while value >= scale.bottom - 1e-9:
        ticks.append(value)
        value -= step
    parts = []
    for tick in ticks:
        y = scale.y(tick)
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#e1e5ea"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" class="t">{tick:.1f}</text>'
        )
    every = max(1, -(-len(shown) // 10))
    for index, one in enumerate(shown):
        if (len(shown) - 1 - index) % every:
            continue
        parts.append(
            f'<text x="{scale.x(index)}" y="{HEIGHT - 22}" text-anchor="middle" class="t">'
            f"{escape(_short(one.label))}</text>"
            f'<text x="{scale.x(index)}" y="{HEIGHT - 7}" text-anchor="middle" class="t s">'
            f"{escape(one.measured_at[:10])} UTC</text>"
        )
    return parts


def _threshold(scale: _Scale, shown: Sequence[BatchRecord]) -> list[str]:
    """The required mIoU, batch by batch: it may have been another one earlier."""
    return [
        f'<line x1="{scale.x(index - 0.5)}" x2="{scale.x(index + 0.5)}" y1="{y}" y2="{y}" '
        'stroke="#3c4653" stroke-width="1.5" stroke-dasharray="5 3"/>'
        for index, one in enumerate(shown)
        if one.threshold is not None and (y := scale.y(one.threshold))
    ]


def _line(scale: _Scale, line: Line) -> list[str]:
    width = 3 if line.color == _MEAN_COLOR else 2
    at = [(scale.x(index), point) for index, point in enumerate(line.points) if point is not None]
    path = " ".join(f"{x},{scale.y(point.value)}" for x, point in at)
    parts = [
        f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="{width}"/>'
    ]
    for x, point in at:
        if point.low is not None and point.high is not None:
            parts.append(
                f'<line x1="{x}" x2="{x}" y1="{scale.y(point.low)}" y2="{scale.y(point.high)}" '
                f'stroke="{line.color}" stroke-width="6" opacity="0.22"/>'
            )
        parts.append(
            f'<circle cx="{x}" cy="{scale.y(point.value)}" r="{width + 1}" fill="{line.color}"/>'
        )
    return parts


def _names(scale: _Scale, lines: Sequence[Line]) -> list[str]:
    """Each line's name and latest value at its end, pushed apart where they would overlap."""
    ends = []
    for line in lines:
        last = next((point for point in reversed(line.points) if point is not None), None)
        if last is not None:
            ends.append((scale.y(last.value), line, last.value))
    parts, lowest = [], -1e9
    for y, line, value in sorted(ends, key=lambda one: (one[0], one[1].name)):
        lowest = max(y, lowest + _MIN_GAP_PX)
        weight = 700 if line.color == _MEAN_COLOR else 400
        parts.append(
            f'<text x="{WIDTH - _RIGHT + 12}" y="{lowest + 4:.1f}" fill="{line.color}" '
            f'class="n" font-weight="{weight}">{escape(_short(line.name))} {value:.2f}</text>'
        )
    return parts


def _short(text: str) -> str:
    return text if len(text) <= _LABEL_CHARS else text[: _LABEL_CHARS - 1] + "…"
