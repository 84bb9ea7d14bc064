"""The ablations of WVM (section 5.3, Table 4) and two baselines, trained and measured with the same data and steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from worldvalue.benchmark.evaluate import HEADLINE, METRICS, evaluate
from worldvalue.benchmark.predictions import Predictions
from worldvalue.benchmark.published import ABLATIONS
from worldvalue.benchmark.tables import Table, markdown
from worldvalue.data import open_episodes
from worldvalue.data.files import replacing
from worldvalue.scoring.sliding_windows import ScoreSettings
from worldvalue.trials import contender
from worldvalue.variants import VIDEO_ALONE, Stage, Trainings, Variant


def _changed(title: str, *settings: str, without: tuple[str, ...] = ()) -> Variant:
    """A WVM whose video stream and text encoder have been trained on videos alone before."""
    return Variant(title, (VIDEO_ALONE, Stage(settings, without)))


VARIANTS: Mapping[str, Variant] = {
    "full": _changed("full"),
    "no_video_loss": _changed("without video loss", without=("video",)),
    "no_state_loss": _changed("without state loss", without=("state",)),
    "scratch": Variant("video stream from scratch", (Stage(),)),
    "frozen": _changed("frozen video stream", 'frozen=["video", "text"]', without=("video",)),
    "prefix_0": _changed("prefix p = 0", "augmentation.random_prefix=0.0"),
    "prefix_1": _changed("prefix p = 1", "augmentation.random_prefix=1.0"),
    "hl_gaussian": _changed("HL-Gaussian head", "estimator.model.head=hl_gaussian"),
    "scalar": _changed("scalar regression", "estimator.model.head=scalar"),
    "frame_classifier": Variant("frame classifier, 201 bins", (Stage(),), model="frame-classifier"),
}
"""Table 4 of the paper, and two baselines. The text encoder counts as pretrained and frozen with the video stream, as
the paper's is never trained."""


@dataclass(frozen=True)
class Ablation:
    """Variants measured on the same episodes.

    Attributes:
        trainings: what they learn from.
        suite: labelled episodes to measure on.
    """

    trainings: Trainings
    suite: Path

    def run(self, names: Sequence[str], seeds: int) -> str:
        """Train every variant with every seed and measure it; the table, also in ``ablations.md`` and ``.json`` of the
        trainings' folder.

        Both are written anew after every run, with what there is.

        Raises:
            DataError: see ``Trainings.begin`` and ``runs.train_value_model``.
        """
        self.trainings.begin(VARIANTS, names, [self.suite])
        console = Console(stderr=True)
        figures: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        text = ""
        for seed in range(seeds):
            for name in names:
                console.print(f"{VARIANTS[name].title}, seed {seed}")
                figures[name].append(self._measure(self.trainings.train(name, VARIANTS[name], seed), console))
                text = self._write(figures)
        return text

    def _measure(self, model: Path, console: Console) -> dict[str, Any]:
        source = open_episodes(self.suite)
        at_work = contender(str(model), ScoreSettings(), [source])
        predictions = Predictions.of(at_work, "episodes", source, self.trainings.out)
        with Progress(console=console) as progress:
            predictions.make(partial(progress.advance, progress.add_task("Scoring", total=len(source))))
        return evaluate(source, predictions)

    def _write(self, figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
        told = {
            **self.trainings.told(),
            "suite": str(self.suite),
            "variants": {name: [run["metrics"] for run in runs] for name, runs in figures.items()},
        }
        text = markdown(_table(figures)) + "\n"
        for name, content in (("ablations.json", json.dumps(told, indent=2) + "\n"), ("ablations.md", text)):
            with replacing(self.trainings.out / name) as partial_file:
                partial_file.write_text(content, encoding="utf-8")
        return text


def _table(figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Mean over seeds, half the distance between the largest and the smallest, and the paper's figure."""
    metrics = [metric for metric in METRICS if metric.name in HEADLINE.values()]
    rows = []
    for name, runs in figures.items():
        row = [VARIANTS[name].title]
        for metric in metrics:
            found = [run["metrics"][metric.name]["mean"] for run in runs]
            published = ABLATIONS.get(name, {}).get(metric.name)
            row += [_mean_and_spread(found), "-" if published is None else f"{published:.2f}"]
        rows.append(row)
    heads = [head for metric in metrics for head in (metric.title, "paper")]
    return Table("Ablations", ["variant", *heads], rows)


def _mean_and_spread(found: Sequence[float | None]) -> str:
    known = [figure for figure in found if figure is not None]
    if len(known) < 2:
        return f"{known[0]:.3f}" if known else "-"
    return f"{np.mean(known):.3f} ± {np.ptp(known) / 2:.3f}"
