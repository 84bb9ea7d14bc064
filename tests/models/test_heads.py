"""Heads against closed forms, given streams that say the same whatever they are asked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.small import small_config

from worldvalue.models.heads import CategoricalHead, FlowHead, HLGaussianHead, ScalarHead, Stream, spread
from worldvalue.models.wvm import value_stream
from worldvalue.types import DataError

CENTRES = np.linspace(0, 1, 51)


def _says(outputs: torch.Tensor) -> Stream:
    """A stream that puts out the same numbers for every token."""
    return lambda tokens, sigma: outputs.expand(*tokens.shape[:-1], -1)


@given(value=st.floats(0.001, 0.999))
def test_soft_targets_are_a_gaussian_of_one_bin_width(value: float) -> None:
    density = stats.norm.pdf(CENTRES, loc=value, scale=1 / 50)
    found = HLGaussianHead().targets(torch.tensor([value], dtype=torch.float64))
    np.testing.assert_allclose(found[0], density / density.sum(), atol=1e-6)


@pytest.mark.parametrize(("value", "bin_"), [(0.0, 0), (5e-7, 0), (1.0, 50), (1 - 5e-7, 50)])
def test_values_at_the_ends_are_snapped_to_one_bin(value: float, bin_: int) -> None:
    found = HLGaussianHead().targets(torch.tensor([value], dtype=torch.float64))[0]
    assert found[bin_] == found.sum() == 1


def test_the_loss_is_least_where_the_model_says_the_targets() -> None:
    """There it is the entropy of the targets, by SciPy."""
    head, values = HLGaussianHead(), torch.full((2, 1, 4), 0.37)
    targets = head.targets(torch.tensor([0.37]))
    best = head.loss(_says(targets.clamp(min=1e-30).log()), values)
    assert float(best) == pytest.approx(stats.entropy(targets[0].numpy()), abs=1e-5)
    assert head.loss(_says(torch.zeros(1, 51)), values) > best


@given(seed=st.integers(0, 1000), draws=st.integers(1, 9))
def test_the_mean_over_the_draws_is_the_expectation(seed: int, draws: int) -> None:
    logits = torch.randn(1, 51, generator=torch.Generator().manual_seed(seed)) * 3
    expected = float(logits.softmax(-1)[0].double() @ torch.from_numpy(CENTRES))
    noise = torch.randn(2, draws, 4, generator=torch.Generator().manual_seed(seed + 1))
    found = HLGaussianHead().predict(_says(logits), noise, steps=1)
    assert found.shape == noise.shape
    np.testing.assert_allclose(found.mean(1), expected, atol=1e-4)


@given(value=st.floats(0, 1))
def test_a_categorical_heads_target_is_the_nearest_of_201_bins(value: float) -> None:
    found = CategoricalHead().targets(torch.tensor([value], dtype=torch.float64))[0]
    assert found.sum() == found[int(np.abs(np.linspace(0, 1, 201) - value).argmin())] == 1


def test_the_draws_are_spread_like_the_distribution() -> None:
    logits = torch.from_numpy(stats.norm.logpdf(CENTRES, 0.5, 0.1)).float()[None]
    found = HLGaussianHead().predict(_says(logits), torch.randn(1, 20_000, 1), steps=1)
    assert float(found.std()) == pytest.approx(0.1, abs=0.005)


def test_a_flow_head_that_is_told_the_velocity_has_no_loss() -> None:
    values = torch.full((3, 2, 4), 0.8)

    def perfect(tokens: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        data = spread(values).unsqueeze(-1)
        return (tokens - data) / sigma[..., None, None]  # x = (1 - sigma) data + sigma noise

    head = FlowHead(shift=3.0)
    assert float(head.loss(perfect, values)) < 1e-8
    np.testing.assert_allclose(head.predict(perfect, torch.randn(3, 2, 4), steps=3), values, atol=1e-5)


def test_a_scalar_head_says_what_the_stream_says() -> None:
    values = torch.full((1, 2, 4), 0.25)
    assert float(ScalarHead().loss(_says(spread(values[0, 0, :1])), values)) == 0
    assert torch.equal(ScalarHead().predict(_says(torch.tensor([-0.5])), torch.randn(1, 2, 4), 1), values)


def test_an_unknown_head_gets_a_sentence() -> None:
    with pytest.raises(DataError, match="no value head 'mean'; choose from: flow"):
        value_stream(replace(small_config().model, head="mean"))


def test_every_head_has_as_many_outputs_as_it_reads() -> None:
    for head in (FlowHead(), HLGaussianHead(), CategoricalHead(), ScalarHead()):
        loss = head.loss(_says(torch.zeros(1, head.outputs)), torch.rand(2, 3, 4))
        assert loss.ndim == 0
        assert loss.isfinite()
