"""Pictures -> features of their patches: transformers' SigLIP vision model, whose files SigLIP2 shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel


class VisionEncoder(nn.Module):
    """SigLIP's vision tower over several views.

    Args:
        config: keys of ``transformers.SiglipVisionConfig``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = SiglipVisionModel(SiglipVisionConfig(**config, vision_use_head=False))

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.encoder.config.hidden_size

    def forward(self, pictures: Tensor) -> Tensor:
        """Features ``(B, V * N, dim)`` of pictures ``(B, V, 3, H, W)`` in [-1, 1], one view after another."""
        side = self.encoder.config.image_size
        resized = F.interpolate(pictures.flatten(0, 1), (side, side), mode="bilinear", antialias=True)
        return self.encoder(pixel_values=resized).last_hidden_state.unflatten(0, pictures.shape[:2]).flatten(1, 2)
