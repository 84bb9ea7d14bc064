from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worldvalue.data import open_episodes, read_progress, write_progress
from worldvalue.types import DataError, ValueCurve


def curve_of(episode, seed=0):
    draws = np.sort(np.random.default_rng(seed).random((5, episode.length), dtype=np.float32), axis=0)
    return ValueCurve(episode.timestamps, draws[2], draws[0], draws[1], draws[3], draws[4], np.arange(episode.length))


def test_what_is_written_is_read_back_row_by_row(sample, tmp_path):
    pairs = [(episode, curve_of(episode, episode.index)) for episode in open_episodes(sample)]
    write_progress(tmp_path / "progress.parquet", iter(pairs), "tiny")
    table = read_progress(tmp_path / "progress.parquet")
    assert table.schema.metadata[b"reward_model_path"] == b"tiny"
    rows = pq.read_table(sample / "data/chunk-000/file-000.parquet")
    for name in ("index", "episode_index", "frame_index"):
        assert table[name].type == pa.int64()
        assert table[name].to_pylist() == rows[name].to_pylist()
    for name, field in (
        ("progress_sparse", "mean"),
        ("value_std", "std"),
        ("value_q10", "q10"),
        ("value_q90", "q90"),
    ):
        assert table[name].type == pa.float32()
        expected = np.concatenate([getattr(curve, field) for _, curve in pairs])
        np.testing.assert_array_equal(table[name].to_numpy(), expected)


def test_an_unfinished_sidecar_is_not_left_behind(sample, tmp_path):
    def broken():
        episode = open_episodes(sample)[0]
        yield episode, curve_of(episode)
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_progress(tmp_path / "out" / "progress.parquet", broken(), "tiny")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_no_sidecar_is_refused(sample, tmp_path):
    with pytest.raises(DataError, match="not a parquet file"):
        read_progress(tmp_path / "nothing.parquet")
    with pytest.raises(DataError, match="lacks progress_sparse"):
        read_progress(sample / "data/chunk-000/file-000.parquet")
