"""Recipes of `tiny` size: everything from scratch on a CPU, at 128 px."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from worldvalue.backbones.experts import ExpertConfig
from worldvalue.data.augment import Augmentation
from worldvalue.data.pictures import PictureSettings
from worldvalue.models import EstimatorConfig, ModelConfig
from worldvalue.models.frame_classifier import FrameClassifierConfig
from worldvalue.models.mv_wam import MVWAMConfig
from worldvalue.models.viva import ViVaConfig
from worldvalue.models.wav import WAVConfig
from worldvalue.models.wvm import WVMConfig
from worldvalue.recipes.recipe import Recipe, like_mv_wam, like_viva, like_wav
from worldvalue.training.settings import TrainingSettings


def tiny() -> Recipe:
    """The shipped model as its first training makes it: everything from scratch on a CPU, 128 px, one camera.

    Run: ``worldvalue train vae --data DIR --out VAE``, then ``worldvalue train wvm --data DIR --vae VAE/vae --out
    RUN``; ``make shipped`` does that and the trainings that follow, after which expect the figures of the model card.
    It tells the robot's proprioception beside the values, 16 numbers as in the simulator; with data that has others,
    set ``estimator.model.states``.
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
        weights={"value": 1.0, "video": 1.0, "state": 4.0},
        states=16,
    )
    return _tiny_recipe(model)


def tiny_viva() -> Recipe:
    """ViVa on the shipped model's autoencoder and its video stream's shape.

    Run: ``worldvalue train viva --data DIR --vae VAE/vae --out RUN``, or with ``--pretrained MODEL``, the folder of a
    WVM, in the place of the autoencoder. The paper draws noise levels uniformly. Here most are near 1: a value repeated
    6144 times shines through all other noise, and would be read from itself instead of the picture.
    """
    video = _tiny_video(channels=24)
    model = ViVaConfig(
        video=video,
        text=_tiny_text(video["text_dim"]),
        text_length=64,
        text_pool=4,
        latent_size=(16, 16),
        states=16,
        sigma_shift=5.0,
    )
    return like_viva(_tiny_recipe(model))


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
    return like_mv_wam(_tiny_recipe(model))


def tiny_wav() -> Recipe:
    """WAV with LTX-Video's transformer on the shipped model's autoencoder: one view, chunks of 16 frames.

    Run the paper's three stages, each on the one before: ``worldvalue train wav --data DIR --vae VAE/vae --out VIDEO``
    with ``--set 'estimator.model.weights={"video": 1}'``; with ``--init VIDEO/model`` in the place of the autoencoder,
    ``--set 'estimator.model.weights={"value": 1}' --set 'frozen=["video", "text"]'`` into VALUE; and with ``--init
    VALUE/model`` alone.
    """
    layers, heads, head_dim, text_dim = 5, 8, 32, 128
    patch = 2
    video = {
        "in_channels": 24 * patch**2 + 16,  # 16 show a token's place
        "out_channels": 24 * patch**2,
        "patch_size": patch,
        "num_attention_heads": heads,
        "attention_head_dim": head_dim,
        "cross_attention_dim": heads * head_dim,
        "num_layers": layers,
        "caption_channels": text_dim,
    }
    stream = replace(_tiny_expert(_tiny_video(channels=24)), text_dim=heads * head_dim)
    model = WAVConfig(
        video=video,
        stream=stream,
        text=_tiny_text(text_dim),
        text_length=64,
        text_pool=4,
        latent_size=(16, 16),
        states=16,
        actions=7,
        views=1,
        fold=4,
        chunk=16,
        memory=2,
        sigma_shift=3.0,
    )
    return like_wav(_tiny_recipe(model), model.chunk)


def tiny_frame_classifier() -> Recipe:
    """The baseline without a world model, as wide and deep as the shipped model's video stream, on its autoencoder.

    Run: ``worldvalue train frame-classifier --data DIR --vae VAE/vae --out RUN``.
    """
    model = FrameClassifierConfig(
        width=256,
        layers=5,
        heads=8,
        patch=2,
        code_channels=24,
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
        augmentation=Augmentation(plateau=0.2),
    )


def _tiny_video(channels: int) -> dict[str, Any]:
    """A video transformer of 5 layers of width 256, on latents of so many channels, shown places in 16 more."""
    layers, heads, head_dim = 5, 8, 32
    return {
        "patch_size": (1, 2, 2),
        "num_attention_heads": heads,
        "attention_head_dim": head_dim,
        "in_channels": channels + 16,
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


_TINY_VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
}


def _tiny_text(width: int) -> dict[str, Any]:
    """A text encoder over bytes that is trained with the model."""
    return {"vocab_size": 384, "d_model": width, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}
