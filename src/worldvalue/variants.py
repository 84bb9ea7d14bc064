"""Models trained on the same data with the same number of steps, so that their figures can be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worldvalue.data import open_episodes
from worldvalue.data.files import claim_folder
from worldvalue.data.identity import dataset_identity
from worldvalue.data.pictures import cameras_shown
from worldvalue.recipes import Recipe, find_recipe
from worldvalue.runs import train_value_model
from worldvalue.types import DataError


@dataclass(frozen=True)
class Stage:
    """One of the trainings that make a model, each on the one before.

    Attributes:
        settings: what is changed in the model's recipe.
        without: losses that are left out, where the recipe has them.
        share: of the number of steps that was asked for.
        name: of a run that all models and seeds share which begin with it; None where each has its own.
        model: whose recipe, if not the variant's.
        whole: whether it goes on with all weights of the stage before; else with its video stream, autoencoder and
            text encoder, and the rest starts new.
    """

    settings: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    share: float = 1.0
    name: str | None = None
    model: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class Variant:
    """A model to train.

    Attributes:
        title: what tables call it.
        stages: its trainings, in order.
        model: whose recipe, in ``RECIPES``.
    """

    title: str
    stages: tuple[Stage, ...]
    model: str = "wvm"


VIDEO_ALONE = Stage(('frozen=["value"]',), without=("value", "state"), name="video", model="wvm")
"""A WVM's video stream and text encoder on videos alone, which takes the place of a pretrained video model."""


@dataclass(frozen=True)
class Trainings:
    """What all variants share.

    Attributes:
        data: datasets of labelled episodes to learn from.
        vae: folder of the trained autoencoder.
        out: folder of all runs; what is complete there is not done again.
        recipe: name of each model's recipe.
        settings: changed in every recipe, such as the number of steps.
    """

    data: Sequence[Path]
    vae: Path
    out: Path
    recipe: str = "tiny"
    settings: Sequence[str] = ()

    def begin(self, variants: Mapping[str, Variant], names: Sequence[str], suites: Sequence[Path]) -> None:
        """Refuse now what would fail after hours, then make ``out`` the folder of these trainings.

        Args:
            variants: those that there are, by name.
            names: of those wanted.
            suites: where they will be measured.

        Raises:
            DataError: there is no such variant, a setting or suite does not fit, or ``out`` holds runs on other data
                or with other settings.
        """
        unknown = [name for name in names if name not in variants]
        if unknown:
            raise DataError(f"There is no variant '{unknown[0]}'; choose from: {', '.join(variants)}.")
        recipes = [self.recipe_of(variants[name], stage) for name in names for stage in variants[name].stages]
        for suite in suites:
            labelled = [episode for episode in open_episodes(suite) if episode.labels and episode.labels.mode]
            if not labelled:
                raise DataError(f"{suite} has no labels to measure with; give a dataset with labels.jsonl.")
            for recipe in recipes:
                cameras_shown(labelled[0], recipe.estimator.picture)
        ours = {
            "data": [dataset_identity(open_episodes(path)) for path in self.data],
            "vae": hashlib.sha256((self.vae / "model.safetensors").read_bytes()).hexdigest(),
            **self.told(),
        }
        claim_folder(self.out, json.dumps(ours, indent=2) + "\n", "runs on other data or settings")

    def told(self) -> dict[str, Any]:
        """What made the figures beside data and autoencoder."""
        return {"recipe": self.recipe, "settings": list(self.settings)}

    def train(self, name: str, variant: Variant, seed: int) -> Path:
        """The checkpoint folder of a variant, trained now if it is not there.

        All stages but the last are trained once, with seed 0.

        Raises:
            DataError: see ``runs.train_value_model``.
        """
        model: Path | None = None
        for run, stage in zip(self.runs(name, variant, seed), variant.stages, strict=True):
            last = stage is variant.stages[-1]
            model = self._trained(run, self.recipe_of(variant, stage, seed if last else 0), model, stage.whole)
        assert model is not None, "a variant has a stage"
        return model

    def runs(self, name: str, variant: Variant, seed: int) -> list[Path]:
        """The folders of a variant's trainings, in order."""
        *before, _ = variant.stages
        earlier = [stage.name or f"{name}_stage_{number}" for number, stage in enumerate(before, start=1)]
        return [self.out / run for run in (*earlier, f"{name}_{seed}")]

    def recipe_of(self, variant: Variant, stage: Stage, seed: int = 0) -> Recipe:
        """What a stage of a variant is trained by."""
        settings = [*self.settings, *stage.settings, f"training.seed={seed}"]
        recipe = find_recipe(stage.model or variant.model, self.recipe, settings)
        model, training = recipe.estimator.model, recipe.training
        weights = {name: weight for name, weight in model.weights.items() if name not in stage.without}
        return replace(
            recipe,
            estimator=replace(recipe.estimator, model=replace(model, weights=weights)),
            training=replace(training, steps=max(round(stage.share * training.steps), 1)),
        )

    def _trained(self, run: Path, recipe: Recipe, before: Path | None, whole: bool) -> Path:
        if not (run / "model" / "model.safetensors").is_file():  # what is written last
            start: dict[str, Any] = {"vae": self.vae} if before is None else {"init" if whole else "pretrained": before}
            sources = list(map(open_episodes, self.data))
            train_value_model(recipe, sources, run, **start, codes=self.out / "codes", resume=True)
        return run / "model"
