import numpy as np
import pytest
import torch
from tests.small import painted_episode, small_estimator

from worldvalue.scoring.sliding_windows import ScoreSettings, score, score_group
from worldvalue.types import DataError, Episode

SETTINGS = ScoreSettings(draws=3, steps=2)


class _Broken:
    def read(self, camera: str, indices: object) -> np.ndarray:
        raise DataError("broken.mp4 is damaged; copy it again.")


def test_a_curve_has_a_row_for_every_frame_and_ordered_quantiles() -> None:
    episode = painted_episode(length=60)
    curve = score(small_estimator(), episode, SETTINGS)
    assert len(curve.mean) == len(curve.timestamps) == 60
    assert (curve.q10 <= curve.q50 + 1e-6).all()
    assert (curve.q50 <= curve.q90 + 1e-6).all()
    assert (curve.std >= 0).all()
    assert (curve.mean >= 0).all()
    assert (curve.mean <= 1).all()
    np.testing.assert_array_equal(curve.scored, episode.indices_at(2.0))


def test_frames_between_the_scored_ones_are_linear_in_time() -> None:
    curve = score(small_estimator(), painted_episode(length=60), SETTINGS)
    expected = np.interp(curve.timestamps, curve.timestamps[curve.scored], curve.mean[curve.scored])
    np.testing.assert_allclose(curve.mean, expected, rtol=1e-6)


def test_the_same_group_gives_the_same_bytes() -> None:
    episodes = [painted_episode(length, index) for index, length in enumerate((60, 31, 9, 44))]
    first, second = (score_group(small_estimator(), episodes, SETTINGS) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.mean.tobytes() == b.mean.tobytes()
        assert a.q90.tobytes() == b.q90.tobytes()


def test_lock_step_gives_what_each_episode_gets_alone_but_for_rounding() -> None:
    episodes = [painted_episode(length, index) for index, length in enumerate((60, 31))]
    together = score_group(small_estimator(), episodes, SETTINGS)
    for episode, curve in zip(episodes, together, strict=True):
        np.testing.assert_allclose(score(small_estimator(), episode, SETTINGS).mean, curve.mean, atol=0.02)


def test_one_broken_episode_does_not_stop_the_others() -> None:
    good, bad = painted_episode(30, 0), painted_episode(30, 1)
    bad = Episode(**{**bad.__dict__, "reader": _Broken()})
    outcomes = score_group(small_estimator(), [bad, good], SETTINGS)
    assert isinstance(outcomes[0], DataError)
    assert len(outcomes[1].mean) == 30


@pytest.mark.parametrize("length", [1, 2, 5, 19, 21])
def test_videos_shorter_than_a_window_are_scored_too(length: int) -> None:
    curve = score(small_estimator(), painted_episode(length), SETTINGS)
    assert np.isfinite(curve.mean).all()
    assert len(curve.mean) == length


@pytest.mark.parametrize(("stride", "windows"), [(1, 17), (2, 9), (4, 5)])
def test_a_window_costs_one_pass_over_its_current_latent_and_none_over_the_future(stride: int, windows: int) -> None:
    estimator = small_estimator()
    seen: list[int] = []
    original = estimator.model.observe

    def counted(current: torch.Tensor, text: torch.Tensor) -> object:
        seen.append(current.shape[2])
        return original(current, text)

    estimator.model.observe = counted
    score(estimator, painted_episode(length=100), ScoreSettings(draws=3, steps=2, stride=stride))
    assert seen == [1] * windows  # 20 frames at 2 fps; one latent frame each time, however many draws


def test_a_stride_beyond_the_chunk_is_refused() -> None:
    with pytest.raises(DataError, match="stride"):
        score(small_estimator(), painted_episode(), ScoreSettings(stride=5))
