"""Recipes: functions that return a full configuration. Each opens with the command that runs it and what to expect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from worldvalue.models import EstimatorConfig
from worldvalue.recipes.published import mv_wam_wan21_1b, viva_wan22_5b, wan22_5b, wav_ltx_2b
from worldvalue.recipes.recipe import Recipe, continuing, override
from worldvalue.recipes.tiny import tiny, tiny_frame_classifier, tiny_mv_wam, tiny_viva, tiny_wav
from worldvalue.types import DataError

__all__ = ["RECIPES", "Recipe", "find_recipe", "override"]

RECIPES: Mapping[str, dict[str, Callable[[], Recipe]]] = {
    "wvm": {"tiny": tiny, "wan22_5b": wan22_5b},
    "viva": {"tiny": tiny_viva, "wan22_5b": viva_wan22_5b},
    "wav": {"tiny": tiny_wav, "ltx_2b": wav_ltx_2b},
    "mv-wam": {"tiny": tiny_mv_wam, "wan21_1b": mv_wam_wan21_1b},
    "frame-classifier": {"tiny": tiny_frame_classifier},
}
"""Recipes by model and name, as the command line knows them."""


def find_recipe(model: str, name: str, settings: Sequence[str] = (), kept: EstimatorConfig | None = None) -> Recipe:
    """A model's recipe by its name, with some settings changed as in ``override``.

    Args:
        model, name: keys of ``RECIPES``.
        settings: what to change.
        kept: configuration of the model that is to go on (``continuing``); None for a new one.

    Raises:
        DataError: there is no such model, recipe or setting.
    """
    if model not in RECIPES:
        raise DataError(f"There is no model '{model}' to be trained; choose from: {', '.join(RECIPES)}.")
    if name not in RECIPES[model]:
        raise DataError(f"There is no recipe '{name}' of {model}; choose from: {', '.join(RECIPES[model])}.")
    recipe = RECIPES[model][name]()
    return override(recipe if kept is None else continuing(recipe, kept), settings)
