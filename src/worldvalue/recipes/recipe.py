"""What a recipe holds, what all recipes of a paper share, and how settings are changed from outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

from worldvalue.data.augment import Augmentation
from worldvalue.models import EstimatorConfig
from worldvalue.training.episodes import DenseReturns, Targets, outcome_values, progress_values, return_values
from worldvalue.training.settings import TrainingSettings
from worldvalue.types import DataError


@dataclass(frozen=True)
class Recipe:
    """What to build and how to train it.

    Attributes:
        estimator: the model with its autoencoder and picture.
        training: of the value model.
        autoencoder: training of the autoencoder; None for a pretrained one.
        augmentation: of the windows.
        frozen: parts of the model, as its attributes are called, that stay as they start.
        targets: the values that an episode is to teach.
    """

    estimator: EstimatorConfig
    training: TrainingSettings
    autoencoder: TrainingSettings | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    frozen: tuple[str, ...] = ()
    targets: Targets = progress_values


def like_viva(recipe: Recipe) -> Recipe:
    """Windows that run forward alone, and values that tell failures apart (section 3.3)."""
    return replace(recipe, augmentation=Augmentation(rewind=0.0, random_prefix=0.0), targets=outcome_values)


def like_mv_wam(recipe: Recipe) -> Recipe:
    """Windows that run forward alone and show pixels as they are, and the value of section 3.2."""
    return replace(recipe, augmentation=Augmentation(rewind=0.0, random_prefix=0.0), targets=return_values)


def like_wav(recipe: Recipe, horizon: int, arms: int = 1) -> Recipe:
    """Windows that run forward alone, and the dense returns of appendix B. The paper gives no discount."""
    targets = DenseReturns(horizon, gamma=0.99, arms=arms)
    return replace(recipe, augmentation=Augmentation(rewind=0.0, random_prefix=0.0), targets=targets)


def continuing(recipe: Recipe, kept: EstimatorConfig) -> Recipe:
    """The recipe for a model that goes on: it stays what it is and sees what it saw.

    The recipe weighs its losses, and what its band was widened by no longer holds. A model of another class leaves the
    recipe as it is: it cannot be trained with it, which ``models.going_on`` says.
    """
    model = recipe.estimator.model
    if type(kept.model) is not type(model):
        return recipe
    return replace(recipe, estimator=replace(kept, model=replace(kept.model, weights=model.weights), band_margin=0.0))


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with some settings changed, each as ``path.to.setting=value``.

    Values are read as JSON, anything else as text: ``training.steps=100``, ``estimator.picture.rows=2``.

    Raises:
        DataError: no equals sign, or no such setting (those that exist are listed).
    """
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise DataError(f"'{setting}' is no setting; write it as path.to.setting=value.")
        recipe = _replaced(recipe, path.split("."), _read(value), path)
    return recipe


def _replaced(part: Any, path: Sequence[str], value: Any, whole: str) -> Any:
    name, *rest = path
    if is_dataclass(part) and not isinstance(part, type):
        inside = {f.name: getattr(part, f.name) for f in fields(part)}
        rebuild: Callable[..., Any] = partial(replace, part)
    else:
        inside = dict(part) if isinstance(part, Mapping) else {}
        rebuild = partial(dict, inside)
    if name not in inside:
        raise DataError(f"There is no setting '{whole}'; at '{name}' there are: {', '.join(inside) or 'none'}.")
    new = _replaced(inside[name], rest, value, whole) if rest else _fitting(inside[name], value, whole)
    return rebuild(**{name: new})


_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}


def _fitting(old: Any, value: Any, whole: str) -> Any:
    """The value, if it is of the old one's kind."""
    if callable(old):
        raise DataError(f"'{whole}' is set in the recipe alone.")
    if isinstance(old, tuple):
        if not isinstance(value, list):
            raise DataError(f'\'{whole}\' takes a list such as ["a", "b"], not {value!r}.')
        value = tuple(value)
    kind = type(old)
    if kind is float and type(value) is int:
        value = float(value)
    if kind in _KINDS and type(value) is not kind:
        raise DataError(f"'{whole}' takes {_KINDS[kind]}, not {value!r}.")
    return value


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
