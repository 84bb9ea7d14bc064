"""A collection on disk: complete, resumable, readable by our own reader."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("robosuite") is None:
    pytest.skip("needs the simulator", allow_module_level=True)

from worldvalue.data import open_episodes
from worldvalue.simulation.collect import collect, collect_episode, even_counts, plan_collection, statistics
from worldvalue.simulation.robosuite_episodes import ROBOSUITE
from worldvalue.types import DataError, Mode

COUNTS: dict[str, dict[Mode, int]] = {"lift": {"expert": 1, "hesitation": 1}}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A collection that was stopped after its first episode and then continued; and that episode's video."""
    out = tmp_path_factory.mktemp("sim") / "lift"
    episodes = out.with_name("lift.partial") / "episodes"
    episodes.mkdir(parents=True)
    first = plan_collection(ROBOSUITE, COUNTS, seed=2)[0]
    collect_episode(ROBOSUITE, first, episodes, size=64)
    video = (episodes / first.name / "agentview.mp4").read_bytes()
    kept = (episodes / first.name / "row.json").read_text()
    (episodes / first.name / "row.json").write_text(kept.replace('"instruction": "', '"instruction": "kept: '))
    assert collect(ROBOSUITE, out, COUNTS, seed=2, size=64, workers=1)
    return out, video


def test_the_dataset_opens_with_labels_and_pictures(collection: tuple[Path, bytes]) -> None:
    source = open_episodes(collection[0])
    assert len(source) == 2
    for episode, mode in zip(source, COUNTS["lift"], strict=True):
        assert episode.labels is not None
        assert episode.labels.mode == mode
        assert episode.labels.length == episode.length
        assert episode.success
        assert episode.fps == 10
        assert episode.proprioception is not None
        assert episode.proprioception.shape == (episode.length, 16)
        assert episode.actions is not None
        assert np.abs(episode.actions).max() <= 1
        for camera in episode.cameras:
            assert episode.frames([0, episode.length - 1], camera).shape == (2, 64, 64, 3)


def test_a_finished_episode_is_kept_when_a_collection_continues(collection: tuple[Path, bytes]) -> None:
    instructions = [episode.instruction for episode in open_episodes(collection[0])]
    assert instructions[0].startswith("kept: ")
    assert not instructions[1].startswith("kept: ")
    assert not collection[0].with_name("lift.partial").exists()


def test_a_complete_collection_is_left_alone_and_no_other_settings_are_taken(
    collection: tuple[Path, bytes],
) -> None:
    out, _ = collection
    assert not collect(ROBOSUITE, out, COUNTS, seed=2, size=64)
    with pytest.raises(DataError, match="other settings"):
        collect(ROBOSUITE, out, COUNTS, seed=3, size=64)


def test_an_episode_simulated_again_is_the_same_file(collection: tuple[Path, bytes], tmp_path: Path) -> None:
    first = plan_collection(ROBOSUITE, COUNTS, seed=2)[0]
    collect_episode(ROBOSUITE, first, tmp_path, size=64)
    assert (tmp_path / first.name / "agentview.mp4").read_bytes() == collection[1]


def test_bad_requests_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no task 'fold'; choose from: lift"):
        collect(ROBOSUITE, tmp_path / "out", {"fold": {"expert": 1}})
    with pytest.raises(DataError, match="'lift' is named more than once"):
        even_counts(["lift", "can", "lift"], {"expert": 1})
    with pytest.raises(DataError, match="nothing to collect"):
        collect(ROBOSUITE, tmp_path / "out", {"lift": {"expert": 0}})
    with pytest.raises(DataError, match="even size"):
        collect(ROBOSUITE, tmp_path / "out", {"lift": {"expert": 1}}, size=65)
    with pytest.raises(DataError, match="not a collection"):
        collect(ROBOSUITE, tmp_path, {"lift": {"expert": 1}})


def test_statistics_count_attempts_and_why_they_were_dropped(collection: tuple[Path, bytes]) -> None:
    labels = {"task": "can", "mode": "retry", "length": 200}
    rows = [{"labels": labels, "dropped": ["slip x"]}, {"labels": labels | {"length": 100}, "dropped": []}]
    assert statistics(rows, 10) == {
        "can/retry": {"episodes": 2, "attempts": 3, "seconds": 15.0, "dropped": {"slip x": 1}, "kept": 0.667}
    }
    summary = json.loads((collection[0] / "collection.json").read_text())
    assert summary["statistics"]["lift/expert"]["episodes"] == 1
    labels = (collection[0] / "labels.jsonl").read_bytes()
    assert summary["labels_sha256"] == hashlib.sha256(labels).hexdigest()
