"""Where a value curve falls or stalls, and one episode's curve in a few numbers. Pure NumPy.

A **fall** is a swing of the value from a local top to a local bottom that is at least ``min_drop`` deep:
the arm lost the object, knocked it away, or went back for another try. A **stall** is a stretch in which
the value's trend stays below a small share of the pace that takes the episode from 0 to 1 in its own length:
the arm hesitates. Falls and stalls never overlap. A value that has reached ``done`` stands still for a good
reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worldvalue.types import ValueCurve

Kind = Literal["fall", "stall"]


@dataclass(frozen=True)
class Thresholds:
    """What counts as a fall and as a stall; the defaults were chosen on held-out episodes (docs/experiments.md).

    Attributes:
        min_drop: smallest drop of a fall, top to bottom, in units of value.
        flat: frames at a fall's ends that lie within this much of its top or bottom are left out of it; below
            ``min_drop``.
        stall_pace: a stall is flatter than this share of the steady pace ``1 / duration``.
        stall_seconds: shortest stall.
        stall_share: shortest stall as a share of the episode, so that long tasks, in which the value always
            rises slowly, are not all stall. The longer of the two holds.
        done: from this value up the task counts as finished, and standing still is not a stall.
    """

    min_drop: float = 0.07
    flat: float = 0.01
    stall_pace: float = 0.15
    stall_seconds: float = 3.0
    stall_share: float = 0.10
    done: float = 0.95


DEFAULT = Thresholds()


@dataclass(frozen=True)
class Segment:
    """A flagged stretch of an episode.

    Attributes:
        kind: ``"fall"`` or ``"stall"``.
        start, end: first and last frame, inclusive, ``start < end``.
        seconds: time between them.
        change: value at the end minus value at the start; negative in a fall.
    """

    kind: Kind
    start: int
    end: int
    seconds: float
    change: float


@dataclass(frozen=True)
class Summary:
    """One episode in a few numbers.

    Attributes:
        frames: number of frames ``T``.
        seconds: time from the first to the last frame.
        final_value: mean value at the last frame.
        worst_drop: deepest drop of the mean value below its running maximum, >= 0.
        stalled_seconds: time in stalls.
        mean_std: standard deviation of the value, mean over the frames.
        segments: falls and stalls in the order of time.
    """

    frames: int
    seconds: float
    final_value: float
    worst_drop: float
    stalled_seconds: float
    mean_std: float
    segments: tuple[Segment, ...]


def summarize(curve: ValueCurve, thresholds: Thresholds = DEFAULT) -> Summary:
    """The numbers and flagged segments of one curve."""
    segments = find_segments(curve.timestamps, curve.mean, thresholds)
    value = curve.mean.astype(np.float64)
    return Summary(
        frames=len(value),
        seconds=float(curve.timestamps[-1] - curve.timestamps[0]),
        final_value=float(value[-1]),
        worst_drop=float(np.max(np.maximum.accumulate(value) - value)),
        stalled_seconds=sum((s.seconds for s in segments if s.kind == "stall"), 0.0),
        mean_std=float(curve.std.mean(dtype=np.float64)),
        segments=segments,
    )


def find_segments(
    timestamps: NDArray[np.floating], value: NDArray[np.floating], thresholds: Thresholds = DEFAULT
) -> tuple[Segment, ...]:
    """Falls and stalls of a curve ``(T,)``, disjoint, in the order of time."""
    time, value = np.asarray(timestamps, np.float64), np.asarray(value, np.float64)
    falls = find_falls(value, thresholds)
    stalls = find_stalls(time, value, falls, thresholds)
    found: list[tuple[Kind, int, int]] = [("fall", *ends) for ends in falls]
    found += [("stall", *ends) for ends in stalls]
    return tuple(
        Segment(kind, start, end, float(time[end] - time[start]), float(value[end] - value[start]))
        for kind, start, end in sorted(found, key=lambda segment: segment[1])
    )


def find_falls(value: NDArray[np.float64], thresholds: Thresholds = DEFAULT) -> list[tuple[int, int]]:
    """First and last frame of each fall of ``value (T,)``, in the order of time.

    The curve is cut at its turning points: a top is final once the value lies ``min_drop`` below it, a bottom
    once the value lies ``min_drop`` above it or the episode ends. So two falls with a recovery between them
    are two, and noise smaller than the threshold makes none.
    """
    falls: list[tuple[int, int]] = []
    top = bottom = 0
    falling = False
    for frame in range(len(value)):
        if falling:
            if value[frame] < value[bottom]:
                bottom = frame
            elif value[frame] - value[bottom] >= thresholds.min_drop:
                falls.append(_steep_part(value, top, bottom, thresholds.flat))
                top, falling = frame, False
        elif value[frame] >= value[top]:
            top = frame
        elif value[top] - value[frame] >= thresholds.min_drop:
            bottom, falling = frame, True
    if falling:
        falls.append(_steep_part(value, top, bottom, thresholds.flat))
    return falls


def _steep_part(value: NDArray[np.float64], top: int, bottom: int, flat: float) -> tuple[int, int]:
    """The fall from ``top`` to ``bottom`` without the flat frames before and after it."""
    swing = value[top : bottom + 1]
    start = np.flatnonzero(swing >= swing[0] - flat)[-1]
    below = np.flatnonzero(swing <= swing[-1] + flat)
    return top + int(start), top + int(below[below > start][0])


def find_stalls(
    time: NDArray[np.float64],
    value: NDArray[np.float64],
    falls: list[tuple[int, int]],
    thresholds: Thresholds = DEFAULT,
) -> list[tuple[int, int]]:
    """First and last frame of each stall, in the order of time: what flat windows outside the falls cover.

    A window runs from each frame for the length of the shortest stall; it is flat when the slope of its
    least-squares line is at most ``stall_pace / duration`` and its mean has not reached ``done``.
    """
    duration = time[-1] - time[0]
    length = max(thresholds.stall_seconds, thresholds.stall_share * duration)
    ends = np.searchsorted(time, time + length - 1e-6)
    starts = np.flatnonzero(ends < len(time))
    ends = ends[starts]
    slope, mean = _lines(time, value, starts, ends)
    flat = (slope * duration <= thresholds.stall_pace) & (mean < thresholds.done)
    for start, end in falls:
        flat &= (ends < start) | (end < starts)
    return _cover(starts[flat], ends[flat], len(time))


def _lines(
    time: NDArray[np.float64],
    value: NDArray[np.float64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and mean of the least-squares line through the frames ``starts[i] .. ends[i]``, each ``(n,)``."""
    # Centred first: running sums of large numbers would lose the small differences.
    t, v = time - time.mean(), value - value.mean()
    sums = np.concatenate([np.zeros((4, 1)), np.cumsum([t, v, t * t, t * v], axis=1)], axis=1)
    count = ends - starts + 1
    mean_t, mean_v, mean_tt, mean_tv = (sums[:, ends + 1] - sums[:, starts]) / count
    slope = (mean_tv - mean_t * mean_v) / np.maximum(mean_tt - mean_t**2, 1e-12)
    return slope, mean_v + value.mean()


def _cover(starts: NDArray[np.int64], ends: NDArray[np.int64], frames: int) -> list[tuple[int, int]]:
    """The runs of frames that the closed intervals ``[starts[i], ends[i]]`` cover together."""
    depth = np.zeros(frames + 2, dtype=np.int64)
    np.add.at(depth, starts + 1, 1)
    np.add.at(depth, ends + 2, -1)
    edges = np.diff((np.cumsum(depth) > 0).astype(np.int64))
    first, after = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(first.tolist(), (after - 1).tolist(), strict=True))
