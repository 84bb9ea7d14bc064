"""Metrics of value curves, as pure NumPy functions: arrays in, a float out, ``nan`` where ill-defined.

Suboptimal-Value-Bench is section 4 of World Value Models for Robotic Manipulation (WVM). Predictions and
truth are taken at the frames that a model looked at (the *scored* frames, 2 a second in the paper);
``segment_at`` maps a labelled segment of the original frames onto them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHORTEST_WINDOW = 3
"""Frames below which a correlation says nothing: of two frames it is always +1 or -1."""
ROUNDING = 1e-6
"""What of a single-precision value, relative to its largest, may be rounding only."""


def segment_at(scored: ArrayLike, m: int, n: int) -> tuple[int, int] | None:
    """First and last position in ``scored`` (rising frame indices ``(S,)``) that lie within frames ``m..n``.

    Returns:
        Both inclusive; None when no scored frame lies within.
    """
    first, after = np.searchsorted(np.asarray(scored), (m, n + 1))
    return (int(first), int(after) - 1) if first < after else None


def hesitation_rmse(pred: ArrayLike, truth: ArrayLike, m: int, n: int) -> float:
    """Root mean squared error over the hesitation ``m..n``, both included (WVM equation 8); 0 is best."""
    error = _within(pred, m, n) - _within(truth, m, n)
    return float(np.sqrt(np.mean(error**2)))


def voc(pred: ArrayLike) -> float:
    """Value-order correlation: Spearman's rank correlation between value and time. In [-1, 1]; 1 is best.

    Returns:
        ``nan`` for a constant prediction or fewer than three frames.
    """
    pred = np.asarray(pred, dtype=np.float64)
    return rank_correlation(pred, np.arange(len(pred)))


def retry_voc(pred: ArrayLike, truth: ArrayLike, m: int, n: int) -> float:
    """Rank correlation of prediction and truth over ``m..n``, where the truth falls (WVM section 4.2).

    +1 for a prediction that falls all along, -1 for one that rises all along.

    Returns:
        ``nan`` for a constant prediction or fewer than three frames.
    """
    return rank_correlation(_within(pred, m, n), _within(truth, m, n))


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two series ``(N,)``, ties at their average rank. In [-1, 1].

    Of value and true progress it is one of the two global figures of the ViVa paper (table 1); 1 is best.

    Returns:
        ``nan`` when either series is constant, not finite, or has fewer than three entries.
    """
    pair = np.array([a, b], dtype=np.float64)
    if not np.isfinite(pair).all():
        return float("nan")
    return linear_correlation(*map(average_ranks, pair))


