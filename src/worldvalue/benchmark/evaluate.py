"""Value curves of labelled episodes -> the figures of Suboptimal-Value-Bench (WVM section 4, tables 1-3)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldvalue.benchmark.events import event_figures
from worldvalue.benchmark.metrics import (
    Summary,
    auroc,
    coverage,
    hesitation_rmse,
    linear_correlation,
    rank_correlation,
    retry_voc,
    segment_at,
    stability,
    summarize,
    time_bias,
    voc,
)
from worldvalue.data.value_targets import from_labels
from worldvalue.types import DataError, Episode, EpisodeSource, Labels, Mode, ValueCurve

FloatArray = NDArray[np.floating[Any]]
MEASURED: tuple[Mode, ...] = ("expert", "hesitation", "retry")
"""The modes with a ground truth."""
HEADLINE: Mapping[Mode, str] = {"expert": "expert_voc", "hesitation": "hesitation_rmse", "retry": "retry_voc"}
"""The figure by which the paper judges each mode (its tables 1 to 3)."""
EVENT_SECONDS = 1.0
"""Time before and after an event over which its response is measured; ViVa does not say how long its window is."""
LEAST_STABLE = 10.0
"""Where an episode's stability ends, which has no bound: one without net progress must not outweigh all others."""


@dataclass(frozen=True)
class Case:
    """One labelled episode at the ``S`` frames that the model looked at.

    Attributes:
        pred, low, high: ``(S,)`` mean value and its 10 and 90 % quantiles.
        truth: ``(S,)`` ground-truth value.
        m, n: first and last position of the suboptimal segment, inclusive; 0 and ``S - 1`` without one.
    """

    pred: FloatArray
    low: FloatArray
    high: FloatArray
    truth: FloatArray
    m: int
    n: int


@dataclass(frozen=True)
class Measured:
    """A labelled episode with its curve.

    Attributes:
        position: in the dataset.
        episode, labels, curve: itself.
        case: what the metrics look at; None for a failure, for which the paper defines no truth.
    """

    position: int
    episode: Episode
    labels: Labels
    curve: ValueCurve
    case: Case | None


@dataclass(frozen=True)
class Metric:
    """A figure of the table: what it is called, where it applies, and how it is computed.

    Attributes:
        name: key in the result.
        title: heading in the table; the arrow says which way is better.
        modes: the episodes it is for.
        of: the figure of one case; ``nan`` where ill-defined.
        ill_defined_score: the figure that an ill-defined case counts with; never the best one.
    """

    name: str
    title: str
    modes: tuple[Mode, ...]
    of: Callable[[Case], float]
    ill_defined_score: float = 0.0


METRICS = (
    Metric("expert_voc", "Expert-VOC ↑", ("expert",), lambda c: voc(c.pred)),
    Metric(
        "hesitation_rmse",
        "Hesitation-RMSE ↓",
        ("hesitation",),
        lambda c: hesitation_rmse(c.pred, c.truth, c.m, c.n),
        ill_defined_score=1.0,
    ),
    Metric("retry_voc", "Retry-VOC ↑", ("retry",), lambda c: retry_voc(c.pred, c.truth, c.m, c.n)),
    Metric("pearson", "Pearson with the truth ↑", MEASURED, lambda c: linear_correlation(c.pred, c.truth)),
    Metric("spearman", "Spearman with the truth ↑", MEASURED, lambda c: rank_correlation(c.pred, c.truth)),
    Metric(
        "time_bias",
        "Time bias, 0 is best",
        ("hesitation", "retry"),
        lambda c: time_bias(c.pred, c.truth),
        ill_defined_score=1.0,
    ),
    Metric(
        "stability",
        f"Stability of experts, 1 is best, {LEAST_STABLE:g} worst ↓",
        ("expert",),
        lambda c: float(np.minimum(stability(c.pred), LEAST_STABLE)),
        ill_defined_score=LEAST_STABLE,
    ),
    Metric("band_coverage", "10-90 % band covers", MEASURED, lambda c: coverage(c.truth, c.low, c.high)),
)


