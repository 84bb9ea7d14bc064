"""Policies in the real simulator: what they are shown, and that success is the simulator's."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.small import small_estimator, small_mv_wam_config, small_wav_config

if importlib.util.find_spec("robosuite") is None:
    pytest.skip("needs the simulator", allow_module_level=True)

from dataclasses import replace

from worldvalue.models import Estimator
from worldvalue.models.policy import ModelPolicy
from worldvalue.simulation.camera import Camera
from worldvalue.simulation.environment import CAMERAS, Environment
from worldvalue.simulation.oracle import run_plan
from worldvalue.simulation.plan import draw_plan
from worldvalue.simulation.rollouts import SEED, roll_out
from worldvalue.simulation.tasks import TASKS
from worldvalue.trials import Rollouts, try_policy
from worldvalue.types import DataError, Episode

LIFT = TASKS["lift"]


class _Replay:
    """Gives recorded actions; keeps what it was shown."""

    def __init__(self, actions: NDArray[np.float32]) -> None:
        self.actions = actions
        self.seen: list[Episode] = []

    def act(self, seen: Episode) -> NDArray[np.float32]:
        self.seen.append(seen)
        return self.actions[seen.length - 1 :][:12]


def test_the_oracles_actions_succeed_and_a_still_robot_does_not(lift: Environment, camera: Camera) -> None:
    scene = int(np.random.default_rng([SEED, 3]).integers(2**32))
    recorded = run_plan(lift, draw_plan(LIFT, "expert", np.random.default_rng(0)), scene)
    policy = _Replay(recorded.actions)
    went = roll_out(lift, camera, policy, 3, execute=5, limit=400)
    assert went.success
    assert went.seen.length <= len(recorded.actions)
    np.testing.assert_array_equal(went.seen.proprioception, recorded.state[: went.seen.length])
    assert [seen.length for seen in policy.seen[:3]] == [1, 6, 11]  # asked again after five actions of twelve
    assert policy.seen[1].actions.shape == (5, 7)
    shown = camera.render(recorded.joints[5], CAMERAS)
    np.testing.assert_array_equal(policy.seen[1].frames([5], CAMERAS[1])[0], shown[1])
    assert policy.seen[0].instruction in LIFT.instructions
    still = roll_out(lift, camera, _Replay(np.zeros((40, 7), dtype=np.float32)), 3, execute=5, limit=20)
    assert not still.success
    assert still.seen.length == 20


@pytest.mark.parametrize("config", [small_mv_wam_config(), small_wav_config()], ids=["mv-wam", "wav"])
def test_a_model_that_tells_actions_moves_the_robot(
    config: object, lift: Environment, camera: Camera, tmp_path: Path
) -> None:
    model = Estimator(replace(config, model=replace(config.model, states=16, actions=7, **_wide(config)))).eval()
    actions = ModelPolicy(model, steps=2, seed=0).act(
        roll_out(lift, camera, _Replay(np.zeros((40, 7), dtype=np.float32)), 0, execute=5, limit=3).seen
    )
    assert actions.shape == (8, 7)
    model.save(tmp_path / "model")
    asked = Rollouts(episodes=1, size=64, steps=1, limit=9)
    assert try_policy(str(tmp_path / "model"), asked, tmp_path / "out") == 0
    assert try_policy(str(tmp_path / "model"), replace(asked, first=1), tmp_path / "out") == 0
    assert (tmp_path / "out" / "rollout_0001.json").is_file()
    assert json.loads((tmp_path / "out" / "rollout_0000.json").read_text()) == {"success": False, "frames": 9}
    assert (tmp_path / "out" / "rollout_0000.mp4").stat().st_size > 0
    with pytest.raises(DataError, match="rollouts of another model or with other settings"):
        try_policy(str(tmp_path / "model"), replace(asked, steps=2), tmp_path / "out")
    with pytest.raises(DataError, match="no task 'juggle'"):
        try_policy(str(tmp_path / "model"), replace(asked, task="juggle"), tmp_path / "out")


def test_a_model_that_has_learned_videos_alone_is_no_policy_yet() -> None:
    config = small_mv_wam_config()
    model = Estimator(replace(config, model=replace(config.model, weights={"video": 1.0})))
    with pytest.raises(DataError, match="has not learned actions yet"):
        ModelPolicy(model, steps=1, seed=0)


def _wide(config: object) -> dict[str, int]:
    """States have 16 numbers here."""
    return {"unified": 16} if hasattr(config.model, "unified") else {}


def test_a_model_that_tells_no_actions_is_no_policy(tmp_path: Path) -> None:
    small_estimator().save(tmp_path / "model")
    with pytest.raises(DataError, match="WVM tells no actions"):
        try_policy(str(tmp_path / "model"), Rollouts(episodes=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()
