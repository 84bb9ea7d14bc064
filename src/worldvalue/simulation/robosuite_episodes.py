"""Episodes of robosuite tasks: a plan is drawn, the oracle carries it out, and what went as planned is rendered."""

from __future__ import annotations

import atexit
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from worldvalue.simulation.plan import Plan, draw_plan
from worldvalue.simulation.simulator import MAX_ATTEMPTS, EpisodeSpec, Layout, SimulatedEpisode
from worldvalue.simulation.tasks import TASKS
from worldvalue.types import Labels

if TYPE_CHECKING:
    from worldvalue.simulation.camera import Camera
    from worldvalue.simulation.environment import Environment
    from worldvalue.simulation.oracle import Rollout


class Robosuite:
    """See ``simulator.Simulator``."""

    name: ClassVar[str] = "robosuite"
    tasks: ClassVar[tuple[str, ...]] = tuple(TASKS)
    fps: ClassVar[int] = 10

    def layout(self) -> Layout:
        """A Panda arm seen from the front and from its hand."""
        from worldvalue.simulation.environment import ACTION_NAMES, CAMERAS, STATE_NAMES

        return Layout(CAMERAS, STATE_NAMES, ACTION_NAMES, robot="panda")

    def simulate(self, spec: EpisodeSpec, size: int) -> SimulatedEpisode:
        """See ``simulator.Simulator.simulate``."""
        from worldvalue.simulation.environment import CAMERAS
        from worldvalue.simulation.oracle import defect, run_plan

        environment, camera = _scene(spec.task, size)
        dropped: list[str] = []
        while len(dropped) < MAX_ATTEMPTS:
            rng = np.random.default_rng([spec.seed, len(dropped)])
            plan = draw_plan(TASKS[spec.task], spec.mode, rng)
            rollout = run_plan(environment, plan, seed=int(rng.integers(2**32)))
            reason = defect(plan, rollout)
            if reason is None:
                break
            dropped.append(" ".join((*plan.kinds, reason)))
        else:
            raise RuntimeError(f"the oracle failed {MAX_ATTEMPTS} times at {spec}: {sorted(set(dropped))}")
        instruction, labels = _describe(spec, plan, rollout, rng)
        pictures = (camera.render(joints, CAMERAS) for joints in rollout.joints)
        return SimulatedEpisode(instruction, labels, rollout.state, rollout.actions, dropped, pictures)


ROBOSUITE = Robosuite()


@cache
def _scene(task: str, size: int) -> tuple[Environment, Camera]:
    """This process's environment and camera of a task; building them takes seconds."""
    from worldvalue.simulation.camera import Camera
    from worldvalue.simulation.environment import Environment

    environment = Environment(TASKS[task])
    camera = Camera(environment.model, size)
    atexit.register(camera.close)
    return environment, camera


def _describe(spec: EpisodeSpec, plan: Plan, rollout: Rollout, rng: np.random.Generator) -> tuple[str, Labels]:
    """Instruction and labels of an episode that went as planned."""
    task = TASKS[spec.task]
    instruction, counterfactual = str(rng.choice(task.instructions)), None
    if task.others:
        counterfactual = str(rng.choice(TASKS[str(rng.choice(task.others))].instructions))
    m, n = rollout.segment if rollout.segment else (None, None)
    labels = Labels(
        length=len(rollout.actions),
        mode=spec.mode,
        m=m,
        n=n,
        success=bool(rollout.success[-1]),
        task=spec.task,
        kinds=plan.kinds,
        counterfactual=counterfactual,
        events=rollout.events,
    )
    return instruction, labels
