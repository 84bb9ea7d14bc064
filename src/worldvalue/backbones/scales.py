"""What brings a robot's numbers into a model's range and back; fitted to the training data, kept in the checkpoint.

Every scale maps ``x`` to ``(x - centre) / reach``, number by number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMALLEST = 1e-6
"""A reach is not taken below this: a number that never changes stays 0."""


class Scale(nn.Module, ABC):
    """A scale of P numbers; before it is fitted it changes nothing.

    Args:
        numbers: P.
    """

    centre: Tensor
    reach: Tensor

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(numbers))
        self.register_buffer("reach", torch.ones(numbers))

    def fit(self, rows: NDArray[np.floating]) -> None:
        """Set the scale by all rows ``(n, P)`` of the training data."""
        centre, reach = self._measured(rows.astype(np.float64))
        self.centre.copy_(torch.from_numpy(centre))
        self.reach.copy_(torch.from_numpy(np.maximum(reach, SMALLEST)))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers ``(..., P)`` in the model's range."""
        return (x - self.centre) / self.reach

    def inverse(self, x: Tensor) -> Tensor:
        """Numbers ``(..., P)`` in their own units."""
        return x * self.reach + self.centre

    @abstractmethod
    def _measured(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre and reach ``(P,)`` of rows ``(n, P)``."""


class RangeScale(Scale):
    """All of the training data lies in [-1, 1] (ViVa section 3.2)."""

    def _measured(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = rows.min(0), rows.max(0)
        return (low + high) / 2, (high - low) / 2


class DeviationScale(Scale):
    """The training data has mean 0 and standard deviation 1."""

    def _measured(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return rows.mean(0), rows.std(0)
