from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldvalue.data.value_targets import (
    cost_from_value,
    cost_to_go,
    discounted_return,
    from_labels,
    hesitation_curve,
    monte_carlo_value,
    progress,
    retry_curve,
    value_from_cost,
)
from worldvalue.types import Labels

lengths = st.integers(2, 400)
gammas = st.floats(0, 1)
series = st.lists(st.floats(-10, 10), min_size=1, max_size=60).map(np.array)


@st.composite
def segments(draw: st.DrawFn, room_for_retry: bool = False) -> tuple[int, int, int]:
    """Length, first and last frame of a segment with 0 < m < n < T - 1."""
    length = draw(st.integers(6 if room_for_retry else 4, 400))
    longest = (length - 1) // 2 if room_for_retry else length
    m = draw(st.integers(1, length - 3))
    n = draw(st.integers(m + 1, min(m + longest, length - 2)))
    return length, m, n


def test_progress_counts_from_zero_at_the_first_frame_to_one_at_the_last() -> None:
    np.testing.assert_allclose(progress(5), [0, 0.25, 0.5, 0.75, 1])


def test_hesitation_by_hand() -> None:
    # T = 11, plateau over frames 4..8: x = 4, so 6 effective steps of 1/6 and a plateau at 4/6.
    expected = np.array([0, 1, 2, 3, 4, 4, 4, 4, 4, 5, 6]) / 6
    np.testing.assert_allclose(hesitation_curve(11, 4, 8), expected)


def test_retry_by_hand() -> None:
    # T = 12, m = 5, n = 8: x = 3, r = 1/6; 5/6 at m, 2/6 at n, then 4/6 in the 3 frames up to T - 1.
    expected = np.array([0, 1, 2, 3, 4, 5, 4, 3, 2, 2 + 4 / 3, 2 + 8 / 3, 6]) / 6
    np.testing.assert_allclose(retry_curve(12, 5, 8), expected)


def test_retry_longer_than_what_came_before_falls_to_zero_and_no_further() -> None:
    # n = 7 > 2m = 4: x = 5, T - 2x = 10, value 2/10 at m, clamped to 0 at n.
    curve = retry_curve(20, 2, 7)
    np.testing.assert_allclose(curve[[2, 7]], [0.2, 0.0])
    np.testing.assert_allclose(np.diff(curve[2:8]), -0.2 / 5)
    np.testing.assert_allclose(np.diff(curve[7:]), 1 / 12)


def test_retry_late_and_long_never_passes_one() -> None:
    # x = 35 of T = 100: m / (T - 2x) = 2, clamped to 1.
    curve = retry_curve(100, 60, 95)
    np.testing.assert_allclose(curve[[60, 95]], [1.0, 25 / 30])


@given(segments())
def test_hesitation_stands_still_on_the_segment_and_rises_elsewhere(
    segment: tuple[int, int, int],
) -> None:
    length, m, n = segment
    steps = np.diff(hesitation_curve(length, m, n))
    np.testing.assert_allclose(steps[m:n], 0, atol=1e-12)
    np.testing.assert_allclose(np.delete(steps, np.s_[m:n]), 1 / (length - 1 - (n - m)))


@given(segments(room_for_retry=True))
def test_retry_falls_on_the_segment_only_and_stays_within_zero_and_one(segment: tuple[int, int, int]) -> None:
    length, m, n = segment
    curve = retry_curve(length, m, n)
    steps = np.diff(curve)
    assert (steps[m:n] < 0).all()
    assert (steps[:m] > 0).all()
    assert (steps[n:] > 0).all()
    assert curve[0] == 0
    assert curve[-1] == 1
    assert curve.min() >= 0
    assert curve.max() <= 1


@given(segments(room_for_retry=True))
def test_retry_legs_share_one_rate_when_nothing_is_clamped(segment: tuple[int, int, int]) -> None:
    length, m, n = segment
    rate = 1 / (length - 2 * (n - m))
    if n <= 2 * m and m * rate <= 1:
        steps = np.diff(retry_curve(length, m, n))
        np.testing.assert_allclose(steps[:m], rate)
        np.testing.assert_allclose(steps[m:n], -rate)
        np.testing.assert_allclose(steps[n:], rate * (length - n) / (length - 1 - n))


