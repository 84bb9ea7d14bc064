"""Vectors and numbers as latent frames, and back: a video transformer then reads and writes them (ViVa section 3.2).

Axes: C channels and h w pixels of a latent frame, P numbers of a vector.
"""

from __future__ import annotations

import torch
from torch import Tensor


def repeat_padded(vector: Tensor, frame: tuple[int, int, int]) -> Tensor:
    """Latent frames ``(..., C, h, w)`` that hold a vector ``(..., P)`` over and over, the last copy cut where it ends.

    Args:
        vector: in [-1, 1], as latents are.
        frame: C, h and w. The numbers run through the channels of a pixel, then along rows: ViVa's ``(H', W', C')``.

    Raises:
        ValueError: the vector does not fit into a frame.
    """
    return vector[..., _places(vector.shape[-1], frame).to(vector.device)].movedim(-1, -3)


def averaged(latent: Tensor, numbers: int) -> Tensor:
    """The vector ``(..., P)`` whose copies fill latent frames ``(..., C, h, w)``, as their mean: undoes the padding.

    Args:
        latent: frames, noisy or not.
        numbers: P.

    Raises:
        ValueError: a vector of that length does not fit into a frame.
    """
    channels, height, width = latent.shape[-3:]
    places = _places(numbers, (channels, height, width)).flatten().to(latent.device)
    flat = latent.movedim(-3, -1).flatten(-3)
    copies = torch.bincount(places, minlength=numbers).to(latent.dtype)
    return torch.zeros_like(flat[..., :numbers]).index_add(-1, places, flat) / copies


def broadcast(number: Tensor, frame: tuple[int, int, int]) -> Tensor:
    """Latent frames ``(..., C, h, w)`` that hold one number ``(...)`` everywhere."""
    return number[..., None, None, None].expand(*number.shape, *frame)


def mean_of(latent: Tensor) -> Tensor:
    """The number ``(...)`` that fills latent frames ``(..., C, h, w)``, as their mean."""
    return latent.mean((-3, -2, -1))


def _places(numbers: int, frame: tuple[int, int, int]) -> Tensor:
    """Which number of a vector stands where: ``(h, w, C)``."""
    channels, height, width = frame
    size = channels * height * width
    if not 0 < numbers <= size:
        raise ValueError(f"A vector of {numbers} numbers does not fit into a latent frame of {size}.")
    return (torch.arange(size) % numbers).view(height, width, channels)
