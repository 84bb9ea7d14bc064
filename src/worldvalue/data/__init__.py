"""Where episodes come from, and how they are written."""

from worldvalue.data.episodes import open_episodes
from worldvalue.data.lerobot_writer import EpisodeRecord, FileLimits, write_lerobot
from worldvalue.data.manifest import MANIFEST_NAME, ManifestRow, read_manifest, write_manifest
from worldvalue.data.progress import PROGRESS_NAME, read_progress, write_progress
from worldvalue.data.video import encode_video

__all__ = [
    "MANIFEST_NAME",
    "PROGRESS_NAME",
    "EpisodeRecord",
    "FileLimits",
    "ManifestRow",
    "encode_video",
    "open_episodes",
    "read_manifest",
    "read_progress",
    "write_lerobot",
    "write_manifest",
    "write_progress",
]
