"""The suite on real videos whose brightness is the true value: a model that reads it is perfect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.small import AtWork, painted_episode

from worldvalue.benchmark.controls import misinstructed_experts, reversed_episode, reversed_experts, still_episode
from worldvalue.benchmark.evaluate import LEAST_STABLE
from worldvalue.benchmark.predictions import Contender
from worldvalue.benchmark.suite import CONTROL_VIDEOS, Suite, run_suite
from worldvalue.data import MANIFEST_NAME, ManifestRow, encode_video, open_episodes, write_manifest
from worldvalue.data.value_targets import from_labels, progress
from worldvalue.types import DataError, Episode, EpisodeSource, Event, Labels, ValueCurve

FPS = 10.0
ERROR_AND_MILESTONE = (Event(60, "error"), Event(90, "milestone"))
LABELS = {
    "fast": Labels(60, "expert", success=True, task="lift"),
    "slow": Labels(90, "expert", success=True, task="can"),
    "pause": Labels(100, "hesitation", 30, 60, success=True, task="lift", events=(Event(80, "milestone"),)),
    "miss": Labels(
        100, "retry", 50, 75, success=True, task="lift", events=(Event(60, "error"), Event(90, "milestone"))
    ),
    "slip": Labels(100, "retry", 40, 70, success=True, task="can"),
    "drop": Labels(60, "failure", success=False, task="lift"),
}


def brightness(labels: Labels) -> NDArray[np.float64]:
    try:
        return from_labels(labels)
    except ValueError:  # no ground truth: it gets half-way
        return progress(labels.length) / 2


def write_videos(folder: Path, labels: dict[str, Labels], words: str = "do it") -> EpisodeSource:
    """Videos by name, told to do ``words``, in which ``TASK`` stands for the task."""
    for name, label in labels.items():
        grey = (20 + 200 * brightness(label)).round().astype(np.uint8)
        encode_video(folder / f"{name}.mp4", (np.full((32, 32, 3), level, np.uint8) for level in grey), FPS)
    rows = [
        ManifestRow(words.replace("TASK", label.task or ""), FPS, label, video=f"{name}.mp4")
        for name, label in labels.items()
    ]
    write_manifest(folder / MANIFEST_NAME, rows)
    return open_episodes(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> EpisodeSource:
    return write_videos(tmp_path_factory.mktemp("videos"), LABELS, "do TASK")


ValueOf = Callable[[Episode, NDArray[np.int64]], NDArray[np.floating]]


def scorer(value_of: ValueOf) -> Callable[[Sequence[Episode]], list[ValueCurve]]:
    """Curves at 2 frames a second, linear between, with a band of 0.05 to either side."""

    def score_group(episodes: Sequence[Episode]) -> list[ValueCurve]:
        curves = []
        for episode in episodes:
            scored = episode.indices_at(2.0)
            at_scored = value_of(episode, scored)
            mean = np.interp(np.arange(episode.length), scored, at_scored).astype(np.float32)
            band = (mean - 0.05, mean, mean + 0.05)
            curves.append(ValueCurve(episode.timestamps, mean, np.zeros_like(mean), *band, scored))
        return curves

    return score_group


def measure(source: EpisodeSource, value_of: ValueOf, group: int = 4) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        contender = Contender("model", AtWork(scorer(value_of)), group, {"model": value_of.__name__})
        return run_suite(Suite.of(source), contender, Path(folder))


def see(episode: Episode, scored: NDArray[np.int64]) -> NDArray[np.floating]:
    return (episode.frames(scored).mean(axis=(1, 2, 3)) - 20) / 200


def count(episode: Episode, scored: NDArray[np.int64]) -> NDArray[np.floating]:
    return scored / (episode.length - 1)


def say_half(episode: Episode, scored: NDArray[np.int64]) -> NDArray[np.floating]:
    return np.full(len(scored), 0.5)


def test_a_model_that_sees_the_true_value_scores_best(source: EpisodeSource) -> None:
    result = measure(source, see)
    metrics = result["metrics"]
    assert metrics["expert_voc"]["mean"] == 1
    assert metrics["hesitation_rmse"]["mean"] < 0.01
    assert metrics["retry_voc"]["mean"] == 1
    assert metrics["pearson"]["mean"] == pytest.approx(1, abs=1e-3)  # brightness has 200 steps
    assert metrics["spearman"]["mean"] == pytest.approx(1, abs=1e-2)
    assert metrics["stability"]["mean"] == pytest.approx(1)
    assert metrics["band_coverage"]["mean"] == 1
    assert result["success_auroc"] == 1
    backwards = result["controls"]["reversed"]
    assert (backwards["voc"], backwards["videos"], backwards["ill_defined"]) == (-1, 2, 0)
    assert [result["events"][kind]["detection_rate"] for kind in ("milestone", "error")] == [1, 1]
    assert [result["events"][kind]["events"] for kind in ("milestone", "error")] == [2, 1]
    assert result["left_out"] == []
    assert metrics["retry_voc"]["tasks"]["can"] == {"mean": 1, "trajectories": 1, "ill_defined": 0}
    assert set(metrics["hesitation_rmse"]["tasks"]) == {"lift"}


def test_a_model_that_only_counts_frames_is_found_out(source: EpisodeSource) -> None:
    result = measure(source, count)
    assert result["metrics"]["expert_voc"]["mean"] == 1
    assert result["metrics"]["retry_voc"]["mean"] == -1
    assert result["events"]["error"]["detection_rate"] == 0
    assert result["controls"]["still"]["voc"] == 1
    assert result["controls"]["still"]["rise"] == pytest.approx(1, abs=0.1)
    assert result["controls"]["reversed"]["voc"] == 1
    assert result["metrics"]["time_bias"]["mean"] == pytest.approx(1)
    assert result["metrics"]["time_bias"]["trajectories"] == 3


def test_a_constant_prediction_is_counted_and_scores_zero(source: EpisodeSource) -> None:
    result = measure(source, say_half)
    assert result["metrics"]["expert_voc"] == {
        "mean": 0,
        "trajectories": 2,
        "ill_defined": 2,
        "tasks": {task: {"mean": 0, "trajectories": 1, "ill_defined": 1} for task in ("can", "lift")},
    }
    assert result["metrics"]["retry_voc"]["ill_defined"] == 2
    assert result["controls"]["still"]["ill_defined"] == CONTROL_VIDEOS
    backwards = result["controls"]["reversed"]
    assert (backwards["voc"], backwards["videos"], backwards["ill_defined"]) == (0, 2, 2)
    assert result["controls"]["misinstructed"]["grounding"] == 0.5
    for name, worst in {"pearson": 0, "spearman": 0, "time_bias": 1, "stability": LEAST_STABLE}.items():
        figure = result["metrics"][name]
        assert (figure["mean"], figure["ill_defined"]) == (worst, figure["trajectories"]), name


def test_a_prediction_that_is_no_number_never_scores_best(source: EpisodeSource) -> None:
    def say_nothing(episode: Episode, scored: NDArray[np.int64]) -> NDArray[np.floating]:
        return np.full(len(scored), np.nan)

    metrics = measure(source, say_nothing)["metrics"]
    assert metrics["expert_voc"]["mean"] == metrics["retry_voc"]["mean"] == 0
    assert (metrics["hesitation_rmse"]["mean"], metrics["hesitation_rmse"]["ill_defined"]) == (1, 1)


def test_still_videos_show_one_frame_only(source: EpisodeSource) -> None:
    still = still_episode(source[0], 30)
    frames = still.frames()
    assert len(frames) == LABELS["fast"].length
    assert (frames == source[0].frames([30])).all()
    assert measure(source, see)["controls"]["still"]["ill_defined"] == CONTROL_VIDEOS


def test_a_reversed_video_shows_the_frames_from_the_last_to_the_first_at_their_times() -> None:
    episode = painted_episode(12, labels=Labels(12, "expert"))
    uneven = episode.timestamps**2
    state = np.arange(24, dtype=np.float32).reshape(12, 2)
    backwards = reversed_episode(replace(episode, timestamps=uneven, proprioception=state))
    np.testing.assert_array_equal(backwards.frames(), episode.frames()[::-1])
    np.testing.assert_array_equal(backwards.frames([3, 0]), episode.frames([8, 11]))
    np.testing.assert_allclose(np.diff(backwards.timestamps), np.diff(uneven)[::-1])
    assert backwards.timestamps[0] == 0
    assert backwards.proprioception is not None
    np.testing.assert_array_equal(backwards.proprioception, state[::-1])
    assert backwards.labels is None


def test_a_video_reversed_twice_is_itself() -> None:
    episode = painted_episode(12)
    twice = reversed_episode(reversed_episode(episode))
    np.testing.assert_array_equal(twice.frames(), episode.frames())
    np.testing.assert_allclose(twice.timestamps, episode.timestamps, atol=1e-12)


@pytest.mark.parametrize(("count", "names"), [(0, []), (1, ["fast"]), (2, ["fast", "slow"]), (9, ["fast", "slow"])])
def test_only_experts_are_reversed(source: EpisodeSource, count: int, names: list[str]) -> None:
    chosen = reversed_experts(source, count)
    assert [episode.name for episode in chosen] == [f"{name}.mp4, backwards" for name in names]


def test_a_dataset_without_experts_has_no_reversed_control(tmp_path: Path) -> None:
    result = measure(write_videos(tmp_path, {"miss": LABELS["miss"]}), see)
    assert result["controls"]["reversed"] == result["controls"]["misinstructed"] == {"videos": 0}


def test_the_figures_do_not_depend_on_the_size_of_a_group(source: EpisodeSource) -> None:
    assert measure(source, see, group=1) == measure(source, see, group=100)


def test_a_second_run_finds_every_prediction_and_scores_nothing(source: EpisodeSource, tmp_path: Path) -> None:
    asked: list[int] = []

    def counted(episodes: Sequence[Episode]) -> list[ValueCurve]:
        asked.append(len(episodes))
        return scorer(see)(episodes)

    told: list[int] = []
    suite = Suite.of(source)
    first = run_suite(suite, Contender("model", AtWork(counted), 4, {"model": "see"}), tmp_path, told.append)
    assert sum(asked) == sum(told) == suite.videos == len(LABELS) + CONTROL_VIDEOS + 2 + 2
    again = run_suite(suite, Contender("model", AtWork(counted), 4, {"model": "see"}), tmp_path, told.append)
    assert (sum(asked), sum(told)) == (suite.videos, 2 * suite.videos)
    assert again == first
    run_suite(suite, Contender("model", AtWork(counted), 4, {"model": "another"}), tmp_path)
    assert sum(asked) == 2 * suite.videos


def test_a_stopped_run_goes_on_where_it_was(source: EpisodeSource, tmp_path: Path) -> None:
    asked: list[str] = []

    def stops(episodes: Sequence[Episode]) -> list[ValueCurve]:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(episodes[0].name)
        return scorer(see)(episodes)

    with pytest.raises(KeyboardInterrupt):
        run_suite(Suite.of(source), Contender("model", AtWork(stops), 2, {}), tmp_path)
    before = len(asked)
    asked.append("no stop any more")
    run_suite(Suite.of(source), Contender("model", AtWork(stops), 2, {}), tmp_path)
    assert len(asked) == len(set(asked)) > before


def test_episodes_that_cannot_be_measured_are_left_out_with_the_reason(tmp_path: Path) -> None:
    labels = {
        **LABELS,
        "blink": Labels(100, "hesitation", 31, 32, task="lift"),  # between two scored frames
        "long": Labels(100, "retry", 10, 80, task="lift"),  # no ground truth
        "unknown": Labels(60),
        "broken": Labels(60, "expert", task="lift"),
    }
    source = write_videos(tmp_path, labels)
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    left_out = {left["episode"]: left["reason"] for left in measure(source, see)["left_out"]}
    reasons = ["No scored frame", "half of the 100 frames", "No ground-truth", "broken.mp4"]
    assert len(left_out) == len(reasons)
    for reason in reasons:
        assert any(reason in told for told in left_out.values()), reason


def test_a_dataset_without_labels_is_refused(tmp_path: Path) -> None:
    write_videos(tmp_path, {"clip": Labels(30)})
    (tmp_path / MANIFEST_NAME).unlink()
    with pytest.raises(DataError, match="no episode to measure"):
        measure(open_episodes(tmp_path, "do it"), see)


def test_the_wrong_instruction_is_another_tasks_and_each_comes(tmp_path: Path) -> None:
    labels = {f"{task}{i}": Labels(30, "expert", task=task) for i in range(2) for task in ("can", "lift", "stack")}
    source = write_videos(tmp_path, labels, "do TASK")
    wrong = [(source[k].instruction, e.instruction) for k, e in enumerate(misinstructed_experts(source, 20))]
    assert [told for told, _ in wrong] == [source[k].instruction for k in range(6)]
    assert all(told != other for told, other in wrong)
    assert len({other for _, other in wrong}) == 3


def test_a_model_that_listens_is_grounded_and_one_that_does_not_ties(tmp_path: Path) -> None:
    """Brightness rises in every video; the one model lets the value rise only under the video's own instruction."""
    labels = {
        "one": Labels(60, "expert", task="can", success=True, counterfactual="do lift"),
        "two": Labels(60, "expert", task="lift", success=True),
    }
    source = write_videos(tmp_path, labels, "do TASK")
    own = {episode.name: episode.instruction for episode in source}

    def listen(episode: Episode, scored: NDArray[np.int64]) -> NDArray[np.floating]:
        right = episode.instruction == own[episode.name.split(",")[0]]
        return see(episode, scored) * right

    controls = measure(source, listen)["controls"]
    assert controls["misinstructed"] == {
        "videos": 2,
        "grounding": 1,
        "rise": 0,
        "rise_when_right": pytest.approx(1, abs=0.1),
    }
    assert (controls["counterfactual"]["videos"], controls["counterfactual"]["grounding"]) == (1, 1)
    deaf = measure(source, see)["controls"]
    assert deaf["misinstructed"]["grounding"] == deaf["counterfactual"]["grounding"] == 0.5


def test_a_model_that_breaks_under_a_wrong_instruction_is_not_grounded_and_can_still_be_written(
    source: EpisodeSource,
) -> None:
    own = {episode.name: episode.instruction for episode in source}

    def break_down(episode: Episode, scored: NDArray[np.int64]) -> NDArray[np.floating]:
        right = episode.instruction == own[episode.name.split(",")[0]]
        return see(episode, scored) if right else np.full(len(scored), np.nan)

    found = measure(source, break_down)["controls"]["misinstructed"]
    assert found == {"videos": 2, "grounding": 0, "rise": 0, "rise_when_right": pytest.approx(1, abs=0.1)}
