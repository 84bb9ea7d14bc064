"""What OpenVINO computes, against what torch does."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.small import (
    painted_episode,
    small_classifier_config,
    small_config,
    small_estimator,
    small_mv_wam_config,
    small_viva_config,
    small_wav_config,
)

from worldvalue.models import Estimator, EstimatorConfig
from worldvalue.scoring.openvino import _rounded, computed_by_openvino
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.types import Compiler, DataError


def seen_and_noise(estimator: Estimator, rows: int) -> tuple[dict[str, torch.Tensor], torch.Tensor, ...]:
    """Random windows of a model: what is seen, text, prefix and noise of two draws."""
    window, picture = estimator.model.window, estimator.config.picture
    shape = (rows, window.seen, picture.views)
    pictures = torch.rand(rows * window.seen, picture.views, 3, picture.height, picture.width) * 2 - 1
    codes = estimator.vae.per_frame(pictures.flatten(0, 1))
    seen = {"items": codes.unflatten(0, shape)}
    if window.states_seen:
        seen["states"] = torch.randn(rows, window.states_seen, estimator.model.config.states)
    if window.pictures:
        seen["pictures"] = torch.rand(rows, len(window.pictures), picture.views, 3, picture.height, picture.width)
    text = torch.stack([estimator.text_states(["lift the cube"])["lift the cube"]] * rows)
    return seen, text, torch.rand(rows, 2), torch.randn(rows, 2, *estimator.model.noise_shape)


@pytest.mark.slow
@pytest.mark.parametrize("made", [small_config, small_viva_config, small_wav_config, small_classifier_config])
@torch.no_grad()
def test_every_model_is_as_near_to_its_exact_values_as_torch_is(made: Callable[[], EstimatorConfig]) -> None:
    torch.manual_seed(0)
    estimator = Estimator(made()).eval()
    for parameter in estimator.model.parameters():
        if not parameter.any():  # layers that a new model begins with at zero would hide everything
            torch.nn.init.normal_(parameter, std=0.03)
    seen, *rest = seen_and_noise(estimator, rows=3)
    told = estimator.values(seen, *rest, steps=1)
    assert told.std() > 0.01
    with torch.autocast("cpu", torch.bfloat16):
        rounded = estimator.values(seen, *rest, steps=1)
        computed_by_openvino(estimator)
        ours = estimator.values(seen, *rest, steps=1)
    assert (ours - told).abs().mean() < 2 * (rounded - told).abs().mean() + 0.001


@pytest.mark.slow
@torch.no_grad()
def test_a_model_that_openvino_cannot_compute_is_refused_in_a_sentence() -> None:
    estimator = Estimator(small_mv_wam_config()).eval()  # makes its pictures smaller as it goes
    seen, *rest = seen_and_noise(estimator, rows=2)
    computed_by_openvino(estimator)
    with pytest.raises(DataError, match=r"compile it with torch instead .*upsample_bilinear2d_aa"):
        estimator.values(seen, *rest, steps=1)


@pytest.mark.slow
def test_episodes_of_different_lengths_have_the_values_that_torch_gives_them() -> None:
    episodes = [painted_episode(length, index) for index, length in enumerate((60, 31, 44))]
    settings = ScoreSettings(draws=2, steps=2, compile=Compiler.OPENVINO)
    plain = Scorer(small_estimator(), ScoreSettings(draws=2, steps=2))(episodes)
    compiled = Scorer(small_estimator(), settings)(episodes)
    for ours, theirs in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(ours.mean, theirs.mean, atol=0.02)
        assert not np.array_equal(ours.mean, theirs.mean)  # it was computed elsewhere


def test_a_model_is_compiled_for_few_numbers_of_rows_and_computes_few_in_vain() -> None:
    rounded = [_rounded(count) for count in range(1, 65)]
    assert sorted(set(rounded)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    assert all(count <= of <= 1.5 * count for count, of in enumerate(rounded, 1))


def test_without_openvino_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DataError, match=r"pip install 'worldvalue\[openvino\]'"):
        Scorer(small_estimator(), ScoreSettings(compile=Compiler.OPENVINO))


def test_openvino_is_kept_from_reporting_its_use() -> None:
    computed_by_openvino(small_estimator())
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"  # what reports nothing
