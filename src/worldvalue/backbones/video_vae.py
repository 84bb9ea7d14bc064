"""Frames <-> latents. Two autoencoders of diffusers behind one interface.

``WanVAE`` is the causal video VAE of the paper's size: 1 + 4k frames become 1 + k latent frames, and a latent frame
depends on all frames before it. ``FrameVAE`` encodes every frame by itself and folds four of them into one
latent frame, so a frame is encoded once and serves every window, forwards, backwards or standing still. The tiny
model uses it, since it is trained and run on a CPU.

Axes: B batch, T = 1 + 4k frames, K = k latent frames without the first, V pictures of a frame, C channels, H W pixels,
h w latent pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLWan
from torch import Tensor, nn

from worldvalue.types import Batch

FOLD = 4
"""Frames in a latent frame, for both autoencoders."""

PIECE = 16
"""Pictures that are encoded at a time: of 64 at 128 px, what lies between two layers no longer fits a core's cache, and
each took half as long again."""


def pictures_to_float(frames: Tensor) -> Tensor:
    """uint8 ``(..., H, W, 3)`` to float32 in [-1, 1] ``(..., 3, H, W)``."""
    return frames.movedim(-1, -3).float() / 127.5 - 1.0


def float_to_pictures(frames: Tensor) -> Tensor:
    """Float in [-1, 1] ``(..., 3, H, W)`` to uint8 ``(..., H, W, 3)``, clipped."""
    return ((frames.float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8).movedim(-3, -1)


class VideoVAE(nn.Module, ABC):
    """Common part: what is computed once per frame, what per window, and pictures back from latents.

    Attributes:
        caches_frames: True when ``per_frame`` does the encoding, so its results are worth keeping.
        channels: C of the latent frames.
        image_channels: C of the latent of a single picture.
        scale: pixels per latent pixel.
    """

    caches_frames: bool
    channels: int
    image_channels: int
    scale: int

    def items(self, pictures: Tensor) -> Tensor:
        """``per_frame`` of all pictures ``(n, V, H, W, 3)`` uint8 of n frames: ``(n, V, ...)`` float32."""
        views = pictures.shape[:2]
        device = next(self.parameters()).device
        pieces = pictures.flatten(0, 1).split(PIECE)
        return torch.cat([self.per_picture(x.to(device)) for x in pieces]).unflatten(0, views)

    def per_picture(self, pictures: Tensor) -> Tensor:
        """``per_frame`` of pictures ``(n, H, W, 3)`` uint8, float32."""
        return self.per_frame(pictures_to_float(pictures)).float()

    @abstractmethod
    def per_frame(self, frames: Tensor) -> Tensor:
        """What can be computed of single frames ``(n, 3, H, W)`` in [-1, 1], whatever window they stand in."""

    @abstractmethod
    def per_window(self, items: Tensor) -> Tensor:
        """Latents ``(B, C, K, h, w)`` of windows ``(B, T, ...)`` of ``per_frame`` items, the prefix latent dropped."""

    @abstractmethod
    def per_clip(self, items: Tensor) -> Tensor:
        """Latents ``(B, C, 1 + K, h, w)`` of clips ``(B, T, ...)`` of items; the first is of the first frame alone."""

    @abstractmethod
    def per_image(self, items: Tensor) -> Tensor:
        """Latents ``(n, C, h, w)`` of single pictures, from their ``per_frame`` items ``(n, ...)``."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Frames ``(B, 4K, 3, H, W)`` in [-1, 1] of latents ``(B, C, K, h, w)``; the prefix frame is not among them."""


