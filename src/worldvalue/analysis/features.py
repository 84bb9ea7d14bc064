"""What the experts of an acting model make of a moment: features at the last layer where they are joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from worldvalue.backbones.joint_attention import StreamBlock
from worldvalue.models.mv_wam import MVWAM
from worldvalue.models.policy import ModelPolicy
from worldvalue.types import DataError, Episode, ValueModel


def pooled_features(policy: ModelPolicy, episode: Episode, frame: int) -> dict[str, NDArray[np.float32]]:
    """Features ``(D,)`` of the experts for ``video`` and ``action`` when the policy acts at a frame (appendix D.1).

    They are what the last self-attention puts out at the first step of denoising, the mean over all tokens.

    Args:
        policy: a model that tells actions.
        episode: seen up to the frame, which is included.
        frame: its index.

    Raises:
        DataError: the model's experts are not known.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            # The first call: later ones are further steps, or other tokens of the same expert.
            found.setdefault(name, output.detach().float().flatten(0, -2).mean(0))

        return hook

    handles = [
        layer.register_forward_hook(keep(name))  # type: ignore[arg-type]
        for name, layer in _last_attention(policy.estimator.model).items()
    ]
    try:
        policy.act(_until(episode, frame))
    finally:
        for handle in handles:
            handle.remove()
    return {name: features.cpu().numpy() for name, features in found.items()}


def _last_attention(model: ValueModel) -> Mapping[str, nn.Module]:
    """The layer that puts out the last self-attention of each expert."""
    if not isinstance(model, MVWAM):
        raise DataError(f"The features of {type(model).__name__} are not compared; give an MV-WAM.")
    experts = {"video": model.video, "action": model.expert}
    return {name: cast(StreamBlock, expert.blocks[-1]).attn1.to_out[0] for name, expert in experts.items()}


def _until(episode: Episode, frame: int) -> Episode:
    state, actions = episode.proprioception, episode.actions
    return replace(
        episode,
        timestamps=episode.timestamps[: frame + 1],
        proprioception=None if state is None else state[: frame + 1],
        actions=None if actions is None else actions[: frame + 1],
        labels=None,
    )
