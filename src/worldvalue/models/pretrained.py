"""New estimators on pretrained video models: a Wan model's folder, or a checkpoint of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLWan

from worldvalue.backbones.video_dit import VideoDiT
from worldvalue.backbones.video_vae import WanVAE
from worldvalue.models.estimator import Estimator, EstimatorConfig, checkpoint_folder, load_model
from worldvalue.models.frame_classifier import FrameClassifierConfig
from worldvalue.models.mv_wam import MVWAM, MVWAMConfig
from worldvalue.models.viva import ViVa, ViVaConfig
from worldvalue.models.wav import WAVConfig
from worldvalue.models.wvm import WVM, WVMConfig
from worldvalue.types import DataError

OnWan = WVM | ViVa | MVWAM
"""Models whose video stream, ``video``, is Wan's."""


def on_pretrained(name_or_folder: str | Path, config: EstimatorConfig) -> Estimator:
    """A new estimator on a pretrained video model: its video stream, autoencoder and text encoder; the rest starts new.

    Args:
        name_or_folder: a Wan model in diffusers layout (``transformer/``, ``vae/``, ``text_encoder/``,
            ``tokenizer/``), whose shapes replace those of the configuration; or a model as ``load_model`` takes it.
        config: of the estimator.

    Raises:
        DataError: the configuration has no video stream, a part is missing, or shapes do not fit.
    """
    if isinstance(config.model, FrameClassifierConfig | WAVConfig):
        raise DataError("This recipe takes no pretrained video model; leave --pretrained out.")
    if checkpoint_folder(name_or_folder):
        return _on_checkpoint(name_or_folder, config)
    folder = Path(name_or_folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is neither a folder nor a shipped model; give --pretrained a video model's folder.")
    return _on_wan(folder, config, config.model)


def _on_checkpoint(name_or_folder: str | Path, config: EstimatorConfig) -> Estimator:
    kept = load_model(name_or_folder)
    if not isinstance(kept.model, OnWan):
        raise DataError(f"{name_or_folder} has no video stream; give a model that has one, or a Wan model.")
    estimator = Estimator(replace(config, text_folder=kept.config.text_folder))
    assert isinstance(estimator.model, OnWan)
    try:
        estimator.vae.load_state_dict(kept.vae.state_dict())
        estimator.model.video.load_state_dict(kept.model.video.state_dict())
        if estimator.model.text is not None and kept.model.text is not None:
            estimator.model.text.load_state_dict(kept.model.text.state_dict())
    except RuntimeError as error:
        raise DataError(f"{name_or_folder} has not the recipe's shape; use the recipe it was trained with.") from error
    return estimator


def _on_wan(folder: Path, config: EstimatorConfig, model: WVMConfig | ViVaConfig | MVWAMConfig) -> Estimator:
    if config.vae_class != "AutoencoderKLWan":
        raise DataError("This recipe has an autoencoder of its own; a pretrained Wan model needs a recipe made for it.")
    for part in ("transformer", "vae", "text_encoder", "tokenizer"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder '{part}'; give a Wan model in diffusers layout.")
    video = VideoDiT.from_pretrained(folder, subfolder="transformer")
    autoencoder = AutoencoderKLWan.from_pretrained(folder, subfolder="vae")
    config = replace(
        config,
        model=replace(model, video=_public(video.config)),
        vae=_public(autoencoder.config),
        text_folder=str(folder),
    )
    return Estimator(config, WanVAE(config.vae, autoencoder), video)


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
