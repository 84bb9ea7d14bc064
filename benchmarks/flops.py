"""Operations of a World Value Model by formula: two for each multiplication and addition of its matrix products.

Torch's counter finds the same number (``tests/test_planner.py``, and each run of ``gpu.py``).

Axes as in the formulas: n tokens of a group, m tokens that they see, L text tokens, D width of a stream, E width of
all heads together.
"""

from __future__ import annotations

from math import prod

from worldvalue.backbones.video_vae import FOLD
from worldvalue.models.heads import value_head
from worldvalue.models.wvm import WVMConfig


def forward_flops(config: WVMConfig, batch: int) -> float:
    """Of the losses of one window; backwards it is twice that.

    Args:
        config: of the model; a text encoder of its own is left out.
        batch: windows that share one noise level of clean frames.
    """
    n = config.chunk // FOLD * prod(config.latent_size) // prod(config.video["patch_size"])
    passes = {"value": value_flops(config, config.value_draws)}
    if "video" in config.weights:
        passes["video"] = group_flops(config, n, 2 * n)
    if "state" in config.weights:
        passes["state"] = value_flops(config, 1)
    clean = _level_flops(1, config.video.get("freq_dim", 256), config.value.heads * config.value.head_dim)
    return text_flops(config) + clean / batch + read_flops(config, n) + sum(passes[name] for name in config.weights)


def text_flops(config: WVMConfig) -> int:
    """Keys and values of an instruction, in both streams."""
    video, value = config.video, config.value
    length, wide = _words(config), value.heads * value.head_dim
    narrow, cross = value.width, value.cross_heads * value.cross_head_dim
    embedded = video["text_dim"] * (wide + narrow) + wide**2 + narrow**2
    read = 2 * value.layers * (wide * wide + narrow * cross)
    return 2 * length * (embedded + read)


def group_flops(config: WVMConfig, n: int, m: int) -> int:
    """The video stream over n tokens of one noise level that see m."""
    video, wide = config.video, config.value.heads * config.value.head_dim
    ends = prod(video["patch_size"]) * (video["in_channels"] + video["out_channels"]) * wide
    level = _level_flops(1, video.get("freq_dim", 256), wide)
    return level + 2 * n * ends + config.value.layers * _layer_flops(config, n, m, wide, video["ffn_dim"], wide)


def read_flops(config: WVMConfig, n: int) -> int:
    """The video stream over n clean tokens that see each other, up to the keys and values of its last layer."""
    video, wide = config.video, config.value.heads * config.value.head_dim
    layers = (config.value.layers - 1) * _layer_flops(config, n, n, wide, video["ffn_dim"], wide)
    placed = prod(video["patch_size"]) * video["in_channels"] * wide
    return 2 * n * placed + layers + 4 * n * wide**2


def value_flops(config: WVMConfig, draws: int) -> int:
    """The value stream over some draws: a prefix and a chunk of each, which see the current video and themselves.

    The draws stand in one row, and what they are kept from seeing of each other is computed all the same.
    """
    value, n = config.value, draws * (1 + config.chunk)
    seen = config.chunk // FOLD * prod(config.latent_size) // prod(config.video["patch_size"])
    ends = value.width * (1 + value_head(config.head).outputs + config.states)
    cross = value.cross_heads * value.cross_head_dim
    layers = value.layers * _layer_flops(config, n, seen + n, value.width, value.ffn_width, cross)
    return _level_flops(n, value.freq_dim, value.width) + 2 * n * ends + layers


def _layer_flops(config: WVMConfig, n: int, m: int, width: int, ffn: int, cross: int) -> int:
    """Self-attention with its four projections, cross-attention with two, feed-forward."""
    heads, length = config.value.heads * config.value.head_dim, _words(config)
    own = 4 * n * width * heads + 2 * n * m * heads
    read = 2 * n * width * cross + 2 * n * length * cross
    return 2 * (own + read + 2 * n * width * ffn)


def _level_flops(n: int, sinusoids: int, width: int) -> int:
    """Noise levels to modulations."""
    return 2 * n * (sinusoids * width + 7 * width**2)


def _words(config: WVMConfig) -> int:
    """States of an instruction; only an encoder of the model's own pools them."""
    return config.text_length // (1 if config.text is None else config.text_pool)
