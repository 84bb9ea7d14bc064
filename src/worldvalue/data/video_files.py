"""Episodes from plain video files: one file, a folder, or a folder with a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldvalue.data.cameras import CameraReader
from worldvalue.data.manifest import MANIFEST_NAME, ManifestRow, labels_for, read_manifest
from worldvalue.data.video import VIDEO_SUFFIXES, VideoClip, frame_times, video_properties
from worldvalue.types import DataError, Episode

CAMERA = "video"


@dataclass(frozen=True)
class VideoEntry:
    """One video and what is known about it before it is opened.

    Attributes:
        video: the file.
        name: what a person would call it.
        instruction: the task in words.
        row: its line in the manifest, if there is one.
    """

    video: Path
    name: str
    instruction: str
    row: ManifestRow | None = None


class VideoFiles:
    """An ``EpisodeSource`` over video files; every video is one episode with one camera, ``video``."""

    def __init__(self, path: Path, entries: Sequence[VideoEntry]) -> None:
        self._path = path
        self._entries = entries
        self._lengths: dict[int, int] = {}
        self._first_rows = [0]

    @property
    def path(self) -> Path:
        """The folder, or the single file."""
        return self._path

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Episode]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Episode:
        """Open a video: its packets are counted, nothing is decoded."""
        index = range(len(self))[index]
        entry = self._entries[index]
        times = frame_times(entry.video)
        length = self._lengths[index] = len(times)
        fps = entry.row.fps if entry.row else video_properties(entry.video).fps
        if not fps > 0:
            raise DataError(f"{entry.video} has no frame rate; give it one in a {MANIFEST_NAME}.")
        labels = labels_for(entry.row, length, self._path / MANIFEST_NAME) if entry.row else None
        tolerance = float(np.diff(times).min()) / 2 if length > 1 else 0.5 / fps
        return Episode(
            index=index,
            name=entry.name,
            instruction=entry.instruction,
            fps=fps,
            timestamps=_seconds(times, fps),
            cameras=(CAMERA,),
            reader=CameraReader({CAMERA: VideoClip(entry.video, times, tolerance)}),
            first_row=self._first_row(index),
            labels=labels,
        )

    def _first_row(self, index: int) -> int:
        """Frames of all the videos before this one."""
        for earlier in range(len(self._first_rows) - 1, index):
            self._first_rows.append(self._first_rows[-1] + self._length(earlier))
        return self._first_rows[index]

    def _length(self, index: int) -> int:
        """Frames of a video: as the manifest says, else counted once; 0 for one that cannot be read."""
        row = self._entries[index].row
        if row and row.labels.length:
            return row.labels.length
        if index not in self._lengths:
            try:
                self._lengths[index] = len(frame_times(self._entries[index].video))
            except DataError:
                self._lengths[index] = 0
        return self._lengths[index]


def open_video(path: Path, instruction: str | None) -> VideoFiles:
    """A single video as a dataset of one episode."""
    if not instruction:
        raise DataError(f"{path} comes with no instruction; say what the robot does with --instruction.")
    return VideoFiles(path, [VideoEntry(path, path.name, instruction)])


def open_video_folder(path: Path, instruction: str | None) -> VideoFiles:
    """The videos lying in a folder, by name, all of one task."""
    videos = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    if not instruction:
        raise DataError(
            f"{path} holds videos but no {MANIFEST_NAME} with instructions; write one or give --instruction."
        )
    return VideoFiles(path, [VideoEntry(video, video.name, instruction) for video in videos])


def open_manifest_folder(path: Path, instruction: str | None) -> VideoFiles:
    """The videos that a folder's manifest lists; ``instruction`` replaces theirs."""
    manifest = path / MANIFEST_NAME
    entries = []
    for row in read_manifest(manifest):
        if row.video is None:
            raise DataError(f"{manifest} has a line without 'video'; say which file each is about.")
        entries.append(VideoEntry(path / row.video, row.video, instruction or row.instruction, row))
    if not entries:
        raise DataError(f"{manifest} is empty; write one line for each video.")
    return VideoFiles(path, entries)


def _seconds(times: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Seconds since the first frame.

    Recorders often stamp their files with a wrong rate: when the container's frame interval is far from
    ``1 / fps``, the stated rate is believed, and the container's times are stretched to it.
    """
    seconds = times - times[0]
    if len(times) == 1:
        return seconds
    stretch = 1 / (fps * float(np.median(np.diff(times))))
    return seconds * stretch if abs(stretch - 1) > 0.05 else seconds
