"""Values of a dataset as a parquet sidecar: one row a frame, in the columns LeRobot weights samples by."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worldvalue.data.files import replacing
from worldvalue.types import DataError, Episode, ValueCurve

PROGRESS_NAME = "worldvalue_progress.parquet"
MODEL_KEY = b"reward_model_path"

PROGRESS_COLUMNS = pa.schema(
    [
        ("index", pa.int64()),
        ("episode_index", pa.int64()),
        ("frame_index", pa.int64()),
        ("progress_sparse", pa.float32()),
        ("value_std", pa.float32()),
        ("value_q10", pa.float32()),
        ("value_q50", pa.float32()),
        ("value_q90", pa.float32()),
    ]
)
"""``index`` numbers frames in the whole dataset; ``progress_sparse``, LeRobot's name, is the value's mean."""


def write_progress(path: Path, curves: Iterable[tuple[Episode, ValueCurve]], model_name: str) -> None:
    """Write the sidecar, a row group for each episode; curves are drawn one at a time.

    Args:
        path: the file, replaced only when complete.
        curves: episodes with their values at every frame.
        model_name: what made them, kept in the schema's metadata as ``reward_model_path``.
    """
    schema = PROGRESS_COLUMNS.with_metadata({MODEL_KEY: model_name})
    with replacing(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        for episode, curve in curves:
            writer.write_table(_rows(episode, curve, schema))


def read_progress(path: Path) -> pa.Table:
    """Read a sidecar; ``table.schema.metadata[MODEL_KEY]`` names the model.

    Raises:
        DataError: the file is missing or is not a sidecar.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a parquet file that can be read; score the dataset again.") from error
    missing = set(PROGRESS_COLUMNS.names) - set(table.column_names)
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}; it was not written by 'worldvalue score'.")
    return table


def _rows(episode: Episode, curve: ValueCurve, schema: pa.Schema) -> pa.Table:
    frame_index = np.arange(episode.length)
    columns = {
        "index": episode.first_row + frame_index,
        "episode_index": np.full(episode.length, episode.index),
        "frame_index": frame_index,
        "progress_sparse": curve.mean,
        "value_std": curve.std,
        "value_q10": curve.q10,
        "value_q50": curve.q50,
        "value_q90": curve.q90,
    }
    return pa.table(columns, schema=schema)
