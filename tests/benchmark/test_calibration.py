import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.small import painted_episode, small_estimator, write_painted_videos
from typer.testing import CliRunner

from worldvalue.benchmark.calibration import band_margin, calibrate
from worldvalue.benchmark.evaluate import Case
from worldvalue.cli import app
from worldvalue.models import load_model
from worldvalue.types import DataError, Episode, Labels, ValueCurve


def _case(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> Case:
    return Case((low + high) / 2, low, high, truth, 0, len(truth) - 1)


def test_the_margin_is_the_quantile_of_how_far_the_truth_lies_outside() -> None:
    """Ten frames lie 0.00, 0.01 .. 0.09 above a band of no width; 80 % times 1 + 1/1 is all of them."""
    band = np.full(10, 0.5)
    one = _case(band + np.arange(10) / 100, band, band)
    assert band_margin([one]) == pytest.approx(0.09)
    assert band_margin([one] * 99, share=0.99 * 0.5) == pytest.approx(0.04)


def test_a_band_that_is_too_wide_gets_a_negative_margin() -> None:
    truth = np.linspace(0.2, 0.8, 50)
    assert band_margin([_case(truth, truth - 0.2, truth + 0.2)] * 10) == pytest.approx(-0.2)


def test_every_episode_weighs_the_same() -> None:
    """Three short episodes that need 0.1 decide, not the one long episode that needs 0.3."""
    short, long = np.full(5, 0.5), np.full(500, 0.5)
    cases = [_case(short + 0.1, short, short)] * 3 + [_case(long + 0.3, long, long)]
    assert band_margin(cases, share=0.5) == pytest.approx(0.1)


@given(seed=st.integers(0, 10_000), spread=st.floats(0.01, 0.2))
def test_bands_moved_by_the_margin_hold_the_share_that_was_asked_for(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    cases = []
    for length in rng.integers(5, 60, 20):
        truth = np.linspace(0, 1, length)
        pred = truth + rng.normal(0, spread) + rng.normal(0, spread / 4, length)
        cases.append(_case(truth, pred - 0.02, pred + 0.02))
    margin = band_margin(cases)
    held = [np.mean((c.truth >= c.low - margin - 1e-9) & (c.truth <= c.high + margin + 1e-9)) for c in cases]
    assert np.mean(held) >= 0.8 * (1 + 1 / 20) - 1e-6
    tighter = margin - 1e-6
    held = [np.mean((c.truth >= c.low - tighter) & (c.truth <= c.high + tighter)) for c in cases]
    assert np.mean(held) < 0.8 * (1 + 1 / 20)


@dataclass
class _Source:
    episodes: list[Episode]
    path: Path = Path("here")

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> Episode:
        return self.episodes[index]

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)


def _curve(episode: Episode, off: float) -> ValueCurve:
    value = np.linspace(0, 1, episode.length).astype(np.float32) + np.float32(off)
    return ValueCurve(
        episode.timestamps, value, value * 0, value - 0.01, value, value + 0.01, np.arange(episode.length)
    )


def test_failures_and_unscored_episodes_take_no_part() -> None:
    modes = ("expert", "failure", "expert")
    source = _Source([painted_episode(20, i, labels=Labels(20, mode)) for i, mode in enumerate(modes)])
    found = calibrate(source, [_curve(source[0], 0.05), _curve(source[1], 0.5), DataError("damaged")])
    assert (found.episodes, found.covered) == (1, 0.0)
    assert found.margin == pytest.approx(0.04, abs=1e-6)


def test_without_any_ground_truth_it_says_what_to_do() -> None:
    source = _Source([painted_episode(20)])
    with pytest.raises(DataError, match=r"labels\.jsonl"):
        calibrate(source, [_curve(source[0], 0.0)])


def test_the_command_writes_the_margin_and_scores_are_wider_by_it(tmp_path: Path) -> None:
    videos = write_painted_videos(tmp_path / "videos", [Labels(30, "expert", success=True)])
    small_estimator().save(tmp_path / "model")
    arguments = ["calibrate", str(videos), "--model", str(tmp_path / "model"), "--steps", "1"]
    for _ in range(2):  # the second time it starts from the same band, not from the widened one
        told = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert told.exit_code == 0
    margin = json.loads((tmp_path / "model" / "config.json").read_text())["band_margin"]
    assert f"{margin:+.3f}" in told.output
    assert load_model(tmp_path / "model").config.band_margin == margin > 0


def test_what_is_no_checkpoint_folder_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint folder"):
        CliRunner().invoke(app, ["calibrate", str(tmp_path), "--model", "tiny"], catch_exceptions=False)
