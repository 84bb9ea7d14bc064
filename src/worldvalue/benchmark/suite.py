"""Suboptimal-Value-Bench on a labelled dataset: score, measure, control, and show as a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from worldvalue.benchmark.controls import reversed_episodes, still_episodes
from worldvalue.benchmark.evaluate import METRICS, evaluate
from worldvalue.benchmark.metrics import summarize, voc
from worldvalue.data.files import replacing
from worldvalue.scoring.job import ScoreGroup
from worldvalue.types import DataError, Episode, EpisodeSource, ValueCurve

STILL_EPISODES = 20
REVERSED_EPISODES = 20
CONTROL_EPISODES = STILL_EPISODES + REVERSED_EPISODES


def run_suite(
    source: EpisodeSource, score_group: ScoreGroup, group: int, done: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """The figures of ``evaluate`` and those of the controls.

    ``still_frame`` is of videos of one repeated picture, ``reversed`` of experts' videos played backwards.

    Args:
        source: the labelled dataset.
        score_group: the model at work.
        group: episodes that are scored together.
        done: told after each group how many episodes it held, and how many controls the dataset has too few experts
            for; ``len(source) + CONTROL_EPISODES`` in all.

    Raises:
        DataError: no episode of the dataset could be measured.
    """
    result = evaluate(source, score_all(source, score_group, group, done))
    stills = _curves(still_episodes(source, STILL_EPISODES), score_group, group, done)
    result["still_frame"] = _still_figures([c for c in stills if isinstance(c, ValueCurve)])
    backwards = reversed_episodes(source, REVERSED_EPISODES)
    done(REVERSED_EPISODES - len(backwards))
    reverse = _curves(backwards, score_group, group, done)
    result["reversed"] = _reversed_figures([c for c in reverse if isinstance(c, ValueCurve)])
    return result


def score_all(
    source: EpisodeSource, score_group: ScoreGroup, group: int, done: Callable[[int], None] = lambda _: None
) -> Iterator[ValueCurve | DataError]:
    """A curve for each episode of a dataset, in order, or the error of one that could not be scored.

    Args:
        source, score_group, group: as in ``run_suite``.
        done: told after each group how many episodes it held.
    """
    return _curves((_open(source, index) for index in range(len(source))), score_group, group, done)


def to_markdown(result: dict[str, Any]) -> str:
    """The result of ``run_suite`` in Markdown: the paper's figures by task, the other figures, the controls."""
    ours = [metric for metric in METRICS if metric.published is None]
    figures = [result["metrics"][metric.name] for metric in ours]
    rows = [
        ["over all tasks", "mean", "ill-defined"],
        ["---", "---:", "---:"],
        *([metric.title, _cell(figure), _ill_defined(figure)] for metric, figure in zip(ours, figures, strict=True)),
    ]
    return f"{_table(_by_task(result))}\n\n{_table(rows)}\n\n{_notes(result)}\n"


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write the result, and what made it, as JSON."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _curves(
    episodes: Iterable[Episode | DataError], score_group: ScoreGroup, group: int, done: Callable[[int], None]
) -> Iterator[ValueCurve | DataError]:
    """A curve or an error for each episode, in order, scored group by group."""
    waiting = iter(episodes)
    while opened := list(islice(waiting, group)):
        good = [episode for episode in opened if isinstance(episode, Episode)]
        curves = iter(score_group(good) if good else ())
        yield from (next(curves) if isinstance(episode, Episode) else episode for episode in opened)
        done(len(opened))


def _open(source: EpisodeSource, index: int) -> Episode | DataError:
    try:
        return source[index]
    except DataError as error:
        return error


def _still_figures(curves: Sequence[ValueCurve]) -> dict[str, Any]:
    """VOC of the still videos, and how far their values move from the first to the last frame."""
    vocs = [voc(curve.mean[curve.scored]) for curve in curves]
    overall, _ = summarize({"still": vocs})
    return {
        "voc": overall.mean,
        "absolute_voc": float(np.mean(np.abs(np.nan_to_num(vocs)))),
        "rise": float(np.mean([curve.mean[-1] - curve.mean[0] for curve in curves])),
        "videos": overall.trajectories,
        "ill_defined": overall.ill_defined,
    }


def _reversed_figures(curves: Sequence[ValueCurve]) -> dict[str, Any]:
    """VOC of the videos played backwards."""
    overall, _ = summarize({"reversed": [voc(curve.mean[curve.scored]) for curve in curves]})
    return {
        "voc": overall.mean if curves else None,
        "videos": overall.trajectories,
        "ill_defined": overall.ill_defined,
    }


def _by_task(result: dict[str, Any]) -> list[list[str]]:
    """Rows of the metrics that the paper reports, with its figures below."""
    columns = [metric for metric in METRICS if metric.published is not None]
    figures = [result["metrics"][metric.name] for metric in columns]
    tasks = sorted({task for figure in figures for task in figure["tasks"]})
    return [
        ["task", *(metric.title for metric in columns)],
        ["---", *("---:" for _ in columns)],
        *([task, *(_cell(figure["tasks"].get(task)) for figure in figures)] for task in tasks),
        ["**mean over tasks**", *(f"**{_cell(figure)}**" for figure in figures)],
        ["ill-defined", *map(_ill_defined, figures)],
        ["WVM, as published, on its authors' data", *(f"{metric.published:.2f}" for metric in columns)],
    ]


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _ill_defined(figure: dict[str, Any]) -> str:
    return f"{figure['ill_defined']} of {figure['trajectories']}"


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["mean"] is None:
        return "-"
    return f"{figure['mean']:.2f} ({figure['trajectories']})"


def _notes(result: dict[str, Any]) -> str:
    still, backwards = result["still_frame"], result["reversed"]
    notes = [
        "Trajectories in brackets. One without a correlation (constant, too few frames) counts as 0, without a time "
        "bias as 1.",
        f"Control: {still['videos']} videos of one repeated picture: VOC {still['voc']:.2f} on average, "
        f"{still['absolute_voc']:.2f} in absolute value, {still['ill_defined']} constant; the value moves by "
        f"{still['rise']:+.3f} on average from the first to the last frame.",
    ]
    if backwards["voc"] is not None:
        notes.append(
            f"Control: {backwards['videos']} videos of experts played backwards: VOC {backwards['voc']:.2f} on average "
            f"(-1 is best), {backwards['ill_defined']} constant."
        )
    if result["success_auroc"] is not None:
        notes.append(f"The final value tells success from failure with AUROC {result['success_auroc']:.2f}.")
    notes += [f"Left out: {left['episode']}: {left['reason']}" for left in result["left_out"]]
    return "\n".join(f"- {note}" for note in notes)
