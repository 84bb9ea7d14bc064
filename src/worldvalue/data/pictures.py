"""The pictures a model sees of a frame: each is one camera, or several tiled, at the model's size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from worldvalue.data.cameras import CameraReader
from worldvalue.types import DataError, Episode

PIECE = 64
"""Frames that are decoded at their own size at a time: what a camera delivers may be a hundred times the picture."""


@dataclass(frozen=True)
class PictureSettings:
    """Number, size and layout of a frame's pictures.

    Attributes:
        height, width: of a whole picture, in pixels.
        rows, columns: of its grid of cameras, filled row by row.
        cameras: one name for each cell of each picture; None for the episode's first ones.
        views: V, pictures of a frame.
    """

    height: int
    width: int
    rows: int = 1
    columns: int = 1
    cameras: tuple[str, ...] | None = None
    views: int = 1

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of a camera's part of a picture."""
        return self.height // self.rows, self.width // self.columns


def pictures(episode: Episode, indices: NDArray[np.int64], settings: PictureSettings) -> NDArray[np.uint8]:
    """Pictures ``(n, V, height, width, 3)``: each camera resized to its cell of the grid.

    Args:
        episode: where the frames come from.
        indices: frames to show.
        settings: size, layout and cameras.

    Raises:
        DataError: see ``cameras_shown``; or the frames cannot be decoded.
    """
    cells = [_view(episode, indices, camera, settings.cell) for camera in cameras_shown(episode, settings)]
    rows = [np.concatenate(cells[i : i + settings.columns], axis=2) for i in range(0, len(cells), settings.columns)]
    tiled = [np.concatenate(rows[i : i + settings.rows], axis=1) for i in range(0, len(rows), settings.rows)]
    return np.stack(tiled, axis=1)


def decoded(episode: Episode, indices: NDArray[np.int64], settings: PictureSettings) -> Episode:
    """The episode with those frames in memory that ``pictures`` would decode, and no others.

    Args:
        episode, settings: as in ``pictures``.
        indices: rising; of these frames pictures can be had without decoding.

    Raises:
        DataError: see ``pictures``.
    """
    cameras = dict.fromkeys(cameras_shown(episode, settings))
    views = {camera: _InMemory(indices, _view(episode, indices, camera, settings.cell)) for camera in cameras}
    return replace(episode, reader=CameraReader(views))


@dataclass(frozen=True)
class _InMemory:
    """One camera's frames ``(n, H, W, 3)`` at rising indices ``(n,)``."""

    indices: NDArray[np.int64]
    frames: NDArray[np.uint8]

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        assert np.isin(indices, self.indices).all(), "only what was decoded can be asked for"
        return self.frames[np.searchsorted(self.indices, indices)]


def cameras_shown(episode: Episode, settings: PictureSettings) -> tuple[str, ...]:
    """The episode's camera in each cell of the grid, row by row, picture by picture.

    Raises:
        DataError: the number of cameras is not that of the cells, or a camera does not exist.
    """
    cells = settings.views * settings.rows * settings.columns
    cameras = settings.cameras or episode.cameras[:cells]
    if len(cameras) != cells:
        raise DataError(
            f"{episode.name}: the model sees {cells} camera(s), but {len(cameras)} "
            f"were given; choose from: {', '.join(episode.cameras)}."
        )
    return tuple(episode.camera_named(camera) for camera in cameras)


def _view(episode: Episode, indices: NDArray[np.int64], camera: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    pieces = [indices[start : start + PIECE] for start in range(0, len(indices), PIECE)]
    return np.stack([_resize(frame, size) for piece in pieces for frame in episode.frames(piece, camera)])


def _resize(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if frame.shape[:2] == size:
        return frame
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).movedim(-1, 0)[None].float()
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)[0]
    return resized.round().clamp(0, 255).to(torch.uint8).movedim(0, -1).contiguous().numpy()
