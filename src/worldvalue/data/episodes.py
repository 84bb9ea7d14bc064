"""One door for all formats: look at a path and open what lies there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from worldvalue.data.lerobot import LeRobotDataset
from worldvalue.data.manifest import MANIFEST_NAME
from worldvalue.data.video import VIDEO_SUFFIXES
from worldvalue.data.video_files import open_manifest_folder, open_video, open_video_folder
from worldvalue.types import DataError, Episode, EpisodeSource


def open_episodes(path: str | Path, instruction: str | None = None) -> EpisodeSource:
    """Open a LeRobot dataset (v3.0 or v2.1), a folder of videos, with or without manifest, or a single video.

    Args:
        path: the dataset's root, the folder or the video.
        instruction: the task in words; needed where the data has none, elsewhere it replaces the data's own.

    Raises:
        DataError: there is nothing at ``path``, or nothing that is known; a single bad episode raises only
            when it is opened.
    """
    path = Path(path)
    if path.is_file():
        return open_video(path, instruction)
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give a dataset, a folder of videos or a video.")
    if (path / "meta" / "info.json").is_file():
        return LeRobotDataset(path, instruction)
    if (path / MANIFEST_NAME).is_file():
        return open_manifest_folder(path, instruction)
    if any(file.suffix.lower() in VIDEO_SUFFIXES for file in path.iterdir()):
        return open_video_folder(path, instruction)
    raise DataError(f"{path} is not a dataset: it has no meta/info.json (LeRobot), no {MANIFEST_NAME} and no videos.")


def readable(source: EpisodeSource) -> Iterator[Episode]:
    """The episodes that can be opened."""
    for position in range(len(source)):
        with suppress(DataError):
            yield source[position]
