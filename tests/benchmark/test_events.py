from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldvalue.benchmark.events import (
    DIRECTIONS,
    EPSILON,
    Event,
    EventKind,
    EventSummary,
    event_figures,
    event_response_score,
    summarize_events,
)

curves = st.lists(st.integers(1, 100), min_size=3, max_size=30)
kinds: st.SearchStrategy[EventKind] = st.sampled_from(["milestone", "error"])
windows = st.integers(1, 12)


def equation_3(values: list[int], frame: int, direction: int, window: int) -> Fraction:
    """ViVa equation 3, term by term and without rounding."""
    before = [Fraction(v) for i, v in enumerate(values) if frame - window <= i < frame]
    after = [Fraction(v) for i, v in enumerate(values) if frame < i <= frame + window]
    mean_before, mean_after = sum(before, Fraction()) / len(before), sum(after, Fraction()) / len(after)
    return direction * (mean_after - mean_before) / (mean_before + Fraction(EPSILON))


@given(curves, st.data(), windows)
def test_the_score_is_equation_3(values: list[int], data: st.DataObject, window: int) -> None:
    frame = data.draw(st.integers(1, len(values) - 2))
    rise, fall = (float(equation_3(values, frame, direction, window)) for direction in (1, -1))
    assert event_response_score(values, Event(frame, "milestone"), window) == pytest.approx(rise, rel=1e-9, abs=1e-9)
    assert event_response_score(values, Event(frame, "error"), window) == pytest.approx(fall, rel=1e-9, abs=1e-9)


def test_the_score_by_hand() -> None:
    values = [9.0, 0.2, 0.4, 7.0, 0.5, 0.7, 9.0]  # before 0.3, after 0.6; the event's own frame is in neither
    assert event_response_score(values, Event(3, "milestone"), 2) == pytest.approx(1.0, abs=1e-5)
    assert event_response_score(values, Event(3, "error"), 2) == pytest.approx(-1.0, abs=1e-5)


def test_a_window_that_runs_over_the_ends_holds_the_frames_that_are_there() -> None:
    values = [0.2, 0.4, 9.0, 0.6]
    assert event_response_score(values, Event(2, "milestone"), 100) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "frame"),
    [
        ([0.1, 0.2, 0.3], 0),  # nothing before
        ([0.1, 0.2, 0.3], 2),  # nothing after
        ([0.1, 0.2, math.nan], 1),
        ([-0.5, 0.2, 0.3], 1),  # a rise divided by a negative value would pass for a fall
        ([-EPSILON, 0.2, 0.3], 1),
    ],
)
def test_an_event_without_a_score_is_ill_defined(values: list[float], frame: int) -> None:
    assert math.isnan(event_response_score(values, Event(frame, "milestone"), 1))


@pytest.mark.parametrize(("frame", "window", "reason"), [(3, 1, "outside"), (-1, 1, "outside"), (1, 0, "window")])
def test_an_event_outside_the_curve_and_an_empty_window_are_refused(frame: int, window: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        event_response_score([0.1, 0.2, 0.3], Event(frame, "error"), window)


@given(st.lists(st.floats(-10, 10) | st.just(math.nan), max_size=30))
def test_events_are_detected_above_zero_and_none_is_dropped(scores: list[float]) -> None:
    summary = summarize_events(scores)
    assert summary.events == len(scores)
    assert summary.ill_defined == sum(math.isnan(score) for score in scores)
    if scores:
        assert summary.detection_rate == sum(score > 0 for score in scores) / len(scores)
        finite = [score for score in scores if not math.isnan(score)]
        assert summary.sensitivity == pytest.approx(sum(finite) / len(scores))


def test_a_kind_without_events_has_no_figures() -> None:
    figures = event_figures([[0.1, 0.2, 0.4]], [[Event(1, "milestone")]], [1])
    assert figures["milestone"].sensitivity == pytest.approx(3.0, abs=1e-4)
    assert (figures["milestone"].detection_rate, figures["milestone"].events) == (1.0, 1)
    assert math.isnan(figures["error"].sensitivity)
    assert math.isnan(figures["error"].detection_rate)
    assert (figures["error"].events, figures["error"].ill_defined) == (0, 0)


def test_every_event_weighs_the_same_whichever_episode_it_is_of() -> None:
    rising, falling = [0.1, 0.2, 0.2, 0.2, 0.4], [0.4, 0.3, 0.2, 0.2]
    tables = [[Event(1, "milestone"), Event(3, "milestone"), Event(2, "error")], [Event(1, "milestone")]]
    figures = event_figures([rising, falling], tables, [1, 1])
    assert figures["milestone"].sensitivity == pytest.approx((1 + 1 - 0.5) / 3, abs=1e-4)
    assert figures["milestone"].detection_rate == pytest.approx(2 / 3)
    assert figures["error"] == EventSummary(0.0, 0.0, 1, 0)  # no change at all is no detection


@given(curves)
def test_a_constant_value_detects_nothing(values: list[int]) -> None:
    table = [Event(frame, kind) for frame in range(len(values)) for kind in DIRECTIONS]
    figures = event_figures([np.full(len(values), 0.5)], [table], [3])
    assert {summary.detection_rate for summary in figures.values()} == {0.0}
    assert {summary.ill_defined for summary in figures.values()} == {2}


@given(curves, st.data(), kinds, windows)
def test_the_score_does_not_depend_on_the_scale_of_the_values(
    values: list[int], data: st.DataObject, kind: EventKind, window: int
) -> None:
    event = Event(data.draw(st.integers(1, len(values) - 2)), kind)
    scaled = event_response_score(np.array(values) / 2, event, window)
    assert scaled == pytest.approx(event_response_score(values, event, window), rel=1e-4, abs=1e-9)
