"""LeRobot v3.0 out: episodes with ready-made videos become a dataset that LeRobot reads.

Episodes stream through: one episode's columns are in memory at a time, and its videos are joined to those before
it packet by packet, without re-encoding. The dataset is built under a temporary name and renamed when complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from worldvalue.data.files import replacing
from worldvalue.data.statistics import Statistics, merge_statistics, statistics_of
from worldvalue.data.video import VideoClip, VideoJoiner, exact_rate, frame_times, video_properties
from worldvalue.types import DataError

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
PICTURES_FOR_STATISTICS = 16


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode to be written.

    Attributes:
        instruction: the task in words.
        videos: feature key (``observation.images.agentview``) -> video of this episode alone, at the
            dataset's fps.
        columns: feature key (``observation.state``, ``action``) -> ``(T, D)`` float32.
    """

    instruction: str
    videos: Mapping[str, Path]
    columns: Mapping[str, NDArray[np.float32]]

    @property
    def length(self) -> int:
        """Number of frames ``T``."""
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True)
class FileLimits:
    """When files and folders roll over: LeRobot's defaults."""

    files_per_chunk: int = 1000
    data_file_mb: float = 100
    video_file_mb: float = 200


def write_lerobot(
    root: Path,
    records: Iterable[EpisodeRecord],
    fps: float,
    names: Mapping[str, Sequence[str]],
    robot_type: str | None = None,
    limits: FileLimits = FileLimits(),
) -> None:
    """Write a LeRobot v3.0 dataset to ``root``, which must not exist or be an empty folder.

    Args:
        root: the dataset's folder.
        records: the episodes, all with the same cameras and columns; drawn one at a time.
        fps: frame rate of rows and videos.
        names: for each column, what its numbers are called.
        robot_type: goes into ``info.json``.
        limits: sizes at which a new file is begun.

    Raises:
        DataError: ``root`` holds something, there are no episodes, or a video does not fit its rows.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} exists already; name a new folder for the dataset.")
    with replacing(root) as partial:
        writer = _DatasetWriter(partial, fps, limits)
        try:
            for record in records:
                writer.add(record)
        finally:
            writer.close_files()
        writer.write_meta(names, robot_type)


class _RollingFile:
    """Numbers of the file being written: a new file when full, a new chunk after so many files."""

    def __init__(self, limit_mb: float, files_per_chunk: int) -> None:
        self._limit = limit_mb * 2**20
        self._files_per_chunk = files_per_chunk
        self.number = 0

    def is_full(self, size: int, more: int) -> bool:
        return size > 0 and size + more > self._limit

    @property
    def indices(self) -> dict[str, int]:
        chunk, file = divmod(self.number, self._files_per_chunk)
        return {"chunk_index": chunk, "file_index": file}


class _DataFiles:
    """``data/``: one row group for each episode."""

    def __init__(self, root: Path, limits: FileLimits) -> None:
        self._root = root
        self._rolling = _RollingFile(limits.data_file_mb, limits.files_per_chunk)
        self._writer: pq.ParquetWriter | None = None
        self._size = 0

    def append(self, table: pa.Table) -> dict[str, int]:
        """Write an episode's rows; returns the numbers of the file that holds them."""
        if self._writer is not None and self._rolling.is_full(self._size, table.nbytes):
            self.close()
            self._rolling.number += 1
        if self._writer is None:
            path = self._root / DATA_PATH.format(**self._rolling.indices)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer, self._size = pq.ParquetWriter(path, table.schema), 0
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._size += table.nbytes
        return self._rolling.indices

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _VideoFiles:
    """``videos/KEY/``: the episodes' videos of one camera, end to end."""

    def __init__(self, root: Path, key: str, fps: Fraction, limits: FileLimits) -> None:
        self._root, self._key, self._fps = root, key, fps
        self._rolling = _RollingFile(limits.video_file_mb, limits.files_per_chunk)
        self._joiner: VideoJoiner | None = None
        self._frames = 0

    def append(self, clip: Path) -> dict[str, float]:
        """Join an episode's video; returns where it lies: file numbers, from and to which second."""
        joiner = self._joiner
        if joiner is not None and (self._rolling.is_full(joiner.size, clip.stat().st_size) or not joiner.accepts(clip)):
            self.close()
            self._rolling.number += 1
        if self._joiner is None:
            path = self._root / VIDEO_PATH.format(video_key=self._key, **self._rolling.indices)
            self._joiner, self._frames = VideoJoiner(path, clip), 0
        start = self._frames / self._fps
        self._frames += self._joiner.append(clip, start)
        return {
            **self._rolling.indices,
            "from_timestamp": float(start),
            "to_timestamp": float(self._frames / self._fps),
        }

    def close(self) -> None:
        if self._joiner is not None:
            self._joiner.close()
            self._joiner = None


