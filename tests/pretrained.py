"""Pretrained models in small numbers, in folders that diffusers and transformers themselves wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)
from transformers import (
    ByT5Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.small import small_config, small_mv_wam_config, small_viva_config, small_wav_config
from worldvalue.data.pictures import PictureSettings
from worldvalue.models import EstimatorConfig

TEXT = {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
WAN_VIDEO = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 32,
    "ffn_dim": 48,
    "num_layers": 2,
}
WAN_VAE = {
    "is_residual": True,
    "z_dim": 4,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_spatial": 16,
    "base_dim": 8,
    "decoder_base_dim": 8,
    "num_res_blocks": 1,
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [1.5, 0.5, 2.0, 1.0],
}
LTX_VIDEO = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "num_layers": 2,
    "caption_channels": 16,
}
LTX_VAE = {
    "latent_channels": 4,
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "scaling_factor": 2.0,
}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 48,
    "patch_size": 16,
}


def wan_folder(folder: Path, video: Mapping[str, Any] | None = None, shard: str = "10GB") -> Path:
    """A Wan text-to-video model; ``video`` changes keys of its transformer, ``shard`` is the size of a file."""
    torch.manual_seed(0)
    WanTransformer3DModel(**{**WAN_VIDEO, **(video or {})}).save_pretrained(
        folder / "transformer", max_shard_size=shard
    )
    AutoencoderKLWan(**WAN_VAE).save_pretrained(folder / "vae", max_shard_size=shard)
    UMT5EncoderModel(UMT5Config(**TEXT)).save_pretrained(folder / "text_encoder", max_shard_size=shard)
    ByT5Tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def ltx_folder(folder: Path, shard: str = "10GB") -> Path:
    """An LTX-Video model whose autoencoder has statistics; ``shard`` is the size of a file."""
    torch.manual_seed(0)
    LTXVideoTransformer3DModel(**LTX_VIDEO).save_pretrained(folder / "transformer", max_shard_size=shard)
    autoencoder = AutoencoderKLLTXVideo(**LTX_VAE)
    autoencoder.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    autoencoder.latents_std.copy_(torch.tensor([1.5, 0.5, 2.0, 1.0]))
    autoencoder.save_pretrained(folder / "vae", max_shard_size=shard)
    T5EncoderModel(T5Config(**TEXT)).save_pretrained(folder / "text_encoder", max_shard_size=shard)
    ByT5Tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def siglip_folder(folder: Path) -> Path:
    """A SigLIP2 for pictures of one size: both towers, as on the hub."""
    torch.manual_seed(0)
    text = SiglipTextConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=1,
    )
    SiglipModel(SiglipConfig(text_config=text, vision_config=SiglipVisionConfig(**VISION))).save_pretrained(folder)
    return folder


def wvm_on_wan() -> EstimatorConfig:
    """A WVM for ``wan_folder``: two tokens a side, instructions of 24 tokens."""
    return _on_wan(small_config())


def viva_on_wan() -> EstimatorConfig:
    """A ViVa for ``wan_folder``."""
    return _on_wan(small_viva_config())


def mv_wam_on_wan() -> EstimatorConfig:
    """An MV-WAM for ``wan_folder``."""
    return _on_wan(small_mv_wam_config())


def wav_on_ltx() -> EstimatorConfig:
    """A WAV for ``ltx_folder``: two pixels a side, instructions of 24 tokens."""
    config = small_wav_config()
    stream = replace(config.model.stream, text_dim=32)
    model = replace(
        config.model, stream=stream, text=None, text_length=24, text_pool=1, latent_size=(2, 2), fold=8, memory_gap=2
    )
    return replace(config, model=model, vae_class="AutoencoderKLLTXVideo", vae=LTX_VAE, picture=PictureSettings(64, 64))


def _on_wan(config: EstimatorConfig) -> EstimatorConfig:
    model = replace(config.model, text=None, text_length=24, text_pool=1, latent_size=(4, 4))
    return replace(config, model=model, vae_class="AutoencoderKLWan", picture=PictureSettings(64, 64))
