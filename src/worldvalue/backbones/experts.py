"""The small streams beside the video: a few noised scalars or vectors as tokens, joined to the video layer by layer.

An expert has as many layers and the same joint-attention shape (heads x head width) as the video transformer, but
a width of its own (WVM appendix A: width 512 beside 3072).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from diffusers.models.embeddings import (
    PixArtAlphaTextProjection,
    TimestepEmbedding,
    Timesteps,
    get_1d_rotary_pos_embed,
)
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from worldvalue.backbones.joint_attention import KeysValues, Rotary, StreamBlock, apart, read_text
from worldvalue.backbones.video_dit import TIMESTEPS


@dataclass(frozen=True)
class ExpertConfig:
    """Shape of a small stream.

    Attributes:
        width, ffn_width: of the stream itself.
        cross_heads, cross_head_dim: of its text cross-attention.
        layers, heads, head_dim: as in the video transformer it is joined to.
        text_dim: width of the text encoder's states.
        freq_dim: sinusoids of the noise level.
    """

    width: int
    ffn_width: int
    cross_heads: int
    cross_head_dim: int
    layers: int
    heads: int
    head_dim: int
    text_dim: int
    freq_dim: int = 256


class ExpertStream(nn.Module):
    """The layers of an expert, between what makes tokens hidden states and what reads those out.

    Args:
        config: shape of the stream.
    """

    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.timesteps_proj = Timesteps(config.freq_dim, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedder = TimestepEmbedding(config.freq_dim, config.width)
        self.time_proj = nn.Linear(config.width, 6 * config.width)
        self.text_embedder = PixArtAlphaTextProjection(config.text_dim, config.width, act_fn="gelu_tanh")
        self.blocks = nn.ModuleList(
            StreamBlock(
                config.width,
                config.ffn_width,
                config.heads,
                config.head_dim,
                config.cross_heads,
                config.cross_head_dim,
            )
            for _ in range(config.layers)
        )
        self.norm_out = FP32LayerNorm(config.width, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)

    def read_text(self, text: Tensor) -> list[KeysValues]:
        """Per layer, keys and values of text encoder states ``(B, L, text_dim)``."""
        return read_text(self.blocks, self.text_embedder(text))

    def read_layers(self, states: Sequence[Tensor]) -> list[KeysValues]:
        """Per layer, keys and values of another stream's hidden states ``(B, M, text_dim)`` after the same layer."""
        layers = zip(self.blocks, states, strict=True)
        return [cast(StreamBlock, block).read_text(self.text_embedder(hidden)) for block, hidden in layers]

    def run(
        self,
        hidden: Tensor,
        sigma: Tensor,
        read: Sequence[KeysValues],
        rotary: Rotary,
        context: Sequence[KeysValues] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Hidden states ``(B, N, D)`` ready to be read out, and the tokens' own keys and values per layer.

        Args:
            hidden: ``(B, N, D)`` tokens.
            sigma: ``(B or 1, N)`` noise level of each token, in [0, 1]; 0 marks a clean one.
            read: per layer, keys and values that the cross-attention reads, such as those of ``read_text``.
            rotary: positions of the tokens.
            context: per layer, keys and values of other tokens that may be seen; None for none.
            mask: as in ``StreamBlock``.
        """
        frequencies = self.timesteps_proj(sigma.float().flatten() * TIMESTEPS).unflatten(0, sigma.shape)
        time = self.time_embedder(frequencies.to(hidden.dtype))
        modulation = self.time_proj(nn.functional.silu(time)).unflatten(2, (6, -1))
        keys_values = []
        nothing: list[None] = [None] * len(self.blocks)
        for block, told, seen in zip(self.blocks, read, context or nothing, strict=True):
            hidden, own = block(hidden, modulation, told, rotary, seen, mask)
            keys_values.append(own)
        shift, scale = (self.scale_shift_table.unsqueeze(0) + time.unsqueeze(2)).unbind(2)
        return (self.norm_out(hidden) * (1 + scale) + shift).to(hidden.dtype), keys_values


class Expert(ExpertStream):
    """A stream of tokens, each a noised vector with a noise level of its own.

    Args:
        config: shape of the stream.
        dim: numbers in a token (1 for a value).
        outputs: numbers put out for a token; as many as in it when None.
    """

    def __init__(self, config: ExpertConfig, dim: int, outputs: int | None = None) -> None:
        super().__init__(config)
        self.proj_in = nn.Linear(dim, config.width)
        self.proj_out = silent(nn.Linear(config.width, outputs or dim))

    def forward(self, x: Tensor, sigma: Tensor, text: Sequence[KeysValues], context: Sequence[KeysValues]) -> Tensor:
        """Outputs ``(B, S, N, outputs)`` of the tokens, such as their velocity.

        Args:
            x: ``(B, S, N, dim)`` noised tokens: S copies of N tokens, which do not see each other.
            sigma: ``(B or 1, S or 1, N)`` noise level of each token, in [0, 1]; 0 marks a clean one.
            text: from ``read_text``.
            context: per layer, keys and values of the tokens of other streams that may be seen.
        """
        _, copies, count, _ = x.shape
        places = in_line(torch.arange(count, device=x.device).repeat(copies), self.config.head_dim)
        levels = sigma.expand(-1, copies, -1).flatten(1)
        mask = apart(copies, count, context[0][0].shape[2], x.device)
        hidden, _ = self.run(self.proj_in(x.flatten(1, 2)), levels, text, places, context, mask)
        return self.proj_out(hidden).unflatten(1, (copies, count))


def in_line(positions: Tensor, head_dim: int) -> Rotary:
    """Rotary embedding of tokens at ``positions`` ``(N,)`` along one line."""
    cos, sin = get_1d_rotary_pos_embed(head_dim, positions, use_real=True)
    return cos[None, :, None], sin[None, :, None]


def silent(layer: nn.Linear) -> nn.Linear:
    """The layer with all its weights 0: a new stream starts by saying nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
