"""A model that tells actions, at work as a policy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldvalue.models.estimator import Estimator
from worldvalue.types import ActingModel, DataError, Episode


class ModelPolicy:
    """See ``types.Policy``. Every call draws new noise.

    Args:
        estimator: the model with its autoencoder.
        steps: Euler steps of a chunk.
        seed: of the noise.

    Raises:
        DataError: the model tells no actions, or has not learned to.
    """

    def __init__(self, estimator: Estimator, steps: int, seed: int) -> None:
        if not isinstance(estimator.model, ActingModel):
            raise DataError(f"{type(estimator.model).__name__} tells no actions; give an MV-WAM or a WAV.")
        if "action" not in estimator.model.config.weights:
            raise DataError("This model has not learned actions yet; train its next stage, with a loss 'action'.")
        self.estimator = estimator
        self.model: ActingModel = estimator.model
        self.steps = steps
        self._rng = np.random.default_rng(seed)
        self._texts: dict[str, Tensor] = {}

    @torch.inference_mode()
    def act(self, seen: Episode) -> NDArray[np.float32]:
        """See ``types.Policy.act``."""
        estimator, window = self.estimator, self.estimator.model.window

        def frames(ticks: tuple[int, ...]) -> NDArray[np.int64]:
            return (seen.length - 2 + np.array(ticks, dtype=np.int64)).clip(0)

        with torch.autocast(estimator.device.type, torch.bfloat16):
            given = {"items": estimator.items(seen, frames(window.shown[: window.seen]))[None]}
            states = estimator.states(seen, frames(window.states[: window.states_seen]))
            pictures = estimator.pixels(seen, frames(window.pictures))
            told = {"states": states, "pictures": pictures}
            given |= {name: tensor[None] for name, tensor in told.items() if tensor is not None}
            context = estimator.observe(given, self._text(seen.instruction)[None])
            noise = self._rng.standard_normal((1, 1, *self.model.acting_noise_shape), dtype=np.float32)
            actions = self.model.act(context, torch.from_numpy(noise).to(estimator.device), self.steps)
        return actions[0, 0].float().cpu().numpy()

    def _text(self, instruction: str) -> Tensor:
        if instruction not in self._texts:
            self._texts |= self.estimator.text_states([instruction])
        return self._texts[instruction]
