"""One scored episode as a picture for a page of text, and as its video with the curve running along below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from worldvalue.data.files import replacing
from worldvalue.data.video import encode_video
from worldvalue.scoring.segments import find_segments
from worldvalue.scoring.views import filmstrip, resize, true_values
from worldvalue.types import Episode, ValueCurve

MEAN, FALL, STALL, INK, SOFT = "#0068a8", "#c8500a", "#d9a400", "#1d2530", "#5d6875"
_PANEL_HEIGHT, _LABELS_HEIGHT = 180, 26
_MIN_OVERLAY_WIDTH = 480
_DPI = 100


def save_picture(path: Path, episode: Episode, curve: ValueCurve, camera: str | None = None) -> None:
    """Write a PNG: the value with its 10-90 % band and flagged segments over time, and frames under it."""
    frames = filmstrip(episode, 240, camera)
    count, height, width, _ = frames.shape
    inches, left, right = 10.0, 0.55, 0.15
    strip = (inches - left - right) / count * height / width
    total = 0.42 + 2.3 + 0.42 + strip + 0.12
    figure = Figure(figsize=(inches, total), dpi=160)
    across = (left / inches, (inches - left - right) / inches)
    axes = figure.add_axes((across[0], (strip + 0.54) / total, across[1], 2.3 / total))
    _draw(axes, episode, curve)
    axes.set_title(f"\u201c{episode.instruction}\u201d", loc="left", fontsize=11, color=INK)
    axes.set_ylabel("value", color=SOFT)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), fontsize=8, frameon=False, ncols=6)
    film = figure.add_axes((across[0], 0.12 / total, across[1], strip / total))
    gap = max(1, width // 50)
    frames = np.pad(frames[:, :, gap:], ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    film.imshow(np.concatenate(list(frames), axis=1), aspect="auto")
    film.axis("off")
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def save_overlay(path: Path, episode: Episode, curve: ValueCurve, camera: str | None = None) -> None:
    """Write an mp4: the episode's video with its curve below, a cursor moving along, what is to come pale."""
    height, width = episode.frames([0], camera).shape[1:3]
    scale = max(1.0, _MIN_OVERLAY_WIDTH / width)
    height, width = 2 * round(height * scale / 2), 2 * round(width * scale / 2)
    encode_video(path, _overlay_frames(episode, curve, camera, height, width), episode.fps)


def _overlay_frames(
    episode: Episode, curve: ValueCurve, camera: str | None, height: int, width: int
) -> Iterator[NDArray[np.uint8]]:
    panel = _Panel(episode, curve, width)
    for start in range(0, episode.length, 32):
        indices = range(start, min(start + 32, episode.length))
        for index, frame in zip(indices, episode.frames(indices, camera), strict=True):
            yield np.concatenate([resize(frame, height, width), panel.at(index)])


class _Panel:
    """The curve under a video: drawn twice, in full colour and pale, and cut at the cursor."""

    def __init__(self, episode: Episode, curve: ValueCurve, width: int) -> None:
        figure = Figure(figsize=(width / _DPI, _PANEL_HEIGHT / _DPI), dpi=_DPI)
        canvas = FigureCanvasAgg(figure)
        left, bottom = 38 / width, _LABELS_HEIGHT / _PANEL_HEIGHT
        axes = figure.add_axes((left, bottom, 1 - left - 10 / width, 1 - bottom - 10 / _PANEL_HEIGHT))
        _draw(axes, episode, curve)
        canvas.draw()
        self._past = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        self._future = (255 - (255 - self._past.astype(np.int64)) * 0.3).astype(np.uint8)
        at = axes.transData.transform(np.stack([curve.timestamps, curve.mean], axis=1))
        self._columns = at[:, 0].round().astype(np.int64)
        self._rows = (_PANEL_HEIGHT - at[:, 1]).round().astype(np.int64)

    def at(self, index: int) -> NDArray[np.uint8]:
        """The panel ``(180, W, 3)`` with the cursor at a frame."""
        column, row = self._columns[index], self._rows[index]
        panel = self._past.copy()
        panel[:-_LABELS_HEIGHT, column:] = self._future[:-_LABELS_HEIGHT, column:]
        panel[10:-_LABELS_HEIGHT, column] = 90
        y, x = np.ogrid[: panel.shape[0], : panel.shape[1]]
        distance = (y - row) ** 2 + (x - column) ** 2
        panel[distance <= 36] = 255
        panel[distance <= 20] = _rgb(MEAN)
        return panel


def _draw(axes: Axes, episode: Episode, curve: ValueCurve) -> None:
    time = curve.timestamps
    axes.fill_between(time, curve.q10, curve.q90, color=MEAN, alpha=0.16, linewidth=0, label="10\u201390 %")
    truth = true_values(episode)
    if truth is not None:
        axes.plot(time, truth, "--", color=INK, linewidth=1.1, label="ground truth")
    axes.plot(time, curve.mean, color=MEAN, linewidth=1.9, label="value")
    named: set[str] = set()
    for segment in find_segments(time, curve.mean):
        color = FALL if segment.kind == "fall" else STALL
        label = "_" if segment.kind in named else segment.kind
        hatch = "////" if segment.kind == "stall" else None
        span = (time[segment.start], time[segment.end])
        axes.axvspan(*span, facecolor=color, alpha=0.18, edgecolor=color, linewidth=0, hatch=hatch, label=label)
        named.add(segment.kind)
    axes.set_xlim(time[0], max(time[-1], time[0] + 1e-3))
    axes.set_ylim(min(-0.04, float(curve.q10.min())), max(1.06, float(curve.q90.max())))
    axes.set_yticks([0, 0.5, 1])
    axes.grid(axis="y", color="#e8ebef")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8, length=0, colors=SOFT)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:g} s")


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))
