"""New estimators on pretrained video models: Wan's or LTX-Video's in diffusers layout, or a checkpoint of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from diffusers import AutoencoderKLLTXVideo, AutoencoderKLWan, ModelMixin
from torch import nn

from worldvalue.backbones.hub import pretrained_folder
from worldvalue.backbones.ltx_video import LTXVAE, LTXVideoDiT
from worldvalue.backbones.video_dit import VideoDiT
from worldvalue.backbones.video_vae import VideoVAE, WanVAE
from worldvalue.backbones.vision import VisionEncoder
from worldvalue.backbones.weights import fill, unfilled, weight_files
from worldvalue.models.estimator import (
    AUTOENCODERS,
    OTHER_RECIPE,
    WEIGHTS,
    Estimator,
    EstimatorConfig,
    checkpoint_folder,
    default_device,
    load_model,
    read_config,
)
from worldvalue.models.mv_wam import MVWAM, MVWAMConfig
from worldvalue.models.viva import ViVaConfig
from worldvalue.models.wav import WAVConfig
from worldvalue.models.wvm import WVMConfig
from worldvalue.types import DataError, in_short

WithVideo = WVMConfig | ViVaConfig | MVWAMConfig | WAVConfig
"""Configurations of the models that have a video stream."""

PARTS = ("transformer", "vae", "text_encoder", "tokenizer")
Part = TypeVar("Part", bound=ModelMixin)


@dataclass(frozen=True)
class Family:
    """Video models of one architecture, as diffusers keeps them.

    Attributes:
        transformer: class of the video stream.
        autoencoder: class of the autoencoder.
        wrapped: makes an autoencoder of ours of a configuration and one of that class.
        such_as: hub ids of models that fit.
    """

    transformer: type[VideoDiT | LTXVideoDiT]
    autoencoder: type[AutoencoderKLWan | AutoencoderKLLTXVideo]
    wrapped: Callable[[Mapping[str, Any], Any], VideoVAE]
    such_as: str

    @property
    def name(self) -> str:
        """Of the autoencoder, as an estimator's configuration has it."""
        return self.autoencoder.__name__


