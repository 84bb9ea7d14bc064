"""The model that comes with the package: it is there, small enough, and sees progress where there is some."""

from dataclasses import replace

import numpy as np
from tests.small import painted_episode

from worldvalue.models import load_model
from worldvalue.models.estimator import SHIPPED
from worldvalue.recipes.tiny import tiny
from worldvalue.scoring.sliding_windows import ScoreSettings, score


def test_the_shipped_checkpoint_is_the_tiny_recipe_of_two_cameras_and_at_most_32_megabytes() -> None:
    folder = SHIPPED / "tiny"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 32 * 2**20
    config, recipe = load_model("tiny").config, tiny().estimator
    assert config.vae == recipe.vae
    assert config.model.value == recipe.model.value
    assert config.picture == replace(recipe.picture, views=2)


def test_the_shipped_model_scores_pictures_of_another_size_of_one_camera_or_two() -> None:
    for cameras in (("front",), ("front", "wrist")):
        curve = score(load_model("tiny"), painted_episode(40, cameras=cameras), ScoreSettings(draws=2, steps=1))
        assert np.isfinite(curve.mean).all()
        assert len(curve.mean) == 40
