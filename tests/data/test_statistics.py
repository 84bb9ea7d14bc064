from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from worldvalue.data.statistics import merge_statistics, statistics_of

matrices = st.integers(1, 12).flatmap(lambda n: arrays(np.float32, (n, 3), elements=st.floats(-100, 100, width=32)))


@given(parts=st.lists(matrices, min_size=1, max_size=5))
def test_merging_parts_equals_the_statistics_of_everything(parts):
    merged = merge_statistics([statistics_of(part) for part in parts])
    everything = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(merged["min"], everything.min(axis=0))
    np.testing.assert_allclose(merged["max"], everything.max(axis=0))
    np.testing.assert_allclose(merged["mean"], everything.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(merged["std"], everything.std(axis=0), atol=1e-6)
    assert merged["count"] == len(everything)


def test_quantiles_are_those_of_the_episode_and_averaged_by_count_over_episodes():
    small, large = np.arange(11.0)[:, None], 100 + np.arange(33.0)[:, None] / 32
    assert statistics_of(small)["q10"] == 1
    assert statistics_of(small)["q50"] == 5
    merged = merge_statistics([statistics_of(small), statistics_of(large)])
    np.testing.assert_allclose(merged["q50"], (11 * 5 + 33 * 100.5) / 44)