class _DatasetWriter:
    """Writes episodes one after another and remembers what ``meta/`` must say about them."""

    def __init__(self, root: Path, fps: float, limits: FileLimits) -> None:
        self._root, self._fps, self._limits = root, fps, limits
        self._data = _DataFiles(root, limits)
        self._videos: dict[str, _VideoFiles] = {}
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._statistics: list[dict[str, Statistics]] = []
        self._widths: dict[str, int] = {}
        self._video_features: dict[str, dict[str, Any]] = {}
        self._frames = 0

    def add(self, record: EpisodeRecord) -> None:
        """Write one episode."""
        if not self._episodes:
            self._begin(record)
        self._check(record)
        index, length = len(self._episodes), record.length
        columns = self._columns(record, index)
        row = {
            "episode_index": index,
            "tasks": [record.instruction],
            "length": length,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        row |= {f"data/{name}": value for name, value in self._data.append(_table(columns)).items()}
        for key, files in self._videos.items():
            row |= {f"videos/{key}/{name}": value for name, value in files.append(record.videos[key]).items()}
        statistics = {key: statistics_of(values.reshape(length, -1)) for key, values in columns.items()}
        statistics |= {key: _picture_statistics(path) for key, path in record.videos.items()}
        self._statistics.append(statistics)
        self._episodes.append(row)
        self._frames += length

    def close_files(self) -> None:
        """Finish the data and video files."""
        self._data.close()
        for files in self._videos.values():
            files.close()

    def write_meta(self, names: Mapping[str, Sequence[str]], robot_type: str | None) -> None:
        """Write ``meta/``; the files must be closed."""
        if not self._episodes:
            raise DataError(f"There are no episodes to write to {self._root.parent}; give at least one.")
        path = self._root / EPISODES_PATH
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), path)
        pq.write_table(_tasks_table(self._tasks), self._root / "meta/tasks.parquet")
        self._write_json("meta/stats.json", self._merged_statistics())
        self._write_json("meta/info.json", self._info(names, robot_type))

    def _begin(self, record: EpisodeRecord) -> None:
        rate = exact_rate(self._fps)
        self._widths = {key: values.shape[1] for key, values in record.columns.items()}
        self._videos = {key: _VideoFiles(self._root, key, rate, self._limits) for key in record.videos}
        self._video_features = {key: _video_feature(path, self._fps) for key, path in record.videos.items()}

    def _check(self, record: EpisodeRecord) -> None:
        shapes = {key: values.shape for key, values in record.columns.items()}
        if shapes != {key: (record.length, width) for key, width in self._widths.items()} or not record.length:
            raise DataError(
                f"Episode {len(self._episodes)} has columns {shapes} but the first had {self._widths} numbers a "
                "row; give every episode the same columns, all of the same length."
            )
        if record.videos.keys() != self._videos.keys():
            raise DataError(
                f"Episode {len(self._episodes)} has videos {sorted(record.videos)} but the first had "
                f"{sorted(self._videos)}; give every episode the same cameras."
            )
        for path in record.videos.values():
            times = frame_times(path)
            expected = times[0] + np.arange(record.length) / self._fps
            if len(times) != record.length or np.abs(times - expected).max() > 0.1 / self._fps:
                raise DataError(
                    f"The video {path} has {len(times)} frames over {times[-1] - times[0]:.3f} s but its "
                    f"episode {record.length} rows at {self._fps:g} fps; encode one frame for each row at that rate."
                )

    def _columns(self, record: EpisodeRecord, index: int) -> dict[str, NDArray[Any]]:
        length = record.length
        task = self._tasks.setdefault(record.instruction, len(self._tasks))
        frame_index = np.arange(length, dtype=np.int64)
        columns = {key: np.asarray(values, dtype=np.float32) for key, values in record.columns.items()}
        return columns | {
            "timestamp": (frame_index / self._fps).astype(np.float32),
            "frame_index": frame_index,
            "episode_index": np.full(length, index, dtype=np.int64),
            "index": frame_index + self._frames,
            "task_index": np.full(length, task, dtype=np.int64),
        }

    def _merged_statistics(self) -> dict[str, dict[str, Any]]:
        merged = {}
        for key in self._statistics[0]:
            shape = (3, 1, 1) if key in self._videos else (-1,)
            total = merge_statistics([episode[key] for episode in self._statistics])
            merged[key] = {
                name: (values if name == "count" else values.reshape(shape)).tolist() for name, values in total.items()
            }
        return merged

    def _info(self, names: Mapping[str, Sequence[str]], robot_type: str | None) -> dict[str, Any]:
        features: dict[str, Any] = {
            key: {"dtype": "float32", "shape": [width], "names": list(names[key])}
            for key, width in self._widths.items()
        }
        features |= self._video_features
        for key in BOOKKEEPING:
            dtype = "float32" if key == "timestamp" else "int64"
            features[key] = {"dtype": dtype, "shape": [1], "names": None}
        return {
            "codebase_version": "v3.0",
            "fps": int(self._fps) if self._fps == int(self._fps) else self._fps,
            "features": features,
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": self._limits.files_per_chunk,
            "data_files_size_in_mb": self._limits.data_file_mb,
            "video_files_size_in_mb": self._limits.video_file_mb,
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._videos else None,
            "robot_type": robot_type,
            "splits": {"train": f"0:{len(self._episodes)}"},
        }

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        (self._root / name).write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _table(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Columns ``(T,)`` as they are, ``(T, D)`` as fixed-size lists."""
    arrays = {
        key: pa.array(values)
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        for key, values in columns.items()
    }
    return pa.table(arrays)


def _tasks_table(tasks: Mapping[str, int]) -> pa.Table:
    """Tasks by number; the metadata makes pandas, and so LeRobot, take the task's words as the index."""
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": kind,
                "numpy_type": numpy_type,
                "metadata": None,
            }
            for name, kind, numpy_type in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def _video_feature(path: Path, fps: float) -> dict[str, Any]:
    properties = video_properties(path)
    return {
        "dtype": "video",
        "shape": [properties.height, properties.width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": properties.height,
            "video.width": properties.width,
            "video.codec": properties.codec,
            "video.pix_fmt": properties.pixel_format,
            "video.fps": fps,
            "video.channels": 3,
            "video.is_depth_map": False,
            "has_audio": False,
        },
    }


def _picture_statistics(path: Path) -> Statistics:
    """Statistics of each colour in [0, 1] over the pixels of frames spread evenly over the video."""
    times = frame_times(path)
    chosen = np.unique(np.linspace(0, len(times) - 1, PICTURES_FOR_STATISTICS).round().astype(np.int64))
    frames = VideoClip(path, times, tolerance=1e-6).read(chosen)[:, ::4, ::4]  # neighbours tell the same
    return statistics_of(frames.reshape(-1, 3) / 255.0, count=len(chosen))
