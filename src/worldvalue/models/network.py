"""What every value model has in common as a module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

from torch import Tensor, nn

from worldvalue.backbones.scales import Scale
from worldvalue.types import Batch


class ValueNetwork(nn.Module, ABC):
    """A module that gives its losses when it is called, with scales for the numbers that it reads and tells."""

    config: Any
    scales: nn.ModuleDict

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by name, those that have a weight."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``losses``, under the name that wrappers of modules know."""
        return self.losses(batch)

    @property
    def video_alone(self) -> bool:
        """See ``types.ValueModel``."""
        return set(self.config.weights) == {"video"}

    @property
    def value_range(self) -> tuple[float, float]:
        """Least and greatest value: of the training data where values have a scale, else 0 and 1."""
        return self.scale("value").ends if "value" in self.scales else (0.0, 1.0)

    def scale(self, name: str) -> Scale:
        """Of the numbers of that name: value, state or action."""
        return cast(Scale, self.scales[name])
