from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from worldvalue.benchmark.metrics import (
    Summary,
    auroc,
    average_ranks,
    coverage,
    grounding,
    hesitation_rmse,
    linear_correlation,
    rank_correlation,
    retry_voc,
    segment_at,
    stability,
    summarize,
    time_bias,
    voc,
)
from worldvalue.data.value_targets import hesitation_curve, progress, retry_curve

# Few distinct values, so that ties are common.
series = st.lists(st.integers(-5, 5), min_size=3, max_size=40)


@given(series)
def test_average_ranks_are_scipys(values: list[int]) -> None:
    np.testing.assert_array_equal(average_ranks(values), stats.rankdata(values))


@pytest.mark.parametrize(
    ("ours", "scipys"), [(rank_correlation, stats.spearmanr), (linear_correlation, stats.pearsonr)]
)
@given(values=series, random=st.randoms(use_true_random=False))
def test_correlations_are_scipys(ours: Callable, scipys: Callable, values: list[int], random: Random) -> None:
    other = list(values)
    random.shuffle(other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        expected = scipys(values, other).statistic
    np.testing.assert_allclose(ours(values, other), expected, atol=1e-12)


@given(series, st.floats(0.1, 10), st.floats(-10, 10))
def test_linear_correlation_does_not_see_scale_and_offset(values: list[int], scale: float, offset: float) -> None:
    other = np.arange(len(values)) ** 2
    moved = linear_correlation(scale * np.array(values) + offset, other)
    np.testing.assert_allclose(moved, linear_correlation(values, other), atol=1e-9)


def test_linear_correlation_sees_the_shape_that_rank_correlation_does_not() -> None:
    truth = progress(50)
    assert rank_correlation(truth**4, truth) == 1
    assert linear_correlation(truth**4, truth) == pytest.approx(stats.pearsonr(truth**4, truth).statistic)
    assert linear_correlation(truth**4, truth) < 0.9


@pytest.mark.parametrize("pred", [[0.1] * 10, [0.1, 0.9], [], [0.1, math.nan, 0.3]])
def test_correlations_of_a_constant_a_short_or_a_broken_prediction_are_ill_defined(pred: list[float]) -> None:
    truth = np.arange(len(pred)) / 10
    assert math.isnan(linear_correlation(pred, truth))
    assert math.isnan(rank_correlation(pred, truth))


@given(series)
def test_voc_stays_in_bounds_and_changes_sign_with_the_prediction(values: list[int]) -> None:
    if len(set(values)) > 1:
        assert -1 <= voc(values) <= 1
        assert voc(-np.array(values)) == pytest.approx(-voc(values), abs=1e-12)
        assert voc(values[::-1]) == pytest.approx(-voc(values), abs=1e-12)


@given(series)
def test_voc_sees_the_order_of_values_only(values: list[int]) -> None:
    np.testing.assert_allclose(voc(np.exp(np.array(values) / 7)), voc(values), atol=1e-12)


def test_voc_by_hand() -> None:
    assert voc([0.1, 0.2, 0.7, 0.9]) == 1
    assert voc([0.9, 0.7, 0.2, 0.1]) == -1
    # Ranks 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8.
    assert voc([0.1, 0.7, 0.2, 0.9]) == pytest.approx(0.8)


@pytest.mark.parametrize("pred", [[0.5] * 10, [0.1, 0.9], [], [0.1, math.nan, 0.3]])
def test_voc_of_a_constant_a_short_or_a_broken_prediction_is_ill_defined(pred: list[float]) -> None:
    assert math.isnan(voc(pred))


def test_retry_voc_is_one_for_a_falling_and_minus_one_for_a_rising_prediction() -> None:
    truth = retry_curve(40, 15, 22)
    assert retry_voc(truth, truth, 15, 22) == 1
    assert retry_voc(1 - truth, truth, 15, 22) == -1
    assert retry_voc(np.arange(40), truth, 15, 22) == -1


def test_retry_voc_sees_the_window_only() -> None:
    truth = retry_curve(40, 15, 22)
    pred = np.random.default_rng(0).random(40)
    pred[15:23] = truth[15:23]
    assert retry_voc(pred, truth, 15, 22) == 1


def test_retry_voc_of_a_constant_prediction_or_a_window_of_two_frames_is_ill_defined() -> None:
    truth = retry_curve(40, 15, 22)
    assert math.isnan(retry_voc(np.full(40, 0.3), truth, 15, 22))
    assert math.isnan(retry_voc(truth, retry_curve(40, 15, 16), 15, 16))


def test_hesitation_rmse_by_hand() -> None:
    truth = hesitation_curve(11, 4, 8)
    assert hesitation_rmse(truth, truth, 4, 8) == 0
    assert hesitation_rmse(truth + 0.1, truth, 4, 8) == pytest.approx(0.1)
    # Off by 0.3 at one of the five frames, and by anything outside the segment.
    pred = truth.copy()
    pred[6] += 0.3
    pred[[3, 9]] = 0
    assert hesitation_rmse(pred, truth, 4, 8) == pytest.approx(0.3 / math.sqrt(5))


def test_segment_maps_to_the_scored_frames_inside_it() -> None:
    scored = np.arange(0, 100, 5)  # 2 frames a second of a video of 10
    assert segment_at(scored, 20, 40) == (4, 8)
    assert segment_at(scored, 19, 41) == (4, 8)
    assert segment_at(scored, 21, 39) == (5, 7)
    assert segment_at(scored, 21, 24) is None


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
def test_segment_holds_exactly_the_frames_between_m_and_n(frames: set[int], m: int, n: int) -> None:
    scored = sorted(frames)
    segment = segment_at(scored, m, n)
    inside = [] if segment is None else scored[segment[0] : segment[1] + 1]
    assert inside == [frame for frame in scored if m <= frame <= n]


TRUTHS = (hesitation_curve(40, 12, 22), retry_curve(40, 15, 22))


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("seed", range(3))
def test_time_bias_is_what_two_regressions_and_the_closed_form_of_the_partial_correlation_give(
    truth: np.ndarray, seed: int
) -> None:
    frames = np.arange(len(truth))
    pred = truth + seed * frames / 100 + np.random.default_rng(seed).normal(0, 0.05, len(truth))
    left = []
    for of in (pred, frames):
        fit = stats.linregress(truth, of)
        left.append(of - fit.intercept - fit.slope * truth)
    assert time_bias(pred, truth) == pytest.approx(stats.pearsonr(*left).statistic, abs=1e-9)
    vt, vp, tp = (stats.pearsonr(a, b).statistic for a, b in ((pred, frames), (pred, truth), (frames, truth)))
    closed = (vt - vp * tp) / math.sqrt((1 - vp**2) * (1 - tp**2))
    assert time_bias(pred, truth) == pytest.approx(closed, abs=1e-9)


@given(st.sampled_from(TRUTHS), st.floats(0.1, 10) | st.floats(-10, -0.1), st.floats(-10, 10), st.booleans())
def test_a_linear_function_of_the_truth_has_no_time_bias(
    truth: np.ndarray, scale: float, offset: float, single_precision: bool
) -> None:
    pred = scale * truth + offset
    assert time_bias(pred.astype(np.float32) if single_precision else pred, truth) == 0


@given(st.sampled_from(TRUTHS), st.floats(-3, 3), st.floats(0.1, 3) | st.floats(-3, -0.1))
def test_any_share_of_the_clock_added_to_the_truth_is_all_time_bias(
    truth: np.ndarray, of_truth: float, of_time: float
) -> None:
    pred = of_truth * truth + of_time * progress(len(truth))
    assert time_bias(pred, truth) == pytest.approx(math.copysign(1, of_time), abs=1e-9)


@pytest.mark.parametrize(
    ("pred", "truth"),
    [
        (np.full(40, 0.3), TRUTHS[0]),  # constant
        (np.full(40, 0.3) + 1e-9 * np.arange(40), TRUTHS[0]),  # constant but for rounding
        (progress(40) ** 2, progress(40)),  # an expert's progress is its time
        (np.array([0.1, 0.5, 0.2]), np.array([0.0, 0.5, 0.5])),  # three frames always give -1 or +1
        (np.where(np.arange(40) == 3, math.nan, 0.5), TRUTHS[0]),
    ],
)
def test_time_bias_is_ill_defined_where_nothing_is_left_to_correlate(pred: np.ndarray, truth: np.ndarray) -> None:
    assert math.isnan(time_bias(pred, truth))


def test_stability_by_hand() -> None:
    assert stability([0.0, 0.25, 1.0]) == 1
    assert stability([1.0, 0.25, 0.0]) == 1
    assert stability([0.0, 0.5, 0.25, 0.5]) == 2  # way 0.5 + 0.25 + 0.25, net 0.5


@pytest.mark.parametrize("pred", [[0.5, 0.5, 0.5], [0.5, 0.9, 0.5], [0.5], [], [0.1, math.nan, 0.3]])
def test_stability_without_net_progress_is_ill_defined(pred: list[float]) -> None:
    assert math.isnan(stability(pred))


@given(series, st.floats(0.1, 10), st.floats(-10, 10))
def test_stability_is_at_least_one_and_the_same_backwards_scaled_and_moved(
    values: list[int], scale: float, offset: float
) -> None:
    if values[0] == values[-1]:
        return
    assert stability(values) >= 1
    assert stability(values[::-1]) == stability(values)
    assert stability(scale * np.array(values) + offset) == pytest.approx(stability(values))
    steps = [abs(after - before) for before, after in pairwise(values)]
    assert stability(values) == pytest.approx(sum(steps) / abs(values[-1] - values[0]))
    assert stability(sorted(values)) == 1


gains = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=30)