def linear_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation of two series ``(N,)``. In [-1, 1].

    Of value and true progress it is the other global figure of the ViVa paper (table 1); 1 is best.

    Returns:
        ``nan`` when either series is constant, not finite, or has fewer than three entries.
    """
    pair = np.array([a, b], dtype=np.float64)
    if pair.shape[1] < SHORTEST_WINDOW or not np.isfinite(pair).all() or not np.ptp(pair, axis=1).all():
        return float("nan")
    x, y = pair - pair.mean(axis=1, keepdims=True)
    norm = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / norm, -1.0, 1.0)) if norm > 0 else float("nan")


def time_bias(pred: ArrayLike, truth: ArrayLike) -> float:
    """Correlation of value and frame number with the true progress held fixed. In [-1, 1]; 0 is best.

    Pearson's partial correlation: of what is left of the value and of the frame number once the straight line
    through the truth is taken from each. Above 0 for a value that goes on rising while nothing is achieved. It tells
    nothing about size: of a nearly perfect value it is the correlation of the noise, which is 0 on average only.

    Args:
        pred, truth: ``(S,)`` at frames evenly spaced in time.

    Returns:
        0 for a value that is a linear function of the truth; ``nan`` for a constant value, for a truth that rises
        evenly with time (as in an expert episode), for fewer than four frames, and for what is not finite.
    """
    pred, truth = np.asarray(pred, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if len(pred) <= SHORTEST_WINDOW or not (np.isfinite(pred).all() and np.isfinite(truth).all()):
        return float("nan")
    if _vanishes(np.ptp(pred), pred):
        return float("nan")
    frames = np.arange(len(pred), dtype=np.float64)
    line = np.column_stack([np.ones_like(truth), truth])
    value_left, time_left = (series - line @ np.linalg.lstsq(line, series, rcond=None)[0] for series in (pred, frames))
    if _vanishes(time_left, frames):
        return float("nan")
    return 0.0 if _vanishes(value_left, pred) else linear_correlation(value_left, time_left)


def stability(pred: ArrayLike) -> float:
    """Total variation over net progress, ``sum |v_t+1 - v_t| / |v_end - v_start|``. At least 1; 1 is best.

    How much longer than needed the value's way from its first to its last is; 1 for one that never turns. It does
    not tell a rise from a fall, and grows beyond bounds as the net progress vanishes.

    Returns:
        ``nan`` without any net progress (whether the value moved in between or not), or when not finite.
    """
    pred = np.asarray(pred, dtype=np.float64)
    if not len(pred) or not np.isfinite(pred).all() or pred[0] == pred[-1]:
        return float("nan")
    return float(np.abs(np.diff(pred)).sum() / abs(pred[-1] - pred[0]))


def average_ranks(series: ArrayLike) -> NDArray[np.float64]:
    """Ranks ``(N,)`` from 1, equal entries sharing the mean of the ranks they take up."""
    _, group, counts = np.unique(np.asarray(series), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half. In [0, 1].

    Args:
        scores: ``(N,)``.
        positive: ``(N,)`` bool.

    Returns:
        ``nan`` unless there are both positives and negatives.
    """
    positive = np.asarray(positive, dtype=bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    above = average_ranks(scores)[positive].sum() - positives * (positives + 1) / 2  # Mann-Whitney U
    return float(above / (positives * negatives))


def grounding(right: ArrayLike, wrong: ArrayLike) -> float:
    """Share of episodes that gain more value under the right instruction than under a wrong one. In [0, 1].

    Ties count half: 0.5 for a model that does not listen to the instruction, 1 is best.

    Args:
        right, wrong: ``(N,)`` of each episode the value's gain from first to last frame under either instruction. A
            pair with one that is not a number counts as not grounded.

    Returns:
        ``nan`` without episodes.
    """
    pairs = np.array([right, wrong], dtype=np.float64)
    if not pairs.shape[1]:
        return float("nan")
    return float(np.mean((pairs[0] > pairs[1]) + (pairs[0] == pairs[1]) / 2))


def coverage(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Share of frames whose truth lies within ``low..high``; 0.8 is best for quantiles 10 and 90."""
    truth = np.asarray(truth)
    return float(np.mean((np.asarray(low) <= truth) & (truth <= np.asarray(high))))


@dataclass(frozen=True)
class Summary:
    """One metric over one or many trajectories.

    Attributes:
        mean: the figure; ``nan`` when there is no trajectory.
        trajectories: how many went into it.
        ill_defined: how many of those had no metric and went in with a fixed score.
    """

    mean: float
    trajectories: int
    ill_defined: int


def summarize(
    per_task: Mapping[str, Sequence[float]], ill_defined_score: float = 0.0
) -> tuple[Summary, dict[str, Summary]]:
    """Mean over tasks of the mean over trajectories, so that a task with more trajectories weighs no more.

    An ill-defined trajectory (``nan``) is counted and enters with ``ill_defined_score``: 0, no correlation,
    by default, so that a model gains nothing by predicting a constant.

    Returns:
        The summary over all tasks, and each task's.
    """
    tasks = {}
    for task, values in per_task.items():
        bad = np.isnan(np.asarray(values, dtype=np.float64))
        mean = float(np.where(bad, ill_defined_score, values).mean()) if len(values) else float("nan")
        tasks[task] = Summary(mean, len(values), int(bad.sum()))
    means = [summary.mean for summary in tasks.values() if summary.trajectories]
    return Summary(
        mean=float(np.mean(means)) if means else float("nan"),
        trajectories=sum(summary.trajectories for summary in tasks.values()),
        ill_defined=sum(summary.ill_defined for summary in tasks.values()),
    ), tasks


def _within(series: ArrayLike, m: int, n: int) -> NDArray[np.float64]:
    return np.asarray(series, dtype=np.float64)[m : n + 1]


def _vanishes(rest: ArrayLike, series: NDArray[np.float64]) -> bool:
    """Whether ``rest``, a part of ``series``, is no more than rounding."""
    return bool(np.abs(rest).max() <= ROUNDING * np.abs(series).max())
