"""Meta-World's episodes: done at the end, the same when made again, and what they are filmed with."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("metaworld") is None:
    pytest.skip("needs the simulator", allow_module_level=True)

from typer.testing import CliRunner

from worldvalue.cli import app
from worldvalue.data import open_episodes
from worldvalue.simulation.collect import collect, collect_episode, plan_collection
from worldvalue.simulation.metaworld_episodes import MAX_STEPS, METAWORLD, _Rollout, _scene
from worldvalue.simulation.metaworld_tasks import INSTRUCTIONS
from worldvalue.types import DataError, Mode

COUNTS: dict[str, dict[Mode, int]] = {"drawer-open": {"expert": 1}, "reach": {"expert": 1}}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim") / "metaworld"
    assert collect(METAWORLD, out, COUNTS, seed=3, size=64, workers=1)
    return out


def test_the_dataset_opens_with_labels_and_two_cameras(collection: Path) -> None:
    source = open_episodes(collection)
    assert [episode.labels.task for episode in source] == list(COUNTS)
    for episode in source:
        assert episode.labels.mode == "expert"
        assert episode.success
        assert episode.instruction in INSTRUCTIONS[episode.labels.task]
        assert 10 < episode.length <= MAX_STEPS
        assert episode.proprioception.shape == episode.actions.shape == (episode.length, 4)
        first, last = (episode.frames([index])[0].astype(float) for index in (0, episode.length - 1))
        assert first.shape == (64, 64, 3)
        assert np.abs(first - last).mean() > 1, "the robot has moved"
    assert [camera.rpartition(".")[2] for camera in source[0].cameras] == ["corner2", "gripperPOV"]


def test_the_corner_camera_is_upright(collection: Path) -> None:
    """The wooden table fills the lower half, the grey background the upper one."""
    picture = open_episodes(collection)[0].frames([0])[0].astype(float)
    brown = picture[..., 0] - picture[..., 2]
    assert brown[40:].mean() > brown[:16].mean() + 10


def test_an_episode_simulated_again_is_the_same_file(tmp_path: Path) -> None:
    first = plan_collection(METAWORLD, COUNTS, seed=3)[0]
    videos = []
    for name in ("once", "again"):
        collect_episode(METAWORLD, first, tmp_path / name, size=64)
        videos.append((tmp_path / name / first.name / "corner2.mp4").read_bytes())
    assert videos[0] == videos[1]


def test_the_mark_of_the_goal_is_where_the_hand_ends_in_reach() -> None:
    spec = plan_collection(METAWORLD, {"reach": {"expert": 1}}, seed=5)[0]
    made = METAWORLD.simulate(spec, 64)
    environment, _ = _scene("reach", 64)
    assert np.linalg.norm(made.state[-1, :3] - environment._target_pos) < 0.05  # Meta-World's own idea of success


def test_an_attempt_that_closes_the_gripper_twice_is_known() -> None:
    rollout = _Rollout()
    for gripper in (-1.0, 1.0, 1.0, -1.0, 1.0):
        rollout.actions.append(np.array([0.0, 0.0, 0.0, gripper]))
    assert rollout.grasps() == 2


def test_every_task_of_metaworld_has_its_instructions() -> None:
    from metaworld.policies import ENV_POLICY_MAP

    assert set(INSTRUCTIONS) == {name.removesuffix("-v3") for name in ENV_POLICY_MAP}


def test_the_command_takes_splits_of_its_own_simulator_and_leaves_a_complete_collection(collection: Path) -> None:
    def invoke(*words: object) -> str:
        return CliRunner().invoke(app, ["collect", *map(str, words)], catch_exceptions=False).output

    with pytest.raises(DataError, match="no split 'train' of metaworld"):
        invoke("metaworld", collection, "--split", "train")
    again = ("--tasks", "drawer-open,reach", "--expert", 1, "--seed", 3, "--size", 64)
    assert "complete already" in invoke("metaworld", collection, *again)
    with pytest.raises(DataError, match="no task 'reach'"):
        invoke("robosuite", collection, "--tasks", "reach")


def test_there_are_experts_only() -> None:
    spec = plan_collection(METAWORLD, {"reach": {"retry": 1}}, seed=0)[0]
    with pytest.raises(DataError, match="expert episodes alone"):
        METAWORLD.simulate(spec, 64)