def evaluate(
    source: EpisodeSource,
    curves: Iterable[ValueCurve | DataError],
    value_range: tuple[float, float] = (0.0, 1.0),
) -> dict[str, Any]:
    """Figures per metric and task, ready for JSON.

    Args:
        source: the labelled dataset.
        curves: one for each of its episodes, in order; the error of an episode that could not be scored.
        value_range: the least and greatest value of what told them. Events ask how much a value changes of what it was,
            so it is brought to [0, 1] for those, as the ViVa paper does.

    Returns:
        ``metrics``: name -> ``mean`` over tasks, ``trajectories``, ``ill_defined``, and the same per task
        under ``tasks``; ``success_auroc``: how well the final value tells success from failure; ``events``: ViVa's
        figures of annotated milestones and errors; ``episodes``: each measured episode with its own figures;
        ``left_out``: the episodes that no metric counts, each with the reason. None stands for a missing figure.

    Raises:
        DataError: no episode of the dataset could be measured.
    """
    left_out: list[dict[str, str]] = []
    scored = list(measured(source, curves, left_out))
    episodes = [_episode_figures(one) for one in scored]
    if len(left_out) == len(source):
        why = f" ({left_out[0]['reason']})" if left_out else ""
        raise DataError(f"{source.path} has no episode to measure{why}; give labels.jsonl with modes, m and n.")
    outcomes = [(one["final_value"], one["success"]) for one in episodes if one["success"] is not None]
    return {
        "metrics": {metric.name: _over_tasks(metric, episodes) for metric in METRICS},
        "success_auroc": _number(auroc(*zip(*outcomes, strict=True))) if outcomes else None,
        "events": _event_figures(scored, value_range),
        "episodes": episodes,
        "left_out": left_out,
    }


def measured(
    source: EpisodeSource, curves: Iterable[ValueCurve | DataError], left_out: list[dict[str, str]]
) -> Iterator[Measured]:
    """The labelled episodes that were scored.

    Args:
        source: the labelled dataset.
        curves: one for each of its episodes, in order; the error of an episode that could not be scored.
        left_out: takes the episodes that have no labels, no curve or no case though they are no failures, each with
            the reason.
    """
    for position, curve in zip(range(len(source)), curves, strict=True):
        name = f"episode {position}"
        try:
            episode = source[position]
            name = episode.name
            if isinstance(curve, DataError):
                raise curve
            if episode.labels is None:
                raise DataError("It has no labels; add it to labels.jsonl.")
        except DataError as error:
            left_out.append({"episode": name, "reason": str(error)})
            continue
        case = None
        try:
            case = None if episode.labels.mode == "failure" else _case(episode.labels, curve)
        except ValueError as error:
            left_out.append({"episode": name, "reason": str(error)})
        yield Measured(position, episode, episode.labels, curve, case)


def _episode_figures(one: Measured) -> dict[str, Any]:
    labels = one.labels
    own = {m.name: _number(m.of(one.case)) for m in METRICS if one.case is not None and labels.mode in m.modes}
    return {
        "position": one.position,
        "episode": one.episode.name,
        "task": labels.task or one.episode.instruction,
        "mode": labels.mode,
        "success": labels.success,
        "final_value": float(one.curve.mean[-1]),
        "figures": own,
    }


def _event_figures(scored: Sequence[Measured], value_range: tuple[float, float]) -> dict[str, Any]:
    least, greatest = value_range
    found = event_figures(
        [(one.curve.mean - least) / (greatest - least) for one in scored],
        [one.labels.events for one in scored],
        [max(1, round(EVENT_SECONDS * one.episode.fps)) for one in scored],
    )
    return {
        kind: {
            "sensitivity": _number(summary.sensitivity),
            "detection_rate": _number(summary.detection_rate),
            "events": summary.events,
            "ill_defined": summary.ill_defined,
        }
        for kind, summary in found.items()
    }


def _over_tasks(metric: Metric, episodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values: dict[str, list[float]] = defaultdict(list)
    for one in episodes:
        if metric.name in one["figures"]:
            figure = one["figures"][metric.name]
            values[one["task"]].append(math.nan if figure is None else figure)
    return _tell(*summarize(values, metric.ill_defined_score))


def _case(labels: Labels, curve: ValueCurve) -> Case:
    """Raises ValueError when the labels have no ground truth, or no scored frame lies in the segment."""
    truth = from_labels(labels)
    seen = curve.scored
    segment: tuple[int, int] | None = (0, len(seen) - 1)
    if labels.m is not None and labels.n is not None:
        segment = segment_at(seen, labels.m, labels.n)
    if segment is None:
        raise ValueError(f"No scored frame lies in its segment, frames {labels.m} to {labels.n}.")
    return Case(curve.mean[seen], curve.q10[seen], curve.q90[seen], truth[seen], *segment)


def _tell(overall: Summary, tasks: dict[str, Summary]) -> dict[str, Any]:
    return {**_figures(overall), "tasks": {task: _figures(tasks[task]) for task in sorted(tasks)}}


def _figures(summary: Summary) -> dict[str, Any]:
    return {
        "mean": _number(summary.mean),
        "trajectories": summary.trajectories,
        "ill_defined": summary.ill_defined,
    }


def _number(figure: float) -> float | None:
    """JSON has no ``nan``."""
    return None if math.isnan(figure) else figure
