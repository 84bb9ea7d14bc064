"""Policies at work: closed-loop rollouts of robosuite tasks, in which the simulator says what succeeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worldvalue.simulation.camera import Camera
from worldvalue.simulation.environment import CAMERAS, CONTROL_HZ, Environment
from worldvalue.types import Episode, Policy

SEED = 5_000_000
"""Of the first rollout's scene; no split collects scenes from it."""


@dataclass
class Scene:
    """What was seen so far, as a ``FrameReader``: pictures are drawn when they are asked for.

    Attributes:
        camera: draws them.
        joints: of the whole scene, one entry a frame.
    """

    camera: Camera
    joints: list[NDArray[np.float64]] = field(default_factory=list)

    def read(self, camera: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See ``types.FrameReader``."""
        return np.stack([self.camera.render(self.joints[index], [camera])[0] for index in indices])


@dataclass(frozen=True)
class Trial:
    """How a rollout went.

    Attributes:
        success: whether the simulator found the task done before the time was up.
        seen: the whole of it, with what the policy did.
    """

    success: bool
    seen: Episode


def roll_out(environment: Environment, camera: Camera, policy: Policy, number: int, execute: int, limit: int) -> Trial:
    """Let a policy try the environment's task once.

    Args:
        environment, camera: of the task.
        policy: asked again whenever the actions it gave are carried out.
        number: what scene and instruction follow from.
        execute: actions of a chunk that are carried out before the policy is asked again.
        limit: steps of a tenth of a second after which the rollout has failed.
    """
    rng = np.random.default_rng([SEED, number])
    environment.reset(int(rng.integers(2**32)))
    instruction = str(rng.choice(environment.task.instructions))
    scene, states, actions, success = Scene(camera), list[NDArray[np.float32]](), list[NDArray[np.float32]](), False
    ahead: list[NDArray[np.float32]] = []
    while not success and len(actions) < limit:
        scene.joints.append(environment.joints())
        states.append(environment.proprioception())
        if not ahead:
            seen = _episode(number, instruction, scene, states, actions)
            ahead = list(policy.act(seen)[:execute])
        actions.append(ahead.pop(0).clip(-1.0, 1.0).astype(np.float32))
        environment.step(actions[-1])
        success = environment.success()
    return Trial(success, _episode(number, instruction, scene, states, actions))


def _episode(
    number: int,
    instruction: str,
    scene: Scene,
    states: Sequence[NDArray[np.float32]],
    actions: Sequence[NDArray[np.float32]],
) -> Episode:
    return Episode(
        index=number,
        name=f"rollout {number}",
        instruction=instruction,
        fps=CONTROL_HZ,
        timestamps=np.arange(len(states)) / CONTROL_HZ,
        cameras=CAMERAS,
        reader=scene,
        proprioception=np.stack(states),
        actions=np.stack(actions) if actions else None,
    )