class FrameVAE(VideoVAE):
    """diffusers' ``AutoencoderKL`` on single frames; four codes of c channels make one latent frame of C = 4c.

    Args:
        config: keys of ``AutoencoderKL``. ``in_channels`` is 3 times ``PATCH`` squared: frames are first folded
            from space to channels, as in Wan2.2's VAE.
    """

    PATCH = 2
    mean: Tensor
    std: Tensor
    caches_frames = True
    weights: ClassVar[Mapping[str, float]] = {"reconstruction": 1.0, "divergence": 1e-4}

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.autoencoder = AutoencoderKL(**config)
        self.code_channels = self.autoencoder.config.latent_channels
        self.channels = FOLD * self.code_channels
        self.scale = self.PATCH * 2 ** (len(self.autoencoder.config.block_out_channels) - 1)
        self.register_buffer("mean", torch.zeros(self.code_channels))
        self.register_buffer("std", torch.ones(self.code_channels))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``losses``, under the name that wrappers of modules know."""
        return self.losses(batch)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Reconstruction error and divergence from a standard normal.

        Args:
            batch: ``frames`` ``(B, 3, H, W)`` in [-1, 1]; ``weight`` ``(B, 1, H, W)`` of their pixels.
        """
        frames = batch["frames"]
        posterior = self.autoencoder.encode(F.pixel_unshuffle(frames, self.PATCH)).latent_dist
        pictures = F.pixel_shuffle(self.autoencoder.decode(posterior.sample()).sample, self.PATCH)
        error = (pictures.float() - frames).abs()
        return {
            "reconstruction": (batch["weight"] * (error + error**2)).mean(),
            "divergence": posterior.kl().float().mean() / posterior.mean[0].numel(),
        }

    @torch.no_grad()
    def fit_statistics(self, frames: Tensor) -> None:
        """Set the mean and standard deviation that normalize codes from sample frames ``(n, 3, H, W)``."""
        codes = self.autoencoder.encode(F.pixel_unshuffle(frames, self.PATCH)).latent_dist.mode().float()
        self.mean.copy_(codes.mean((0, 2, 3)))
        self.std.copy_(codes.std((0, 2, 3)))

    def per_frame(self, frames: Tensor) -> Tensor:
        """Normalized codes ``(n, c, h, w)`` of single frames ``(n, 3, H, W)`` in [-1, 1]."""
        codes = self.autoencoder.encode(F.pixel_unshuffle(frames, self.PATCH)).latent_dist.mode()
        return (codes - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def per_window(self, items: Tensor) -> Tensor:
        """Codes of windows ``(B, T, c, h, w)`` folded to latents ``(B, 4c, K, h, w)``, the prefix frame dropped."""
        codes = items[:, 1:].unflatten(1, (-1, FOLD))
        return codes.movedim(1, 3).flatten(1, 2)

    def per_clip(self, items: Tensor) -> Tensor:
        """See ``VideoVAE.per_clip``; the first frame fills its latent four times."""
        return self.per_window(torch.cat((items[:, :1].expand(-1, FOLD, *items.shape[2:]), items), dim=1))

    def per_image(self, items: Tensor) -> Tensor:
        """See ``VideoVAE.per_image``: a picture is a video of one frame."""
        return self.per_clip(items.unsqueeze(1)).squeeze(2)

    def decode(self, latents: Tensor) -> Tensor:
        """See ``VideoVAE.decode``."""
        codes = latents.unflatten(1, (FOLD, -1)).movedim(3, 1).flatten(1, 2)
        batch = codes.shape[:2]
        codes = codes.flatten(0, 1) * self.std.view(-1, 1, 1) + self.mean.view(-1, 1, 1)
        frames = F.pixel_shuffle(self.autoencoder.decode(codes).sample, self.PATCH)
        return frames.unflatten(0, batch)


class WanVAE(VideoVAE):
    """diffusers' ``AutoencoderKLWan`` (Wan2.1 and Wan2.2), latents normalized by its configured statistics.

    Args:
        config: keys of ``AutoencoderKLWan``, with ``latents_mean`` and ``latents_std``.
        autoencoder: a pretrained one of that configuration, in the place of a new one.
    """

    caches_frames = False

    def __init__(self, config: Mapping[str, Any], autoencoder: AutoencoderKLWan | None = None) -> None:
        super().__init__()
        self.autoencoder = autoencoder or AutoencoderKLWan(**config)
        self.channels = self.autoencoder.config.z_dim
        self.scale = self.autoencoder.config.scale_factor_spatial

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.autoencoder.config
        mean, std = (
            torch.tensor(numbers, device=like.device, dtype=like.dtype).view(-1, 1, 1, 1)
            for numbers in (config.latents_mean, config.latents_std)
        )
        return mean, std

    def per_frame(self, frames: Tensor) -> Tensor:
        """The frames themselves: a latent frame depends on all frames before it in its window."""
        return frames

    def per_window(self, items: Tensor) -> Tensor:
        """See ``VideoVAE.per_window``. The prefix frame is encoded too, since later latents depend on it."""
        return self.per_clip(items)[:, :, 1:]

    def per_clip(self, items: Tensor) -> Tensor:
        """See ``VideoVAE.per_clip``."""
        return self._encode(items.transpose(1, 2))

    def per_image(self, items: Tensor) -> Tensor:
        """See ``VideoVAE.per_image``: a picture is a video of one frame."""
        return self._encode(items.unsqueeze(2)).squeeze(2)

    def _encode(self, frames: Tensor) -> Tensor:
        latents = self.autoencoder.encode(frames).latent_dist.mode()
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def decode(self, latents: Tensor) -> Tensor:
        """See ``VideoVAE.decode``. The causal decoder starts on a repeat of the first latent in the prefix's place."""
        mean, std = self._statistics(latents)
        latents = latents * std + mean
        frames = self.autoencoder.decode(torch.cat((latents[:, :, :1], latents), dim=2)).sample
        return frames[:, :, 1:].transpose(1, 2)
