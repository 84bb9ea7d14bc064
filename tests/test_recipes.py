import pytest

from worldvalue.models import Estimator
from worldvalue.recipes import RECIPES, override
from worldvalue.recipes.tiny import tiny
from worldvalue.training.settings import TrainingSettings
from worldvalue.types import DataError


def test_settings_are_changed_by_their_path() -> None:
    recipe = override(
        tiny(),
        [
            "training.steps=7",
            "estimator.model.weights.video=0",
            "estimator.picture.rows=2",
            "augmentation.rewind=0.1",
            "training.compile=true",
        ],
    )
    assert recipe.training.steps == 7
    assert recipe.estimator.model.weights == {"value": 1.0, "video": 0, "state": 4.0}
    assert recipe.estimator.picture.rows == 2
    assert recipe.augmentation.rewind == 0.1
    assert recipe.training.compile is True
    assert tiny().training.steps != 7


@pytest.mark.parametrize("setting", ["training.stepz=7", "nothing=1", "training.steps.more=1"])
def test_settings_that_do_not_exist_are_refused_with_those_that_do(setting: str) -> None:
    with pytest.raises(DataError, match="there are:"):
        override(tiny(), [setting])


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("training.compile=1", "true or false"),
        ("training.steps=true", "a whole number"),
        ("training.steps=1.5", "a whole number"),
        ("augmentation.rewind=true", "a number"),
    ],
)
def test_a_value_of_another_kind_is_refused(setting: str, kind: str) -> None:
    with pytest.raises(DataError, match=f"takes {kind}, not"):
        override(tiny(), [setting])


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(DataError, match=r"path\.to\.setting=value"):
        override(tiny(), ["training.steps"])


def test_the_papers_recipe_trains_as_its_table_says() -> None:
    settings = RECIPES["wvm"]["wan22_5b"]().training
    assert settings == TrainingSettings(
        steps=30_000, batch=32, peak_rate=1e-4, final_share=0.1, warmup=500, betas=(0.9, 0.95), clip=1.0
    )
    assert settings.batch * 32 == 1024  # 32 GPUs


def test_the_tiny_model_fits_into_32_megabytes_of_bf16() -> None:
    assert sum(p.numel() for p in Estimator(tiny().estimator).parameters()) * 2 <= 32 * 2**20
