"""How the numbers that a value stream puts out become values: flow matching, or alternatives to compare it with.

A head never sees the network. It is given ``stream``, which takes value tokens ``(B, S, h, 1)`` and their noise levels
``(B, S)``, or ``(1, 1)`` where they are all the same, to outputs ``(B, S, h, K)``, K numbers a token, for S independent
copies of each of B windows.

Values are in [0, 1] outside; inside they are spread to [-1, 1], so that they and the noise are of one scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from worldvalue import flow_matching as fm
from worldvalue.types import DataError

Stream = Callable[[Tensor, Tensor], Tensor]


class ValueHead(Protocol):
    """Loss and prediction from a value stream.

    Attributes:
        outputs: K, numbers that the stream puts out for each token.
    """

    outputs: int

    def loss(self, stream: Stream, values: Tensor) -> Tensor:
        """Mean loss of true values ``(B, S, h)``."""
        ...

    def predict(self, stream: Stream, noise: Tensor, steps: int) -> Tensor:
        """Values ``(B, S, h)``, one for each noise draw of that shape."""
        ...


class FlowHead:
    """Flow matching from noise to values (WVM eq. 5).

    Args:
        shift: flow shift of the noise levels; 1 draws them uniformly.
    """

    outputs = 1

    def __init__(self, shift: float = 1.0) -> None:
        self.shift = shift

    def loss(self, stream: Stream, values: Tensor) -> Tensor:
        """Squared error of the velocity at a random noise level for each copy."""
        data = spread(values).unsqueeze(-1)
        noise = torch.randn_like(data)
        copies = values.shape[:2]
        sigma = fm.sample_sigma(copies.numel(), self.shift, values.device)
        noised = fm.interpolate(data.flatten(0, 1), noise.flatten(0, 1), sigma).unflatten(0, copies)
        predicted = stream(noised, sigma.unflatten(0, copies))
        return F.mse_loss(predicted.float(), fm.velocity(data, noise))

    def predict(self, stream: Stream, noise: Tensor, steps: int) -> Tensor:
        """Euler steps from noise: one as in the paper (appendix A) gives the mean, several give its spread."""
        x = fm.integrate(noise.unsqueeze(-1), steps, lambda x, sigma: stream(x, sigma[None]), self.shift)
        return unspread(x.squeeze(-1)).clamp(0.0, 1.0)


class BinnedHead(ABC):
    """Classification over bins whose centres lie evenly on [0, 1]. The tokens carry nothing."""

    outputs: int

    def __init__(self) -> None:
        self.centres = torch.linspace(0.0, 1.0, self.outputs)

    @abstractmethod
    def targets(self, values: Tensor) -> Tensor:
        """The distribution ``(..., K)`` that the model should give for values ``(...)``."""

    def loss(self, stream: Stream, values: Tensor) -> Tensor:
        """Cross-entropy with the targets (WVM eq. F.9)."""
        logits = _asked(stream, values).float()
        return -(self.targets(values) * logits.log_softmax(-1)).sum(-1).mean()

    def predict(self, stream: Stream, noise: Tensor, steps: int) -> Tensor:
        """Draws of the distribution, moved so that their mean is its expectation (WVM eq. F.10); one pass always."""
        del steps
        chances = _asked(stream, noise).float().softmax(-1)
        centres = self.centres.to(noise.device)
        level = torch.special.ndtr(noise.float())
        below = (chances.cumsum(-1) < level[..., None]).sum(-1).clamp(max=self.outputs - 1)
        drawn = centres[below]
        return (chances @ centres).mean(1, keepdim=True) + drawn - drawn.mean(1, keepdim=True)


class HLGaussianHead(BinnedHead):
    """51 bins with Gaussian soft targets (WVM appendix F)."""

    outputs = 51
    SNAP = 1e-6

    def targets(self, values: Tensor) -> Tensor:
        """A Gaussian of one bin's width (eq. F.8); a value at an end of [0, 1] is all in the last bin there."""
        width = 1.0 / (self.outputs - 1)
        centres = self.centres.to(values.device)
        soft = torch.softmax(-((values[..., None] - centres) ** 2) / (2 * width**2), dim=-1)
        hard = F.one_hot((values > 0.5).long() * (self.outputs - 1), self.outputs).to(soft.dtype)
        at_end = torch.minimum(values, 1.0 - values) <= self.SNAP
        return torch.where(at_end[..., None], hard, soft)


class CategoricalHead(BinnedHead):
    """201 bins and hard targets: the head of pi*0.6's value model, as ViVa describes its baseline (section 4.1.3)."""

    outputs = 201

    def targets(self, values: Tensor) -> Tensor:
        """All in the nearest bin."""
        return F.one_hot((values * (self.outputs - 1)).round().long(), self.outputs).to(values.dtype)


class ScalarHead:
    """Plain regression: the baseline without a distribution. The tokens carry nothing."""

    outputs = 1

    def loss(self, stream: Stream, values: Tensor) -> Tensor:
        """Squared error of the spread values."""
        return F.mse_loss(_asked(stream, values).float().squeeze(-1), spread(values))

    def predict(self, stream: Stream, noise: Tensor, steps: int) -> Tensor:
        """One pass; the draws differ by nothing but their prefixes."""
        del steps
        return unspread(_asked(stream, noise).float().squeeze(-1)).clamp(0.0, 1.0)


def value_head(name: str, shift: float = 1.0) -> ValueHead:
    """The head of that name; ``shift`` is a flow head's.

    Raises:
        DataError: there is none.
    """
    made: Mapping[str, Callable[[], ValueHead]] = {
        "flow": lambda: FlowHead(shift),
        "hl_gaussian": HLGaussianHead,
        "categorical": CategoricalHead,
        "scalar": ScalarHead,
    }
    if name not in made:
        raise DataError(f"There is no value head '{name}'; choose from: {', '.join(made)}.")
    return made[name]()


def _asked(stream: Stream, like: Tensor) -> Tensor:
    """The outputs for empty tokens at noise level 1, ``(B, S, h, K)``; ``like``: ``(B, S, h)``."""
    return stream(torch.zeros_like(like).unsqueeze(-1), like.new_ones(1, 1))


def spread(values: Tensor) -> Tensor:
    """[0, 1] to [-1, 1]."""
    return 2.0 * values - 1.0


def unspread(values: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]."""
    return (values + 1.0) / 2.0
