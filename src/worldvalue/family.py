"""The four papers' models side by side: same data, autoencoder and number of steps, measured on the same episodes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from worldvalue.benchmark.evaluate import HEADLINE, METRICS, evaluate
from worldvalue.benchmark.tables import Table, markdown, to_markdown
from worldvalue.data import open_episodes
from worldvalue.data.files import replacing
from worldvalue.recipes import Recipe
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.training.log import steps_and_seconds
from worldvalue.trials import bench
from worldvalue.types import DataError, Episode, EpisodeSource, ValueCurve
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


_COST = ["model", "parameters, M", "steps", "minutes of training", "scored frames a second"]
_FIGURES = {metric.name: metric.title for metric in METRICS if metric.name in HEADLINE.values()}
_TAUGHT = """What each is taught, measured on {suite} as if it were told: a perfect model's figures. A value of another
paper is not the progress that this benchmark asks for."""


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
    costs = [_cost(trainings, name, folder, suites[0], settings) for name, folder in models.items()]
    parts = [markdown(Table("Cost", _COST, costs))]
    for suite in suites:
        rows = [_taught(trainings, name, open_episodes(suite)) for name in names]
        parts += [
            _TAUGHT.format(suite=suite.resolve().name),
            markdown(Table("Taught", ["model", *_FIGURES.values()], rows)),
        ]
    text = "\n\n".join((*parts, to_markdown(results)))
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


def _taught(trainings: Trainings, name: str, source: EpisodeSource) -> list[str]:
    """The figures of a model's own targets."""
    recipe = trainings.recipe_of(FAMILY[name], FAMILY[name].stages[-1])
    numbers = track(range(len(source)), f"What {FAMILY[name].title} is taught", console=Console(stderr=True))
    found = evaluate(source, [_target(recipe, source, number) for number in numbers])["metrics"]
    figures = (found[metric]["mean"] for metric in _FIGURES)
    return [FAMILY[name].title, *("-" if figure is None else f"{figure:.2f}" for figure in figures)]


def _target(recipe: Recipe, source: EpisodeSource, number: int) -> ValueCurve | DataError:
    try:
        episode = source[number]
        values = recipe.targets(episode)
    except DataError as error:
        return error
    if values is None:
        return DataError("It teaches this model nothing.")
    exact = values.astype(np.float32)
    seen = episode.indices_at(recipe.estimator.rate)
    return ValueCurve(episode.timestamps, exact, np.zeros_like(exact), exact, exact, exact, seen)


def _frames_a_second(scorer: Scorer, suite: Path) -> float:
    """Of a group of the suite's first episodes, frames looked at; decoding counts."""
    source = open_episodes(suite)
    episodes: list[Episode] = [source[number] for number in range(min(scorer.settings.group, len(source)))]
    began = time.perf_counter()
    curves = scorer(episodes)
    seconds = time.perf_counter() - began
    return sum(len(curve.scored) for curve in curves if not isinstance(curve, DataError)) / seconds
