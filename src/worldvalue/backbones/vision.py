"""Pictures -> features of their patches: transformers' SigLIP vision model, whose files SigLIP2 shares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from worldvalue.backbones.weights import load_transformers
from worldvalue.types import DataError, in_short

SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
"""Keys of a configuration that the vision tower depends on."""

KINDS = ("siglip", "siglip_vision_model")
"""Values of ``model_type``: both towers or the vision tower alone, for pictures of one size."""


class VisionEncoder(nn.Module):
    """SigLIP's vision tower over several views.

    Args:
        config: keys of ``transformers.SiglipVisionConfig``.
        encoder: a pretrained one of that configuration, in the place of a new one.
    """

    def __init__(self, config: Mapping[str, Any], encoder: SiglipVisionModel | None = None) -> None:
        super().__init__()
        self.encoder = encoder or SiglipVisionModel(SiglipVisionConfig(**config, vision_use_head=False))

    @classmethod
    def from_pretrained(cls, folder: Path, device: torch.device | str = "cpu") -> VisionEncoder:
        """The vision tower of a SigLIP or SigLIP2 in a folder that transformers wrote, as float32.

        Raises:
            DataError: there is none in the folder, its files are damaged, or it is one for pictures of any size.
        """
        try:
            kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
            config = SiglipVisionConfig.from_pretrained(folder, vision_use_head=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} holds no SigLIP ({in_short(error)}); give the folder of a SigLIP2.") from error
        if kind not in KINDS:
            raise DataError(
                f"{folder} is a {kind}, no SigLIP2 for pictures of one size; give one such as "
                "google/siglip2-base-patch16-224."
            )
        return cls({}, load_transformers(SiglipVisionModel, folder, torch.float32, device, config=config))

    @property
    def config(self) -> dict[str, Any]:
        """Keys of ``transformers.SiglipVisionConfig`` that make an encoder of this shape."""
        told = self.encoder.config.to_dict()
        return {name: told[name] for name in SHAPE}

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.encoder.config.hidden_size

    def forward(self, pictures: Tensor) -> Tensor:
        """Features ``(B, V, N, dim)`` of pictures ``(B, V, 3, H, W)`` in [-1, 1]."""
        side = self.encoder.config.image_size
        resized = F.interpolate(pictures.flatten(0, 1), (side, side), mode="bilinear", antialias=True)
        return self.encoder(pixel_values=resized).last_hidden_state.unflatten(0, pictures.shape[:2])
