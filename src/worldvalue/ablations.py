"""The ablations of WVM (section 5.3, Table 4) and two baselines, trained and measured with the same data and steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from worldvalue.data.files import claim_folder, replacing
from worldvalue.data.identity import dataset_identity
from worldvalue.data.pictures import cameras_shown
from worldvalue.recipes import Recipe, find_recipe
from worldvalue.runs import train_value_model
from worldvalue.scoring.sliding_windows import ScoreSettings
from worldvalue.trials import contender
from worldvalue.types import DataError


@dataclass(frozen=True)
class Variant:
    """A model to train.

    Attributes:
        title: what the table calls it.
        settings: what is changed in its recipe.
        model: whose recipe, in ``RECIPES``.
        pretrained: whether its video stream and text encoder have been trained on videos alone before.
        without: losses that are left out, where the recipe has them.
    """

    title: str
    settings: tuple[str, ...] = ()
    model: str = "wvm"
    pretrained: bool = True
    without: tuple[str, ...] = ()


_VIDEO_ALONE = Variant("video alone", ('frozen=["value"]',), without=("value", "state"))

VARIANTS: Mapping[str, Variant] = {
    "full": Variant("full"),
    "no_video_loss": Variant("without video loss", without=("video",)),
    "no_state_loss": Variant("without state loss", without=("state",)),
    "scratch": Variant("video stream from scratch", pretrained=False),
    "frozen": Variant("frozen video stream", ('frozen=["video", "text"]',), without=("video",)),
    "prefix_0": Variant("prefix p = 0", ("augmentation.random_prefix=0.0",)),
    "prefix_1": Variant("prefix p = 1", ("augmentation.random_prefix=1.0",)),
    "hl_gaussian": Variant("HL-Gaussian head", ("estimator.model.head=hl_gaussian",)),
    "scalar": Variant("scalar regression", ("estimator.model.head=scalar",)),
    "frame_classifier": Variant("frame classifier, 201 bins", model="frame-classifier", pretrained=False),
}
"""Table 4 of the paper, and two baselines. The text encoder counts as pretrained and frozen with the video stream, as
the paper's is never trained."""


@dataclass(frozen=True)
class Ablation:
    """What all variants share.

    Attributes:
        data: datasets of labelled episodes to learn from.
        suite: labelled episodes to measure on.
        vae: folder of the trained autoencoder.
        out: folder of all runs; what is complete there is not done again.
        recipe: name of each model's recipe.
        settings: changed in every recipe, such as the number of steps.
    """

    data: Sequence[Path]
    suite: Path
    vae: Path
    out: Path
    recipe: str = "tiny"
    settings: Sequence[str] = ()

    def run(self, names: Sequence[str], seeds: int) -> str:
        """Train every variant with every seed and measure it; the table, also in ``out/ablations.md`` and ``.json``.

        Both are written anew after every run, with what there is.

        Raises:
            DataError: there is no such variant, a setting or the suite does not fit, or ``out`` holds runs on other
                data or settings; or see ``runs.train_value_model``.
        """
        self._check(names)
        self._claim()
        console = Console(stderr=True)
        figures: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        text = ""
        for seed in range(seeds):
            for name in names:
                console.print(f"{VARIANTS[name].title}, seed {seed}")
                figures[name].append(self._measure(self._train(name, seed), console))
                text = self._write(figures)
        return text

    def _check(self, names: Sequence[str]) -> None:
        """Refuse now what would fail after hours."""
        unknown = [name for name in names if name not in VARIANTS]
        if unknown:
            raise DataError(f"There is no variant '{unknown[0]}'; choose from: {', '.join(VARIANTS)}.")
        recipes = [self._recipe(VARIANTS[name]) for name in names]
        labelled = [episode for episode in open_episodes(self.suite) if episode.labels and episode.labels.mode]
        if not labelled:
            raise DataError(f"{self.suite} has no labels to measure with; give a dataset with labels.jsonl.")
        for recipe in recipes:
            cameras_shown(labelled[0], recipe.estimator.picture)

    def _claim(self) -> None:
        """Make ``out`` the folder of this ablation: runs with other settings are not to be compared with its own."""
        ours = {
            "data": [dataset_identity(open_episodes(path)) for path in self.data],
            "vae": hashlib.sha256((self.vae / "model.safetensors").read_bytes()).hexdigest(),
            **self._shared(),
        }
        claim_folder(self.out, json.dumps(ours, indent=2) + "\n", "runs on other data or settings")

    def _shared(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "settings": list(self.settings)}

    def _recipe(self, variant: Variant, *settings: str) -> Recipe:
        recipe = find_recipe(variant.model, self.recipe, [*self.settings, *variant.settings, *settings])
        model = recipe.estimator.model
        weights = {name: weight for name, weight in model.weights.items() if name not in variant.without}
        return replace(recipe, estimator=replace(recipe.estimator, model=replace(model, weights=weights)))

    def _train(self, name: str, seed: int) -> Path:
        """The model of a variant, trained now if it is not there."""
        variant = VARIANTS[name]
        recipe = self._recipe(variant, f"training.seed={seed}")
        return self._trained(f"{name}_{seed}", recipe, self._video() if variant.pretrained else None)

    def _video(self) -> Path:
        """A model whose video stream and text encoder were trained on videos alone: one for all variants and seeds."""
        return self._trained("video", self._recipe(_VIDEO_ALONE), None)

    def _trained(self, run: str, recipe: Recipe, pretrained: Path | None) -> Path:
        folder = self.out / run
        if not (folder / "model" / "model.safetensors").is_file():  # what is written last
            vae = self.vae if pretrained is None else None
            sources, codes = list(map(open_episodes, self.data)), self.out / "codes"
            train_value_model(recipe, sources, folder, vae, pretrained, codes=codes, resume=True)
        return folder / "model"

    def _measure(self, model: Path, console: Console) -> dict[str, Any]:
        source = open_episodes(self.suite)
        predictions = Predictions.of(contender(str(model), ScoreSettings(), [source]), "episodes", source, self.out)
        with Progress(console=console) as progress:
            predictions.make(partial(progress.advance, progress.add_task("Scoring", total=len(source))))
        return evaluate(source, predictions)

    def _write(self, figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
        told = {
            **self._shared(),
            "suite": str(self.suite),
            "variants": {name: [run["metrics"] for run in runs] for name, runs in figures.items()},
        }
        text = markdown(_table(figures)) + "\n"
        for name, content in (("ablations.json", json.dumps(told, indent=2) + "\n"), ("ablations.md", text)):
            with replacing(self.out / name) as partial_file:
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
