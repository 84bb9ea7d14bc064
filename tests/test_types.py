from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldvalue.types import DataError, Episode


class NumberedFrames:
    """Frame ``i`` is one pixel of value ``i``; the camera's name length is its green."""

    def read(self, camera, indices):
        return np.array([[[[i, len(camera), 0]]] for i in indices], dtype=np.uint8)


def episode(timestamps, fps=10.0, cameras=("observation.images.front", "observation.images.wrist")) -> Episode:
    return Episode(0, "episode_000000", "lift", fps, np.asarray(timestamps, float), cameras, NumberedFrames())


def nearest(fps: int, rate: int, length: int) -> list[int]:
    """Exact reference: the frame nearest to each tick ``k / rate``, half-way ties to the earlier one."""
    found = []
    tick = Fraction(0)
    while tick <= Fraction(length - 1, fps):
        found.append(math.ceil(tick * fps - Fraction(1, 2)))
        tick += Fraction(1, rate)
    return sorted(set(found))


@given(fps=st.integers(2, 60), data=st.data(), length=st.integers(1, 200))
def test_resampling_picks_the_frames_nearest_in_time(fps, data, length):
    rate = data.draw(st.integers(1, fps - 1))
    assert episode(np.arange(length) / fps, fps).indices_at(rate).tolist() == nearest(fps, rate, length)


@given(fps=st.integers(1, 60), factor=st.floats(1, 4), length=st.integers(1, 100))
def test_a_rate_at_or_above_the_own_gives_each_frame_once(fps, factor, length):
    found = episode(np.arange(length) / fps, fps).indices_at(fps * factor)
    assert found.tolist() == list(range(length))


@given(gaps=st.lists(st.floats(0.02, 1.5), max_size=40), rate=st.floats(0.3, 9))
def test_uneven_timestamps_are_resampled_by_time_and_indices_rise(gaps, rate):
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    found = episode(times).indices_at(rate)
    assert found[0] == 0
    assert np.all(np.diff(found) > 0)
    for tick in np.arange(int(times[-1] * rate) + 1) / rate:
        distance = np.abs(times - tick).min()
        assert np.abs(times[found] - tick).min() == pytest.approx(distance, abs=1e-8)


def test_rounding_of_the_last_timestamp_does_not_lose_its_tick():
    assert episode(np.float32(np.arange(21) / 10)).indices_at(2).tolist() == [0, 5, 10, 15, 20]
    assert episode([0, 0.1, 0.2, 0.3, 0.3999]).indices_at(5).tolist() == [0, 2, 4]


def test_a_camera_may_be_named_in_full_or_by_its_last_part():
    both = episode([0.0, 0.1])
    assert both.camera_named(None) == "observation.images.front"
    assert both.camera_named("wrist") == "observation.images.wrist"
    assert both.camera_named("observation.images.wrist") == "observation.images.wrist"
    np.testing.assert_array_equal(both.frames([1, 0], "wrist")[:, 0, 0, 0], [1, 0])


@pytest.mark.parametrize("name", ["top", "", "images.front"])
def test_an_unknown_camera_is_answered_with_those_that_exist(name):
    with pytest.raises(DataError, match=r"choose one of: observation\.images\.front, observation\.images\.wrist"):
        episode([0.0]).frames(camera=name)


def test_a_short_name_that_two_cameras_share_is_refused():
    twins = episode([0.0], cameras=("left.rgb", "right.rgb"))
    with pytest.raises(DataError, match=r"left\.rgb, right\.rgb"):
        twins.camera_named("rgb")
