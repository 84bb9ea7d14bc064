import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldvalue import flow_matching as fm

LEVELS = st.floats(0.01, 0.99)


def _pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))


@given(sigma=LEVELS, seed=st.integers(0, 99))
def test_velocity_data_and_noise_convert_into_each_other(sigma: float, seed: int) -> None:
    data, noise = _pair(seed)
    level = torch.full((3,), sigma, dtype=torch.float64)
    x = fm.interpolate(data, noise, level)
    v = fm.velocity(data, noise)
    torch.testing.assert_close(fm.data_from_velocity(x, v, level), data)
    torch.testing.assert_close(fm.noise_from_velocity(x, v, level), noise)
    torch.testing.assert_close(fm.velocity_from_data(x, data, level), v)
    if 1 - sigma > fm.LEAST_SIGNAL:
        torch.testing.assert_close(fm.velocity_from_noise(x, noise, level), v)


@given(sigma=LEVELS, after=LEVELS, seed=st.integers(0, 99))
def test_an_euler_step_along_the_true_velocity_stays_on_the_path(sigma: float, after: float, seed: int) -> None:
    data, noise = _pair(seed)
    now, then = (torch.full((3,), level, dtype=torch.float64) for level in (sigma, after))
    stepped = fm.euler_step(fm.interpolate(data, noise, now), fm.velocity(data, noise), now, then)
    torch.testing.assert_close(stepped, fm.interpolate(data, noise, then))


@given(shift=st.floats(0.2, 10.0))
def test_the_shift_keeps_the_ends_and_the_order(shift: float) -> None:
    levels = fm.shift_sigma(torch.linspace(0, 1, 21, dtype=torch.float64), shift)
    assert levels[0] == 0
    assert levels[-1] == pytest.approx(1)
    assert (levels.diff() > 0).all()


def test_sampled_levels_follow_the_shifted_uniform_law() -> None:
    levels = fm.sample_sigma(200_000, shift=3.0, generator=torch.Generator().manual_seed(0)).numpy()
    # P(sigma < s) = u with s = 3u / (1 + 2u), so u = s / (3 - 2s).
    for s in (0.2, 0.5, 0.9):
        assert np.mean(levels < s) == pytest.approx(s / (3 - 2 * s), abs=0.005)


def test_conversions_stay_finite_at_the_ends() -> None:
    x, data = _pair(0)
    for level in (0.0, 1.0):
        sigma = torch.full((3,), level, dtype=torch.float64)
        assert fm.velocity_from_data(x, data, sigma).isfinite().all()
        assert fm.velocity_from_noise(x, data, sigma).isfinite().all()


@given(kind=st.sampled_from(list(fm.Parameterization)), sigma=st.floats(0.01, 0.94), seed=st.integers(0, 99))
def test_whatever_is_put_out_implies_the_same_velocity(kind: fm.Parameterization, sigma: float, seed: int) -> None:
    data, noise = _pair(seed)
    level = torch.full((3,), sigma, dtype=torch.float64)
    x = fm.interpolate(data, noise, level)
    torch.testing.assert_close(kind.velocity(x, kind.target(data, noise), level), fm.velocity(data, noise))


def test_told_noise_that_is_a_little_off_does_not_throw_the_sample_away() -> None:
    data, noise = _pair(0)

    def velocity(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return fm.Parameterization.NOISE.velocity(x, noise + 0.02, sigma)

    found = fm.integrate(noise, 5, velocity)
    assert (found - data).square().mean().sqrt() < 2.0  # without the bound it is thousands
