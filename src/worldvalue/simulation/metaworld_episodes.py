"""Expert episodes of Meta-World: its own scripted policies, slowed down and disturbed a little, each as it comes.

Meta-World acts 80 times a second and moves faster than a real arm would: a task takes it about a second. The videos
tell each step as a tenth of a second.
"""

from __future__ import annotations

import atexit
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from worldvalue.simulation.metaworld_tasks import INSTRUCTIONS
from worldvalue.simulation.simulator import MAX_ATTEMPTS, EpisodeSpec, Layout, SimulatedEpisode
from worldvalue.types import DataError, Labels

if TYPE_CHECKING:
    from worldvalue.simulation.camera import Camera

MAX_STEPS = 250
"""An episode that takes longer is no expert's; Meta-World itself allows 500 steps."""
AFTERWARDS = 5
"""Steps that are still seen after the task was done for the first time; at the last one it must be done."""
CAMERAS = ("corner2", "gripperPOV")
CLOSER = (0.75, 0.075, 0.7)
"""Where ``corner2`` stands, in metres: at its own place the objects are a few pixels wide."""


class MetaWorld:
    """See ``simulator.Simulator``."""

    name: ClassVar[str] = "metaworld"
    tasks: ClassVar[tuple[str, ...]] = tuple(INSTRUCTIONS)
    fps: ClassVar[int] = 10

    def layout(self) -> Layout:
        """A Sawyer arm seen from a corner of its table and from its hand."""
        state = ("eef_pos_x", "eef_pos_y", "eef_pos_z", "gripper_opening")
        return Layout(CAMERAS, state, ("x", "y", "z", "gripper"), robot="sawyer")

    def simulate(self, spec: EpisodeSpec, size: int) -> SimulatedEpisode:
        """See ``simulator.Simulator.simulate``."""
        if spec.mode != "expert":
            raise DataError("Meta-World's policies are all experts; ask for expert episodes alone.")
        environment, camera = _scene(spec.task, size)
        dropped: list[str] = []
        while len(dropped) < MAX_ATTEMPTS:
            rng = np.random.default_rng([spec.seed, len(dropped)])
            rollout = _run(environment, spec.task, rng)
            if isinstance(rollout, _Rollout):
                break
            dropped.append(rollout)
        else:
            raise RuntimeError(f"the policy failed {MAX_ATTEMPTS} times at {spec}: {sorted(set(dropped))}")
        labels = Labels(length=len(rollout.actions), mode="expert", success=True, task=spec.task)
        instruction = str(rng.choice(INSTRUCTIONS[spec.task]))
        seen = zip(rollout.joints, rollout.sites, strict=True)
        pictures = (camera.render(joints, CAMERAS, sites) for joints, sites in seen)
        state, actions = (np.stack(rows).astype(np.float32) for rows in (rollout.state, rollout.actions))
        return SimulatedEpisode(instruction, labels, state, actions, dropped, pictures)


METAWORLD = MetaWorld()


class _Rollout:
    """What happened, step by step; joints and sites are for rendering."""

    def __init__(self) -> None:
        self.joints: list[NDArray[np.float64]] = []
        self.sites: list[NDArray[np.float64]] = []
        self.state: list[NDArray[np.float64]] = []
        self.actions: list[NDArray[np.floating[Any]]] = []

    def see(self, environment: Any, state: NDArray[np.float64]) -> None:
        """Take in the scene before an action."""
        self.joints.append(environment.data.qpos.copy())
        self.sites.append(environment.data.site_xpos.copy())
        self.state.append(state)

    def grasps(self) -> int:
        """How often the gripper was told to close."""
        closing = np.stack(self.actions)[:, 3] > 0
        return int(closing[0]) + int((np.diff(closing.astype(int)) > 0).sum())


def _run(environment: Any, task: str, rng: np.random.Generator) -> _Rollout | str:
    """One attempt of the task's policy, or why it is not kept."""
    from metaworld.policies import ENV_POLICY_MAP

    environment.seed(int(rng.integers(2**31)))
    observation, _ = environment.reset()
    make_policy: Callable[[], Any] = ENV_POLICY_MAP[f"{task}-v3"]
    policy, rollout = make_policy(), _Rollout()
    tempo, drift, since_done = rng.uniform(0.6, 1.0), np.zeros(3), 0
    for _ in range(MAX_STEPS):
        drift = 0.9 * drift + rng.normal(0.0, 0.02, 3)
        action = np.clip(policy.get_action(observation), -1.0, 1.0)
        action[:3] = np.clip((action[:3] + drift) * tempo, -1.0, 1.0)
        rollout.see(environment, observation[:4])
        rollout.actions.append(action)
        observation, _, _, _, told = environment.step(action)
        since_done += bool(told["success"]) or since_done > 0
        if since_done > AFTERWARDS and told["success"]:
            return rollout if rollout.grasps() <= 1 else "grasped again"
    return "no success in time"


@cache
def _scene(task: str, size: int) -> tuple[Any, Camera]:
    """This process's environment and camera of a task."""
    from worldvalue.simulation.camera import Camera  # before Meta-World's own imports: it says how MuJoCo renders

    environment = _environment(task)
    environment.model.camera("corner2").pos[:] = CLOSER
    camera = Camera(environment.model, size, groups=(0, 1), sites=True, upside_down=("corner2",))
    atexit.register(camera.close)
    return environment, camera


def _environment(task: str) -> Any:
    """Meta-World's environment of a task, with a new scene at each reset, drawn from the seed."""
    import metaworld.env_dict

    # Its policies warn at every step that their actions will be clipped, as they are here.
    warnings.filterwarnings("ignore", category=UserWarning, module="metaworld")
    environment = metaworld.env_dict.ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-v3-goal-observable"]()
    environment._freeze_rand_vec = False
    environment.seeded_rand_vec = True
    return environment
