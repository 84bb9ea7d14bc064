"""One transformer block for every stream, joined by attention over handed-on keys and values.

A stream (video, value, action) runs by itself and hands out its keys and values layer by layer; another stream
reads them as ``context``. Who may see whom is thus written by who is handed what: WVM calls this
Mixture-of-Transformers self-attention with an asymmetric mask (section 3.2, appendix A). A mask is needed only where
copies of the same tokens share a row (``apart``).

The block's submodules are named as in diffusers' ``WanTransformerBlock``, so Wan weights load without a key map.

Axes: B batch, N tokens, M context tokens, L text tokens, D width of the stream, H heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
"""Keys (after norm and rotary embedding) and values of one layer, each ``(B, H, N, E)``, as attention reads them."""

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines ``(1, N, 1, E)``, each angle twice in a row, as diffusers' ``WanRotaryPosEmbed`` gives them."""


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotary position embedding on ``(B, N, H, E)``: pairs of neighbouring channels turn by their angle."""
    cos, sin = (table.to(x.dtype) for table in rotary)
    signs = torch.tensor((-1.0, 1.0), device=x.device, dtype=x.dtype).repeat(x.shape[-1] // 2)
    return x * cos + x.unflatten(-1, (-1, 2)).roll(1, -1).flatten(-2) * (sin * signs)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention ``(B, H, N, E)`` over ``(B, H, M, E)``; heads merged: ``(B, N, H * E)``.

    ``mask`` ``(N, M)`` is True where a token may see another; None: everywhere.
    """
    # A CPU's fused attention is slow backwards; torch's plain one, which training falls back to, computes in float32.
    plain = query.device.type == "cpu" and torch.is_grad_enabled()
    attended = (plain_attention if plain else F.scaled_dot_product_attention)(query, key, value, mask)
    return attended.transpose(1, 2).flatten(2)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention ``(B, H, N, E)`` by matrix products in the tensors' own type; ``mask`` as in ``attend``."""
    logits = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    return logits.softmax(-1).to(value.dtype) @ value


def apart(copies: int, tokens: int, context: int, device: torch.device) -> Tensor | None:
    """Mask ``(S * N, M + S * N)`` that lets each of S copies of N tokens see itself and M context tokens; None for one.

    So copies stand in one row and share its keys and values, which are neither repeated nor read again for each.
    """
    if copies == 1:
        return None
    own = torch.eye(copies, dtype=torch.bool, device=device).repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
    return F.pad(own, (context, 0), value=True)


def in_a_row(x: Tensor, tokens: int) -> Tensor:
    """Each of n rows ``(B, n, D)`` as often as there are tokens to it, ``(B, tokens, D)``; one as it is."""
    count = x.shape[1]
    return x if count in (1, tokens) else x.repeat_interleave(tokens // count, 1)


def rms_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """``norm(x)`` with the weight in x's type: under autocast torch has no fused kernel for mixed types."""
    return F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)


