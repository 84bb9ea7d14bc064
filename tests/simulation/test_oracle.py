"""The oracle in the real simulator: what it does is what the labels say."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

if importlib.util.find_spec("robosuite") is None:
    pytest.skip("needs the simulator", allow_module_level=True)

from worldvalue.simulation.camera import Camera
from worldvalue.simulation.environment import CAMERAS, Environment, Pose
from worldvalue.simulation.oracle import Rollout, defect, run_plan
from worldvalue.simulation.plan import Move, Plan, Resume, draw_plan
from worldvalue.simulation.tasks import TASKS
from worldvalue.types import Mode

LIFT = TASKS["lift"]


def episode(lift: Environment, mode: Mode, seed: int) -> tuple[Plan, Rollout]:
    plan = draw_plan(LIFT, mode, np.random.default_rng(seed))
    return plan, run_plan(lift, plan, seed)


def test_the_same_seed_gives_the_same_episode_whatever_ran_before(lift: Environment) -> None:
    plan, first = episode(lift, "retry", 3)
    episode(lift, "failure", 4)
    again = run_plan(lift, plan, 3)
    assert np.array_equal(first.actions, again.actions)
    assert np.array_equal(first.joints, again.joints)
    assert first.segment == again.segment


def test_a_retry_moves_back_from_the_object_and_then_succeeds(lift: Environment) -> None:
    plan, rollout = episode(lift, "retry", 3)
    assert defect(plan, rollout) is None
    assert rollout.segment is not None
    m, n = rollout.segment
    height = rollout.state[:, 2]
    assert height[n] - height[m] > 0.03, "the way back from a table leads up"
    assert not rollout.success[n]
    assert rollout.success[-1]


def test_a_retrys_events_are_the_error_where_it_turns_back_and_the_lift_that_succeeds(lift: Environment) -> None:
    _, rollout = episode(lift, "retry", 3)
    error, milestone = rollout.events
    assert rollout.segment is not None
    assert (error.kind, error.frame) == ("error", rollout.segment[0])
    assert milestone.kind == "milestone"
    assert rollout.success[milestone.frame]
    assert not rollout.success[: error.frame].any()


def test_a_failure_has_no_events(lift: Environment) -> None:
    assert episode(lift, "failure", 4)[1].events == ()


def test_a_hesitating_hand_stays_where_it_is(lift: Environment) -> None:
    plan, rollout = episode(lift, "hesitation", 1)
    assert defect(plan, rollout) is None
    assert rollout.segment is not None
    m, n = rollout.segment
    place = rollout.state[m : n + 1, :3]
    assert np.linalg.norm(place - place[-1], axis=1).max() < 0.03
    assert 2.0 <= (n - m) / 10 <= 8.0


@pytest.mark.parametrize("seed", [1, 3])
def test_a_hesitation_is_an_expert_episode_with_a_pause_in_it(lift: Environment, seed: int) -> None:
    # One that began the movement anew after the pause, bulge and all, took a way that no expert takes.
    plan, paused = episode(lift, "hesitation", seed)
    resume = next(number for number, phase in enumerate(plan.phases) if isinstance(phase, Resume))
    cut, _, _ = plan.phases[resume - 2 : resume + 1]
    assert isinstance(cut, Move)
    whole = (*plan.phases[: resume - 2], replace(cut, part=1.0), *plan.phases[resume + 1 :])
    straight = run_plan(lift, replace(plan, mode="expert", phases=whole), seed)

    def way(rollout: Rollout) -> float:
        return float(np.linalg.norm(np.diff(rollout.state[:, :3], axis=0), axis=1).sum())

    assert paused.segment is not None
    m, n = paused.segment
    standing = np.linalg.norm(np.diff(paused.state[m : n + 1, :3], axis=0), axis=1).sum()
    assert way(paused) - standing == pytest.approx(way(straight), rel=0.05)
    assert paused.state[-1, :3] == pytest.approx(straight.state[-1, :3], abs=0.01)
    assert len(paused.state) - (n - m) == pytest.approx(len(straight.state), abs=10)


def test_stepping_is_robosuites_own_step(lift: Environment) -> None:
    action = np.array([0.3, -0.2, -0.5, 0.1, 0.0, 0.2, 1.0], dtype=np.float32)
    lift.reset(5)
    for _ in range(3):
        lift.step(action)
    ours = lift.joints()
    lift.reset(5)
    for _ in range(3):
        lift._env.step(action.astype(np.float64))
    assert np.array_equal(ours, lift.joints())


def test_leaving_out_what_is_not_in_view_changes_no_pixel(
    lift: Environment, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    lift.reset(5)
    culled = camera.render(lift.joints(), CAMERAS)
    assert not camera._in_view(CAMERAS[1]).all(), "the camera at the hand does not see the whole arm"
    monkeypatch.setattr(camera, "_in_view", lambda name: np.ones(len(camera._visible), dtype=bool))
    for ours, whole in zip(culled, camera.render(lift.joints(), CAMERAS), strict=True):
        assert np.array_equal(ours, whole)


def test_pictures_are_upright_and_show_the_red_cube(lift: Environment, camera: Camera) -> None:
    lift.reset(5)
    front = camera.render(lift.joints(), ("agentview",))[0].astype(int)
    assert front.shape == (64, 64, 3)
    red = (front[..., 0] > 90) & (front[..., 1] < 80)
    assert 5 < red.sum() < 100
    assert np.flatnonzero(red.any(axis=1)).max() < 48, "the cube lies on the table"
    assert front[:6].mean() < front[-16:].mean(), "the robot stands at the far side, the white table is near"


def test_a_cube_behind_the_other_looks_as_if_it_stood_on_it() -> None:
    behind = Environment(TASKS["stack_behind"])
    camera = Camera(behind.model, 128)
    for seed in range(3):
        behind.reset(seed)
        assert not behind.success()
        front = camera.render(behind.joints(), CAMERAS[:1])[0].astype(int)
        red = (front[..., 0] > 90) & (front[..., 1] < 80)
        green = (front[..., 1] > 1.3 * front[..., 0]) & (front[..., 1] > 1.3 * front[..., 2])
        above, below = np.flatnonzero(red.any(axis=1)), np.flatnonzero(green.any(axis=1))
        assert above.mean() < below.mean()
        assert above.max() >= below.min() - 1, "no gap between them"
        assert (red.any(axis=0) & green.any(axis=0)).sum() > red.any(axis=0).sum() / 2, "not beside it"
    camera.close()


def test_a_grasp_keeps_the_open_fingers_off_the_neighbouring_cube() -> None:
    stack = Environment(TASKS["stack"])
    neighbour = stack.model.body("cubeB_main")
    half = stack.model.geom_size[neighbour.geomadr[0], :2]
    for seed in range(12):
        stack.reset(seed)
        for preference in (0.0, 1.0):
            grasp = stack.grasp(preference)
            reach = np.array([-0.066, -0.053, -0.04, 0.04, 0.053, 0.066])[:, None]  # the fingers from inside to outside
            fingers = grasp.position + reach * grasp.matrix()[:, 0]
            local = (fingers - stack.data.xpos[neighbour.id]) @ stack.data.xmat[neighbour.id].reshape(3, 3)
            assert (np.abs(local[:, :2]) > half).any(axis=1).all(), seed


def test_a_hand_that_points_down_closes_along_y_at_yaw_zero() -> None:
    matrix = Pose(np.zeros(3), np.pi / 2).matrix()
    assert np.allclose(matrix[:, 2], [0, 0, -1])
    assert np.allclose(matrix[:, 0], [-1, 0, 0]), "a quarter turn takes y to -x"
    assert np.allclose(Pose(np.zeros(3), 0.0).matrix()[:, 0], [0, 1, 0])
