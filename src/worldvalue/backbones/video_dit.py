"""The video transformer: diffusers' Wan, with keys and values handed out and in at every layer.

``VideoDiT`` is a ``WanTransformer3DModel``: same configuration, same parameter names, same files. Each call runs
one group of latent frames that see each other, at one noise level or each at its own. Frames that may see earlier ones
without being seen get the earlier call's keys and values as context.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor, nn

from worldvalue.backbones.joint_attention import KeysValues, Rotary, StreamBlock, in_a_row, read_text

TIMESTEPS = 1000.0
"""Wan's transformer counts noise levels from 0 to 1000."""


class VideoOutput(NamedTuple):
    """Velocity ``(B, C, T, H, W)`` of the latents, and keys and values of every layer."""

    velocity: Tensor
    keys_values: list[KeysValues]


class VideoDiT(WanTransformer3DModel):
    """Wan's video transformer whose layers also hand out keys and values.

    Built and loaded like the diffusers class: ``VideoDiT(**config)``, ``VideoDiT.from_pretrained(folder)``.

    Rotary embeddings tell how far apart two patches are, not where one is. A new transformer that takes more channels
    (``in_channels``) than it gives (``out_channels``) is shown each latent pixel's place in the others (``places``).
    """

    # diffusers reads the configuration's keys off this signature, which `wraps` keeps.
    @functools.wraps(WanTransformer3DModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: object, **config: object) -> None:
        super().__init__(*args, **config)
        heads, head_dim = self.config.num_attention_heads, self.config.attention_head_dim
        width = heads * head_dim
        if not self.config.cross_attn_norm or self.config.added_kv_proj_dim is not None:
            raise ValueError("VideoDiT needs a Wan text-to-video configuration (cross_attn_norm, no image branch).")
        if (self.config.in_channels - self.config.out_channels) % 4:
            raise ValueError("VideoDiT shows places in 4 channels a frequency: in_channels - out_channels of them.")
        self.blocks = nn.ModuleList(
            StreamBlock(width, self.config.ffn_dim, heads, head_dim, heads, head_dim, self.config.eps)
            for _ in range(self.config.num_layers)
        )

    def read_text(self, text: Tensor) -> list[KeysValues]:
        """Per layer, keys and values of text encoder states ``(B, L, text_dim)``."""
        return read_text(self.blocks, self.condition_embedder.text_embedder(text))

    def forward(
        self,
        latents: Tensor,
        sigma: Tensor,
        text: Sequence[KeysValues],
        first_frame: int = 0,
        context: Sequence[KeysValues] | None = None,
    ) -> VideoOutput:
        """Velocity of latents, and each layer's keys and values.

        Args:
            latents: ``(B, C, T, H, W)``.
            sigma: noise level in [0, 1], ``(B,)`` of all these latents or ``(B, T)`` of each frame.
            text: from ``read_text``.
            first_frame: position in time of the first latent frame.
            context: per layer, keys and values that these latents see besides themselves.
        """
        rotary, hidden = self._rotary(latents, first_frame), self._embed(latents)
        time, modulation = self._embed_sigma(sigma, hidden.dtype)
        keys_values = []
        for layer, block in enumerate(self.blocks):
            seen = context[layer] if context is not None else None
            hidden, own = block(hidden, modulation, text[layer], rotary, seen)
            keys_values.append(own)
        return VideoOutput(self._unpatchify(hidden, time, latents.shape), keys_values)

    def read(self, latents: Tensor, sigma: Tensor, text: Sequence[KeysValues]) -> list[KeysValues]:
        """The keys and values that ``forward`` gives of these latents, where nobody asks for their velocity.

        ``sigma`` ``(1,)`` is that of all B.
        """
        rotary, hidden = self._rotary(latents, 0), self._embed(latents)
        _, modulation = self._embed_sigma(sigma, hidden.dtype)
        keys_values = []
        for block, told in zip(self.blocks[:-1], text[:-1], strict=True):
            hidden, own = block(hidden, modulation, told, rotary)
            keys_values.append(own)
        last = cast(StreamBlock, self.blocks[-1])
        return [*keys_values, last.keys_values(hidden, modulation, rotary)]

    def _embed(self, latents: Tensor) -> Tensor:
        # Contiguous: on strided tokens torch's compiler gave gradients that were not numbers.
        return self.patch_embedding(self._placed(latents)).flatten(2).transpose(1, 2).contiguous()

    def _placed(self, latents: Tensor) -> Tensor:
        channels = self.config.in_channels - latents.shape[1]
        if not channels:
            return latents
        shown = places(channels, *latents.shape[3:]).to(latents)[None, :, None]
        return torch.cat((latents, shown.expand(latents.shape[0], -1, latents.shape[2], -1, -1)), 1)

    def _rotary(self, latents: Tensor, first_frame: int) -> Rotary:
        frames = first_frame + latents.shape[2]
        cos, sin = self.rope(latents.new_empty(1, 1, frames, *latents.shape[3:]))
        tokens = cos.shape[1] // frames
        return cos[:, first_frame * tokens :], sin[:, first_frame * tokens :]

    def rotary_in_time(self, positions: Tensor) -> Rotary:
        """For tokens of other streams that stand at times, not at places: ``positions`` ``(N,)`` in latent frames.

        Such a token and a video token are told how far apart in time they are, as two video tokens are.
        """
        rope = self.rope
        cos, sin = get_1d_rotary_pos_embed(
            rope.t_dim, positions.float(), use_real=True, repeat_interleave_real=True, freqs_dtype=torch.float32
        )
        still = (0, rope.h_dim + rope.w_dim)
        return F.pad(cos, still, value=1.0)[None, :, None], F.pad(sin, still)[None, :, None]

    def _embed_sigma(self, sigma: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Of each level ``(B, n)`` its embedding ``(B, n, D)`` and modulation ``(B, n, 6, D)``; n is 1 for ``(B,)``."""
        embedder, levels = self.condition_embedder, sigma.reshape(sigma.shape[0], -1)
        frequencies = embedder.timesteps_proj(levels.float().flatten() * TIMESTEPS).unflatten(0, levels.shape)
        time = embedder.time_embedder(frequencies.to(dtype))
        return time, embedder.time_proj(embedder.act_fn(time)).unflatten(2, (6, -1))

    def _unpatchify(self, hidden: Tensor, time: Tensor, shape: torch.Size) -> Tensor:
        batch, _, frames, height, width = shape
        p_t, p_h, p_w = self.config.patch_size
        levels = (self.scale_shift_table + time.unsqueeze(2)).unbind(2)
        shift, scale = (in_a_row(level, hidden.shape[1]) for level in levels)
        patches = self.proj_out(self.norm_out(hidden) * (1 + scale) + shift)
        patches = patches.view(batch, frames // p_t, height // p_h, width // p_w, p_t, p_h, p_w, -1)
        return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(batch, -1, frames, height, width)


def places(channels: int, height: int, width: int) -> Tensor:
    """Sines and cosines ``(channels, height, width)`` of each pixel's row and column.

    They do not depend on the width: a picture has the same places whether another stands beside it or not.

    Args:
        channels: 4 a frequency; the first frequency turns half a circle over the picture's height, each next one twice
            as far.
        height, width: of the picture.
    """
    grid = torch.meshgrid(*((torch.arange(n) + 0.5) / height for n in (height, width)), indexing="ij")
    frequencies = torch.pi * 2.0 ** torch.arange(channels // 4)
    angles = torch.stack(grid)[:, None] * frequencies[:, None, None]
    return torch.cat((angles.sin(), angles.cos())).flatten(0, 1)
