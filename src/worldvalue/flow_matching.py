"""Flow matching: noise levels, interpolation, conversions, Euler steps. One convention for the whole library.

A noise level ``sigma`` in [0, 1] mixes data and noise, ``x_sigma = (1 - sigma) * data + sigma * noise``, and the
velocity is ``noise - data`` (Wan2.2, ViVa). WVM writes ``tau = 1 - sigma`` and the negative velocity in its
equation 5; the losses are the same.

Shapes: ``sigma`` is ``(B,)`` and is spread over the remaining axes of the tensors ``(B, ...)`` it meets.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from itertools import pairwise

import torch
from torch import Tensor

MIN_SIGMA = 1e-3
"""Where a velocity is made from x0 by division by sigma, sigma is not taken below this."""

LEAST_SIGNAL = 0.05
"""Where a velocity is made from noise by division by ``1 - sigma``, that is not taken below this: sampling starts where
it is 0, and there a step of 0.2 takes the error of the told noise four times."""


def _like(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def sample_sigma(
    batch: int, shift: float = 1.0, device: torch.device | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Noise levels ``(B,)`` in (0, 1): uniform, then moved towards noise by ``shift_sigma``."""
    uniform = torch.rand(batch, device=device, generator=generator)
    return shift_sigma(uniform, shift)


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """``s * sigma / (1 + (s - 1) * sigma)``: the flow shift of Wan; 1 leaves the levels alone, 0 and 1 stay fixed."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def interpolate(data: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """``x_sigma`` between data (sigma 0) and noise (sigma 1) (WVM, section 3.3)."""
    sigma = _like(sigma, data)
    return (1 - sigma) * data + sigma * noise


def velocity(data: Tensor, noise: Tensor) -> Tensor:
    """The target ``noise - data`` of the flow (WVM, eq. 5 with the sign of this library)."""
    return noise - data


def data_from_velocity(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """The data (x0) that ``x_sigma`` and its velocity imply."""
    return x - _like(sigma, x) * v


def noise_from_velocity(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """The noise that ``x_sigma`` and its velocity imply."""
    return x + (1 - _like(sigma, x)) * v


def velocity_from_data(x: Tensor, data: Tensor, sigma: Tensor) -> Tensor:
    """``(x_sigma - x0) / sigma``, with sigma clipped from below at ``MIN_SIGMA``."""
    return (x - data) / _like(sigma.clamp(min=MIN_SIGMA), x)


def velocity_from_noise(x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """``(noise - x_sigma) / (1 - sigma)``, with ``1 - sigma`` clipped from below at ``LEAST_SIGNAL``."""
    return (noise - x) / _like((1 - sigma).clamp(min=LEAST_SIGNAL), x)


def euler_step(x: Tensor, v: Tensor, sigma: Tensor, next_sigma: Tensor) -> Tensor:
    """One explicit Euler step of ``dx/dsigma = v`` from one noise level to the next, lower one."""
    return x + _like(next_sigma - sigma, x) * v


def sigma_schedule(steps: int, shift: float = 1.0) -> Tensor:
    """Noise levels ``(steps + 1,)`` from 1 down to 0 for ``steps`` Euler steps."""
    return shift_sigma(torch.linspace(1.0, 0.0, steps + 1), shift)


def integrate(noise: Tensor, steps: int, velocity: Callable[[Tensor, Tensor], Tensor], shift: float = 1.0) -> Tensor:
    """Where Euler steps from noise ``(B, ...)`` lead.

    Args:
        noise: standard normal, at noise level 1.
        steps: their number.
        velocity: of ``x`` ``(B, ...)`` at a noise level ``(1,)``, the same for all rows.
        shift: flow shift of the levels.
    """
    x = noise
    for now, after in pairwise(sigma_schedule(steps, shift).to(noise.device)):
        x = euler_step(x, velocity(x, now[None]).float(), now[None], after[None])
    return x


class Parameterization(StrEnum):
    """What a network is trained to put out, by plain squared error (MV-WAM, table 6)."""

    VELOCITY = "velocity"
    DATA = "data"
    NOISE = "noise"

    def target(self, data: Tensor, noise: Tensor) -> Tensor:
        """What it should put out."""
        if self is Parameterization.VELOCITY:
            return velocity(data, noise)
        return data if self is Parameterization.DATA else noise

    def velocity(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        """The velocity that its output implies at ``x_sigma``.

        For the data MV-WAM's table 6 prints ``x_1 - x_0``, which is not known while sampling; this is
        ``(x_sigma - x_0) / sigma``.
        """
        if self is Parameterization.VELOCITY:
            return output
        implied = velocity_from_data if self is Parameterization.DATA else velocity_from_noise
        return implied(x, output, sigma)