@given(gains)
def test_grounding_is_the_share_of_episodes_that_gain_more_under_the_right_instruction(
    pairs: list[tuple[int, int]],
) -> None:
    right, wrong = zip(*pairs, strict=True)
    assert grounding(right, wrong) == pytest.approx(sum((r > w) + (r == w) / 2 for r, w in pairs) / len(pairs))
    assert grounding(wrong, right) == pytest.approx(1 - grounding(right, wrong))
    assert grounding(right, right) == 0.5


def test_grounding_counts_a_broken_pair_as_not_grounded_and_nothing_as_ill_defined() -> None:
    assert grounding([0.9, math.nan, 0.9, 0.5], [0.1, 0.1, math.nan, 0.5]) == (1 + 0 + 0 + 0.5) / 4
    assert math.isnan(grounding([], []))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = zip(*pairs, strict=True)
    if len(set(positive)) == 1:
        assert math.isnan(auroc(scores, positive))
        return
    wins = [(high > low) + (high == low) / 2 for high, up in pairs if up for low, other in pairs if not other]
    assert auroc(scores, positive) == pytest.approx(np.mean(wins))


def test_coverage_counts_the_frames_inside_the_band() -> None:
    assert coverage([0.1, 0.5, 0.9, 1.0], [0.0, 0.6, 0.8, 1.0], [0.2, 0.7, 1.0, 1.0]) == 0.75


def test_summary_weighs_tasks_evenly_and_counts_ill_defined_trajectories() -> None:
    overall, tasks = summarize({"lift": [1.0, 0.5, math.nan], "can": [0.1], "stack": []})
    assert tasks["lift"] == Summary(0.5, 3, 1)
    assert tasks["can"] == Summary(0.1, 1, 0)
    assert math.isnan(tasks["stack"].mean)
    assert overall == Summary(0.3, 4, 1)


def test_summary_of_nothing_is_not_a_number() -> None:
    overall, tasks = summarize({})
    assert math.isnan(overall.mean)
    assert tasks == {}
