from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldvalue.data.value_targets import from_labels, hesitation_curve, progress, retry_curve
from worldvalue.types import Labels


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
