import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import painted_episode, small_estimator, small_wav_config

from worldvalue.models import Estimator
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings, _Track, quantiles, score
from worldvalue.types import Compiler, DataError, Episode

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


def test_quantiles_are_numpys_wherever_numbers_are_missing() -> None:
    rng = np.random.default_rng(0)
    pool = rng.random((50, 12), dtype=np.float32)
    pool[rng.random(pool.shape) < 0.5] = np.nan
    pool[:, 3] = 0.5  # one number is always there
    pool[7, :3] = pool[7, 4:] = np.nan
    np.testing.assert_allclose(
        quantiles(pool, (0.0, 0.1, 0.5, 0.9, 1.0)), np.nanquantile(pool, (0.0, 0.1, 0.5, 0.9, 1.0), axis=1), atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
def test_a_compiled_model_gives_the_values_of_the_plain_one() -> None:
    plain, compiled = (
        score(small_estimator(), painted_episode(30), replace(SETTINGS, compile=asked))
        for asked in (None, Compiler.TORCH)
    )
    np.testing.assert_allclose(compiled.mean, plain.mean, atol=0.02)  # bf16 rounds after other steps


@pytest.mark.parametrize("margin", [0.05, -0.05])
def test_a_calibrated_model_moves_the_ends_of_its_band_and_keeps_the_middle_between_them(margin: float) -> None:
    estimator, episode = small_estimator(), painted_episode(length=60)
    plain = score(estimator, episode, SETTINGS)
    estimator.config = replace(estimator.config, band_margin=margin)
    moved = score(estimator, episode, SETTINGS)
    seen = plain.scored
    np.testing.assert_array_equal(moved.q50, plain.q50)
    np.testing.assert_allclose(moved.q10[seen], np.clip(plain.q10 - margin, 0, plain.q50)[seen], atol=1e-6)
    np.testing.assert_allclose(moved.q90[seen], np.clip(plain.q90 + margin, plain.q50, 1)[seen], atol=1e-6)


def test_frames_between_the_scored_ones_are_linear_in_time() -> None:
    curve = score(small_estimator(), painted_episode(length=60), SETTINGS)
    expected = np.interp(curve.timestamps, curve.timestamps[curve.scored], curve.mean[curve.scored])
    np.testing.assert_allclose(curve.mean, expected, rtol=1e-6)


def test_the_same_group_gives_the_same_bytes() -> None:
    episodes = [painted_episode(length, index) for index, length in enumerate((60, 31, 9, 44))]
    first, second = (Scorer(small_estimator(), SETTINGS)(episodes) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.mean.tobytes() == b.mean.tobytes()
        assert a.q90.tobytes() == b.q90.tobytes()


def test_lock_step_gives_what_each_episode_gets_alone_but_for_rounding() -> None:
    episodes = [painted_episode(length, index) for index, length in enumerate((60, 31))]
    together = Scorer(small_estimator(), SETTINGS)(episodes)
    for episode, curve in zip(episodes, together, strict=True):
        np.testing.assert_allclose(score(small_estimator(), episode, SETTINGS).mean, curve.mean, atol=0.02)


def test_one_broken_episode_does_not_stop_the_others() -> None:
    good, bad = painted_episode(30, 0), painted_episode(30, 1)
    bad = Episode(**{**bad.__dict__, "reader": _Broken()})
    outcomes = Scorer(small_estimator(), SETTINGS)([bad, good])
    assert isinstance(outcomes[0], DataError)
    assert len(outcomes[1].mean) == 30


@pytest.mark.parametrize("fps", [10.0, 30.0])
def test_a_model_that_counts_frames_of_the_data_is_shown_those_and_no_others(fps: float) -> None:
    config = small_wav_config()
    model = replace(config.model, memory=2, memory_gap=7)
    episode = painted_episode(length=90, fps=fps)
    episode = Episode(**{**episode.__dict__, "proprioception": np.arange(90.0, dtype=np.float32)[:, None].repeat(3, 1)})
    track = _Track(Estimator(replace(config, model=model)), episode, ScoreSettings(draws=1))
    now = int(track.scored[3])
    windows = track.windows
    np.testing.assert_array_equal(windows._frames(3, windows.shown), [max(now - 14, 0), max(now - 7, 0), now])
    assert track.window(3)["states"].flatten().tolist() == [now] * 3


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

    def counted(batch: dict[str, torch.Tensor]) -> object:
        seen.append(batch["latents"].shape[2])
        return original(batch)

    estimator.model.observe = counted
    score(estimator, painted_episode(length=100), ScoreSettings(draws=3, steps=2, stride=stride))
    assert seen == [1] * windows  # 20 frames at 2 fps; one latent frame each time, however many draws


@pytest.mark.parametrize("stride", [0, 5])
def test_there_is_no_scorer_with_a_stride_that_leaves_frames_out(stride: int) -> None:
    with pytest.raises(DataError, match=rf"stride must be 1 to 4 frames, not {stride}\."):
        Scorer(small_estimator(), ScoreSettings(stride=stride))


class _Source:
    """A first episode that cannot be opened, and one with a camera ``front``."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Episode:
        if index == 0:
            raise DataError("broken.mp4 is damaged; copy it again.")
        return Episode(**{**painted_episode(30, index).__dict__, "reader": _Broken()})


@pytest.mark.parametrize(
    ("cameras", "sentence"),
    [(("wrist",), "no camera 'wrist'; choose one of: front"), (("front", "front"), r"sees 1 camera\(s\)")],
)
def test_cameras_are_checked_on_the_first_good_episode_before_a_frame_is_read(cameras: tuple, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Scorer(small_estimator(), ScoreSettings(cameras=cameras)).check(_Source())
    Scorer(small_estimator(), ScoreSettings(cameras=("front",))).check(_Source())


def test_an_episode_with_fewer_cameras_is_scored_as_by_a_model_of_so_many_views() -> None:
    """And the second view, where there is one, is looked at; both kinds may stand in one group."""
    front, both = painted_episode(30), painted_episode(30, cameras=("front", "wrist"))
    scorer = Scorer(small_estimator(views=2, fewest_views=1), SETTINGS)
    expected = score(small_estimator(), front, SETTINGS).mean
    one, two, chosen = (
        score(scorer.estimator, *given).mean
        for given in ((front, SETTINGS), (both, SETTINGS), (both, replace(SETTINGS, cameras=("front",))))
    )
    np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(chosen, expected)
    assert np.abs(two - expected).max() > 1e-3
    for curve, alone in zip(scorer([both, front]), (two, one), strict=True):
        np.testing.assert_array_equal(curve.mean, alone)


def test_a_model_that_has_not_learned_to_make_do_with_fewer_views_asks_for_all() -> None:
    with pytest.raises(DataError, match=r"sees 2 camera\(s\), but 1 were given; choose from: front"):
        score(small_estimator(views=2), painted_episode(30), SETTINGS)
