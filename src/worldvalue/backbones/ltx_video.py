"""WAV's video transformer and autoencoder: diffusers' LTX-Video, over several views.

``LTXVideoDiT`` is an ``LTXVideoTransformer3DModel``: same configuration, same parameter names, same files. Every
latent frame has a noise level and a time of its own, so clean memory frames stand before noised future ones where
they were seen (WAV, section 4.2). The value and action streams read the hidden states, which are computed once.

Views are videos of one transformer with the same positions. They see each other in every third layer, where the
tokens of all views form one sequence; in the other layers a view sees itself. That needs no new parameters. Joining
every layer would lose which view a token belongs to: two views' tokens of one place and time differ in nothing but
their content, and in a noised frame that is noise. GE-Base, on which the paper builds, joins the same layers in its
released code; it also adds a learned embedding of the view to that of the noise level, which LTX-Video's files lack.

Axes: B batch, V views, C channels, T latent frames, H W latent pixels, L text tokens, N = V T H W tokens, D width.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from torch import Tensor

from worldvalue.backbones.video_dit import TIMESTEPS, places
from worldvalue.backbones.video_vae import VideoVAE

JOIN_EVERY = 3
"""Views see each other in the first of every so many layers."""

LATENT_PIXELS = 32
"""Pixels per latent pixel of LTX-Video's autoencoder; its rotary embedding counts pixels, and seconds in time."""


class LTXVideoOutput(NamedTuple):
    """Velocity ``(B, V, C, T, H, W)`` of the latents, and hidden states ``(B, N, D)`` after every layer."""

    velocity: Tensor
    hidden: list[Tensor]


class Conditions(NamedTuple):
    """What a block is given besides the hidden states, in the order of its arguments. Rows are sequences.

    Attributes:
        text: ``(rows, L, D)``.
        modulation: ``(rows, tokens, 6 D)``, from the noise levels.
        rotary: cosines and sines, each ``(rows, tokens, D)``.
        text_bias: ``(rows, 1, L)``, added to the scores of the text tokens; None for none.
    """

    text: Tensor
    modulation: Tensor
    rotary: tuple[Tensor, Tensor]
    text_bias: Tensor | None

    def apart(self, views: int) -> Conditions:
        """Every view a sequence of its own: ``B * V`` rows, from those of one view."""
        text, modulation, cos, sin = (x.repeat_interleave(views, 0) for x in (self.text, self.modulation, *self.rotary))
        bias = None if self.text_bias is None else self.text_bias.repeat_interleave(views, 0)
        return Conditions(text, modulation, (cos, sin), bias)

    def joined(self, views: int) -> Conditions:
        """All views one sequence, one view after another: ``B`` rows, from those of one view."""
        modulation, cos, sin = (x.repeat(1, views, 1) for x in (self.modulation, *self.rotary))
        return Conditions(self.text, modulation, (cos, sin), self.text_bias)


