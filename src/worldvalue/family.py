"""The four papers' models side by side: same data, autoencoder and number of steps, measured on the same episodes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from worldvalue.benchmark.tables import Table, markdown, to_markdown
from worldvalue.data import open_episodes
from worldvalue.data.files import replacing
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.training.log import steps_and_seconds
from worldvalue.trials import bench
from worldvalue.types import DataError, Episode
from worldvalue.variants import VIDEO_ALONE, Stage, Trainings, Variant

FAMILY: Mapping[str, Variant] = {
    "wvm": Variant("WVM", (VIDEO_ALONE, Stage())),
    "viva": Variant("ViVa", (VIDEO_ALONE, Stage()), model="viva"),
    "mv_wam": Variant("MV-WAM", (Stage(without=("action", "value")), Stage()), model="mv-wam"),
    "wav": Variant(
        "WAV",
        (
            Stage(without=("action", "value")),
            Stage(('frozen=["video", "text"]',), without=("video", "action"), share=0.5),
            Stage(share=0.5, whole=True),
        ),
        model="wav",
    ),
}
"""Each in its paper's stages, twice the steps asked for in all. WVM and ViVa stand on the same video stream."""


def compare(trainings: Trainings, names: Sequence[str], suites: Sequence[Path], settings: ScoreSettings) -> str:
    """Train each model and measure it; the tables, also in ``family.md`` of the trainings' folder.

    The predictions, ``bench.json`` and pictures lie in ``bench`` there.

    Args:
        trainings: what the models learn from.
        names: of models in ``FAMILY``.
        suites: labelled episodes to measure on.
        settings: how all of them score.

    Raises:
        DataError: see ``Trainings.begin``, ``runs.train_value_model`` and ``trials.bench``.
    """
    trainings.begin(FAMILY, names, suites)
    models = {name: trainings.train(name, FAMILY[name], seed=0) for name in names}
    titled = [(FAMILY[name].title, str(folder)) for name, folder in models.items()]
    results = bench(suites, titled, trainings.out / "bench", settings)
    rows = [_cost(trainings, name, folder, suites[0], settings) for name, folder in models.items()]
    head = ["model", "parameters, M", "steps", "minutes of training", "scored frames a second"]
    text = f"{markdown(Table('Cost', head, rows))}\n\n{to_markdown(results)}"
    with replacing(trainings.out / "family.md") as partial:
        partial.write_text(text, encoding="utf-8")
    return text


def _cost(trainings: Trainings, name: str, folder: Path, suite: Path, settings: ScoreSettings) -> list[str]:
    scorer = Scorer.of(folder, settings)
    named = scorer.estimator.named_parameters()
    parameters = sum(parameter.numel() for name, parameter in named if not name.startswith("vae."))
    steps, seconds = map(sum, zip(*map(steps_and_seconds, trainings.runs(name, FAMILY[name], seed=0)), strict=True))
    figures = (f"{parameters / 1e6:.1f}", str(steps), f"{seconds / 60:.0f}", f"{_frames_a_second(scorer, suite):.0f}")
    return [FAMILY[name].title, *figures]


def _frames_a_second(scorer: Scorer, suite: Path) -> float:
    """Of a group of the suite's first episodes, frames looked at; decoding counts."""
    source = open_episodes(suite)
    episodes: list[Episode] = [source[number] for number in range(min(scorer.settings.group, len(source)))]
    began = time.perf_counter()
    curves = scorer(episodes)
    seconds = time.perf_counter() - began
    return sum(len(curve.scored) for curve in curves if not isinstance(curve, DataError)) / seconds
