"""LeRobot datasets in: v3.0 (many episodes in a file) and v2.1 (one file an episode).

Only ``meta/`` is read when a dataset is opened. An episode's rows are read when it is opened, its frames when
they are asked for, so that memory does not grow with the dataset.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from worldvalue.data.cameras import CameraReader, View
from worldvalue.data.manifest import MANIFEST_NAME, labels_for, read_manifest
from worldvalue.data.video import VideoClip
from worldvalue.types import DataError, Episode

PROPRIOCEPTION, ACTION = "observation.state", "action"


@dataclass(frozen=True)
class EpisodeFiles:
    """Where one episode lies in a dataset.

    Attributes:
        index: its ``episode_index``.
        length: number of frames.
        tasks: its instructions.
        data: the parquet file with its rows (and perhaps those of others).
        videos: camera -> the video with its frames (and perhaps those of others), and the second they begin.
    """

    index: int
    length: int
    tasks: Sequence[str]
    data: Path
    videos: Mapping[str, tuple[Path, float]]


class Layout(Protocol):
    """How a version of the format spreads its episodes over files."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> EpisodeFiles: ...


class LayoutV3:
    """v3.0: ``meta/episodes/*/*.parquet`` says in which files and where in them an episode lies."""

    def __init__(self, root: Path, info: Mapping[str, Any], video_keys: Sequence[str]) -> None:
        self._root, self._info, self._video_keys = root, info, video_keys
        columns = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
        for key in video_keys:
            columns += [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
        if not files:
            raise DataError(f"{root} has no meta/episodes/*/*.parquet; copy the whole dataset.")
        table = pa.concat_tables([_read_parquet(file, columns) for file in files])
        self._table = table.sort_by("episode_index")

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, position: int) -> EpisodeFiles:
        row = self._table.slice(position, 1).to_pylist()[0]
        videos = {}
        for key in self._video_keys:
            at = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
            path = self._root / self._info["video_path"].format(video_key=key, **at)
            videos[key] = path, row[f"videos/{key}/from_timestamp"]
        at = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        data = self._root / self._info["data_path"].format(**at)
        return EpisodeFiles(row["episode_index"], row["length"], row["tasks"] or (), data, videos)


class LayoutV21:
    """v2.1: a line of ``meta/episodes.jsonl``, a parquet file and a video for each episode."""

    def __init__(self, root: Path, info: Mapping[str, Any], video_keys: Sequence[str]) -> None:
        self._root, self._info, self._video_keys = root, info, video_keys
        path = root / "meta" / "episodes.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            self._rows = sorted(rows, key=lambda row: row["episode_index"])
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing; copy the whole dataset.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} has a line that does not describe an episode; copy it again.") from error

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> EpisodeFiles:
        row = self._rows[position]
        index = row["episode_index"]
        at = {"episode_chunk": index // self._info["chunks_size"], "episode_index": index}
        videos = {
            key: (self._root / self._info["video_path"].format(video_key=key, **at), 0.0) for key in self._video_keys
        }
        data = self._root / self._info["data_path"].format(**at)
        return EpisodeFiles(index, row["length"], row.get("tasks") or (), data, videos)


LAYOUTS: Mapping[str, Callable[[Path, Mapping[str, Any], Sequence[str]], Layout]] = {
    "v3.0": LayoutV3,
    "v2.1": LayoutV21,
}

NEEDED: Mapping[str, Mapping[str, type]] = {"v3.0": {"data_path": str}, "v2.1": {"data_path": str, "chunks_size": int}}
"""Entries of ``info.json`` without which no file is found."""


class LeRobotDataset:
    """An ``EpisodeSource`` over a LeRobot dataset; ``labels.jsonl`` in its root is joined by episode index."""

    def __init__(self, path: Path, instruction: str | None = None) -> None:
        """Read the metadata; ``instruction`` replaces the dataset's own."""
        self._path = path
        self._instruction = instruction
        info = _read_info(path)
        self._fps = float(info["fps"])
        self._features: dict[str, Any] = info["features"]
        self._cameras = _camera_keys(path, self._features)
        video_keys = [key for key in self._cameras if self._features[key]["dtype"] == "video"]
        if video_keys and not isinstance(info.get("video_path"), str):
            raise DataError(f"{path / 'meta' / 'info.json'} does not say where the videos lie; copy the dataset again.")
        self._layout: Layout = LAYOUTS[info["codebase_version"]](path, info, video_keys)
        manifest = path / MANIFEST_NAME
        rows = read_manifest(manifest) if manifest.exists() else []
        self._labels = {row.episode_index: row for row in rows}
        if None in self._labels:
            raise DataError(f"{manifest} has a line without 'episode_index'; say which episode each is about.")

    @property
    def path(self) -> Path:
        """The dataset's root."""
        return self._path

    def __len__(self) -> int:
        return len(self._layout)

    def __iter__(self) -> Iterator[Episode]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Episode:
        """Open an episode: its rows are read, its frames are not."""
        files = self._layout[range(len(self))[index]]
        name = f"episode_{files.index:06d}"
        instruction = self._instruction or next(iter(files.tasks), "")
        if not instruction:
            raise DataError(f"{self._path}: {name} has no instruction; give one with --instruction.")
        columns = [key for key in (PROPRIOCEPTION, ACTION) if key in self._features]
        rows = _episode_rows(files, ["timestamp", "index", *columns])
        row = self._labels.get(files.index)
        timestamps = _timestamps(files, rows, self._fps)
        return Episode(
            index=files.index,
            name=name,
            instruction=instruction,
            fps=self._fps,
            timestamps=timestamps,
            cameras=self._cameras,
            reader=CameraReader({camera: self._view(camera, files, timestamps) for camera in self._cameras}),
            first_row=rows["index"][0].as_py(),
            proprioception=_matrix(rows, PROPRIOCEPTION),
            actions=_matrix(rows, ACTION),
            labels=labels_for(row, files.length, self._path / MANIFEST_NAME) if row else None,
        )

    def _view(self, camera: str, files: EpisodeFiles, timestamps: NDArray[np.float64]) -> View:
        if camera not in files.videos:
            return PicturesInParquet(files, camera)
        path, start = files.videos[camera]
        return VideoClip(path, start + timestamps, tolerance=0.5 / self._fps)


@dataclass(frozen=True)
class PicturesInParquet:
    """A camera whose frames are PNG or JPEG files inside the rows (LeRobot's ``image`` features)."""

    files: EpisodeFiles
    camera: str

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode frames ``(len(indices), H, W, 3)``; the episode's coded pictures are read each time."""
        from PIL import Image, UnidentifiedImageError

        rows = _episode_rows(self.files, [self.camera])
        try:
            coded = [rows[self.camera][int(index)]["bytes"].as_py() for index in indices]
            return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in coded])
        except (UnidentifiedImageError, OSError, TypeError) as error:
            raise DataError(
                f"{self.files.data} has a picture of {self.camera} that cannot be decoded; copy it again."
            ) from error


