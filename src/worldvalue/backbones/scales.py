"""What brings a robot's numbers into a model's range and back; fitted to the training data, kept in the checkpoint."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMALLEST = 1e-6
"""A reach is not taken below this: a number that never changes stays 0."""


class Scale(nn.Module):
    """All of the training data lies in [-1, 1], number by number (ViVa section 3.2); unfitted it changes nothing.

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
    def ends(self) -> tuple[float, float]:
        """Least and greatest of the training data, of a scale of one number."""
        return (self.centre - self.reach).item(), (self.centre + self.reach).item()

    def fit(self, rows: NDArray[np.floating]) -> None:
        """Set the scale by all rows ``(n, P)`` of the training data."""
        low, high = (torch.from_numpy(np.asarray(end, dtype=np.float32)) for end in (rows.min(0), rows.max(0)))
        self.centre.copy_((low + high) / 2)
        self.reach.copy_(((high - low) / 2).clamp(min=SMALLEST))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers ``(..., P)`` in the model's range."""
        return (x - self.centre) / self.reach

    def inverse(self, x: Tensor) -> Tensor:
        """Numbers ``(..., P)`` in their own units."""
        return x * self.reach + self.centre
