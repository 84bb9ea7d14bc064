"""A value curve as an SVG drawing: text that a page can hold, made without any plotting library.

Coordinates are units of the drawing's own box, ``WIDTH`` wide; the page scales it. Colours come from the
page's style sheet through class names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from worldvalue.scoring.segments import Segment
from worldvalue.types import ValueCurve

WIDTH = 1000.0
_LEFT, _RIGHT, _TOP, _PLOT = 34.0, 8.0, 20.0, 190.0
STRIP_WIDTH = WIDTH - _LEFT - _RIGHT
_STRIP_TOP = _TOP + _PLOT + 30.0
_MAX_POINTS = 400
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True)
class Strip:
    """Frames of the episode side by side in one picture, for under the time axis.

    Attributes:
        source: the picture as a ``data:`` address.
        count: number of frames ``n``; frame ``k`` was seen in the middle of the ``k``-th of ``n`` parts.
        aspect: width / height of one frame.
    """

    source: str
    count: int
    aspect: float


@dataclass(frozen=True)
class _Axes:
    """Maps seconds and values to the drawing."""

    start: float
    end: float
    low: float
    high: float

    def x(self, time: float) -> float:
        return _LEFT + (time - self.start) / max(self.end - self.start, 1e-9) * STRIP_WIDTH

    def y(self, value: float) -> float:
        return _TOP + (self.high - value) / (self.high - self.low) * _PLOT

    def points(self, times: NDArray[np.floating], values: NDArray[np.floating]) -> str:
        inside = np.clip(values, self.low, self.high)
        return " ".join(f"{self.x(t):.1f},{self.y(v):.1f}" for t, v in zip(times, inside, strict=True))


def draw_curve(
    curve: ValueCurve,
    segments: Sequence[Segment],
    truth: NDArray[np.floating] | None = None,
    strip: Strip | None = None,
) -> str:
    """The mean with its 10-90 % band over time, flagged segments shaded, the true values ``(T,)`` dashed."""
    axes = _axes(curve, truth)
    height = _STRIP_TOP + (STRIP_WIDTH / strip.count / strip.aspect if strip else -8.0)
    kept = _thin(curve.scored, len(curve.timestamps))
    times = curve.timestamps[kept]
    span = f"{axes.start:.3f} {axes.end:.3f} {axes.low} {axes.high}"
    box = f"{_LEFT} {WIDTH - _RIGHT} {_TOP} {_TOP + _PLOT}"
    parts = [
        f'<svg class="curve" viewBox="0 0 {WIDTH:.0f} {height:.0f}" data-span="{span} {box}">',
        *(_draw_segment(axes, curve.timestamps, segment) for segment in segments),
        *_draw_grid(axes),
        _draw_band(axes, times, curve.q10[kept], curve.q90[kept]),
    ]
    if truth is not None:
        shown = _thin(np.arange(len(truth)), len(truth))
        parts.append(_line("truth", axes.points(curve.timestamps[shown], truth[shown])))
    parts.append(_line("mean", axes.points(times, curve.mean[kept])))
    if strip is not None:
        parts += _draw_strip(strip)
    return "".join([*parts, "</svg>"])


def draw_sketch(values: NDArray[np.floating]) -> str:
    """A curve the size of a word; values at even times, clipped to 0..1."""
    x, y = np.linspace(1, 79, len(values)), 19 - 18 * np.clip(values, 0, 1)
    points = " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, y, strict=True))
    return f'<svg class="sketch" viewBox="0 0 80 20"><polyline points="{points}"/></svg>'


def _axes(curve: ValueCurve, truth: NDArray[np.floating] | None) -> _Axes:
    """From 0 to 1, further where the curve goes further, in halves."""
    lowest = min(float(curve.q10.min()), 0.0 if truth is None else float(truth.min()))
    highest = max(float(curve.q90.max()), 1.0 if truth is None else float(truth.max()))
    low = 0.0 if lowest > -0.1 else math.floor(2 * lowest) / 2
    high = 1.0 if highest < 1.1 else math.ceil(2 * highest) / 2
    return _Axes(float(curve.timestamps[0]), float(curve.timestamps[-1]), low - 0.04, high + 0.06)


def _thin(indices: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """At most ``_MAX_POINTS`` of the frames, the first and the last of the episode among them."""
    picked = np.linspace(0, len(indices) - 1, min(len(indices), _MAX_POINTS)).round().astype(np.int64)
    return np.unique(np.concatenate([[0], indices[picked], [length - 1]]))


def _draw_grid(axes: _Axes) -> list[str]:
    parts = []
    for value in np.arange(math.ceil(axes.low * 2), math.floor(axes.high * 2) + 1) / 2:
        y = axes.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    span = axes.end - axes.start
    step = next((tick for tick in _TICKS if span / tick <= 12), _TICKS[-1])
    bottom = _TOP + _PLOT
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{WIDTH - _RIGHT}"/>')
    for tick in np.arange(math.floor(span / step) + 1) * step:
        x = axes.x(axes.start + tick)
        anchor = "end" if x > WIDTH - _RIGHT - 8 else "middle"
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="{anchor}">{tick:g} s</text>')
    return parts


def _draw_segment(axes: _Axes, timestamps: NDArray[np.floating], segment: Segment) -> str:
    left, right = axes.x(timestamps[segment.start]), axes.x(timestamps[segment.end])
    width = right - left
    what = f"{segment.change:+.2f}".replace("-", "\u2212") if segment.kind == "fall" else f"{segment.seconds:.1f} s"
    label = f"{segment.kind} {what}" if width > 62 else what if width > 30 else ""
    return (
        f'<g class="{segment.kind}"><title>{segment.kind}, {what}</title>'
        f'<rect x="{left:.1f}" y="{_TOP}" width="{width:.1f}" height="{_PLOT}"/>'
        f'<rect class="cap" x="{left:.1f}" y="{_TOP - 3}" width="{width:.1f}" height="3"/>'
        f'<text x="{(left + right) / 2:.1f}" y="{_TOP - 7}" text-anchor="middle">{label}</text></g>'
    )


def _draw_band(axes: _Axes, times: NDArray[np.floating], low: NDArray[np.floating], high: NDArray[np.floating]) -> str:
    return f'<polygon class="band" points="{axes.points(times, high)} {axes.points(times[::-1], low[::-1])}"/>'


def _line(name: str, points: str) -> str:
    return f'<polyline class="{name}" points="{points}"/>'


def _draw_strip(strip: Strip) -> list[str]:
    """The frames, each with a mark that points to its moment on the time axis."""
    slot = STRIP_WIDTH / strip.count
    marks = "".join(f"M{_LEFT + (place + 0.5) * slot:.1f} {_STRIP_TOP - 9}v7" for place in range(strip.count))
    return [
        f'<path class="axis" d="{marks}"/>',
        f'<image href="{escape(strip.source)}" x="{_LEFT}" y="{_STRIP_TOP}" width="{STRIP_WIDTH}" '
        f'height="{slot / strip.aspect:.1f}" preserveAspectRatio="none"/>',
    ]