def _read_info(root: Path) -> dict[str, Any]:
    path = root / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON; copy the dataset again.") from error
    if not isinstance(info, dict) or not isinstance(info.get("features"), dict):
        raise DataError(f"{path} names no features; this is not a LeRobot dataset.")
    version = info.get("codebase_version")
    if not isinstance(version, str) or version not in LAYOUTS:
        raise DataError(
            f"{path} has codebase_version {version!r}, and only {' and '.join(LAYOUTS)} are read; "
            "convert the dataset with LeRobot's own scripts."
        )
    fps = info.get("fps")
    if not isinstance(fps, int | float) or not fps > 0:
        raise DataError(f"{path} has fps {fps!r}; write the dataset's frame rate there.")
    for key, kind in NEEDED[version].items():
        if not isinstance(info.get(key), kind):
            raise DataError(f"{path} has {key} {info.get(key)!r}; copy the dataset again.")
    return info


def _camera_keys(root: Path, features: Mapping[str, Any]) -> tuple[str, ...]:
    """Features that hold colour pictures, in the dataset's order."""
    keys = []
    for key, feature in features.items():
        about = feature.get("info") or {}
        is_depth = about.get("is_depth_map") or about.get("video.is_depth_map")
        if feature.get("dtype") in ("video", "image") and not is_depth:
            keys.append(key)
    if not keys:
        raise DataError(f"{root / 'meta' / 'info.json'} names no camera; a value model needs to see the robot.")
    return tuple(keys)


def _episode_rows(files: EpisodeFiles, columns: Sequence[str]) -> pa.Table:
    """An episode's rows in order; other row groups of the file are not read."""
    rows = _read_parquet(files.data, columns, filters=[("episode_index", "==", files.index)])
    if rows.num_rows != files.length or not files.length:
        raise DataError(
            f"{files.data} holds {rows.num_rows} rows of episode {files.index}, but meta says {files.length};"
            " copy the dataset again."
        )
    return rows


def _read_parquet(path: Path, columns: Sequence[str], filters: list[Any] | None = None) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path} is missing; copy the whole dataset.")
    try:
        return pq.read_table(path, columns=list(columns), filters=filters, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{path} is not a parquet file that can be read ({reason}); copy it again.") from error


def _timestamps(files: EpisodeFiles, rows: pa.Table, fps: float) -> NDArray[np.float64]:
    """Seconds since the first frame, free of the rounding to float32 with which they are stored."""
    stored = rows["timestamp"].to_numpy().astype(np.float64)
    stored -= stored[0]
    exact = np.arange(len(stored)) / fps
    if np.allclose(stored, exact, rtol=1e-6, atol=1e-3 / fps):
        return exact
    if not np.all(np.diff(stored) > 0):
        raise DataError(f"{files.data}: the timestamps of episode {files.index} do not rise; record it again.")
    return stored


def _matrix(rows: pa.Table, name: str) -> NDArray[np.float32] | None:
    """A column of vectors (or of numbers) as ``(T, D)`` float32."""
    if name not in rows.column_names:
        return None
    column = rows[name].combine_chunks()
    values = column.flatten() if pa.types.is_nested(column.type) else column
    return values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(rows.num_rows, -1)
