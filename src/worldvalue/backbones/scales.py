"""What brings a robot's numbers into a model's range and back; fitted to the training data, kept in the checkpoint."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMALLEST = 1e-6
"""A reach is not taken below this: a number that never changes stays 0."""


class Scale(nn.Module):
    """The training data lies in [-1, 1], number by number (ViVa section 3.2); unfitted it changes nothing.

    By the range and not by the deviation: a number that hardly ever moves, such as the tilt of a hand that points down,
    would otherwise reach fifty deviations in the few episodes where it does, and drown all others in a loss.

    Args:
        numbers: P.
    """

    centre: Tensor
    reach: Tensor

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(numbers))
        self.register_buffer("reach", torch.ones(numbers))

    @property
    def fitted(self) -> bool:
        """Whether it has seen data."""
        return bool((self.centre != 0).any() or (self.reach != 1).any())

    @property
    def ends(self) -> tuple[float, float]:
        """Least and greatest of the training data, of a scale of one number."""
        return (self.centre - self.reach).item(), (self.centre + self.reach).item()

    def fit(self, rows: NDArray[np.floating], outside: float = 0.0) -> None:
        """Set the scale by all rows ``(n, P)`` of the training data.

        Args:
            rows: see there.
            outside: share of the rows that may lie beyond -1, and as many beyond 1. With some, a few wild numbers do
                not press all others together.
        """
        ends = np.quantile(rows, (outside, 1.0 - outside), axis=0).astype(np.float32)
        low, high = map(torch.from_numpy, ends)
        self.centre.copy_((low + high) / 2)
        self.reach.copy_(((high - low) / 2).clamp(min=SMALLEST))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers ``(..., P)`` in the model's range."""
        return (x - self.centre) / self.reach

    def inverse(self, x: Tensor) -> Tensor:
        """Numbers ``(..., P)`` in their own units."""
        return x * self.reach + self.centre


def mean_known(errors: Tensor, known: Tensor) -> Tensor:
    """Mean of the errors where ``known``, of the same shape or one that is spread over it; 0 where nothing is."""
    known = known.expand_as(errors)
    return (errors * known).sum() / known.sum().clamp(min=1)