WAN = Family(VideoDiT, AutoencoderKLWan, WanVAE, "Wan-AI/Wan2.2-TI2V-5B-Diffusers or Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
LTX_VIDEO = Family(LTXVideoDiT, AutoencoderKLLTXVideo, LTXVAE, "Lightricks/LTX-Video")


def on_pretrained(name_or_folder: str | Path, config: EstimatorConfig) -> Estimator:
    """A new estimator on a pretrained video model: its video stream, autoencoder and text encoder; the rest starts new.

    A new value or action stream starts by putting out zeros (``experts.silent``), so that its first loss is that of the
    trivial predictor. Weights are float32, on the GPU if there is one.

    Args:
        name_or_folder: a video model in diffusers layout (``transformer/``, ``vae/``, ``text_encoder/``,
            ``tokenizer/``), in a folder or by its id on the hub, whose shapes replace those of the configuration; or a
            model as ``load_model`` takes it. WAV stands on LTX-Video's, the others on Wan's.
        config: of the estimator.

    Raises:
        DataError: the configuration has no video stream, a part is missing, or shapes do not fit.
    """
    if not isinstance(config.model, WithVideo):
        raise DataError("This recipe takes no pretrained video model; leave --pretrained out.")
    checkpoint = checkpoint_folder(name_or_folder)
    if checkpoint is not None:
        return _on_checkpoint(checkpoint, config)
    return _on_video_model(name_or_folder, config, config.model)


def going_on(name_or_folder: str | Path, config: EstimatorConfig) -> Estimator:
    """An estimator with all weights of a checkpoint of ours.

    Args:
        name_or_folder: as ``load_model`` takes it.
        config: of the estimator; what stands on a pretrained video model keeps the shapes of that.

    Raises:
        DataError: there is no such checkpoint, or it has not the configuration's shape.
    """
    folder = checkpoint_folder(name_or_folder)
    if folder is not None:
        kept = read_config(folder)
        config = _as_kept(config, kept)
        if isinstance(config.model, MVWAMConfig) and isinstance(kept.model, MVWAMConfig) and kept.model.vision_folder:
            config = replace(config, model=replace(config.model, vision=kept.model.vision))
    return load_model(name_or_folder, config=config).train()


def new_estimator(
    config: EstimatorConfig, autoencoder: VideoVAE | None = None, video: nn.Module | None = None
) -> Estimator:
    """A new estimator, on the parts given; its vision encoder is the pretrained one that its configuration names.

    Raises:
        DataError: that vision encoder is not to be had; or see ``Estimator``.
    """
    if not isinstance(config.model, MVWAMConfig) or config.model.vision_folder is None:
        return Estimator(config, autoencoder, video)
    try:
        vision = VisionEncoder.from_pretrained(pretrained_folder(config.model.vision_folder))
    except DataError as error:
        raise DataError(f"The vision encoder, estimator.model.vision_folder: {error}") from error
    estimator = Estimator(replace(config, model=replace(config.model, vision=vision.config)), autoencoder, video)
    assert isinstance(estimator.model, MVWAM)
    estimator.model.vision = vision
    return estimator


def _on_checkpoint(folder: Path, config: EstimatorConfig) -> Estimator:
    kept = read_config(folder)
    if not isinstance(kept.model, WithVideo):
        raise DataError(f"{folder} has no video stream; give a model that has one, or a pretrained video model.")
    config = _as_kept(config, kept)
    assert isinstance(config.model, WithVideo)
    with unfilled():
        autoencoder = AUTOENCODERS[config.vae_class](config.vae)
        video = _family(config).transformer(**config.model.video)
    parts = ["vae.", "model.video."]
    if config.model.text is not None and kept.model.text is not None:
        parts.append("model.text.")
    estimator = new_estimator(config, autoencoder, video)
    fill(estimator, [folder / WEIGHTS], default_device(), parts=tuple(parts), remedy=OTHER_RECIPE)
    return estimator


def _as_kept(config: EstimatorConfig, kept: EstimatorConfig) -> EstimatorConfig:
    """The configuration on the video model that a checkpoint stands on.

    A pretrained one has shapes and statistics of its own, which the checkpoint knows; the recipe knows only its kind.
    """
    config = replace(config, text_folder=kept.text_folder)
    ours, theirs = config.model, kept.model
    if kept.vae_class not in (WAN.name, LTX_VIDEO.name) or kept.vae_class != config.vae_class:
        return config
    assert isinstance(ours, WithVideo)
    assert isinstance(theirs, WithVideo)
    return replace(config, model=replace(ours, video=theirs.video), vae=kept.vae)


def _on_video_model(name: str | Path, config: EstimatorConfig, model: WithVideo) -> Estimator:
    family = _family(config)
    if config.vae_class != family.name:
        raise DataError(
            f"{name} is neither a shipped model nor a checkpoint folder, and this recipe stands on nothing else; give "
            "one of them, or take a recipe for a pretrained video model."
        )
    folder, device = pretrained_folder(name, PARTS), default_device()
    video = _loaded(family.transformer, folder / "transformer", family)
    autoencoder = _loaded(family.autoencoder, folder / "vae", family)
    config = replace(
        config,
        model=replace(model, video=_public(video.config)),
        vae=_public(autoencoder.config),
        text_folder=str(Path(name).absolute() if Path(name).is_dir() else name),
    )
    return new_estimator(config, family.wrapped(config.vae, autoencoder), video).to(device)


def _family(config: EstimatorConfig) -> Family:
    return LTX_VIDEO if isinstance(config.model, WAVConfig) else WAN


def _loaded(kind: type[Part], folder: Path, family: Family) -> Part:
    """A part of a video model with its stored weights.

    Raises:
        DataError: it is a part of another kind of model, or its files are damaged.
    """
    try:
        config = kind.load_config(folder)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} has no readable config.json ({in_short(error)}); copy the folder again.") from error
    found = config.get("_class_name")
    if found not in {base.__name__ for base in kind.__mro__}:
        raise DataError(f"{folder} holds a {found}; give a model such as {family.such_as}.")
    inputs, outputs = config.get("in_channels"), config.get("out_channels")
    if issubclass(kind, VideoDiT) and outputs not in (None, inputs):
        raise DataError(
            f"{folder} is an image-to-video model ({inputs} channels in, {outputs} out); give a text-to-video one such "
            f"as {family.such_as}."
        )
    try:
        with unfilled():
            part = kind.from_config(config)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{folder / 'config.json'} makes no model ({in_short(error)}); give a model such as {family.such_as}."
        ) from error
    fill(part, weight_files(folder, "diffusion_pytorch_model"), default_device())
    return part


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
