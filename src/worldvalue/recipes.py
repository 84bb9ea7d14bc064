"""Recipes: functions that return a full configuration. Each opens with the command that runs it and what to expect."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

from worldvalue.backbones.experts import ExpertConfig
from worldvalue.data.augment import Augmentation
from worldvalue.data.pictures import PictureSettings
from worldvalue.models import EstimatorConfig, ModelConfig
from worldvalue.models.frame_classifier import FrameClassifierConfig
from worldvalue.models.mv_wam import MVWAMConfig
from worldvalue.models.viva import ViVaConfig
from worldvalue.models.wvm import WVMConfig
from worldvalue.training.episodes import Targets, outcome_values, progress_values, return_values
from worldvalue.training.loop import TrainingSettings
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


def tiny() -> Recipe:
    """The shipped model: everything from scratch on a CPU, 128 px, one camera.

    Run: ``worldvalue train vae --data DIR --out VAE``, then ``worldvalue train wvm --data DIR --vae VAE/vae --out
    RUN``; ``make shipped`` does all of it. Expect the figures of the model card.
    """
    video = _tiny_video(channels=24)
    model = WVMConfig(
        video=video,
        value=_tiny_expert(video),
        text=_tiny_text(video["text_dim"]),
        text_length=64,
        text_pool=4,
        latent_size=(16, 16),
        sigma_shift=3.0,
        value_draws=4,
    )
    return _tiny_recipe(model)


def tiny_viva() -> Recipe:
    """ViVa on the shipped model's autoencoder, its transformer as wide and deep as the shipped model's video stream.

    Run: ``worldvalue train viva --data DIR --vae VAE/vae --out RUN``.
    """
    video = _tiny_video(channels=6)
    model = ViVaConfig(
        video=video,
        text=_tiny_text(video["text_dim"]),
        text_length=64,
        text_pool=4,
        latent_size=(16, 16),
        states=16,
    )
    return _like_viva(_tiny_recipe(model))


def _like_viva(recipe: Recipe) -> Recipe:
    """Windows that run forward alone, and values that tell failures apart (section 3.3)."""
    return replace(recipe, augmentation=Augmentation(rewind=0.0, random_prefix=0.0), targets=outcome_values)


def tiny_mv_wam() -> Recipe:
    """MV-WAM on the shipped model's autoencoder: chunks of 16 actions, a vision encoder trained with it.

    Run: ``worldvalue train mv-wam --data DIR --vae VAE/vae --out VIDEO --set 'estimator.model.weights={"video": 1}'``,
    then ``worldvalue train mv-wam --data DIR --pretrained VIDEO/model --out RUN``: the paper's two stages.
    """
    video = _tiny_video(channels=24)
    model = MVWAMConfig(
        video=video,
        expert=_tiny_expert(video),
        text=_tiny_text(video["text_dim"]),
        text_length=64,
        text_pool=4,
        vision=_TINY_VISION,
        latent_size=(16, 16),
        states=16,
        actions=7,
        unified=16,
        chunk=16,
    )
    return _like_mv_wam(_tiny_recipe(model))


_TINY_VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
}


def _like_mv_wam(recipe: Recipe) -> Recipe:
    """Windows that run forward alone and show pixels as they are, and the value of section 3.2."""
    return replace(recipe, augmentation=Augmentation(rewind=0.0, random_prefix=0.0), targets=return_values)


def tiny_frame_classifier() -> Recipe:
    """The baseline without a world model, as wide and deep as the shipped model's video stream, on its autoencoder.

    Run: ``worldvalue train frame-classifier --data DIR --vae VAE/vae --out RUN``.
    """
    model = FrameClassifierConfig(
        width=256,
        layers=5,
        heads=8,
        patch=2,
        code_channels=6,
        latent_size=(16, 16),
        text=_tiny_text(128),
        text_length=64,
        text_pool=4,
    )
    return _tiny_recipe(model)


def _tiny_recipe(model: ModelConfig) -> Recipe:
    """A model on codes of single frames of 128 px: an autoencoder of 8x8 pixels a code, trained here too."""
    vae = {
        "in_channels": 12,
        "out_channels": 12,
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [32, 64, 128],
        "layers_per_block": 1,
        "latent_channels": 6,
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
    }
    return Recipe(
        estimator=EstimatorConfig(model, "AutoencoderKL", vae, PictureSettings(128, 128)),
        training=TrainingSettings(steps=3200, batch=64, peak_rate=5e-4, warmup=200, save_every=250),
        autoencoder=TrainingSettings(steps=2000, batch=16, peak_rate=2e-3, warmup=100, save_every=250),
        augmentation=Augmentation(shift=0.125),
    )


def _tiny_video(channels: int) -> dict[str, Any]:
    """A video transformer of 5 layers of width 256, on latents of so many channels."""
    layers, heads, head_dim = 5, 8, 32
    return {
        "patch_size": (1, 2, 2),
        "num_attention_heads": heads,
        "attention_head_dim": head_dim,
        "in_channels": channels,
        "out_channels": channels,
        "text_dim": 128,
        "ffn_dim": 4 * heads * head_dim,
        "num_layers": layers,
    }


def _tiny_expert(video: Mapping[str, Any]) -> ExpertConfig:
    """A stream half as wide as that video transformer."""
    return ExpertConfig(
        width=128,
        ffn_width=512,
        cross_heads=4,
        cross_head_dim=32,
        layers=video["num_layers"],
        heads=video["num_attention_heads"],
        head_dim=video["attention_head_dim"],
        text_dim=video["text_dim"],
    )


def _tiny_text(width: int) -> dict[str, Any]:
    """A text encoder over bytes that is trained with the model."""
    return {"vocab_size": 384, "d_model": width, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}


_WAN22_VIDEO = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "in_channels": 48,
    "out_channels": 48,
    "text_dim": 4096,
    "ffn_dim": 14336,
    "num_layers": 30,
}
_WAN22_VAE = {
    "is_residual": True,
    "z_dim": 48,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_spatial": 16,
    "base_dim": 160,
    "decoder_base_dim": 256,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}


def wan22_5b() -> Recipe:
    """The paper's size: Wan2.2-TI2V-5B with a value stream of 0.7 B parameters (WVM appendix A, Table A.1).

    Run: ``worldvalue train wvm --recipe wan22_5b --pretrained FOLDER --data DIR --out DIR`` with the model's folder in
    diffusers layout. The paper trained 30,000 steps of 1,024 windows in 40 hours on 32 A100; not run by us.
    """
    value = ExpertConfig(
        width=512,
        ffn_width=14336,
        cross_heads=8,
        cross_head_dim=64,
        layers=30,
        heads=24,
        head_dim=128,
        text_dim=4096,
    )
    model = WVMConfig(video=_WAN22_VIDEO, value=value, text=None, text_length=512, latent_size=(16, 16))
    return Recipe(
        estimator=EstimatorConfig(model, "AutoencoderKLWan", _WAN22_VAE, PictureSettings(256, 256)),
        training=TrainingSettings(batch=32),
    )


def viva_wan22_5b() -> Recipe:
    """ViVa at the paper's size: Wan2.2-TI2V-5B itself, three views, a robot of two arms (section 4.1.3).

    Run: ``worldvalue train viva --recipe wan22_5b --pretrained FOLDER --data DIR --out DIR`` with the model's folder in
    diffusers layout, and ``--set estimator.model.states=N`` for another robot. The paper trained one epoch in batches
    of 192 in 4 GPU days; not run by us.
    """
    model = ViVaConfig(video=_WAN22_VIDEO, text=None, text_length=512, latent_size=(16, 16), states=14)
    pictures = PictureSettings(256, 256, views=3)
    return _like_viva(
        Recipe(
            estimator=EstimatorConfig(model, "AutoencoderKLWan", _WAN22_VAE, pictures),
            training=TrainingSettings(batch=24),
        )
    )


def mv_wam_wan21_1b() -> Recipe:
    """MV-WAM at the paper's size: the architecture of Wan2.1-1.3B, an expert of width 768, SigLIP2 base (section 4.1).

    Run: ``worldvalue train mv-wam --recipe wan21_1b --pretrained FOLDER --data DIR --out DIR`` with the model's folder
    in diffusers layout. The paper trained 20,000 steps of 1,024 on video and 15,000 of 512 on both; not run by us.
    """
    video = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 4096,
        "ffn_dim": 8960,
        "num_layers": 30,
    }
    expert = ExpertConfig(
        width=768,
        ffn_width=4480,
        cross_heads=12,
        cross_head_dim=128,
        layers=30,
        heads=12,
        head_dim=128,
        text_dim=4096,
    )
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
    }
    vae = {"z_dim": 16, "base_dim": 96, "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
    model = MVWAMConfig(
        video=video,
        expert=expert,
        text=None,
        text_length=512,
        vision=vision,
        latent_size=(30, 40),
        states=14,
        actions=16,
    )
    return _like_mv_wam(
        Recipe(
            estimator=EstimatorConfig(model, "AutoencoderKLWan", vae, PictureSettings(240, 320)),
            training=TrainingSettings(steps=15_000, batch=16, weight_decay=0.01),
        )
    )


RECIPES: Mapping[str, dict[str, Callable[[], Recipe]]] = {
    "wvm": {"tiny": tiny, "wan22_5b": wan22_5b},
    "viva": {"tiny": tiny_viva, "wan22_5b": viva_wan22_5b},
    "mv-wam": {"tiny": tiny_mv_wam, "wan21_1b": mv_wam_wan21_1b},
    "frame-classifier": {"tiny": tiny_frame_classifier},
}
"""Recipes by model and name, as the command line knows them."""


def find_recipe(model: str, name: str, settings: Sequence[str] = ()) -> Recipe:
    """A model's recipe by its name, with some settings changed as in ``override``.

    Raises:
        DataError: there is no such recipe or setting.
    """
    if name not in RECIPES[model]:
        raise DataError(f"There is no recipe '{name}' of {model}; choose from: {', '.join(RECIPES[model])}.")
    return override(RECIPES[model][name](), settings)


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
        raise DataError(f"'{whole}' is set in recipes.py alone.")
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