class LTXVideoDiT(LTXVideoTransformer3DModel):
    """LTX-Video's transformer over several views, a noise level and a time for each latent frame.

    Built and loaded like the diffusers class: ``LTXVideoDiT(**config)``, ``LTXVideoDiT.from_pretrained(folder)``. One
    that takes more channels (``in_channels``) than it gives (``out_channels``) is shown each token's place in the
    others (``places``).

    Raises:
        ValueError: the configuration folds several latent frames into a token.
    """

    # diffusers reads the configuration's keys off this signature, which `wraps` keeps.
    @functools.wraps(LTXVideoTransformer3DModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: object, **config: object) -> None:
        super().__init__(*args, **config)
        # Its norms keep float32 weights beside bfloat16 tokens; torch tells everyone that this is not its fastest way.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        if self.config.patch_size_t != 1:
            raise ValueError("LTXVideoDiT folds no latent frames into a token: patch_size_t must be 1.")

    @property
    def channels(self) -> int:
        """C, of the latents."""
        return self.proj_out.out_features // self.config.patch_size**2

    def forward(
        self, latents: Tensor, sigma: Tensor, times: Tensor, text: Tensor, text_mask: Tensor | None = None
    ) -> LTXVideoOutput:
        """Velocity ``noise - data`` of the latents, and the hidden states after every layer.

        diffusers' LTX pipelines take Euler steps along what the transformer puts out, from noise to data over falling
        noise levels: it is this library's velocity as it stands.

        Views that are all equal give what one of them gives alone, and views in another order the same outputs in
        that order.

        Args:
            latents: ``(B, V, C, T, H, W)``, normalized; a frame is data where its noise level is 0.
            sigma: ``(B, T)`` noise level of each latent frame in all views, in [0, 1].
            times: ``(B, T)`` seconds. Only their differences count; the rotary embedding is scaled to 20 seconds. Of
                a clip with ``rate`` frames per second, latent frame k stands at ``8 * k / rate`` in ``LTXPipeline``
                and GE-Base; in ``LTXConditionPipeline`` at its first frame, ``max(8 * k - 7, 0) / rate``.
            text: ``(B, L, text_dim)`` states of the text encoder.
            text_mask: ``(B, L)``, 1 for a word and 0 for padding; None when there is no padding.
        """
        tokens = self._tokens(latents)
        batch, views, frames, height, width, _ = tokens.shape
        hidden = self.proj_in(tokens.flatten(0, 1).flatten(1, 3))
        time, modulation = self._embed_sigma(sigma, height * width, hidden.dtype)
        # Finite, as in diffusers: minus infinity would make a text that is all padding give no numbers.
        bias = None if text_mask is None else (text_mask[:, None].to(hidden.dtype) - 1) * 10000.0
        one_view = Conditions(self.caption_projection(text), modulation, self._rotary(times, height, width), bias)
        joined, apart = one_view.joined(views), one_view.apart(views)
        states = []
        for layer, block in enumerate(self.transformer_blocks):
            given = joined if layer % JOIN_EVERY == 0 else apart
            hidden = block(hidden.reshape(given.modulation.shape[0], -1, hidden.shape[-1]), *given)
            states.append(hidden.reshape(batch, -1, hidden.shape[-1]))
        velocity = self._read_out(hidden.reshape(batch, views, -1, hidden.shape[-1]), time)
        patches = velocity.unflatten(2, (frames, height, width)).movedim(-1, 3)
        return LTXVideoOutput(F.pixel_shuffle(patches, self.config.patch_size).movedim(3, 2), states)

    def _tokens(self, latents: Tensor) -> Tensor:
        """Numbers ``(B, V, T, h, w, n)`` of each patch, and its place where it is shown."""
        patches = F.pixel_unshuffle(latents.movedim(2, 3), self.config.patch_size)
        *outer, known, height, width = patches.shape
        if self.config.in_channels > known:
            shown = places(self.config.in_channels - known, height, width).to(patches)
            patches = torch.cat((patches, shown.expand(*outer, -1, -1, -1)), dim=3)
        return patches.movedim(3, -1)

    def _embed_sigma(self, sigma: Tensor, tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Embedding ``(B, T H W, D)`` and modulation ``(B, T H W, 6 D)`` of one view with so many tokens a frame."""
        modulation, time = self.time_embed(sigma.float().flatten() * TIMESTEPS, hidden_dtype=dtype)
        time, modulation = (x.unflatten(0, sigma.shape).repeat_interleave(tokens, 1) for x in (time, modulation))
        return time, modulation

    def _rotary(self, times: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        pixels = LATENT_PIXELS * self.config.patch_size
        rows, columns = (pixels * torch.arange(size, device=times.device) for size in (height, width))
        places = torch.broadcast_tensors(times.float()[:, :, None, None], rows[:, None], columns)
        coordinates = torch.stack(places, dim=1).flatten(2)
        cos, sin = self.rope(coordinates, video_coords=coordinates)
        return cos, sin

    def _read_out(self, hidden: Tensor, time: Tensor) -> Tensor:
        """Velocity ``(B, V, T H W, C)`` of hidden states ``(B, V, T H W, D)``."""
        shift, scale = (self.scale_shift_table + time[:, None, :, None]).unbind(-2)
        return self.proj_out(self.norm_out(hidden) * (1 + scale) + shift)


class LTXVAE(VideoVAE):
    """diffusers' ``AutoencoderKLLTXVideo``: 1 + 8k frames become 1 + k latent frames, 32 pixels one latent pixel.

    Args:
        config: keys of ``AutoencoderKLLTXVideo``; the statistics of its latents come with its weights.
        autoencoder: a pretrained one of that configuration, in the place of a new one.
    """

    FOLD = 8
    caches_frames = False

    def __init__(self, config: Mapping[str, Any], autoencoder: AutoencoderKLLTXVideo | None = None) -> None:
        super().__init__()
        self.autoencoder = autoencoder or AutoencoderKLLTXVideo(**config)
        self.channels = self.autoencoder.config.latent_channels
        self.scale = LATENT_PIXELS

    def per_frame(self, frames: Tensor) -> Tensor:
        """The frames themselves: a latent frame depends on the frames around it."""
        return frames

    def per_window(self, items: Tensor) -> Tensor:
        """See ``VideoVAE.per_window``."""
        return self.per_clip(items)[:, :, 1:]

    def per_clip(self, items: Tensor) -> Tensor:
        """See ``VideoVAE.per_clip``.

        Raises:
            ValueError: the clip has not 1 + 8k frames; the autoencoder would silently leave some out.
        """
        if items.shape[1] % self.FOLD != 1:
            raise ValueError(f"LTX-Video's autoencoder takes 1 + {self.FOLD}k frames, not {items.shape[1]}.")
        mean, reach = self._statistics()
        return (self.autoencoder.encode(items.transpose(1, 2)).latent_dist.mode() - mean) / reach

    def per_image(self, items: Tensor) -> Tensor:
        """See ``VideoVAE.per_image``: a picture is a video of one frame."""
        return self.per_clip(items.unsqueeze(1)).squeeze(2)

    def decode(self, latents: Tensor) -> Tensor:
        """See ``VideoVAE.decode``, with 8 frames a latent; the first latent once more in the prefix's place."""
        mean, reach = self._statistics()
        latents = latents * reach + mean
        # Those that were trained to decode from a little noise are told that there is none.
        level = latents.new_zeros(len(latents)) if self.autoencoder.config.timestep_conditioning else None
        frames = self.autoencoder.decode(torch.cat((latents[:, :, :1], latents), dim=2), level).sample
        return frames[:, :, 1:].transpose(1, 2)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """What is taken off latents and what they are divided by, ``(C, 1, 1, 1)`` each."""
        coder = self.autoencoder
        mean, std = (x.view(-1, 1, 1, 1) for x in (coder.latents_mean, coder.latents_std))
        return mean, std / coder.config.scaling_factor