class StreamBlock(nn.Module):
    """Self-attention joined with a context, text cross-attention and feed-forward, modulated by the noise level.

    Args:
        width: D, the stream's own width; q, k, v are projected to ``heads * head_dim`` and back.
        ffn_width: inner width of the feed-forward part.
        heads, head_dim: shape of the joint attention, the same for every stream that is joined.
        cross_heads, cross_head_dim: shape of the text cross-attention.
        eps: of all norms.
    """

    def __init__(
        self,
        width: int,
        ffn_width: int,
        heads: int,
        head_dim: int,
        cross_heads: int,
        cross_head_dim: int,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = FP32LayerNorm(width, eps, elementwise_affine=False)
        self.attn1 = WanAttention(width, heads, head_dim, eps=eps)
        self.norm2 = FP32LayerNorm(width, eps, elementwise_affine=True)
        self.attn2 = WanAttention(width, cross_heads, cross_head_dim, eps=eps, cross_attention_dim_head=cross_head_dim)
        self.norm3 = FP32LayerNorm(width, eps, elementwise_affine=False)
        self.ffn = FeedForward(width, inner_dim=ffn_width, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, width) / width**0.5)

    def forward(
        self,
        hidden: Tensor,
        modulation: Tensor,
        text: KeysValues,
        rotary: Rotary,
        context: KeysValues | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """Hidden states ``(B, N, D)`` after the block, and this layer's own keys and values.

        Args:
            hidden: ``(B, N, D)``.
            modulation: ``(B or 1, n, 6, D)`` shift, scale and gate of both halves, from the noise level; n divides N,
                and each serves N / n tokens in a row.
            text: from ``read_text``.
            rotary: positions of the N tokens.
            context: keys and values ``(B, H, M, E)`` that the tokens see besides their own; None for none.
            mask: of the self-attention, from ``apart``; None: all see all.
        """
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self._modulations(modulation, hidden)
        normed = self.norm1(hidden) * (1 + scale) + shift
        own = self._own(normed, rotary)
        hidden = hidden + self._self_attention(normed, rotary, own, context, mask) * gate
        hidden = hidden + self._cross_attention(self.norm2(hidden), text)
        normed = self.norm3(hidden) * (1 + ffn_scale) + ffn_shift
        return hidden + self.ffn(normed) * ffn_gate, own

    def keys_values(self, hidden: Tensor, modulation: Tensor, rotary: Rotary) -> KeysValues:
        """This layer's own keys and values, as ``forward`` hands them out, where nobody reads the hidden states."""
        shift, scale, *_ = self._modulations(modulation, hidden)
        return self._own(self.norm1(hidden) * (1 + scale) + shift, rotary)

    def read_text(self, text: Tensor) -> KeysValues:
        """Keys and values ``(B, H, L, E)`` of text states ``(B, L, D)``; they serve every step and group of tokens."""
        attn = self.attn2
        return _by_heads(attn, rms_norm(attn.norm_k, attn.to_k(text))), _by_heads(attn, attn.to_v(text))

    def _modulations(self, modulation: Tensor, hidden: Tensor) -> list[Tensor]:
        """Shift, scale and gate of both halves, for each token."""
        parts = (self.scale_shift_table + modulation).to(hidden.dtype).unbind(-2)
        return [in_a_row(part, hidden.shape[1]) for part in parts]

    def _own(self, x: Tensor, rotary: Rotary) -> KeysValues:
        """Keys and values of modulated tokens ``(B, N, D)``."""
        attn = self.attn1
        return _turned(attn, attn.to_k, attn.norm_k, x, rotary), _by_heads(attn, attn.to_v(x))

    def _self_attention(
        self, x: Tensor, rotary: Rotary, own: KeysValues, context: KeysValues | None, mask: Tensor | None
    ) -> Tensor:
        attn = self.attn1
        query = _turned(attn, attn.to_q, attn.norm_q, x, rotary)
        key, value = own
        if context is not None:
            key, value = (torch.cat((seen.to(mine.dtype), mine), 2) for seen, mine in zip(context, own, strict=True))
        return attn.to_out[0](attend(query, key, value, mask))

    def _cross_attention(self, x: Tensor, text: KeysValues) -> Tensor:
        attn = self.attn2
        query = _by_heads(attn, rms_norm(attn.norm_q, attn.to_q(x)))
        return attn.to_out[0](attend(query, *text))


def _by_heads(attn: WanAttention, x: Tensor) -> Tensor:
    """``(B, N, H * E)`` as ``(B, H, N, E)``."""
    return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)


def _turned(attn: WanAttention, layer: nn.Linear, norm: nn.RMSNorm, x: Tensor, rotary: Rotary) -> Tensor:
    """Queries or keys ``(B, H, N, E)`` that a layer and a norm make of ``(B, N, D)``, turned to their positions."""
    if torch.compiler.is_exporting():
        return _turned_by_halves(attn, layer, norm, x, rotary)
    return rotate(rms_norm(norm, layer(x)).unflatten(2, (attn.heads, -1)), rotary).transpose(1, 2)


def _turned_by_halves(attn: WanAttention, layer: nn.Linear, norm: nn.RMSNorm, x: Tensor, rotary: Rotary) -> Tensor:
    """As ``_turned``, the channels of each head in another order: the pairs' first ones, then the second ones.

    Queries and keys meet as before, and OpenVINO has a kernel for a rotation written like this. The weights are put in
    that order, which it does beforehand.
    """
    weight, bias, scale = (
        told.unflatten(0, (attn.heads, -1, 2)).transpose(1, 2).flatten(0, 2)
        for told in (layer.weight, layer.bias, norm.weight)
    )
    turned = F.rms_norm(F.linear(x, weight, bias), norm.normalized_shape, scale, norm.eps)
    heads = turned.unflatten(2, (attn.heads, -1)).transpose(1, 2)
    first, second = heads.chunk(2, 3)
    cos, sin = (table.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2).transpose(1, 2) for table in rotary)
    return heads * cos + torch.cat((second * -1.0, first), -1) * sin


def repeated(layers: Sequence[KeysValues], times: int) -> list[KeysValues]:
    """Per layer, keys and values of every row ``times`` times in a row: ``(B * times, H, N, E)``."""
    return [(keys.repeat_interleave(times, 0), values.repeat_interleave(times, 0)) for keys, values in layers]


def read_text(blocks: nn.ModuleList, states: Tensor) -> list[KeysValues]:
    """Per layer, what ``StreamBlock.read_text`` makes of text states ``(B, L, D)``."""
    return [cast(StreamBlock, block).read_text(states) for block in blocks]
