"""The baseline without a world model: each frame by itself is sorted into bins of value.

The baseline of the ViVa paper (section 4.1.3), after pi*0.6, is a vision-language model that sorts a frame into one of
201 bins of return. Here the bins are the same; in the place of the vision-language model a small transformer, trained
from scratch, reads the codes of one frame and the instruction, both encoded as for the World Value Model. It sees no
motion, no future and no value before.

Axes: B windows, S draws, h chunk length, c code channels of a frame, H W code pixels, L text tokens, D width, K bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from worldvalue.backbones.text import TextEncoder
from worldvalue.backbones.video_dit import places
from worldvalue.backbones.video_vae import VideoVAE
from worldvalue.models.heads import Stream, value_head
from worldvalue.models.network import ValueNetwork
from worldvalue.types import Batch, DataError, Window

PLACES = 16
"""Channels that tell a code pixel's row and column."""


@dataclass(frozen=True)
class FrameClassifierConfig:
    """Everything that makes a frame classifier.

    Attributes:
        width, layers, heads: of the transformer.
        patch: code pixels of a token's side.
        code_channels: c.
        latent_size: height and width of a frame's codes.
        text: keys of transformers' ``UMT5Config``; trained with the model.
        text_length: tokens of an instruction.
        text_pool: neighbouring text states that become one (``TextEncoder``).
        chunk: h, frames whose values are asked for together.
        weights: of the losses, by name.
        head: what the outputs mean; a name of ``heads.value_head``, but no flow.
    """

    width: int
    layers: int
    heads: int
    patch: int
    code_channels: int
    latent_size: tuple[int, int]
    text: Mapping[str, Any]
    text_length: int
    text_pool: int = 1
    chunk: int = 4
    weights: Mapping[str, float] = field(default_factory=lambda: {"value": 1.0})
    head: str = "categorical"

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> FrameClassifierConfig:
        """The configuration that ``dataclasses.asdict`` and JSON made ``told`` of."""
        return cls(**{**told, "latent_size": tuple(told["latent_size"])})


class FrameClassifier(ValueNetwork):
    """A transformer over one frame's patches and the instruction, read out at a token of its own."""

    sharded_layers: tuple[type[nn.Module], ...] = (nn.TransformerEncoderLayer,)
    views_taken: ClassVar[range] = range(1, 2)
    euler_steps: ClassVar[int] = 1
    losses_known: ClassVar[frozenset[str]] = frozenset({"value"})

    def __init__(self, config: FrameClassifierConfig) -> None:
        super().__init__()
        if config.head == "flow":
            raise DataError("A frame classifier has no tokens to be noised; choose another head than flow.")
        self.config = config
        self.head = value_head(config.head)
        self.scales = nn.ModuleDict()
        self.text = TextEncoder(config.text, config.text_length, config.text_pool)
        # A frame's codes, then where each stands, as the video stream is shown it.
        self.patches = nn.Conv2d(config.code_channels + PLACES, config.width, config.patch, config.patch)
        self.words = nn.Linear(self.text.dim, config.width)
        self.reader = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 4 * config.width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(config.width), False)
        self.proj_out = nn.Linear(config.width, self.head.outputs)

    @property
    def window(self) -> Window:
        """The frames whose values are asked for, each by itself."""
        h = self.config.chunk
        return Window(chunk=h, shown=tuple(range(1, 1 + h)), seen=h)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """A number for each value of the chunk."""
        return (self.config.chunk,)

    def encode(self, vae: VideoVAE, items: Tensor) -> Tensor:
        """Latents ``(B, h, c, H, W)``, one for each frame."""
        return vae.per_image(items.flatten(0, 2)).unflatten(0, items.shape[:2])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The head's loss of the value chunk.

        Args:
            batch: ``latents`` ``(B, h, c, H, W)``, one for each frame; ``values`` ``(B, 1 + h)`` in [0, 1], the prefix
                first, which is not looked at; ``tokens`` ``(B, L)`` ids.
        """
        outputs = self.observe({"latents": batch["latents"], "text": self.text(batch["tokens"])})
        return {"value": self.head.loss(_stream(outputs), batch["values"][:, None, 1:])}

    def observe(self, batch: Batch) -> Tensor:
        """Outputs ``(B, h, K)`` for each frame of ``latents`` ``(B, h, c, H, W)``; ``text`` ``(B, L, D)``."""
        frames, text = batch["latents"], batch["text"]
        count = frames.shape[1]
        shown = places(PLACES, *frames.shape[3:]).to(frames).expand(frames.shape[0] * count, -1, -1, -1)
        patches = self.patches(torch.cat((frames.flatten(0, 1), shown), dim=1)).flatten(2).transpose(1, 2)
        words = self.words(text).repeat_interleave(count, 0)
        tokens = torch.cat((self.reader.expand(patches.shape[0], -1, -1), words, patches), dim=1)
        return self.proj_out(self.layers(tokens)[:, 0]).unflatten(0, (-1, count))

    def predict(self, context: Tensor, prefix: Tensor, noise: Tensor, steps: int = 1) -> Tensor:
        """Values ``(B, S, h)`` in [0, 1], one for each noise draw of that shape.

        Args:
            context: from ``observe``.
            prefix: not looked at.
            noise: ``(B, S, h)`` standard normal draws.
            steps: no matter.
        """
        del prefix
        return self.head.predict(_stream(context), noise, steps)

    def example_batch(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random batch of the right names, shapes and types."""
        config = self.config
        return {
            "latents": torch.randn(batch_size, config.chunk, config.code_channels, *config.latent_size),
            "values": torch.rand(batch_size, 1 + config.chunk),
            "tokens": self.text.tokenize(["pick up the cube"] * batch_size),
        }


def _stream(outputs: Tensor) -> Stream:
    """Outputs ``(B, h, K)`` as a head asks for them: the same for every draw and whatever the tokens are."""
    return lambda tokens, sigma: outputs[:, None].expand(-1, tokens.shape[1], -1, -1)
