from __future__ import annotations

import math
import warnings

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
    hesitation_rmse,
    rank_correlation,
    retry_voc,
    segment_at,
    summarize,
    voc,
)
from worldvalue.data.value_targets import hesitation_curve, retry_curve

# Few distinct values, so that ties are common.
series = st.lists(st.integers(-5, 5), min_size=3, max_size=40)


@given(series)
def test_average_ranks_are_scipys(values: list[int]) -> None:
    np.testing.assert_array_equal(average_ranks(values), stats.rankdata(values))


@given(series, st.randoms(use_true_random=False))
def test_rank_correlation_is_scipys(values: list[int], random: object) -> None:
    other = list(values)
    random.shuffle(other)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        expected = stats.spearmanr(values, other).statistic
    np.testing.assert_allclose(rank_correlation(values, other), expected, atol=1e-12)


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
