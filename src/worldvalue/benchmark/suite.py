"""Suboptimal-Value-Bench on a labelled dataset: its episodes and their controls are scored, then measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldvalue.benchmark.controls import (
    Control,
    counterfactual_episodes,
    misinstructed_experts,
    reversed_experts,
    still_videos,
)
from worldvalue.benchmark.evaluate import evaluate
from worldvalue.benchmark.metrics import grounding, summarize, voc
from worldvalue.benchmark.predictions import Contender, Predictions
from worldvalue.types import DataError, EpisodeSource, ValueCurve

CONTROL_VIDEOS = 60
"""Videos of each control, as far as the dataset has them. Of still ones there are as many as episodes, if that is more:
the VOC of each is near +1 or -1, so that the mean of 60 is known to 0.13 only."""


@dataclass(frozen=True)
class Suite:
    """A labelled dataset and the controls made of it.

    Attributes:
        source: the dataset.
        controls: ``still`` videos of one repeated picture; experts' videos ``reversed``; experts' videos
            ``misinstructed`` for another task; the ``counterfactual`` ones, whose instruction names another object
            that is in the picture as well.
    """

    source: EpisodeSource
    controls: Mapping[str, Control]

    @classmethod
    def of(cls, source: EpisodeSource) -> Suite:
        """The suite of a dataset; every episode is opened once, none is decoded."""
        controls = {
            "still": still_videos(source, max(CONTROL_VIDEOS, len(source))),
            "reversed": reversed_experts(source, CONTROL_VIDEOS),
            "misinstructed": misinstructed_experts(source, CONTROL_VIDEOS),
            "counterfactual": counterfactual_episodes(source),
        }
        return cls(source, controls)

    @property
    def videos(self) -> int:
        """Videos to score, controls included."""
        return len(self.source) + sum(map(len, self.controls.values()))


def run_suite(
    suite: Suite, contender: Contender, folder: Path, done: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """The figures of ``evaluate`` and, under ``controls``, those of each control.

    Args:
        suite: what to measure on.
        contender: the model.
        folder: where predictions are kept and looked for.
        done: told how many videos were scored or found; ``suite.videos`` in all.

    Raises:
        DataError: no episode of the dataset could be measured.
    """
    own = own_predictions(suite, contender, folder)
    theirs = {part: Predictions.of(contender, part, control, folder) for part, control in suite.controls.items()}
    for predictions in (own, *theirs.values()):
        predictions.make(done)
    figures = {"still": _order(theirs["still"]), "reversed": _order(theirs["reversed"])}
    for part in ("misinstructed", "counterfactual"):
        figures[part] = _grounding(own, suite.controls[part], theirs[part])
    return {**evaluate(suite.source, own, contender.value_range), "controls": figures}


def own_predictions(suite: Suite, contender: Contender, folder: Path) -> Predictions:
    """The contender's curves of the dataset itself."""
    return Predictions.of(contender, "episodes", suite.source, folder)


def _order(curves: Iterable[ValueCurve | DataError]) -> dict[str, Any]:
    """Value-order correlation of a control's videos, and how far the value moves from first to last frame."""
    scored = [curve for curve in curves if isinstance(curve, ValueCurve)]
    if not scored:
        return {"videos": 0}
    vocs = [voc(curve.mean[curve.scored]) for curve in scored]
    overall, _ = summarize({"all": vocs})
    return {
        "videos": len(scored),
        "ill_defined": overall.ill_defined,
        "voc": overall.mean,
        "absolute_voc": float(np.mean(np.abs(np.nan_to_num(vocs)))),
        "rise": float(np.mean([curve.mean[-1] - curve.mean[0] for curve in scored])),
    }


def _grounding(own: Predictions, control: Control, wrong: Predictions) -> dict[str, Any]:
    """How often the right instruction gains more value than the control's, and the mean gains under both.

    A pair with a gain that is no number counts as not grounded; in the means such a gain is 0.
    """
    right = {index: _gain(curve) for index, curve in enumerate(own) if isinstance(curve, ValueCurve)}
    pairs = [
        (right[index], _gain(curve))
        for index, curve in zip(control.chosen, wrong, strict=True)
        if index in right and isinstance(curve, ValueCurve)
    ]
    if not pairs:
        return {"videos": 0}
    gains = np.transpose(pairs)
    means = np.nan_to_num(gains).mean(1)
    return {
        "videos": len(pairs),
        "grounding": grounding(*gains),
        "rise": float(means[1]),
        "rise_when_right": float(means[0]),
    }


def _gain(curve: ValueCurve) -> float:
    return float(curve.mean[-1] - curve.mean[0])