def test_labels_choose_the_curve_of_their_mode() -> None:
    np.testing.assert_array_equal(from_labels(Labels(7, "expert")), progress(7))
    np.testing.assert_array_equal(from_labels(Labels(30, "hesitation", 3, 9)), hesitation_curve(30, 3, 9))
    np.testing.assert_array_equal(from_labels(Labels(30, "retry", 9, 12)), retry_curve(30, 9, 12))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Labels(1, "expert"), "at least 2 frames"),
        (Labels(30, "failure", 3, 9), "No ground-truth"),
        (Labels(30), "No ground-truth"),
        (Labels(30, "retry"), "needs the first and last"),
        (Labels(30, "hesitation", 9, 3), "0 < m < n"),
        (Labels(30, "hesitation", 0, 3), "0 < m < n"),
        (Labels(30, "hesitation", 20, 29), "0 < m < n"),
        (Labels(30, "retry", 5, 20), "half of the 30 frames"),
    ],
)
def test_labels_without_a_ground_truth_are_refused_with_a_sentence(labels: Labels, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_labels(labels)


def test_cost_to_go_by_hand() -> None:
    np.testing.assert_allclose(cost_to_go(4, success=True), [3 / 4, 2 / 4, 1 / 4, 0])
    np.testing.assert_allclose(cost_to_go(4, success=False), [7 / 4, 6 / 4, 5 / 4, 1])


@given(lengths, st.booleans())
def test_cost_to_go_is_the_sum_of_the_costs_still_to_come(length: int, success: bool) -> None:
    costs = [1 / length] * (length - 1) + [0 if success else 1]  # ViVa equation 1
    np.testing.assert_allclose(cost_to_go(length, success), [sum(costs[t:]) for t in range(length)], atol=1e-12)


@given(lengths)
def test_value_of_a_cost_rises_to_one_in_a_success_and_lies_one_lower_in_a_failure(length: int) -> None:
    success = value_from_cost(cost_to_go(length, success=True))
    failure = value_from_cost(cost_to_go(length, success=False))
    np.testing.assert_allclose(np.diff(success), 1 / length)
    np.testing.assert_allclose(failure, success - 1, atol=1e-12)
    assert success[0] > 0
    assert success[-1] == 1
    assert failure[0] > -1
    assert failure[-1] == 0


@given(lengths, st.booleans())
def test_cost_to_value_and_back_changes_nothing(length: int, success: bool) -> None:
    cost = cost_to_go(length, success)
    np.testing.assert_allclose(cost_from_value(value_from_cost(cost)), cost, rtol=0, atol=1e-15)


@given(st.lists(st.floats(-1, 1), min_size=1).map(np.array))
def test_value_to_cost_and_back_changes_nothing(values: np.ndarray) -> None:
    np.testing.assert_allclose(value_from_cost(cost_from_value(values)), values, rtol=0, atol=1e-15)


def test_discounted_return_by_hand() -> None:
    rewards = np.array([1.0, 2.0, 0.0, 4.0])
    np.testing.assert_allclose(discounted_return(rewards, 0.5), [2.5, 3, 2, 4])
    np.testing.assert_allclose(discounted_return(rewards, 0.5, horizon=2), [2, 3, 2, 4])
    np.testing.assert_allclose(discounted_return(rewards, 0.5, horizon=1), [2, 2, 2, 4])


@given(series, gammas)
def test_return_is_the_reward_and_the_discounted_return_of_the_next_frame(rewards: np.ndarray, gamma: float) -> None:
    returns = discounted_return(rewards, gamma)
    np.testing.assert_allclose(returns, rewards + gamma * np.append(returns[1:], 0), atol=1e-9)


@given(st.floats(-10, 10), st.integers(1, 60), gammas, st.none() | st.integers(0, 80))
def test_return_of_constant_rewards_is_a_geometric_sum(
    reward: float, length: int, gamma: float, horizon: int | None
) -> None:
    counted = np.arange(length, 0, -1)  # rewards from each frame to the end
    if horizon is not None:
        counted = np.minimum(counted, horizon + 1)
    returns = discounted_return(np.full(length, reward), gamma, horizon)
    np.testing.assert_allclose(returns * (1 - gamma), reward * (1 - gamma**counted), atol=1e-12)


@given(series, gammas, st.integers(0, 80))
def test_return_over_a_horizon_counts_the_reward_at_its_end_and_none_after(
    rewards: np.ndarray, gamma: float, horizon: int
) -> None:
    expected = [
        sum(gamma**i * rewards[t + i] for i in range(min(horizon + 1, len(rewards) - t))) for t in range(len(rewards))
    ]
    np.testing.assert_allclose(discounted_return(rewards, gamma, horizon), expected, atol=1e-9)


@given(series, gammas, st.integers(0, 5))
def test_horizon_past_the_end_is_no_horizon(rewards: np.ndarray, gamma: float, beyond: int) -> None:
    over_horizon = discounted_return(rewards, gamma, horizon=len(rewards) - 1 + beyond)
    np.testing.assert_allclose(over_horizon, discounted_return(rewards, gamma), atol=1e-9)


@given(series)
def test_returns_at_the_ends_of_gamma_are_the_reward_and_the_plain_sum(rewards: np.ndarray) -> None:
    np.testing.assert_array_equal(discounted_return(rewards, 0), rewards)
    np.testing.assert_allclose(discounted_return(rewards, 1), np.cumsum(rewards[::-1])[::-1], atol=1e-9)


def test_returns_can_become_tensors() -> None:
    rewards = np.array([1.0, 2.0])
    assert torch.from_numpy(discounted_return(rewards, 0.5)).tolist() == [2, 2]
    assert torch.from_numpy(discounted_return(rewards, 0.5, horizon=0)).tolist() == [1, 2]


@given(lengths, st.floats(0.5, 1))
def test_monte_carlo_value_decays_from_one_at_the_end_of_a_success(length: int, gamma: float) -> None:
    expected = [gamma ** (length - 1 - t) for t in range(length)]
    np.testing.assert_allclose(monte_carlo_value(length, True, gamma), expected)


def test_monte_carlo_value_discounts_as_the_paper_unless_told() -> None:
    np.testing.assert_allclose(monte_carlo_value(4, success=True), [0.99**3, 0.99**2, 0.99, 1])


@given(lengths)
def test_monte_carlo_value_of_a_failure_is_zero(length: int) -> None:
    np.testing.assert_array_equal(monte_carlo_value(length, success=False), np.zeros(length))


def test_episodes_and_discounts_without_a_value_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        cost_to_go(1, success=True)
    with pytest.raises(ValueError, match="at least 2 frames, got 0"):
        monte_carlo_value(0, success=True)
    with pytest.raises(ValueError, match="discount must lie in"):
        discounted_return(np.ones(3), 1.01)
    with pytest.raises(ValueError, match="cannot be negative"):
        discounted_return(np.ones(3), 0.9, horizon=-1)
