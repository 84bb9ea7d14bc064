"""Flagged segments: hand-made curves whose falls and stalls are known, and laws that hold for every curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from worldvalue.scoring.segments import Thresholds, find_segments, summarize
from worldvalue.types import ValueCurve


def piecewise(points: list[tuple[float, float]], fps: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    """A curve through ``(seconds, value)`` points, linear in between."""
    time = np.arange(0.0, points[-1][0] + 1e-9, 1 / fps)
    return time, np.interp(time, *zip(*points, strict=True))


def curve_of(time: np.ndarray, value: np.ndarray, std: float = 0.0) -> ValueCurve:
    mean = value.astype(np.float32)
    spread = np.full_like(mean, std)
    return ValueCurve(time, mean, spread, mean - spread, mean, mean + spread, np.arange(len(time)))


def test_steady_progress_has_no_segments():
    for seconds in (3.0, 20.0, 300.0):
        assert find_segments(*piecewise([(0, 0), (seconds, 1)])) == ()


def test_a_fall_is_found_from_top_to_bottom():
    time, value = piecewise([(0, 0), (8, 0.5), (10, 0.2), (18, 1)])
    (fall,) = find_segments(time, value)
    assert fall.kind == "fall"
    # The threshold for the flat ends, 0.01, takes one frame (0.015) off at either end at most.
    assert abs(fall.start - 80) <= 1
    assert abs(fall.end - 100) <= 1
    assert fall.change == pytest.approx(-0.3, abs=0.03)


def test_two_falls_with_a_recovery_between_them_are_two():
    time, value = piecewise([(0, 0), (8, 0.8), (9, 0.4), (12, 0.7), (13, 0.2), (22, 1)])
    assert [s.kind for s in find_segments(time, value)] == ["fall", "fall"]
    assert summarize(curve_of(time, value)).worst_drop == pytest.approx(0.6, abs=1e-6)


def test_a_drop_below_the_threshold_is_no_fall():
    time, value = piecewise([(0, 0), (8, 0.5), (9, 0.44), (18, 1)])
    assert all(s.kind == "stall" for s in find_segments(time, value))


def test_a_wait_before_a_fall_belongs_to_the_stall():
    time, value = piecewise([(0, 0), (6, 0.5), (12, 0.505), (14, 0.2), (24, 1)])
    stall, fall = find_segments(time, value)
    assert (stall.kind, fall.kind) == ("stall", "fall")
    assert time[fall.start] >= 11.9


def test_a_stall_is_found_with_its_length():
    time, value = piecewise([(0, 0), (8, 0.5), (13, 0.5), (21, 1)])
    (stall,) = find_segments(time, value)
    assert stall.kind == "stall"
    # A window may reach into the rising part by a third before its slope passes a quarter of the pace.
    assert time[stall.start] == pytest.approx(8, abs=0.8)
    assert time[stall.end] == pytest.approx(13, abs=0.8)
    assert summarize(curve_of(time, value)).stalled_seconds == stall.seconds


def test_a_slow_sinking_is_a_stall():
    time, value = piecewise([(0, 0), (8, 0.5), (13, 0.45), (21, 1)])
    assert [s.kind for s in find_segments(time, value)] == ["stall"]


def test_a_value_that_never_moves_is_one_stall_over_the_whole_episode():
    time = np.arange(100) / 10
    (stall,) = find_segments(time, np.full(100, 0.3))
    assert (stall.start, stall.end) == (0, 99)


def test_standing_still_at_the_goal_is_no_stall():
    assert find_segments(*piecewise([(0, 0), (10, 0.98), (20, 0.98)])) == ()


def test_a_long_task_is_not_all_stall():
    time, value = piecewise([(0, 0), (600, 1)], fps=2)
    noise = 0.005 * np.random.default_rng(0).standard_normal(len(time))
    assert find_segments(time, value + noise) == ()


def test_uneven_timestamps_count_in_seconds_not_in_frames():
    time, value = piecewise([(0, 0), (8, 0.5), (13, 0.5), (21, 1)], fps=20)
    kept = np.unique(np.concatenate([np.arange(0, len(time), 7), [len(time) - 1]]))
    (stall,) = find_segments(time[kept], value[kept])
    assert stall.seconds == pytest.approx(5, abs=1.7)


def test_one_frame_and_two_frames_are_summarized():
    for frames in (1, 2):
        summary = summarize(curve_of(np.arange(frames) / 10, np.full(frames, 0.4), std=0.1))
        assert summary.segments == ()
        assert (summary.frames, summary.worst_drop, summary.stalled_seconds) == (frames, 0.0, 0.0)
        assert summary.final_value == pytest.approx(0.4)
        assert summary.mean_std == pytest.approx(0.1)


values = hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1, 1.25, width=32))


@given(values, st.floats(0.5, 60))
def test_segments_are_ordered_disjoint_and_inside_the_episode(value: np.ndarray, fps: float):
    time = np.arange(len(value)) / fps
    last = -1
    for segment in find_segments(time, value):
        assert last < segment.start < segment.end < len(value)
        assert segment.seconds == pytest.approx(time[segment.end] - time[segment.start])
        assert segment.change == pytest.approx(value[segment.end] - value[segment.start])
        if segment.kind == "fall":
            assert segment.change <= -(Thresholds.min_drop - 2 * Thresholds.flat) + 1e-9
        else:
            assert segment.seconds >= Thresholds.stall_seconds - 1e-6
        last = segment.end


@given(values)
def test_worst_drop_is_the_largest_over_all_pairs(value: np.ndarray):
    summary = summarize(curve_of(np.arange(len(value)) / 10, value))
    value = value.astype(np.float32).astype(np.float64)
    drops = value[:, None] - value[None, :]
    assert summary.worst_drop == pytest.approx(np.triu(drops).max())
    assert 0 <= summary.stalled_seconds <= summary.seconds + 1e-9
    falls = [s for s in summary.segments if s.kind == "fall"]
    # A fall exists exactly when some later value lies at least the threshold below an earlier one.
    assert bool(falls) == (summary.worst_drop >= Thresholds.min_drop)


@given(values, st.floats(-0.5, 0.5))
def test_falls_do_not_change_when_the_curve_is_shifted(value: np.ndarray, shift: float):
    time, grid = np.arange(len(value)) / 10, np.round(value * 64) / 64
    shifted = grid + np.round(shift * 64) / 64
    ends = [[(s.start, s.end) for s in find_segments(time, v) if s.kind == "fall"] for v in (grid, shifted)]
    assert ends[0] == ends[1]
